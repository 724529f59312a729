//! Records that Kafka dropped before they were read: kept in the status from the first report on
//! until a person acknowledges them, whoever answers meanwhile. Pure.

use std::collections::BTreeSet;

use clickstream_protocol::conditions::Reason;
use clickstream_protocol::{annotations::ACKNOWLEDGED_GAPS, status::ProcessorStatus};
use kube::ResourceExt;

use super::conditions::Finding;
use crate::crd::{ClickstreamPipeline, ClickstreamPipelineStatus, TargetStatus};

/// Gaps named in a message; a person who has more of them looks into the status or into
/// `clickstream_gaps`.
const GAPS_NAMED: usize = 5;
/// Names that the status keeps of each target, in bytes: eight targets of them are half of what it
/// may be long.
const NAMES_KEPT: usize = 1024;

/// The gaps that the resource acknowledges.
pub fn acknowledged(pipeline: &ClickstreamPipeline) -> BTreeSet<String> {
    pipeline
        .annotations()
        .get(ACKNOWLEDGED_GAPS)
        .map(|names| {
            names
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect()
        })
        .unwrap_or_default()
}

/// Writes into the status of a target what is lost: what was known before and what its processors
/// report, without what is acknowledged. `complete` tells whether they report all partitions;
/// `settled`, whether the partitions are those of `before`.
pub fn keep(
    status: &mut TargetStatus,
    before: &TargetStatus,
    reports: &[ProcessorStatus],
    acknowledged: &BTreeSet<String>,
    complete: bool,
    settled: bool,
) {
    let mut open: BTreeSet<String> = before.gaps.iter().cloned().collect();
    for partition in reports.iter().flat_map(|report| &report.partitions) {
        open.extend(partition.gaps.iter().map(|[first, next]| {
            format!(
                "{}/{}/{}/{first}-{next}",
                status.name, partition.topic, partition.partition
            )
        }));
    }
    open.retain(|name| !acknowledged.contains(name));
    let all = open.len();
    let mut length = 0;
    status.gaps = open
        .into_iter()
        .take_while(|name| {
            let first = length == 0;
            length += name.len();
            first || length <= NAMES_KEPT
        })
        .collect();
    let unnamed = count(all - status.gaps.len());
    let unnamed = if complete {
        unnamed
    } else {
        // those that are not reported now were never acknowledged
        unnamed.max(before.unnamed_gaps.unwrap_or(0))
    };
    status.unnamed_gaps = (unnamed > 0).then_some(unnamed);
    status.gaps_known = (complete || (settled && before.gaps_known == Some(true))).then_some(true);
}

/// Takes out of a status what has been acknowledged since.
pub fn acknowledge(status: &mut ClickstreamPipelineStatus, acknowledged: &BTreeSet<String>) {
    for target in &mut status.targets {
        target.gaps.retain(|name| !acknowledged.contains(name));
    }
}

/// What a status says about loss.
pub fn finding(status: &ClickstreamPipelineStatus) -> Finding {
    let names = || status.targets.iter().flat_map(|target| &target.gaps);
    let unnamed: i32 = status
        .targets
        .iter()
        .filter_map(|target| target.unnamed_gaps)
        .fold(0, i32::saturating_add);
    let open = count(names().count()).saturating_add(unnamed);
    if open > 0 {
        let named: Vec<_> = names().take(GAPS_NAMED).map(String::as_str).collect();
        let named = if named.is_empty() {
            "named when the processors answer again".to_owned()
        } else {
            named.join(",")
        };
        return Finding::yes(
            Reason::RecordsLost,
            format!(
                "Kafka's retention dropped records before they were read ({open} gaps, target/topic/partition/first-next): {named}. See clickstream_gaps; acknowledge with the annotation {ACKNOWLEDGED_GAPS}, or kubectl clickstream accept-loss"
            ),
        );
    }
    let unknown: Vec<_> = status
        .targets
        .iter()
        .filter(|target| target.gaps_known != Some(true))
        .map(|target| target.name.as_str())
        .collect();
    if unknown.is_empty() && !status.targets.is_empty() {
        return Finding::no(
            Reason::NoLoss,
            "Kafka dropped no record before it was read, or all gaps are acknowledged",
        );
    }
    Finding::unknown(
        Reason::NotReported,
        format!(
            "not every partition has been reported yet; target: {}",
            unknown.join(", ")
        ),
    )
}

fn count(many: usize) -> i32 {
    i32::try_from(many).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::json;

    use super::*;
    use crate::controller::status::conditions::Truth;

    fn reporting(gaps: &[[i64; 2]]) -> Vec<ProcessorStatus> {
        let partition = json!({ "topic": "clicks", "partition": 0, "gaps": gaps });
        vec![serde_json::from_value(json!({ "partitions": [partition] })).unwrap()]
    }

    /// One look: what the status is afterwards.
    fn look(
        before: &TargetStatus,
        reports: &[ProcessorStatus],
        acknowledged: &[&str],
        complete: bool,
    ) -> TargetStatus {
        let mut status = TargetStatus {
            name: "lake".to_owned(),
            ..TargetStatus::default()
        };
        let acknowledged = acknowledged.iter().map(ToString::to_string).collect();
        keep(&mut status, before, reports, &acknowledged, complete, true);
        status
    }

    fn said(target: &TargetStatus) -> Finding {
        finding(&ClickstreamPipelineStatus {
            targets: vec![target.clone()],
            ..ClickstreamPipelineStatus::default()
        })
    }

    #[test]
    fn a_gap_outlives_its_report_and_ends_with_its_acknowledgement() {
        let first = look(&TargetStatus::default(), &reporting(&[[3, 9]]), &[], true);
        assert_eq!(first.gaps, ["lake/clicks/0/3-9"]);
        for (reports, complete) in [(vec![], false), (reporting(&[]), true)] {
            let later = look(&first, &reports, &["lake/clicks/0/3-8"], complete);
            assert_eq!(later.gaps, first.gaps);
            assert!(said(&later).holds());
        }
        let over = look(&first, &reporting(&[[3, 9]]), &["lake/clicks/0/3-9"], true);
        assert_eq!(said(&over).reason, Reason::NoLoss);
    }

    #[test]
    fn what_nobody_reported_is_not_known_and_what_was_reported_stays_known() {
        let nothing = look(&TargetStatus::default(), &[], &[], false);
        assert_eq!(said(&nothing).truth, Truth::Unknown);
        let some = look(&nothing, &reporting(&[]), &[], false);
        assert_eq!(said(&some).truth, Truth::Unknown);
        let all = look(&some, &reporting(&[]), &[], true);
        assert_eq!(said(&all).reason, Reason::NoLoss);
        assert_eq!(said(&look(&all, &[], &[], false)).reason, Reason::NoLoss);
        let mut other = TargetStatus::default();
        keep(&mut other, &all, &[], &BTreeSet::new(), false, false);
        assert_eq!(other.gaps_known, None, "of other partitions");
    }

    #[test]
    fn a_thousand_gaps_keep_the_status_short_and_none_is_forgotten() {
        let many: Vec<[i64; 2]> = (1000..2000).map(|n| [n * 10, n * 10 + 1]).collect();
        let first = look(&TargetStatus::default(), &reporting(&many), &[], true);
        let kept = first.gaps.len();
        assert!(first.gaps.concat().len() <= NAMES_KEPT && kept > 10);
        let unnamed = first.unnamed_gaps.unwrap();
        assert_eq!(kept + usize::try_from(unnamed).unwrap(), many.len());
        assert!(said(&first).message.contains("(1000 gaps"));
        // while nobody answers, those that are named can be acknowledged and the others stay
        let names: Vec<_> = first.gaps.iter().map(String::as_str).collect();
        let silent = look(&first, &[], &names, false);
        assert_eq!((silent.gaps.len(), silent.unnamed_gaps), (0, Some(unnamed)));
        assert!(said(&silent).holds());
        let back = look(&silent, &reporting(&many), &names, true);
        assert_eq!(
            back.gaps.len() + usize::try_from(back.unnamed_gaps.unwrap()).unwrap(),
            1000 - kept
        );
    }
}
