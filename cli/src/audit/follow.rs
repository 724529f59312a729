//! The Job's pod, from nowhere to its exit code.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::{AsyncBufReadExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerState, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};

use super::{
    job::CONTAINER,
    lines::{Line, Told, timed},
};
use crate::access::{Access, explained};

/// How often the pod is asked for.
const LOOK: Duration = Duration::from_millis(500);
/// How long the API may be away in the middle.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the pod stands.
enum Stage {
    /// Not started; what holds it, if it is more than the usual.
    Waiting(Option<String>),
    /// At work, and so it has a log.
    Running,
    /// At its end.
    Ended { code: i32, reason: Option<String> },
}

/// Follows a Job's only pod, tells its log, and answers with its exit code.
///
/// # Errors
/// It does not start in time, or cannot be seen.
pub async fn follow(access: &Access, job: &str, start_timeout: Duration) -> anyhow::Result<i32> {
    let pods: Api<Pod> = Api::namespaced(access.client.clone(), &access.namespace);
    let jobs: Api<Job> = Api::namespaced(access.client.clone(), &access.namespace);
    let begun = Instant::now();
    let mut said = None;
    let mut log = Log::default();
    let mut reachable = Instant::now();
    loop {
        let found = match look(&pods, &jobs, job).await {
            Ok(found) => found,
            Err(error) if is_passing(&error) && reachable.elapsed() < PATIENCE => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Err(error) => return Err(explained(error)).context("the audit's pod cannot be seen"),
        };
        reachable = Instant::now();
        match found {
            (name, Stage::Ended { code, reason }) => {
                // what came between the last look at the log and the end
                log.read(&pods, &name, false).await;
                if log.lines == 0 && log.trouble.is_some() {
                    eprintln!(
                        "warning: the log cannot be read: {}",
                        log.trouble.unwrap_or_default()
                    );
                }
                if let Some(reason) =
                    reason.filter(|reason| reason != "Completed" && reason != "Error")
                {
                    eprintln!("the pod ended with {reason}{}", advice(&reason));
                }
                return Ok(code);
            }
            (name, Stage::Running) => log.read(&pods, &name, true).await,
            (_, Stage::Waiting(obstacle)) => {
                if obstacle != said {
                    if let Some(obstacle) = &obstacle {
                        eprintln!("waiting for the pod: {obstacle}");
                    }
                    said = obstacle;
                }
                if begun.elapsed() >= start_timeout {
                    bail!(
                        "the audit's pod does not start within {start_timeout:?}: {}",
                        said.unwrap_or_else(|| "nothing says why".to_owned())
                    );
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The pod's name, once there is one, and where it stands.
async fn look(pods: &Api<Pod>, jobs: &Api<Job>, job: &str) -> Result<(String, Stage), kube::Error> {
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    if let Some(pod) = pods.list(&of_job).await?.items.into_iter().next() {
        return Ok((pod.name_any(), stage(&pod)));
    }
    // a quota or an admission rule stops pods before they are there
    let failed = jobs.get_opt(job).await?.and_then(|job| {
        let conditions = job.status?.conditions?;
        conditions
            .into_iter()
            .find(|condition| condition.type_ == "Failed" && condition.status == "True")
    });
    Ok((
        String::new(),
        match failed {
            Some(failed) => Stage::Ended {
                code: 1,
                reason: failed.reason.or(failed.message),
            },
            None => Stage::Waiting(None),
        },
    ))
}

fn stage(pod: &Pod) -> Stage {
    let status = pod.status.as_ref();
    let state: Option<&ContainerState> = status
        .and_then(|status| status.container_statuses.as_ref())
        .and_then(|all| all.iter().find(|container| container.name == CONTAINER))
        .and_then(|container| container.state.as_ref());
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        return Stage::Ended {
            code: ended.exit_code,
            reason: ended.reason.clone(),
        };
    }
    if state.is_some_and(|state| state.running.is_some()) {
        return Stage::Running;
    }
    // a pod that was evicted before it began has no container to ask
    if status.and_then(|status| status.phase.as_deref()) == Some("Failed") {
        return Stage::Ended {
            code: 1,
            reason: status.and_then(|status| status.reason.clone()),
        };
    }
    let waiting = state
        .and_then(|state| state.waiting.as_ref())
        .filter(|waiting| waiting.reason.as_deref() != Some("ContainerCreating"))
        .map(|waiting| words(waiting.reason.as_deref(), waiting.message.as_deref()));
    let unscheduled = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .map(|condition| words(condition.reason.as_deref(), condition.message.as_deref()));
    Stage::Waiting(waiting.or(unscheduled))
}

fn words(reason: Option<&str>, message: Option<&str>) -> String {
    let said = [reason, message].into_iter().flatten();
    said.collect::<Vec<_>>().join(": ")
}

fn advice(reason: &str) -> &'static str {
    match reason {
        "OOMKilled" => ": give it more with --memory",
        "FailedCreate" | "BackoffLimitExceeded" => ": see kubectl get events",
        _ => "",
    }
}

/// Whether trying again may help.
fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code >= 500 || status.code == 429,
        _ => true,
    }
}

/// A log that is read on where it broke off.
#[derive(Default)]
struct Log {
    last: Option<Timestamp>,
    lines: u64,
    told: Told,
    trouble: Option<String>,
}

impl Log {
    /// Tells what is new. A log that breaks off is read on at the next look.
    async fn read(&mut self, pods: &Api<Pod>, name: &str, follow: bool) {
        if let Err(error) = self.try_read(pods, name, follow).await {
            self.trouble = Some(format!("{error:#}"));
        }
    }

    async fn try_read(&mut self, pods: &Api<Pod>, name: &str, follow: bool) -> anyhow::Result<()> {
        let params = LogParams {
            container: Some(CONTAINER.to_owned()),
            follow,
            timestamps: true,
            since_time: self.last,
            ..LogParams::default()
        };
        let stream = pods.log_stream(name, &params).await.map_err(explained)?;
        let mut lines = stream.lines();
        while let Some(line) = lines.try_next().await? {
            let (time, text) = timed(&line);
            // the server counts from whole seconds on
            if time.is_some() && time <= self.last {
                continue;
            }
            self.last = time.or(self.last);
            self.lines += 1;
            self.told.tell(&Line::of(text))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::{Value, json};

    use super::*;

    fn stage_of(status: &Value) -> Stage {
        stage(&serde_json::from_value(json!({ "status": status })).unwrap())
    }

    fn container(state: &Value) -> Value {
        json!({ "containerStatuses": [{
            "name": "audit", "ready": false, "restartCount": 0, "image": "i", "imageID": "", "state": state,
        }] })
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_told() {
        let waiting =
            json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } });
        assert!(
            matches!(stage_of(&container(&waiting)), Stage::Waiting(Some(why)) if why == "ImagePullBackOff: no such image")
        );
        let usual = json!({ "waiting": { "reason": "ContainerCreating" } });
        assert!(matches!(stage_of(&container(&usual)), Stage::Waiting(None)));
    }

    #[test]
    fn a_pod_without_a_node_says_what_the_scheduler_says() {
        let status = json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes" }] });
        assert!(
            matches!(stage_of(&status), Stage::Waiting(Some(why)) if why == "Unschedulable: 0/1 nodes")
        );
    }

    #[test]
    fn its_exit_code_is_the_containers_and_an_eviction_is_a_failure() {
        let ended = json!({ "terminated": { "exitCode": 3, "reason": "Error" } });
        assert!(matches!(
            stage_of(&container(&ended)),
            Stage::Ended { code: 3, .. }
        ));
        let evicted = json!({ "phase": "Failed", "reason": "Evicted" });
        assert!(
            matches!(stage_of(&evicted), Stage::Ended { code: 1, reason: Some(why) } if why == "Evicted")
        );
    }
}
