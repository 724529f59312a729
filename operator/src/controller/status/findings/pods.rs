//! Processors and producer: whether they run, and whether each partition has one.

use clickstream_protocol::{conditions::Reason, status::ProcessorStatus};

use crate::controller::{
    apply::topics::TopicSeen,
    refusals::Stuck,
    status::{conditions::Finding, numbers::unreported, observed::Observed},
    workload::Workload,
};

/// Partitions named in a message.
const PARTITIONS_NAMED: usize = 5;

/// What is to be said about the processors of all targets.
pub(super) fn processors(observed: &Observed<'_>, names: &[&str], suspended: bool) -> Finding {
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

/// Partitions that no processor has, although all of them are ready. A hand-over takes seconds, as
/// an outage may.
fn unowned(
    names: &[&str],
    topics: &[TopicSeen],
    reports: &[Vec<ProcessorStatus>],
    workloads: &[Workload],
) -> Option<Finding> {
    for ((name, reports), workload) in names.iter().zip(reports).zip(workloads) {
        let missing = unreported(topics, reports).unwrap_or_default();
        // where none answers, the operator's way to the pods is cut; the kubelets' probes ask for
        // partitions that are not claimed
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

/// What is to be said about the pods of one Deployment.
pub(super) fn one_workload(name: &str, workload: &Workload, suspended: bool) -> Finding {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::json;

    use super::*;
    use crate::controller::status::conditions::Truth;

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
}
