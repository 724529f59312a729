//! Labels of children, and the selectors made of them.

use clickstream_pipeline::spec::GROUP;
use serde_json::{Map, Value, json};

use crate::controller::validate::ValidatedPipeline;

use clickstream_protocol::labels::{
    CLICKSTREAM, COMPONENT, INSTANCE, MANAGED_BY, NAME, OPERATOR, PART_OF, PROCESSOR,
};
pub use clickstream_protocol::labels::{PIPELINE as PIPELINE_LABEL, TARGET as TARGET_LABEL};

/// All labels of a child.
pub fn of(
    pipeline: &ValidatedPipeline,
    component: &str,
    target: Option<&str>,
) -> Map<String, Value> {
    let mut labels = selected(&pipeline.name, component, target);
    labels.extend([
        (INSTANCE.to_owned(), json!(pipeline.name)),
        (PART_OF.to_owned(), json!(CLICKSTREAM)),
        (MANAGED_BY.to_owned(), json!(OPERATOR)),
    ]);
    labels
}

/// Those of [`of`] that select pods. A selector can never change, so these are as few as tell pods
/// apart.
pub fn selected(pipeline: &str, component: &str, target: Option<&str>) -> Map<String, Value> {
    debug_assert!(PIPELINE_LABEL.starts_with(GROUP) && TARGET_LABEL.starts_with(GROUP));
    let mut labels = Map::from_iter([
        (NAME.to_owned(), json!(format!("clickstream-{component}"))),
        (COMPONENT.to_owned(), json!(component)),
        (PIPELINE_LABEL.to_owned(), json!(pipeline)),
    ]);
    if let Some(target) = target {
        labels.insert(TARGET_LABEL.to_owned(), json!(target));
    }
    labels
}

/// The subset of a child's labels that its selector holds.
pub fn selector_of(labels: &Map<String, Value>) -> Value {
    let keys = [NAME, COMPONENT, PIPELINE_LABEL, TARGET_LABEL];
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
    let labels = selected(pipeline, PROCESSOR, Some(target));
    let pairs: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.join(",")
}
