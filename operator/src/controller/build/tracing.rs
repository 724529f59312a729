//! Where the spans of processors and producers go: to where the operator's go, by the same standard
//! variables.

use serde_json::{Map, Value, json};

use super::{PIPELINE_LABEL, TARGET_LABEL};
use crate::settings::Settings;

/// Variables that are handed on. Headers are not among them: they hold credentials, which have no
/// place in a Deployment.
const HANDED_ON: [&str; 16] = [
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_SCHEDULE_DELAY",
    ATTRIBUTES,
];
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// What the operator's own environment says about traces; nothing unless it names a Collector.
/// `variable` looks one up.
pub fn handed_on(variable: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let set: Vec<_> = HANDED_ON
        .iter()
        .filter_map(|&name| Some((name.to_owned(), variable(name)?)))
        .filter(|(_, value)| !value.trim().is_empty())
        .collect();
    if set.iter().any(|(name, _)| name.ends_with("_ENDPOINT")) {
        set
    } else {
        Vec::new()
    }
}

/// What a pod is told about traces: what its template says (`own`), and what the operator hands on
/// besides.
pub fn variables(settings: &Settings, own: &[Value]) -> Vec<(String, String)> {
    let is_own = |name: &str| own.iter().any(|variable| variable["name"] == name);
    let handed = settings.tracing.iter().filter(|(name, _)| !is_own(name));
    let own = own.iter().filter_map(|variable| {
        let name = variable["name"].as_str()?;
        Some((name.to_owned(), variable["value"].as_str()?.to_owned()))
    });
    let own = own.filter(|(name, _)| name.starts_with("OTEL_"));
    handed.cloned().chain(own).collect()
}

/// The environment of a container with these labels, beside `own`, what its template says. Its pod
/// names itself in every span, after what it was given otherwise: of two attributes with one name
/// the later one counts.
pub fn env(settings: &Settings, labels: &Map<String, Value>, own: &[Value]) -> Vec<Value> {
    let own_value = |name: &str| own.iter().find(|variable| variable["name"] == name);
    let names_collector = |variable: &Value| {
        let name = variable["name"].as_str().unwrap_or_default();
        name.starts_with("OTEL_") && name.ends_with("_ENDPOINT")
    };
    if settings.tracing.is_empty() && !own.iter().any(names_collector) {
        return Vec::new();
    }
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": path } } });
    let mut env = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
    ];
    env.retain(|ours| own.iter().all(|variable| variable["name"] != ours["name"]));
    let mut attributes = Vec::new();
    for (name, value) in &settings.tracing {
        if name == ATTRIBUTES {
            attributes.push(value.clone());
        } else if own_value(name).is_none() {
            env.push(json!({ "name": name, "value": value }));
        }
    }
    match own_value(ATTRIBUTES) {
        // from somewhere else, whatever it is
        Some(own) if own.get("value").is_none() => return env,
        Some(own) => attributes.extend(own["value"].as_str().map(ToOwned::to_owned)),
        None => {}
    }
    attributes.push("k8s.namespace.name=$(POD_NAMESPACE)".to_owned());
    attributes.push("k8s.pod.name=$(POD_NAME)".to_owned());
    for (label, attribute) in [
        (PIPELINE_LABEL, "clickstream.pipeline"),
        (TARGET_LABEL, "clickstream.target"),
    ] {
        if let Some(value) = labels.get(label).and_then(Value::as_str) {
            attributes.push(format!("{attribute}={value}"));
        }
    }
    env.push(json!({ "name": ATTRIBUTES, "value": attributes.join(",") }));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(variables: &[(&str, &str)]) -> Vec<(String, String)> {
        handed_on(|wanted| {
            variables
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_is_handed_on_without_a_collector() {
        assert_eq!(operator(&[("OTEL_TRACES_SAMPLER", "always_on")]), []);
        assert_eq!(operator(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), []);
    }

    #[test]
    fn credentials_and_the_operators_own_name_stay_with_the_operator() {
        let handed = operator(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2"),
            ("OTEL_SERVICE_NAME", "the-operator"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ]);
        assert_eq!(
            handed,
            [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
                ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
