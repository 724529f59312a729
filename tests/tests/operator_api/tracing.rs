//! Reconciles as spans in a real Collector, and what the pods are told about theirs.

use clickstream_testbed::{CollectedSpan, Collector, unique_name};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::PodSpec};
use serde_json::json;

use crate::stage::{Migrations, Stage};

/// The value of a variable of a pod's container.
fn variable(pod: &PodSpec, name: &str) -> Option<String> {
    let env = pod.containers[0].env.as_ref()?;
    env.iter().find(|it| it.name == name)?.value.clone()
}

#[tokio::test]
async fn a_reconcile_is_a_span_with_its_steps_and_pods_send_theirs_to_the_same_collector()
-> anyhow::Result<()> {
    if !Collector::can_be_had() && std::env::var_os("CI").is_none() {
        eprintln!("skipped: no OpenTelemetry Collector, and no `go` to build one");
        return Ok(());
    }
    let collector = Collector::start().await?;
    let endpoint = collector.endpoint();
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator_in(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("CLICKSTREAM_LOG_FORMAT", "json"),
    ])?;
    let producer = json!({ "producer": { "enabled": true } });
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), producer))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;

    let steps = [
        "dereference",
        "validate",
        "build",
        "apply tables",
        "apply topics",
        "apply",
        "observe",
        "status",
    ];
    let whole = collector
        .until("a reconcile with all steps", |spans| {
            let is_whole = |reconcile: &&CollectedSpan| {
                let names: Vec<&str> = children(spans, reconcile);
                steps.iter().all(|step| names.contains(step))
            };
            let reconciles = spans.iter().filter(|span| span.name == "reconcile");
            reconciles
                .filter(|span| span.parent.is_empty())
                .find(is_whole)
                .cloned()
        })
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert_eq!(whole.service(), "clickstream-operator");
    assert_eq!(whole.attribute("namespace"), Some(stage.namespace.as_str()));
    assert_eq!(whole.attribute("name"), Some("shop"));
    assert_eq!(whole.attribute("generation"), Some("1"));
    let spans = collector.spans();
    // whatever is applied was built before
    let of = |name: &str| {
        let mut named = spans.iter();
        named.find(|span| span.parent == whole.id && span.name == name)
    };
    let apply = of("apply").expect("it is one of the steps");
    assert!(!children(&spans, apply).contains(&"build"));

    // a line from within names its trace
    let traced = operator.log().lines().any(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        spans.iter().any(|span| {
            line["trace_id"] == span.trace.as_str() && line["span_id"] == span.id.as_str()
        })
    });
    assert!(traced, "{}", operator.log());

    for deployment in stage.children::<Deployment>("shop", 2).await? {
        let pod = deployment.spec.and_then(|spec| spec.template.spec);
        let pod = pod.expect("a Deployment has pods");
        assert_eq!(
            variable(&pod, "OTEL_EXPORTER_OTLP_ENDPOINT").as_ref(),
            Some(&endpoint)
        );
        assert_eq!(
            variable(&pod, "OTEL_TRACES_SAMPLER_ARG").as_deref(),
            Some("0.5")
        );
        assert_eq!(variable(&pod, "OTEL_EXPORTER_OTLP_HEADERS"), None);
        let attributes = variable(&pod, "OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        assert!(
            attributes.contains("clickstream.pipeline=shop"),
            "{attributes}"
        );
    }
    for job in stage.children::<Job>("shop", 1).await? {
        let pod = job.spec.and_then(|spec| spec.template.spec);
        let pod = pod.expect("a Job has a pod");
        assert_eq!(variable(&pod, "OTEL_EXPORTER_OTLP_ENDPOINT"), None);
    }
    Ok(())
}

fn children<'s>(spans: &'s [CollectedSpan], parent: &CollectedSpan) -> Vec<&'s str> {
    let is_child = |span: &&CollectedSpan| span.trace == parent.trace && span.parent == parent.id;
    spans
        .iter()
        .filter(is_child)
        .map(|span| span.name.as_str())
        .collect()
}
