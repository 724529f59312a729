//! Pods that are never created: a quota, a LimitRange, PodSecurity or a webhook refuses them. No
//! pod can tell of it; what was to make them does.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::{Api, Client, api::ListParams};
use serde_json::{Value, json};

use super::jobs::ended;
use crate::stores::Live;

/// A Job's pod comes within a moment; after this long its Events are asked for.
const ASKED_AFTER: SignedDuration = SignedDuration::from_secs(3);
/// After this long a person is told, whether or not anybody says why.
const TOLD_AFTER: SignedDuration = SignedDuration::from_secs(10);
/// Events of one Job that are read.
const EVENTS: u32 = 50;

/// What a Deployment's controller says of a rollout that does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// The API server refuses its pods.
    Refused(String),
    /// It has taken longer than Kubernetes waits for one.
    Late(String),
}

/// Reads the status of a Deployment.
pub fn of_deployment(status: &Value) -> Option<Stuck> {
    let holds = |kind: &str, is: &str| {
        let conditions = status.get("conditions")?.as_array()?;
        let found = conditions
            .iter()
            .find(|condition| condition["type"] == json!(kind) && condition["status"] == json!(is));
        found.map(|condition| {
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            (text("reason"), text("message"))
        })
    };
    if let Some((reason, message)) = holds("ReplicaFailure", "True") {
        return Some(Stuck::Refused(format!("{reason}: {message}")));
    }
    holds("Progressing", "False")
        .filter(|(reason, _)| reason == "ProgressDeadlineExceeded")
        .map(|(_, message)| Stuck::Late(message))
}

/// Why a Job has no pod, in the API server's words where its Events can be read; `None` while it is
/// too early to say.
pub async fn of_job(job: &Live, namespace: &str, client: &Client) -> Option<String> {
    let age = Timestamp::now().duration_since(job.created?);
    if age < ASKED_AFTER {
        return None;
    }
    if let Some(refusal) = last_refusal(job, namespace, client).await {
        return Some(format!("the API server refuses it: {refusal}"));
    }
    // the pod of a Job that has ended may have been there
    (age >= TOLD_AFTER && ended(&job.status).is_none()).then(|| {
        format!(
            "none has been created for {} s; kubectl describe job {} may say why",
            TOLD_AFTER.as_secs(),
            job.name
        )
    })
}

/// What the Job's controller has published last about a pod that it could not create.
async fn last_refusal(job: &Live, namespace: &str, client: &Client) -> Option<String> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let of = ListParams::default()
        .fields(&format!(
            "involvedObject.uid={},reason=FailedCreate",
            job.uid
        ))
        .limit(EVENTS);
    let found = match events.list(&of).await {
        Ok(found) => found,
        // whoever installed it without the right still learns where to look
        Err(error) => {
            tracing::debug!(namespace, job = job.name, %error, "events cannot be read");
            return None;
        }
    };
    let last = found.items.into_iter().max_by_key(|event| {
        let at = event.last_timestamp.as_ref().map(|time| time.0);
        at.or_else(|| event.event_time.as_ref().map(|time| time.0))
    })?;
    let message = last.message?;
    Some(
        message
            .strip_prefix("Error creating: ")
            .unwrap_or(&message)
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Stuck, of_deployment};

    #[test]
    fn a_refusal_comes_before_the_delay_that_it_makes() {
        let late = json!({ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out" });
        let refused = json!({ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota" });
        let of = |conditions| of_deployment(&json!({ "conditions": conditions }));
        assert_eq!(
            of(json!([late, refused])),
            Some(Stuck::Refused("FailedCreate: exceeded quota".to_owned()))
        );
        assert_eq!(of(json!([late])), Some(Stuck::Late("timed out".to_owned())));
    }

    #[test]
    fn a_rollout_that_goes_on_is_not_stuck() {
        let goes_on =
            json!({ "type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated" });
        let over = json!({ "type": "ReplicaFailure", "status": "False", "message": "" });
        assert_eq!(
            of_deployment(&json!({ "conditions": [goes_on, over] })),
            None
        );
        assert_eq!(of_deployment(&json!(null)), None);
    }
}
