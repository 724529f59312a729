//! The numbers of the status. What is not known is absent, and what was known of a pipeline at rest
//! stays. Pure.

use std::collections::{BTreeMap, BTreeSet};

use clickstream_pipeline::{checkpoint::Counters, spec::TargetSpec};
use clickstream_protocol::status::{PartitionReport, ProcessorStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{loss, observed::Observed};
use crate::{
    controller::{apply::topics::TopicSeen, build::selector},
    crd::{ClickstreamPipelineStatus, PartitionStatus, TargetStatus},
};

/// With ten of a hundred bytes for each of eight targets the status stays under 16 KiB and the
/// length of the spec at any number of partitions.
const WORST: usize = 10;
/// Roles that are named: each of up to 63 bytes.
const READERS: usize = 16;

/// Everything in the status but its conditions.
pub fn status(
    observed: &Observed<'_>,
    previous: &ClickstreamPipelineStatus,
    acknowledged: &BTreeSet<String>,
    now: Timestamp,
) -> ClickstreamPipelineStatus {
    let spec = &observed.valid.document.spec;
    let settled = settled(observed, previous);
    let targets: Vec<TargetStatus> = spec
        .targets
        .iter()
        .enumerate()
        .map(|(index, target)| {
            let mut before = previous.targets.iter();
            let before = before.find(|before| before.name == target.name);
            let before = before.cloned().unwrap_or_default();
            let missing = unreported(&observed.topics.topics, &observed.reports[index]);
            let complete = missing.is_some_and(|missing| missing.is_empty());
            let mut status = of_target(observed, &before, index, target, complete, now);
            let reports = &observed.reports[index];
            loss::keep(
                &mut status,
                &before,
                reports,
                acknowledged,
                complete,
                settled,
            );
            status
        })
        .collect();
    let follows = spec
        .targets
        .iter()
        .position(|target| target.replicas.is_none());
    let (ready, wanted) =
        observed
            .targets
            .processors
            .iter()
            .fold((0, 0), |(ready, wanted), workload| {
                // while pods change there is one more than wanted
                (
                    ready + workload.ready.min(workload.wanted),
                    wanted + workload.wanted,
                )
            });
    let holds_windows = observed
        .migrations
        .states()
        .any(super::super::apply::migration::State::is_done);
    ClickstreamPipelineStatus {
        replicas: follows.map(|index| observed.targets.processors[index].wanted),
        ready_replicas: follows.map(|index| observed.targets.processors[index].ready),
        selector: follows.map(|index| selector(&observed.valid.name, &spec.targets[index].name)),
        processors: Some(format!("{ready}/{wanted}")),
        lag: targets.iter().map(|target| target.lag).sum(),
        window: if holds_windows {
            Some(spec.window.size.to_string())
        } else {
            previous.window.clone()
        },
        suspended: Some(spec.suspend),
        topics: observed
            .topics
            .topics
            .iter()
            .map(|topic| topic.status.clone())
            .collect(),
        targets,
        ..ClickstreamPipelineStatus::default()
    }
}

/// The partitions of which no processor of a target says anything; `None` while it is not known how
/// many there are.
pub(super) fn unreported<'o>(
    topics: &'o [TopicSeen],
    reports: &[ProcessorStatus],
) -> Option<Vec<(&'o str, i32)>> {
    let reported: BTreeSet<(&str, i32)> = reports
        .iter()
        .flat_map(|report| &report.partitions)
        .map(|partition| (partition.topic.as_str(), partition.partition))
        .collect();
    let mut missing = Vec::new();
    for topic in topics {
        let all = (0..topic.status.partitions?).map(|number| (topic.name.as_str(), number));
        missing.extend(all.filter(|partition| !reported.contains(partition)));
    }
    Some(missing)
}

/// Whether all partitions that there are were there before.
fn settled(observed: &Observed<'_>, previous: &ClickstreamPipelineStatus) -> bool {
    observed.topics.topics.iter().all(|topic| {
        let mut before = previous.topics.iter();
        let before = before.find(|before| before.name == topic.name);
        before.is_some_and(
            |before| match (before.partitions, topic.status.partitions) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(before), Some(now)) => before >= now,
            },
        )
    })
}

fn of_target(
    observed: &Observed<'_>,
    before: &TargetStatus,
    index: usize,
    target: &TargetSpec,
    complete: bool,
    now: Timestamp,
) -> TargetStatus {
    let workload = &observed.targets.processors[index];
    let partitions = newest(&observed.reports[index]);
    let migration = observed.migrations.record(index).cloned();
    let report = observed.migrations.report(index);
    let reported = report.and_then(|report| report.schema_version);
    let group = report.and_then(|report| report.consumer_group.clone());
    let missing_readers = match report {
        Some(report) => {
            let missing = report.missing_readers.iter().take(READERS);
            missing.map(|missing| missing.role.clone()).collect()
        }
        None => before.missing_readers.clone(),
    };
    let mut status = TargetStatus {
        name: target.name.clone(),
        schema_version: reported.or(before.schema_version),
        consumer_group: group.or_else(|| before.consumer_group.clone()),
        rules: match &observed.reports[index][..] {
            [] => before.rules.clone(),
            reports => same_rules(reports),
        },
        replicas: Some(workload.wanted),
        ready_replicas: Some(workload.ready),
        migration: migration.or_else(|| {
            let before = before.migration.clone();
            before.filter(|_| !observed.migrations.is_refuted(index))
        }),
        missing_readers,
        ..TargetStatus::default()
    };
    if partitions.is_empty() {
        // a pipeline at rest: the numbers stay, with the time at which they were true; lag goes on
        // growing unseen
        return TargetStatus {
            partitions: before.partitions,
            consumed: before.consumed,
            accepted: before.accepted,
            duplicate: before.duplicate,
            rejected: before.rejected,
            late: before.late,
            watermark: before.watermark.clone(),
            last_commit_time: before.last_commit_time.clone(),
            conserved: before.conserved,
            observed_time: before.observed_time.clone(),
            ..status
        };
    }
    let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
    let totals: Counters = partitions.iter().map(|partition| partition.counters).sum();
    status.partitions = Some(count);
    let conserved = partitions
        .iter()
        .all(|partition| partition.counters.conserved());
    // between two owners, and with a processor that does not answer, a part of the numbers is
    // missing: no total then
    if complete {
        status.consumed = Some(totals.consumed);
        status.accepted = Some(totals.accepted);
        status.duplicate = Some(totals.duplicate);
        status.rejected = Some(totals.rejected);
        status.late = Some(totals.late);
        status.lag = partitions.iter().map(|partition| partition.lag).sum();
        status.conserved = Some(conserved);
        // the smallest of all, or it would promise what a partition that is not heard of may break
        status.watermark = partitions
            .iter()
            .filter_map(|partition| time(partition.watermark.as_deref()))
            .min();
    } else {
        status.consumed = before.consumed;
        status.accepted = before.accepted;
        status.duplicate = before.duplicate;
        status.rejected = before.rejected;
        status.late = before.late;
        status.watermark = before.watermark.clone();
        status.conserved = if conserved {
            before.conserved
        } else {
            Some(false)
        };
    }
    status.last_commit_time = partitions
        .iter()
        .filter_map(|partition| time(partition.last_commit_at.as_deref()))
        .max()
        .or_else(|| before.last_commit_time.clone());
    status.oldest_unprocessed_age = partitions
        .iter()
        .filter_map(|partition| partition.oldest_unprocessed_seconds)
        .max_by(f64::total_cmp)
        .filter(|seconds| *seconds >= 1.0)
        .map(|seconds| format!("{seconds:.0}s"));
    status.observed_time = Timestamp::from_second(now.as_second()).ok().map(Time);
    status.worst_partitions = worst(&partitions);
    status
}

/// The rules that all processors follow.
fn same_rules(reports: &[ProcessorStatus]) -> Option<String> {
    let (first, others) = reports.split_first()?;
    let same = others.iter().all(|other| other.rules == first.rules);
    first.rules.clone().filter(|_| same)
}

/// One report for each partition: while it changes owners two may speak of it, and the newer owner
/// is right.
pub(super) fn newest(reports: &[ProcessorStatus]) -> Vec<&PartitionReport> {
    let mut by_partition: BTreeMap<(&str, i32), &PartitionReport> = BTreeMap::new();
    for partition in reports.iter().flat_map(|report| &report.partitions) {
        let known = by_partition
            .entry((&partition.topic, partition.partition))
            .or_insert(partition);
        if known.epoch < partition.epoch {
            *known = partition;
        }
    }
    by_partition.into_values().collect()
}

fn worst(partitions: &[&PartitionReport]) -> Vec<PartitionStatus> {
    let mut behind: Vec<_> = partitions
        .iter()
        .filter(|partition| partition.lag.is_none_or(|lag| lag > 0))
        .collect();
    // a lag that is not known is the worst there is
    behind.sort_by_key(|partition| std::cmp::Reverse(partition.lag.unwrap_or(i64::MAX)));
    behind
        .iter()
        .take(WORST)
        .map(|partition| PartitionStatus {
            topic: partition.topic.clone(),
            partition: partition.partition,
            lag: partition.lag,
            watermark: time(partition.watermark.as_deref()),
        })
        .collect()
}

fn time(text: Option<&str>) -> Option<Time> {
    let time: Timestamp = text?.parse().ok()?;
    // whole seconds, as the API keeps them: otherwise what is written never equals what is read
    Timestamp::from_second(time.as_second()).ok().map(Time)
}

/// What is written at once when it differs.
pub fn without_numbers(status: &ClickstreamPipelineStatus) -> ClickstreamPipelineStatus {
    let mut status = status.clone();
    status.lag = None;
    for condition in &mut status.conditions {
        // messages hold numbers
        if condition.type_ == "LagWithinTarget" {
            condition.message.clear();
        }
    }
    for target in &mut status.targets {
        *target = TargetStatus {
            name: std::mem::take(&mut target.name),
            schema_version: target.schema_version,
            consumer_group: target.consumer_group.take(),
            replicas: target.replicas,
            ready_replicas: target.ready_replicas,
            migration: target.migration.take(),
            missing_readers: std::mem::take(&mut target.missing_readers),
            conserved: target.conserved,
            gaps: std::mem::take(&mut target.gaps),
            unnamed_gaps: target.unnamed_gaps,
            gaps_known: target.gaps_known,
            ..TargetStatus::default()
        };
    }
    status
}

/// What is worth writing at all: the time of a look is none.
pub fn without_times(status: &ClickstreamPipelineStatus) -> ClickstreamPipelineStatus {
    let mut status = status.clone();
    for target in &mut status.targets {
        target.observed_time = None;
    }
    status
}

/// The same without what a heartbeat changes.
pub fn without_commits(status: &ClickstreamPipelineStatus) -> ClickstreamPipelineStatus {
    let mut status = without_times(status);
    for target in &mut status.targets {
        target.last_commit_time = None;
    }
    status
}

#[cfg(test)]
mod tests;
