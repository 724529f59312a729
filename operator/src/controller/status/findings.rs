//! What is to be said about each part. Pure.

mod database;
mod pods;

use clickstream_pipeline::spec::ClickstreamPipeline;
use clickstream_protocol::conditions::Reason;
use clickstream_protocol::status::ProcessorStatus;

use self::{
    database::database,
    pods::{one_workload, processors},
};
use super::{
    conditions::{Finding, Findings, Truth, lag_finding},
    loss,
    observed::Observed,
    paused, transactions,
};
use crate::{controller::apply::topics::Failure, crd::ClickstreamPipelineStatus};

/// A topic whose timestamps come from its producers' clocks.
const CREATE_TIME: &str = "CreateTime";

/// Everything that is to be said.
pub fn of(observed: &Observed<'_>, status: &ClickstreamPipelineStatus) -> Findings {
    let spec = &observed.valid.document.spec;
    let topics = topics(observed);
    let database = database(observed, status);
    let names: Vec<_> = spec
        .targets
        .iter()
        .map(|target| target.name.as_str())
        .collect();
    let processors = processors(observed, &names, spec.suspend);
    let producer = observed
        .targets
        .producer
        .as_ref()
        .map(|workload| one_workload("producer", workload, spec.suspend));
    let taken: Vec<_> = observed
        .targets
        .taken
        .iter()
        .filter(|taken| !taken.deleting)
        .map(ToString::to_string)
        .collect();
    let refused = observed
        .refused
        .clone()
        .or_else(|| (!taken.is_empty()).then(|| Finding::no(Reason::NameTaken, taken.join("; "))))
        // only a person can mend these, whatever else goes on meanwhile
        .or_else(|| objects_refused(observed))
        .or_else(|| topic_refusal(observed));
    let in_progress = in_progress(observed, &topics, &database, &processors, producer.as_ref());
    Findings {
        topics,
        database,
        processors,
        producer,
        lag: lag(
            &spec.kafka.bootstrap_servers,
            observed.reports,
            spec.processor.lag_target,
            status.lag,
        ),
        data_loss: loss::finding(status),
        suspended: spec.suspend,
        paused: paused::finding(&observed.valid.asked),
        refused,
        in_progress,
    }
}

fn topics(observed: &Observed<'_>) -> Finding {
    let seen = observed.topics;
    match &seen.failure {
        Some(Failure::Unreachable(why)) => {
            return Finding::outage(Reason::KafkaUnreachable, why.clone());
        }
        Some(Failure::Refused(why)) => return Finding::no(Reason::KafkaRefused, why.clone()),
        Some(Failure::Credentials(why)) => {
            return Finding::no(Reason::KafkaCredentials, why.clone());
        }
        None => {}
    }
    if let Some(refusal) = topic_refusal(observed) {
        return refusal;
    }
    if seen.topics.iter().any(|topic| topic.waits) {
        return Finding::no(
            Reason::WaitingForDatabase,
            "a topic exists already; whose it is follows from the target's schema, which is not migrated yet",
        );
    }
    if !seen.held.is_empty() {
        return Finding::no(
            Reason::Paused,
            format!(
                "not as the spec has them, and left so while the operator is paused: {}",
                seen.held.join(", ")
            ),
        );
    }
    let names: Vec<_> = seen
        .topics
        .iter()
        .map(|topic| topic.name.as_str())
        .collect();
    let stamped_elsewhere: Vec<_> = seen
        .topics
        .iter()
        .filter(|topic| topic.status.timestamp_type.as_deref() == Some(CREATE_TIME))
        .map(|topic| topic.name.as_str())
        .collect();
    let mut message = names.join(", ");
    if !stamped_elsewhere.is_empty() {
        message = format!(
            "{message}; received_at is what the producers say, since message.timestamp.type is {CREATE_TIME}: {}",
            stamped_elsewhere.join(", ")
        );
    }
    Finding::yes(Reason::AsSpecified, message)
}

/// Every object that the API server refuses, each once.
fn objects_refused(observed: &Observed<'_>) -> Option<Finding> {
    let refused = observed.migrations.refused().iter();
    let mut all: Vec<_> = refused
        .chain(&observed.targets.refused)
        .map(ToString::to_string)
        .collect();
    all.dedup();
    (!all.is_empty()).then(|| Finding::no(Reason::ObjectRefused, all.join("; ")))
}

/// Everything about the topics that is refused.
fn topic_refusal(observed: &Observed<'_>) -> Option<Finding> {
    let refusals: Vec<_> = observed
        .topics
        .topics
        .iter()
        .flat_map(|topic| &topic.refusals)
        .collect();
    let first = refusals.first()?;
    let all: Vec<_> = refusals.iter().map(ToString::to_string).collect();
    Some(Finding::no(first.reason(), all.join("; ")))
}

/// An open transaction is told first: it is why there is lag, and nothing is wrong with the
/// pipeline.
fn lag(
    bootstrap_servers: &str,
    reports: &[Vec<ProcessorStatus>],
    target: Option<u64>,
    lag: Option<i64>,
) -> Finding {
    transactions::open_finding(bootstrap_servers, reports)
        .unwrap_or_else(|| lag_finding(target, lag))
}

fn in_progress(
    observed: &Observed<'_>,
    topics: &Finding,
    database: &Finding,
    processors: &Finding,
    producer: Option<&Finding>,
) -> Option<String> {
    if observed.gate.is_closed() {
        return Some(format!("waits until {}", observed.gate.others()));
    }
    if let Some(taken) = observed.targets.taken.iter().find(|taken| taken.deleting) {
        return Some(format!(
            "{} {} of a pipeline that was deleted is still going",
            taken.kind, taken.name
        ));
    }
    // what a suspended pipeline lacks is looked for again when it resumes
    let needs = !observed.valid.document.spec.suspend;
    let before = needs.then_some([topics, database]).into_iter().flatten();
    before
        .chain([processors])
        .chain(producer)
        // what is not known is nothing that goes on, and neither is what is held
        .find(|finding| finding.truth == Truth::False && finding.reason != Reason::Paused)
        .map(|finding| finding.message.clone())
        .or_else(|| {
            // nothing brings them while the operator is paused
            rules_on_their_way(&observed.valid.document, observed.reports)
                .filter(|_| !observed.valid.asked.paused)
        })
}

/// What says that rules have changed and not all processors follow them yet. Those of an image that
/// the spec names get new rules by new pods.
fn rules_on_their_way(
    document: &ClickstreamPipeline,
    reports: &[Vec<ProcessorStatus>],
) -> Option<String> {
    if document.spec.image.is_some() {
        return None;
    }
    let wanted = document.semantic().short_hash();
    let targets = document.spec.targets.iter().zip(reports);
    targets.into_iter().find_map(|(target, reports)| {
        let told = reports.iter().filter_map(|report| report.rules.as_ref());
        let behind = told.filter(|rules| **rules != wanted).count();
        (behind > 0).then(|| {
            format!(
                "target {}: {behind} of {} processors still follow other rules; a changed ConfigMap reaches a pod within \
                 about a minute",
                target.name,
                reports.len()
            )
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::json;

    use super::*;

    fn reports(status: serde_json::Value) -> Vec<ProcessorStatus> {
        vec![serde_json::from_value(status).unwrap()]
    }

    #[test]
    fn rules_are_on_their_way_until_every_processor_follows_them() {
        let mut document = ClickstreamPipeline::from_yaml(
            "{ apiVersion: clickstream.dev/v1alpha1, kind: ClickstreamPipeline, metadata: { name: shop }, spec: {
               kafka: { bootstrapServers: 'kafka:9092' }, targets: [{ connection: { host: h, database: d, user: u } }] } }",
        )
        .unwrap();
        let (now, before) = (document.semantic().short_hash(), "0123456789ab");
        let one = |rules: &str| serde_json::from_value(json!({ "rules": rules })).unwrap();
        let both = |rules: [&str; 2]| [rules.map(one).to_vec()];
        let on_their_way = |document: &_, rules| rules_on_their_way(document, &both(rules));
        assert_eq!(on_their_way(&document, [&now, &now]), None);
        let said = on_their_way(&document, [&now, before]).unwrap();
        assert!(said.starts_with("target default: 1 of 2 "), "{said}");
        assert_eq!(rules_on_their_way(&document, &[reports(json!({}))]), None);
        document.spec.image = Some("processor:1".to_owned());
        assert_eq!(on_their_way(&document, [before, before]), None);
    }

    #[test]
    fn an_open_transaction_is_told_whatever_the_lag_and_with_or_without_a_target() {
        let held = |seconds: f64| {
            [reports(json!({ "partitions": [
                { "topic": "clicks", "partition": 0, "open_transaction_seconds": seconds },
            ]}))]
        };
        for target in [None, Some(10)] {
            for behind in [None, Some(5), Some(50)] {
                let said = lag("kafka:9092", &held(300.0), target, behind);
                assert_eq!(said.reason, Reason::OpenTransaction);
                assert!(!said.holds());
                let ended = lag("kafka:9092", &held(0.0), target, behind);
                assert_eq!(ended, lag_finding(target, behind));
            }
        }
    }
}
