//! Clusters as platform teams hand them out: what refuses or restricts pods, put up before the
//! operator comes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kind::cluster::Cluster;
use crate::kind::stack::{self, NAMESPACE, RELEASE, Release, kubectl};
use crate::program;
use clickstream_tools::workspace_root;
use xtask::args::Surroundings;
use xtask::images;
use xtask::steps::Steps;

/// The label of the quickstart's Kafka, PostgreSQL and Adminer, which are no part of what is
/// tested.
const SERVERS: (&str, &str) = ("app.kubernetes.io/part-of", "clickstream-quickstart");

/// What OpenShift's restricted-v2 refuses; the operator's tests read the same file.
const RESTRICTED: &str = "tests/policies/restricted-v2.yaml";

/// CPU that all pods of the pipelines' namespace may have together, in the quota.
const QUOTA: &str = "6";

/// How long the pod may take that reaches nothing.
const STRANGER: Duration = Duration::from_secs(60);

/// Puts everything up that was asked for.
///
/// # Errors
/// The API server refuses it.
pub async fn put_up(cluster: &Cluster, all: &[Surroundings], steps: &Steps) -> anyhow::Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    let step = steps.begin("surroundings");
    let work = async {
        apply(
            cluster,
            &[json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
            })],
        )
        .await?;
        for surroundings in all {
            match surroundings {
                Surroundings::RestrictedV2 => restricted(cluster).await?,
                Surroundings::DefaultDeny => apply(cluster, &denied()).await?,
                Surroundings::Quota => apply(cluster, &[quota()]).await?,
            }
        }
        Ok(())
    };
    step.during(work, |()| {
        let names: Vec<_> = all.iter().map(ToString::to_string).collect();
        names.join(", ")
    })
    .await
}

/// Makes sure that what was put up is in force: a network that enforces no policies would let
/// everything pass.
///
/// # Errors
/// A pod that no policy names reaches the operator.
pub async fn in_force(
    cluster: &Cluster,
    all: &[Surroundings],
    tag: &str,
    steps: &Steps,
) -> anyhow::Result<()> {
    if !all.contains(&Surroundings::DefaultDeny) {
        return Ok(());
    }
    let step = steps.begin("stranger");
    let asked = format!("http://{RELEASE}.{NAMESPACE}.svc:8080/livez");
    let stranger = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "stranger", "namespace": "default" },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "probe",
                "image": images::name("operator", tag),
                "imagePullPolicy": "Never",
                "args": ["probe", "--patience", "5", asked],
                "resources": { "requests": { "cpu": "10m" }, "limits": { "cpu": "100m" } },
            }],
        },
    });
    let work = async {
        apply(cluster, &[stranger]).await?;
        let phase = ["get", "pod/stranger", "--output=jsonpath={.status.phase}"];
        let begun = Instant::now();
        loop {
            match kubectl(cluster, &phase).await?.trim() {
                "Failed" => break,
                "Succeeded" => anyhow::bail!(
                    "a pod that no policy names reaches the operator: the network of this cluster enforces no NetworkPolicies"
                ),
                _ if begun.elapsed() > STRANGER => {
                    anyhow::bail!("it does not end\n{}", stack::state(cluster).await)
                }
                _ => tokio::time::sleep(Duration::from_millis(250)).await,
            }
        }
        kubectl(cluster, &["delete", "pod/stranger", "--wait=false"]).await?;
        Ok(())
    };
    step.during(work, |()| {
        "a pod that no policy names reaches nothing".to_owned()
    })
    .await
}

/// The chart's values that the surroundings ask for.
pub fn release(release: Release, all: &[Surroundings]) -> Release {
    if !all.contains(&Surroundings::DefaultDeny) {
        return release;
    }
    release
        .with("networkPolicy.enabled", "true")
        .with("pipelines.networkPolicy.enabled", "true")
}

/// The document, with what a quota asks for: a limit of CPU for every pod.
pub fn document(document: &mut Value, all: &[Surroundings]) {
    if all.contains(&Surroundings::Quota) {
        for component in ["processor", "producer"] {
            // without a request of its own a pod asks for as much as its limit, and the node has
            // two
            document["spec"][component]["resources"] = json!({
                "requests": { "cpu": "50m", "memory": "64Mi" },
                "limits": { "cpu": "1", "memory": "352Mi" },
            });
        }
    }
}

/// The policy for both namespaces. It judges no server of the quickstart, each of which has a user
/// of its own.
async fn restricted(cluster: &Cluster) -> anyhow::Result<()> {
    let file = workspace_root().join(RESTRICTED);
    kubectl(cluster, &["apply", "-f", &file.to_string_lossy()]).await?;
    let (key, value) = SERVERS;
    let not_servers = json!({ "spec": { "matchResources": { "objectSelector": {
        "matchExpressions": [{ "key": key, "operator": "NotIn", "values": [value] }],
    } } } });
    kubectl(
        cluster,
        &[
            "patch",
            "validatingadmissionpolicybinding",
            "restricted-v2",
            "--type=merge",
            "--patch",
            &not_servers.to_string(),
        ],
    )
    .await?;
    let label = ["restricted-v2=true", "--overwrite"];
    for namespace in ["default", NAMESPACE] {
        let args = [&["label", "namespace", namespace][..], &label].concat();
        kubectl(cluster, &args).await?;
    }
    Ok(())
}

/// Nothing goes in or out but what another policy allows.
fn denied() -> [Value; 2] {
    let (key, value) = SERVERS;
    let policy = |namespace: &str, selector: Value| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": "default-deny", "namespace": namespace },
            "spec": { "podSelector": selector, "policyTypes": ["Ingress", "Egress"] },
        })
    };
    let not_servers =
        json!({ "matchExpressions": [{ "key": key, "operator": "NotIn", "values": [value] }] });
    [policy("default", not_servers), policy(NAMESPACE, json!({}))]
}

/// Every pod that is made from now on has to say how much CPU it may use.
fn quota() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "cpu", "namespace": "default" },
        "spec": { "hard": { "limits.cpu": QUOTA } },
    })
}

async fn apply(cluster: &Cluster, objects: &[Value]) -> anyhow::Result<()> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    let mut apply = cluster.kubectl();
    apply.args(["apply", "--filename", "-"]);
    let applied = program::fed(&mut apply, &list.to_string()).await;
    if let Err(error) = applied {
        anyhow::bail!("{error:#}\n{}", stack::state(cluster).await);
    }
    Ok(())
}
