//! What a pod's status tells a person: why it does not run, and what it said at its end.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// Reasons of waiting that need no mention: the pod is simply starting.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What keeps a pod from running, if something does.
pub fn obstacle(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    for container in status.container_statuses.iter().flatten() {
        let waiting = container
            .state
            .as_ref()
            .and_then(|state| state.waiting.as_ref());
        if let Some(waiting) = waiting {
            let reason = waiting.reason.as_deref().unwrap_or("Waiting");
            if STARTING.contains(&reason) {
                continue;
            }
            // its own last words say more than that it is started again
            let words = ended_message(container)
                .as_deref()
                .and_then(last_of)
                .or_else(|| waiting.message.clone());
            return Some(match words {
                Some(words) => format!("{reason}: {words}"),
                None => reason.to_owned(),
            });
        }
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    let reason = unscheduled.reason.as_deref().unwrap_or("Unschedulable");
    Some(match &unscheduled.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    })
}

/// The very bytes that a pod's container left behind, also if there are none; `None` while it has not ended.
pub fn left_behind(pod: &Pod) -> Option<String> {
    let mut containers = pod.status.as_ref()?.container_statuses.iter().flatten();
    let ended = containers.find_map(|container| container.state.as_ref()?.terminated.as_ref())?;
    Some(ended.message.clone().unwrap_or_default())
}

/// What a pod's container wrote at its end.
pub fn last_message(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    status
        .container_statuses
        .iter()
        .flatten()
        .find_map(ended_message)
}

/// The last line of it that says something.
pub fn last_line(pod: &Pod) -> Option<String> {
    last_of(&last_message(pod)?)
}

fn ended_message(container: &ContainerStatus) -> Option<String> {
    let ended = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        let terminated = state.as_ref()?.terminated.as_ref()?;
        terminated
            .message
            .clone()
            .filter(|message| !message.trim().is_empty())
            .or_else(|| {
                let reason = terminated.reason.as_deref().unwrap_or("Error");
                Some(format!("{reason}, exit code {}", terminated.exit_code))
            })
    };
    ended(&container.state).or_else(|| ended(&container.last_state))
}

/// Logs are lines of JSON, errors one line of text behind `error: `; either way the last one counts.
fn last_of(message: &str) -> Option<String> {
    let line = message.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().trim_start_matches("error: ").to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::{last_line, obstacle};

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "status": status })).unwrap()
    }

    #[test]
    fn a_pod_that_crashes_says_its_last_words() {
        let pod = pod(json!({ "containerStatuses": [{
            "name": "processor", "ready": false, "restartCount": 3, "image": "i", "imageID": "",
            "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 40s" } },
            "lastState": { "terminated": { "exitCode": 1, "message": "{\"level\":\"INFO\"}\nerror: no such role\n" } },
        }] }));
        assert_eq!(obstacle(&pod).unwrap(), "CrashLoopBackOff: no such role");
        assert_eq!(last_line(&pod).unwrap(), "no such role");
    }

    #[test]
    fn a_pod_that_starts_has_no_obstacle() {
        let pod = pod(json!({ "containerStatuses": [{
            "name": "processor", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
            "state": { "waiting": { "reason": "ContainerCreating" } },
        }] }));
        assert_eq!(obstacle(&pod), None);
    }

    #[test]
    fn a_pod_without_a_node_says_what_the_scheduler_says() {
        let pod = pod(json!({ "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes",
        }] }));
        assert_eq!(obstacle(&pod).unwrap(), "Unschedulable: 0/1 nodes");
    }

    #[test]
    fn a_pod_that_was_killed_says_so() {
        let pod = pod(json!({ "containerStatuses": [{
            "name": "migrate", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
            "state": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } },
        }] }));
        assert_eq!(last_line(&pod).unwrap(), "OOMKilled, exit code 137");
    }
}
