//! Series come and go with the pipelines, and nothing that somebody writes into a status makes one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use clickstream_telemetry::metrics::families;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use prometheus::{Registry, TextEncoder};

use super::{Ended, OperatorMetrics, documented};
use crate::crd::{ClickstreamPipelineStatus, TargetStatus};

fn text(registry: &Registry) -> String {
    TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap()
}

fn condition(kind: &str, status: &str) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        last_transition_time: Time(Timestamp::from_second(1_700_000_000).unwrap()),
        reason: "Because".to_owned(),
        message: String::new(),
        observed_generation: None,
    }
}

fn status() -> ClickstreamPipelineStatus {
    ClickstreamPipelineStatus {
        conditions: vec![
            condition("Ready", "False"),
            condition("Suspended", "True"),
            condition("Paused", "True"),
        ],
        targets: vec![TargetStatus {
            name: "main".to_owned(),
            lag: Some(7),
            replicas: Some(2),
            ready_replicas: Some(1),
            ..TargetStatus::default()
        }],
        ..ClickstreamPipelineStatus::default()
    }
}

fn metrics() -> (Registry, OperatorMetrics) {
    let registry = Registry::new();
    let metrics = OperatorMetrics::register(&registry).unwrap();
    (registry, metrics)
}

#[test]
fn a_pipeline_is_told_of_while_it_is_there_and_by_the_leader_only() {
    let (registry, metrics) = metrics();
    metrics.seen("shop", "clicks");
    metrics.pipelines.status("shop", "clicks", &status());
    let targets = [("main", Some(2), "retrying"), ("gone", Some(9), "done")];
    metrics
        .pipelines
        .targets("shop", "clicks", targets.into_iter());
    metrics.pipelines.failed("shop", "clicks", 3);
    let shown = text(&registry);
    for line in [
        r#"clickstream_pipeline_condition{namespace="shop",pipeline="clicks",status="false",type="Ready"} 1"#,
        r#"clickstream_pipeline_condition{namespace="shop",pipeline="clicks",status="true",type="Ready"} 0"#,
        r#"clickstream_pipeline_condition{namespace="shop",pipeline="clicks",status="unknown",type="Ready"} 0"#,
        r#"clickstream_pipeline_suspended_since_timestamp_seconds{namespace="shop",pipeline="clicks"} 1700000000"#,
        r#"clickstream_pipeline_paused_since_timestamp_seconds{namespace="shop",pipeline="clicks"} 1700000000"#,
        r#"clickstream_pipeline_reconcile_failures{namespace="shop",pipeline="clicks"} 3"#,
        r#"clickstream_pipeline_lag_records{namespace="shop",pipeline="clicks",target="main"} 7"#,
        r#"clickstream_pipeline_processors_wanted{namespace="shop",pipeline="clicks",target="main"} 2"#,
        r#"clickstream_pipeline_processors_ready{namespace="shop",pipeline="clicks",target="main"} 1"#,
        r#"clickstream_pipeline_partitions_unowned{namespace="shop",pipeline="clicks",target="main"} 2"#,
        r#"clickstream_pipeline_migration_state{namespace="shop",pipeline="clicks",state="retrying",target="main"} 1"#,
        r#"clickstream_pipeline_migration_state{namespace="shop",pipeline="clicks",state="done",target="main"} 0"#,
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    metrics.gone("shop", "clicks");
    assert!(!text(&registry).contains("clickstream_pipeline_"));
    // a reconcile that ends after that
    metrics.pipelines.status("shop", "clicks", &status());
    metrics.pipelines.failed("shop", "clicks", 1);
    assert!(!text(&registry).contains("clickstream_pipeline_"));

    metrics.seen("shop", "clicks");
    metrics.pipelines.status("shop", "clicks", &status());
    metrics.leads(false);
    assert!(!text(&registry).contains("clickstream_pipeline_"));
}

#[test]
fn a_list_takes_away_what_it_does_not_hold_in_its_own_namespace() {
    let (registry, metrics) = metrics();
    for namespace in ["a", "b"] {
        for pipeline in ["one", "two"] {
            metrics.seen(namespace, pipeline);
        }
    }
    let there = BTreeSet::from([("a".to_owned(), "one".to_owned())]);
    let gone = metrics.pipelines.only(Some("a"), &there);
    assert_eq!(gone, [("a".to_owned(), "two".to_owned())]);
    assert!(metrics.pipelines.knows("b", "two"));
    assert_eq!(metrics.pipelines.only(None, &there).len(), 2);
    let shown = text(&registry);
    assert_eq!(
        shown
            .matches("clickstream_pipeline_reconcile_failures{")
            .count(),
        1
    );
}

#[test]
fn hostile_statuses_and_a_churn_of_pipelines_leave_no_series() {
    let (registry, metrics) = metrics();
    // the first reconcile makes its series
    metrics.seen("shop", "clicks");
    metrics.triggered("shop", "clicks");
    metrics.queue.taken("shop", "clicks");
    metrics.reconcile().ended(Ended::Success);
    metrics.pipelines.status("shop", "clicks", &status());
    metrics.pipelines.succeeded("shop", "clicks");
    let series = |text: String| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect::<BTreeSet<_>>()
    };
    let before = series(text(&registry));
    for number in 0..5_000 {
        let pipeline = format!("p{number}");
        metrics.seen("shop", &pipeline);
        metrics.triggered("shop", &pipeline);
        metrics.pipelines.status("shop", &pipeline, &status());
        metrics.gone("shop", &pipeline);
        // children of pipelines that are gone
        metrics.triggered("shop", &pipeline);
        let kind = format!("Made Up\n{number}\"}} 1");
        let mut written = status();
        written.conditions.push(condition(&kind, "True"));
        written.conditions.push(condition("Stalled", &kind));
        metrics.pipelines.status("shop", "clicks", &written);
    }
    // what a server may answer
    let answers = metrics.requests.to("api", metrics.hearing.clone());
    for code in 0..=u16::MAX {
        answers.count(Some(code), "GET");
    }
    let answered = text(&registry)
        .matches("rest_client_requests_total{")
        .count();
    assert!(answered <= 21, "{answered} series");
    metrics.requests.collector().reset();
    assert_eq!(series(text(&registry)), before);
    assert!(text(&registry).contains(r#"workqueue_depth{name="clickstreampipeline"} 0"#));
}

#[test]
fn a_call_waits_in_the_queue_until_its_reconcile_begins() {
    let (registry, metrics) = metrics();
    metrics.seen("shop", "clicks");
    for _ in 0..3 {
        metrics.triggered("shop", "clicks");
    }
    let name = r#"{name="clickstreampipeline"}"#;
    let shows = |metric: &str, value: u64| {
        let line = format!("{metric}{name} {value}\n");
        assert!(text(&registry).contains(&line), "{line}{}", text(&registry));
    };
    shows("workqueue_depth", 1);
    shows("workqueue_adds_total", 1);
    metrics.queue.taken("shop", "clicks");
    shows("workqueue_depth", 0);
    shows("workqueue_queue_duration_seconds_count", 1);
    // by its time
    metrics.queue.taken("shop", "clicks");
    shows("workqueue_adds_total", 2);
    shows("workqueue_queue_duration_seconds_count", 1);
}

#[test]
fn work_is_unfinished_until_its_reconcile_ends_or_is_given_up() {
    let (registry, metrics) = metrics();
    let seconds = |metric: &str| -> f64 {
        let text = text(&registry);
        let line = text.lines().find(|line| line.starts_with(metric)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let (unfinished, longest) = (
        "workqueue_unfinished_work_seconds{",
        "workqueue_longest_running_processor_seconds{",
    );
    assert_eq!((seconds(unfinished), seconds(longest)), (0.0, 0.0));
    let (first, second) = (metrics.reconcile(), metrics.reconcile());
    let (one, both) = (seconds(longest), seconds(unfinished));
    assert!(0.0 < one && one < both, "{one} {both}");
    first.ended(Ended::Success);
    drop(second);
    assert_eq!((seconds(unfinished), seconds(longest)), (0.0, 0.0));
}

#[test]
fn every_metric_has_the_form_that_prometheus_asks_for() {
    let all = documented().unwrap();
    assert!(
        all.iter()
            .any(|family| family.name == "clickstream_pipeline_condition")
    );
    for family in all {
        let name = &family.name;
        assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
        assert!(!family.help.is_empty(), "{name}");
    }
    assert!(families(&[]).is_empty());
}
