//! The audit as a Job, made from the processors' own pod template: the same image, document, Secrets and rights.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clickstream_testbed::unique_name;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::stack::{kubectl, state};
use crate::program;

/// Where the operator mounts the document.
const DOCUMENT: &str = "/etc/clickstream/pipeline.yaml";

/// Exit code of an audit that found differences.
const DIFFERENCES: i64 = 3;

const PATIENCE: Duration = Duration::from_secs(600);
const PERIOD: Duration = Duration::from_millis(500);

/// What an audit says.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Whether tables and log agree.
    pub clean: bool,
    /// The report.
    pub report: String,
}

/// Runs an audit of the target whose Deployment this is.
///
/// # Errors
/// It cannot be run, or fails for another reason than differences.
pub async fn run(cluster: &Cluster, deployment: &Value, target: &str) -> anyhow::Result<Verdict> {
    let name = unique_name("audit").replace('_', "-");
    let job = job(deployment, &name, target)?;
    let mut apply = cluster.kubectl();
    apply.args(["create", "--filename", "-"]);
    program::fed(&mut apply, &job.to_string()).await?;
    let exit_code = exit_code(cluster, &name).await;
    let report = kubectl(cluster, &["logs", &format!("job/{name}")]).await;
    let delete = ["delete", "job", &name, "--wait=false"];
    kubectl(cluster, &delete).await?;
    let (exit_code, report) = (exit_code?, report?);
    if !matches!(exit_code, 0 | DIFFERENCES) {
        bail!("the audit failed (exit code {exit_code}):\n{report}");
    }
    Ok(Verdict {
        clean: exit_code == 0,
        report,
    })
}

/// The processors' pod, with another verb, and without what is for something that runs for ever.
fn job(deployment: &Value, name: &str, target: &str) -> anyhow::Result<Value> {
    let mut pod = deployment["spec"]["template"]["spec"].clone();
    let container = pod["containers"]
        .as_array_mut()
        .and_then(|containers| {
            containers
                .iter_mut()
                .find(|container| container["name"] == "processor")
        })
        .and_then(Value::as_object_mut)
        .context("the Deployment has no container called processor")?;
    for field in [
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "ports",
    ] {
        container.remove(field);
    }
    // the whole log is read again: what suffices for a flush need not for that
    container.insert("resources".to_owned(), json!({}));
    container.insert(
        "args".to_owned(),
        json!(["audit", "--pipeline", DOCUMENT, "--target", target]),
    );
    pod["restartPolicy"] = json!("Never");
    // no label of the processors': Service and disruption budget must not take it for one
    let labels = json!({ "app.kubernetes.io/name": "clickstream-audit" });
    Ok(json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": 600,
            "template": { "metadata": { "labels": labels }, "spec": pod },
        },
    }))
}

async fn exit_code(cluster: &Cluster, job: &str) -> anyhow::Result<i64> {
    let since = Instant::now();
    let selector = format!("--selector=batch.kubernetes.io/job-name={job}");
    loop {
        let said = kubectl(cluster, &["get", "pods", &selector, "--output=json"]).await?;
        let list: Value = serde_json::from_str(&said)?;
        let ended = &list["items"][0]["status"]["containerStatuses"][0]["state"]["terminated"];
        if let Some(code) = ended["exitCode"].as_i64() {
            return Ok(code);
        }
        if since.elapsed() >= PATIENCE {
            bail!(
                "the audit does not end within {PATIENCE:?}\n{}",
                state(cluster).await
            );
        }
        tokio::time::sleep(PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_is_the_processors_pod_with_another_verb() -> anyhow::Result<()> {
        let deployment = json!({ "spec": { "template": {
            "metadata": { "labels": { "clickstream.dev/pipeline": "demo" } },
            "spec": {
                "serviceAccountName": "demo",
                "containers": [{
                    "name": "processor",
                    "image": "clickstream/processor:1",
                    "args": ["run"],
                    "readinessProbe": {},
                    "volumeMounts": [{ "name": "document", "mountPath": "/etc/clickstream" }],
                }],
            },
        } } });
        let job = job(&deployment, "audit-1", "default")?;
        let pod = &job["spec"]["template"];
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["image"], "clickstream/processor:1");
        assert_eq!(container["args"][0], "audit");
        assert_eq!(container["volumeMounts"][0]["name"], "document");
        assert!(container["readinessProbe"].is_null());
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        assert!(pod["metadata"]["labels"]["clickstream.dev/pipeline"].is_null());
        Ok(())
    }
}
