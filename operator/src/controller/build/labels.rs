//! Labels of children, and the selectors made of them.

use clickstream_pipeline::spec::GROUP;
use serde_json::{Map, Value, json};

use crate::controller::validate::ValidatedPipeline;

pub use clickstream_protocol::labels::{
    OPERATOR as MANAGED_BY, PIPELINE as PIPELINE_LABEL, TARGET as TARGET_LABEL,
};

/// All labels of a child.
pub fn of(
    pipeline: &ValidatedPipeline,
    component: &str,
    target: Option<&str>,
) -> Map<String, Value> {
    let mut labels = selected(&pipeline.name, component, target);
    labels.extend([
        (
            "app.kubernetes.io/instance".to_owned(),
            json!(pipeline.name),
        ),
        ("app.kubernetes.io/part-of".to_owned(), json!("clickstream")),
        ("app.kubernetes.io/managed-by".to_owned(), json!(MANAGED_BY)),
    ]);
    labels
}

/// Those of [`of`] that select pods. A selector can never change, so these are as few as tell pods apart.
pub fn selected(pipeline: &str, component: &str, target: Option<&str>) -> Map<String, Value> {
    debug_assert!(PIPELINE_LABEL.starts_with(GROUP) && TARGET_LABEL.starts_with(GROUP));
    let mut labels = Map::from_iter([
        (
            "app.kubernetes.io/name".to_owned(),
            json!(format!("clickstream-{component}")),
        ),
        ("app.kubernetes.io/component".to_owned(), json!(component)),
        (PIPELINE_LABEL.to_owned(), json!(pipeline)),
    ]);
    if let Some(target) = target {
        labels.insert(TARGET_LABEL.to_owned(), json!(target));
    }
    labels
}

/// The subset of a child's labels that its selector holds.
pub fn selector_of(labels: &Map<String, Value>) -> Value {
    let keys = [
        "app.kubernetes.io/name",
        "app.kubernetes.io/component",
        PIPELINE_LABEL,
        TARGET_LABEL,
    ];
    Value::Object(
        labels
            .iter()
            .filter(|(key, _)| keys.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    )
}

/// The selector of a target's processors as text, for the scale subresource.
pub fn selector(pipeline: &str, target: &str) -> String {
    let labels = selected(pipeline, "processor", Some(target));
    let pairs: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.join(",")
}
