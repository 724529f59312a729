//! `pause` and `resume`: one field, and what comes of it.

use clickstream_api::ClickstreamPipelineStatus;
use clickstream_pipeline::spec::PipelineSpec;
use kube::{
    ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use serde::Deserialize;
use serde_json::json;

use crate::access::{Access, FIELD_MANAGER};

/// Stops a pipeline, and says what that means for it.
///
/// # Errors
/// It is not there, or may not be changed.
pub async fn pause(access: &Access, name: &str) -> anyhow::Result<String> {
    let pipeline = set(access, name, true).await?;
    let namespace = &access.namespace;
    let begun = if is_suspended(&pipeline) {
        "is paused already."
    } else {
        "is being paused: processors and producer commit what they have read, and stop."
    };
    Ok(format!(
        "{namespace}/{name} {begun}\n{}\nTables and progress stay; topics are still kept as the spec has them.\n{}\
         To go on: kubectl clickstream resume {name} --namespace {namespace}\n",
        what_waits(&pipeline),
        others(&pipeline),
    ))
}

/// Lets a pipeline go on, and says what comes first.
///
/// # Errors
/// It is not there, or may not be changed.
pub async fn resume(access: &Access, name: &str) -> anyhow::Result<String> {
    let pipeline = set(access, name, false).await?;
    let namespace = &access.namespace;
    Ok(format!(
        "{namespace}/{name} goes on: processors begin at the very record where they stopped, with what came meanwhile.\n{}\
         To watch: kubectl clickstream status {name} --watch --namespace {namespace}\n",
        others(&pipeline),
    ))
}

async fn set(access: &Access, name: &str, suspend: bool) -> anyhow::Result<DynamicObject> {
    let patch = json!({ "spec": { "suspend": suspend } });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    access
        .pipelines()
        .patch(name, &params, &Patch::Merge(&patch))
        .await
        .map_err(|error| access.explained(error, name))
}

/// Whether the operator has already done it for this very spec.
fn is_suspended(pipeline: &DynamicObject) -> bool {
    let status = ClickstreamPipelineStatus::deserialize(&pipeline.data["status"]);
    status.is_ok_and(|status| {
        status.suspended == Some(true) && status.observed_generation == pipeline.metadata.generation
    })
}

/// How long events wait, as far as the spec says it.
fn what_waits(pipeline: &DynamicObject) -> String {
    let shortest = PipelineSpec::deserialize(&pipeline.data["spec"])
        .ok()
        .and_then(|spec| {
            spec.topics
                .into_iter()
                .filter_map(|topic| Some((topic.retention?, topic.name)))
                .min_by_key(|(retention, _)| retention.micros())
        });
    match shortest {
        Some((retention, topic)) => {
            format!("Events wait in Kafka: {retention} in topic {topic}, then they are lost.")
        }
        None => "Events wait in Kafka for as long as its retention lasts, then they are lost."
            .to_owned(),
    }
}

/// Somebody who applies the field, such as a GitOps controller, will set it back.
fn others(pipeline: &DynamicObject) -> String {
    let others = pipeline.managed_fields().iter().filter_map(|entry| {
        let fields = &entry.fields_v1.as_ref()?.0;
        let manager = entry.manager.as_deref()?;
        let owns = fields["f:spec"].get("f:suspend").is_some();
        (owns && manager != FIELD_MANAGER).then_some(manager)
    });
    others
        .map(|manager| {
            format!("note: {manager} sets spec.suspend too, and may set it back: change it there as well\n")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn pipeline(spec: &serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "clickstream.dev/v1alpha1", "kind": "ClickstreamPipeline",
            "metadata": {
                "name": "web", "generation": 3,
                "managedFields": [
                    { "manager": FIELD_MANAGER, "fieldsV1": { "f:spec": { "f:suspend": {} } } },
                    { "manager": "argocd", "fieldsV1": { "f:spec": { "f:suspend": {}, "f:kafka": {} } } },
                    { "manager": "kubectl", "fieldsV1": { "f:spec": { "f:kafka": {} } } },
                ],
            },
            "spec": spec,
            "status": { "suspended": true, "observedGeneration": 2 },
        }))
        .unwrap()
    }

    fn spec(topics: &serde_json::Value) -> serde_json::Value {
        json!({
            "kafka": { "bootstrapServers": "kafka:9092" }, "topics": topics,
            "targets": [{ "connection": { "secret": { "name": "postgres" } } }],
        })
    }

    #[test]
    fn the_shortest_retention_is_what_a_pause_may_last() {
        let topics = json!([
            { "name": "a", "retention": "168h" }, { "name": "b", "retention": "2h" }, { "name": "c" },
        ]);
        let said = what_waits(&pipeline(&spec(&topics)));
        assert!(said.contains("2h in topic b"), "{said}");
    }

    #[test]
    fn a_status_about_an_earlier_spec_is_no_pause_yet() {
        assert!(!is_suspended(&pipeline(&spec(&json!([{ "name": "a" }])))));
    }

    #[test]
    fn only_others_that_set_the_field_are_named() {
        let said = others(&pipeline(&json!({})));
        assert!(said.contains("argocd"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
