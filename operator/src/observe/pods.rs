//! What a pod's status tells a person: why it does not run, and what it said at its end.

use clickstream_protocol::exit::{MIGRATE, WANTS_MIGRATION};
use jiff::Timestamp;
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

/// When a processor ended because its tables are not there or too old, and its last line.
pub fn wants_migration(pod: &Pod) -> Option<(Timestamp, String)> {
    let created = pod.metadata.creation_timestamp.as_ref();
    let containers = pod.status.as_ref()?.container_statuses.iter().flatten();
    // one that runs again has found the tables, or will say so again
    let ends = containers.filter_map(|container| {
        let now = container.state.as_ref()?;
        if now.waiting.is_some() {
            return container.last_state.as_ref()?.terminated.as_ref();
        }
        now.terminated.as_ref()
    });
    ends.filter_map(|ended| {
        let line = ended.message.as_deref().and_then(last_of);
        // releases before the exit code say it in words
        let says = |line: &String| line.contains(MIGRATE);
        if ended.exit_code != i32::from(WANTS_MIGRATION) && !line.as_ref().is_some_and(says) {
            return None;
        }
        let at = ended.finished_at.as_ref().or(created)?;
        let line = line.unwrap_or_else(|| "the schema wants a migration".to_owned());
        Some((at.0, line))
    })
    .max()
}

/// The very bytes that a pod's container left behind, also if there are none; `None` while it has
/// not ended.
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

/// Logs are lines of JSON, errors one line of text behind `error: `; either way the last one
/// counts.
fn last_of(message: &str) -> Option<String> {
    let line = message.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().trim_start_matches("error: ").to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::{last_line, obstacle, wants_migration};

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
    fn a_processor_without_tables_says_so_by_its_exit_code_or_in_words() {
        let ended = |exit_code: i32, message: &str| {
            pod(json!({ "containerStatuses": [{
                "name": "processor", "ready": false, "restartCount": 3, "image": "i", "imageID": "",
                "state": { "waiting": { "reason": "CrashLoopBackOff" } },
                "lastState": { "terminated": {
                    "exitCode": exit_code, "message": message, "finishedAt": "2026-01-01T00:00:07Z",
                } },
            }] }))
        };
        let missing = "error: schema \"c\" is not there yet: run `clickstream-processor migrate` with the same";
        let (at, said) = wants_migration(&ended(1, missing)).unwrap();
        assert_eq!(at.to_string(), "2026-01-01T00:00:07Z");
        assert!(said.starts_with("schema \"c\" is not there"), "{said}");
        assert!(wants_migration(&ended(6, "error: gone")).is_some());
        let mut again = ended(6, "error: gone");
        if let Some(status) = &mut again.status {
            let running = json!({ "running": { "startedAt": "2026-01-01T00:00:17Z" } });
            status.container_statuses.as_mut().unwrap()[0].state =
                Some(serde_json::from_value(running).unwrap());
        }
        assert!(wants_migration(&again).is_none(), "it runs again");
        assert!(wants_migration(&ended(1, "error: password authentication failed")).is_none());
        let early = format!("{missing}\nerror: another");
        assert!(wants_migration(&ended(1, &early)).is_none());
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
