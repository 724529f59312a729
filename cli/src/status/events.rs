//! Events about a pipeline.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
};
use serde::Serialize;

use crate::access::{Access, explained, is_forbidden};

/// What happened to a pipeline, as far as it is known.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Events {
    /// Newest last.
    Known(Vec<Happening>),
    /// They cannot be seen, and why.
    Hidden(String),
    /// Nobody asked.
    NotAsked,
}

/// One Event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Happening {
    /// When it happened last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub kind: String,
    /// In CamelCase.
    pub reason: String,
    /// For people.
    pub message: String,
    /// How often it happened.
    pub count: i32,
}

impl Events {
    /// Whether there is nothing to print of them.
    pub fn is_unknown(&self) -> bool {
        !matches!(self, Self::Known(_))
    }

    /// Those of one pipeline among all, by its uid: an earlier one of the same name is another one.
    pub fn about<'e>(uid: Option<&str>, all: impl IntoIterator<Item = &'e Event>) -> Self {
        let mut known: Vec<Happening> = all
            .into_iter()
            .filter(|event| event.involved_object.uid.as_deref() == uid)
            .map(Happening::from)
            .collect();
        known.sort_by_key(|happening| happening.time);
        Self::Known(known)
    }
}

impl From<&Event> for Happening {
    fn from(event: &Event) -> Self {
        let series = event.series.as_ref();
        let time = series
            .and_then(|series| series.last_observed_time.as_ref().map(|time| time.0))
            .or(event.last_timestamp.as_ref().map(|time| time.0))
            .or(event.event_time.as_ref().map(|time| time.0))
            .or(event
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0));
        Self {
            time,
            kind: event.type_.clone().unwrap_or_default(),
            reason: event.reason.clone().unwrap_or_default(),
            message: event.message.clone().unwrap_or_default(),
            count: series
                .and_then(|series| series.count)
                .or(event.count)
                .unwrap_or(1),
        }
    }
}

/// The Events of a pipeline. Not being allowed to see them is no reason to show nothing else.
pub async fn of(access: &Access, pipeline: &DynamicObject) -> Events {
    let events: Api<Event> = Api::namespaced(access.client.clone(), &access.namespace);
    let about = ListParams::default().fields(&selector(&pipeline.name_any()));
    match events.list(&about).await {
        Ok(found) => Events::about(pipeline.metadata.uid.as_deref(), &found.items),
        Err(error) => hidden(error),
    }
}

/// Selects the Events of a pipeline.
pub fn selector(name: &str) -> String {
    format!("involvedObject.kind=ClickstreamPipeline,involvedObject.name={name}")
}

/// Why they are not shown.
pub fn hidden(error: kube::Error) -> Events {
    Events::Hidden(if is_forbidden(&error) {
        "not shown: you may not list Events in this namespace".to_owned()
    } else {
        format!("not shown: {}", explained(error))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::json;

    use super::*;

    fn event(uid: &str, reason: &str, times: &serde_json::Value) -> Event {
        let mut event = json!({
            "metadata": { "name": reason }, "involvedObject": { "uid": uid }, "reason": reason, "type": "Normal",
        });
        event
            .as_object_mut()
            .unwrap()
            .extend(times.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn events_of_an_earlier_pipeline_of_the_same_name_are_not_this_ones() {
        let series = json!({ "eventTime": "2026-01-01T00:00:01.000000Z", "series": { "count": 3, "lastObservedTime": "2026-01-01T00:09:00.000000Z" } });
        let all = [
            event("new", "Repeated", &series),
            event(
                "old",
                "Gone",
                &json!({ "eventTime": "2026-01-01T00:00:03.000000Z" }),
            ),
            event(
                "new",
                "Once",
                &json!({ "lastTimestamp": "2026-01-01T00:00:02Z", "count": 1 }),
            ),
        ];
        let Events::Known(known) = Events::about(Some("new"), &all) else {
            panic!("unknown")
        };
        let told: Vec<_> = known
            .iter()
            .map(|one| (one.reason.as_str(), one.count))
            .collect();
        assert_eq!(told, [("Once", 1), ("Repeated", 3)]);
    }
}
