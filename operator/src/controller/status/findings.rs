//! What is to be said about each part. Pure.

use clickstream_protocol::conditions::Reason;
use clickstream_protocol::status::{ProcessorState, ProcessorStatus};

use super::{
    conditions::{Finding, Findings, Truth, lag_finding},
    loss,
    numbers::unreported,
    observed::Observed,
    paused, transactions,
};
use crate::{
    controller::{
        apply::{
            migration::{LOOK_FOR_READERS, State},
            topics::{Failure, TopicSeen},
        },
        refusals::Stuck,
        workload::Workload,
    },
    crd::ClickstreamPipelineStatus,
};

/// Partitions named in a message.
const PARTITIONS_NAMED: usize = 5;
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

fn database(observed: &Observed<'_>, status: &ClickstreamPipelineStatus) -> Finding {
    let targets = &observed.valid.document.spec.targets;
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    let mut waits = None;
    for (target, state) in targets.iter().zip(observed.migrations.states()) {
        let name = &target.name;
        match state {
            State::Done(_) | State::Recorded => {}
            State::Failed { why, again } => {
                return Finding::no(
                    Reason::MigrationFailed,
                    format!(
                        "target {name}: {why} (tried again at {again:.0}, and at once when the spec or a Secret changes)"
                    ),
                );
            }
            State::NoSecret(secrets) => {
                return Finding::no(
                    Reason::SecretMissing,
                    format!(
                        "target {name}: Secret {secrets} does not exist in this namespace; create it"
                    ),
                );
            }
            State::Repeated(found) => {
                waits = waits.or_else(|| {
                    Some(Finding::no(
                        Reason::Migrating,
                        format!("target {name}: the migration runs again, since a processor has found: {found}"),
                    ))
                });
            }
            State::Running(Some(obstacle)) => {
                return Finding::no(
                    Reason::MigrationBlocked,
                    format!("target {name}: the migration's pod does not run: {obstacle}"),
                );
            }
            State::Running(None) => {
                waits = waits.or_else(|| {
                    Some(Finding::no(
                        Reason::Migrating,
                        format!("target {name}: the migration runs"),
                    ))
                });
            }
            State::Held => {
                waits = waits.or_else(|| {
                    let message =
                        format!("target {name}: a migration is due, and the operator is paused");
                    Some(Finding::no(Reason::Paused, message))
                });
            }
            State::Queued => {
                waits = waits.or_else(|| {
                    let message = format!(
                        "target {name}: runs as before until {}",
                        observed.gate.others()
                    );
                    Some(Finding::yes(Reason::Queued, message))
                });
            }
        }
    }
    if let Some(outage) = outage(&names, observed.reports) {
        return outage;
    }
    if let Some(waits) = waits.take_if(|waits| !waits.holds()) {
        return waits;
    }
    if let Some(unknown) = unwitnessed(&names, observed.reports, &observed.targets.processors) {
        return unknown;
    }
    waits.unwrap_or_else(|| {
        let readers: Vec<_> = status
            .targets
            .iter()
            .flat_map(|target| &target.missing_readers)
            .map(String::as_str)
            .collect();
        if readers.is_empty() {
            Finding::yes(Reason::Migrated, "the tables of all targets are there")
        } else {
            let message = format!(
                "roles that are to read and do not exist: {}; create them, and a migration lets them read within {} minutes",
                readers.join(", "),
                LOOK_FOR_READERS.as_mins()
            );
            Finding::yes(Reason::ReadersMissing, message)
        }
    })
}

/// Tables that are there can be written while a processor says so, or the kubelet, whose probe asks it for that.
fn unwitnessed(
    names: &[&str],
    reports: &[Vec<ProcessorStatus>],
    workloads: &[Workload],
) -> Option<Finding> {
    let silent: Vec<&str> = names
        .iter()
        .zip(reports.iter().zip(workloads))
        .filter(|(_, (reports, workload))| reports.is_empty() && workload.ready == 0)
        .map(|(name, _)| *name)
        .collect();
    (!silent.is_empty()).then(|| {
        let message = format!(
            "the tables are migrated; whether PostgreSQL takes what is written is not known: no processor of {} is ready or answers",
            silent.join(", ")
        );
        Finding::unknown(Reason::NotReported, message)
    })
}

/// What the processors say of PostgreSQL; `reports` are those of each target in the order of `names`.
fn outage(names: &[&str], reports: &[Vec<ProcessorStatus>]) -> Option<Finding> {
    let of_targets = || names.iter().zip(reports);
    let refused = of_targets().find_map(|(name, reports)| {
        let first = reports.iter().find_map(|report| report.refused.as_ref());
        first.map(|refused| (name, refused))
    });
    if let Some((name, refused)) = refused {
        let message = format!(
            "target {name}: PostgreSQL refuses what the processors write since {} ({}); events wait in Kafka",
            refused.since, refused.class
        );
        return Some(Finding::outage(Reason::PostgresRefuses, message));
    }
    let away: Vec<&str> = of_targets()
        .filter(|(_, reports)| {
            reports
                .iter()
                .any(|report| report.state == ProcessorState::WaitingForPostgres)
        })
        .map(|(name, _)| *name)
        .collect();
    (!away.is_empty()).then(|| {
        let message = format!(
            "PostgreSQL does not answer the processors of {}; events wait in Kafka",
            away.join(", ")
        );
        Finding::outage(Reason::PostgresUnreachable, message)
    })
}

/// An open transaction is told first: it is why there is lag, and nothing is wrong with the pipeline.
fn lag(
    bootstrap_servers: &str,
    reports: &[Vec<ProcessorStatus>],
    target: Option<u64>,
    lag: Option<i64>,
) -> Finding {
    transactions::open_finding(bootstrap_servers, reports)
        .unwrap_or_else(|| lag_finding(target, lag))
}

fn processors(observed: &Observed<'_>, names: &[&str], suspended: bool) -> Finding {
    let mut ready = 0;
    let mut wanted = 0;
    for (name, workload) in names.iter().zip(&observed.targets.processors) {
        let finding = one_workload(name, workload, suspended);
        if !finding.holds() {
            return finding;
        }
        ready += workload.ready;
        wanted += workload.wanted;
    }
    let mut halted: Vec<_> = observed
        .reports
        .iter()
        .flatten()
        .flat_map(|report| &report.halted)
        .collect();
    // in whatever order the pods have answered, the message stays the same
    halted.sort_by_key(|halted| (&halted.topic, halted.partition));
    let halted: Vec<_> = halted
        .iter()
        .map(|halted| format!("{}/{}: {}", halted.topic, halted.partition, halted.reason))
        .collect();
    if let Some(first) = halted.first() {
        return Finding::no(
            Reason::PartitionsHalted,
            format!("{} partitions are halted; the first: {first}", halted.len()),
        );
    }
    if suspended {
        return Finding::yes(Reason::Suspended, "stopped, as the spec says");
    }
    if let Some(unowned) = unowned(
        names,
        &observed.topics.topics,
        observed.reports,
        &observed.targets.processors,
    ) {
        return unowned;
    }
    let partitions: usize = observed
        .topics
        .topics
        .iter()
        .filter_map(|topic| topic.status.partitions)
        .filter_map(|count| usize::try_from(count).ok())
        .sum();
    let spare = observed
        .targets
        .processors
        .iter()
        .filter_map(|workload| {
            usize::try_from(workload.wanted)
                .ok()?
                .checked_sub(partitions)
        })
        .max()
        .unwrap_or(0);
    let message = if spare > 0 && partitions > 0 {
        format!(
            "{ready}/{wanted} ready; {spare} of a target's have no partition and are spares: the topics have {partitions}"
        )
    } else {
        format!("{ready}/{wanted} ready")
    };
    Finding::yes(Reason::Available, message)
}

/// Partitions that no processor has, although all of them are ready. A hand-over takes seconds, as an outage may.
fn unowned(
    names: &[&str],
    topics: &[TopicSeen],
    reports: &[Vec<ProcessorStatus>],
    workloads: &[Workload],
) -> Option<Finding> {
    for ((name, reports), workload) in names.iter().zip(reports).zip(workloads) {
        let missing = unreported(topics, reports).unwrap_or_default();
        // where none answers, the operator's way to the pods is cut; the kubelets' probes ask for partitions that are not claimed
        if missing.is_empty() || reports.is_empty() {
            continue;
        }
        let all: i32 = topics
            .iter()
            .filter_map(|topic| topic.status.partitions)
            .sum();
        let named: Vec<_> = missing
            .iter()
            .take(PARTITIONS_NAMED)
            .map(|(topic, partition)| format!("{topic}/{partition}"))
            .collect();
        let more = if missing.len() > named.len() {
            ", ..."
        } else {
            ""
        };
        let which = format!(
            "{} of {all} partitions: {}{more}",
            missing.len(),
            named.join(", ")
        );
        let answers = reports.len();
        let finding = if i32::try_from(answers).is_ok_and(|answers| answers < workload.wanted) {
            let wanted = workload.wanted;
            Finding::unknown(
                Reason::NotReported,
                format!("{name}: {answers} of {wanted} processors answer, and have not {which}"),
            )
        } else {
            Finding::no(
                Reason::PartitionsUnowned,
                format!("{name}: no processor has {which}"),
            )
        };
        return Some(Finding {
            outage: true,
            ..finding
        });
    }
    None
}

fn one_workload(name: &str, workload: &Workload, suspended: bool) -> Finding {
    if workload.paused {
        return Finding::no(
            Reason::Paused,
            format!(
                "{name}: {} ready, as they were; what the spec wants otherwise waits while the operator is paused",
                workload.ready
            ),
        );
    }
    if let Some(refused) = &workload.refused {
        return Finding::no(
            Reason::ObjectRefused,
            format!("{name}: {} ready, as they were; {refused}", workload.ready),
        );
    }
    if let Some(why) = workload.held_back
        && !workload.queued
    {
        return Finding::no(Reason::WaitingForDependencies, format!("{name}: {why}"));
    }
    if workload.is_complete() {
        return if suspended {
            Finding::yes(
                Reason::Suspended,
                format!("{name}: stopped, as the spec says"),
            )
        } else {
            Finding::yes(
                Reason::Available,
                format!("{name}: {}/{} ready", workload.ready, workload.wanted),
            )
        };
    }
    let numbers = format!(
        "{name}: {} of {} ready, {} of the newest version",
        workload.ready, workload.wanted, workload.updated
    );
    // what its controller said of the version before says nothing of this one
    let stuck = workload.stuck.as_ref().filter(|_| workload.observed);
    match (stuck, &workload.obstacle) {
        (Some(Stuck::Refused(why)), _) => Finding::no(
            Reason::PodsRefused,
            format!("{numbers}; pods cannot be created: {why}"),
        ),
        (_, Some(obstacle)) => Finding::no(Reason::PodsFailing, format!("{numbers}; {obstacle}")),
        (Some(Stuck::Late(why)), None) => {
            Finding::no(Reason::RolloutStuck, format!("{numbers}; {why}"))
        }
        (None, None) => Finding::no(Reason::RollingOut, numbers),
    }
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
    fn a_database_that_refuses_is_told_from_one_that_does_not_answer() {
        let running = reports(json!({ "state": "running" }));
        let away = reports(json!({ "state": "waiting_for_postgres" }));
        let full = reports(json!({
            "state": "waiting_for_postgres",
            "refused": { "since": "2026-01-01T00:00:00.000Z", "class": "resources" },
        }));
        let names = ["lake", "warehouse"];
        let found =
            |reports: [&Vec<ProcessorStatus>; 2]| outage(&names, &reports.map(Clone::clone));
        assert!(found([&running, &running]).is_none());
        let silent = format!("{:?}", found([&running, &away]).unwrap());
        assert!(
            silent.contains("PostgresUnreachable") && silent.contains("of warehouse;"),
            "{silent}"
        );
        let refusing = format!("{:?}", found([&away, &full]).unwrap());
        assert!(
            refusing.contains("PostgresRefuses")
                && refusing.contains("target warehouse")
                && refusing.contains("(resources)"),
            "{refusing}"
        );
    }

    fn topic(name: &str, partitions: Option<i32>) -> TopicSeen {
        TopicSeen {
            name: name.to_owned(),
            status: crate::crd::TopicStatus {
                partitions,
                ..Default::default()
            },
            refusals: Vec::new(),
            usable: true,
            waits: false,
        }
    }

    fn owning(partitions: &[i32]) -> ProcessorStatus {
        let partitions: Vec<_> = partitions
            .iter()
            .map(|partition| json!({ "topic": "clicks", "partition": partition }))
            .collect();
        serde_json::from_value(json!({ "partitions": partitions })).unwrap()
    }

    #[test]
    fn partitions_are_unowned_only_when_everybody_answers() {
        let ready = |wanted| Workload {
            wanted,
            ready: wanted,
            ..Workload::default()
        };
        let topics = [topic("clicks", Some(7))];
        let found =
            |answers: Vec<ProcessorStatus>| unowned(&["lake"], &topics, &[answers], &[ready(2)]);
        assert_eq!(found(vec![owning(&[0, 1, 2]), owning(&[3, 4, 5, 6])]), None);
        let nobody = found(vec![owning(&[]), owning(&[3])]).unwrap();
        assert_eq!(
            (nobody.truth, nobody.reason, nobody.outage),
            (Truth::False, Reason::PartitionsUnowned, true)
        );
        let says = "no processor has 6 of 7 partitions: clicks/0, clicks/1, clicks/2, clicks/4, clicks/5, ...";
        assert!(nobody.message.ends_with(says), "{}", nobody.message);
        let unknown = found(vec![owning(&[3])]).unwrap();
        assert_eq!(
            (unknown.truth, unknown.reason),
            (Truth::Unknown, Reason::NotReported)
        );
        assert_eq!(
            found(Vec::new()),
            None,
            "the kubelet's probes are what is known"
        );
    }

    #[test]
    fn how_many_partitions_there_are_is_not_guessed() {
        let report = [owning(&[0])];
        let known = [topic("clicks", Some(1))];
        assert_eq!(unreported(&known, &report), Some(Vec::new()));
        let unknown = [topic("clicks", Some(1)), topic("visits", None)];
        assert_eq!(unreported(&unknown, &report), None);
    }

    #[test]
    fn tables_are_known_to_be_written_by_an_answer_or_a_probe() {
        let workload = |ready| Workload {
            ready,
            ..Workload::default()
        };
        let found = |answers: Vec<ProcessorStatus>, ready| {
            unwitnessed(&["lake"], &[answers], &[workload(ready)])
        };
        assert_eq!(found(vec![owning(&[])], 0), None);
        assert_eq!(found(Vec::new(), 1), None);
        assert_eq!(found(Vec::new(), 0).unwrap().truth, Truth::Unknown);
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
