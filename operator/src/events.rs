//! Events: what a person watching the resource should hear of, once per change.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::crd::ClickstreamPipeline;

/// The longest note that the API takes is 1 kB.
const LONGEST_NOTE: usize = 1000;

/// Publishes Events about pipelines.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// Whether somebody should look.
    pub warning: bool,
    /// In CamelCase.
    pub reason: Cow<'static, str>,
    /// What was done.
    pub action: &'static str,
    /// For people.
    pub note: String,
}

impl Events {
    /// Publishes under the operator's name.
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter {
            controller: "clickstream.dev/operator".to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Publishes one. An Event that cannot be published is logged and otherwise no trouble: the
    /// status says the same.
    pub async fn publish(&self, pipeline: &ClickstreamPipeline, happening: Happening) {
        self.publish_about(&pipeline.object_ref(&()), happening)
            .await;
    }

    /// The same about a resource of which only that is known.
    pub async fn publish_about(&self, of: &ObjectReference, happening: Happening) {
        let mut note = happening.note;
        if note.len() > LONGEST_NOTE {
            let end = note.floor_char_boundary(LONGEST_NOTE - 3);
            note.truncate(end);
            note.push_str("...");
        }
        let event = Event {
            type_: if happening.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: happening.reason.clone().into_owned(),
            note: Some(note),
            action: happening.action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, of).await {
            tracing::warn!(%error, reason = %happening.reason, "an event cannot be published");
        }
    }
}
