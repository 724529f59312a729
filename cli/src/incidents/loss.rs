//! `accept-loss`: names of gaps into the annotation that acknowledges them.

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::bail;
use clickstream_api::ClickstreamPipelineStatus;
use clickstream_protocol::annotations::ACKNOWLEDGED_GAPS;
use kube::{ResourceExt, api::DynamicObject};
use serde_json::json;

use super::{Answer, Said, ask, status};
use crate::{
    access::Access,
    args::incidents::{AcceptLossArgs, VerbArgs},
};

/// The status names a thousand bytes of gaps at a time; as many thousands are acknowledged in one
/// go.
const ROUNDS: u32 = 200;
/// The status is written every half minute: a write onto an older version is tried again.
const TRIES: u32 = 10;
/// Annotations of an object may have 256 KiB together.
const LONGEST: usize = 200 << 10;

/// Lists the gaps, or acknowledges them.
///
/// # Errors
/// There is no gap of that name, or the resource may not be changed.
pub async fn run(access: &Access, args: &AcceptLossArgs) -> anyhow::Result<Said> {
    let pipeline = access.pipeline(&args.verb.name).await?;
    let place = format!("{}/{}", access.namespace, args.verb.name);
    if args.gaps.is_empty() && !args.all {
        return Ok(Said::new(listed(
            &place,
            access,
            &status(&pipeline),
            &args.verb,
        )));
    }
    let mut accepted = BTreeSet::new();
    for _ in 0..ROUNDS {
        let (added, answer) = accept(access, args, &accepted).await?;
        let done = added.is_empty();
        accepted.extend(added);
        let left = match &answer {
            Answer::Followed(pipeline) => status(pipeline),
            Answer::None | Answer::NotAwaited => ClickstreamPipelineStatus::default(),
        };
        if args.all && !done && !open(&left).is_empty() {
            continue;
        }
        if accepted.is_empty() {
            return Ok(Said::new(format!(
                "{place}: nothing is lost that is not acknowledged already\n"
            )));
        }
        let mut text = format!("{place}: acknowledged: {}\n", plural(accepted.len()));
        for gap in &accepted {
            let _ = writeln!(text, "  {gap}");
        }
        text.push_str(&answer.conditions(&["DataLossDetected"]));
        return Ok(Said::of(text, &answer, &args.verb));
    }
    bail!(
        "{place} goes on telling of new gaps; {} are acknowledged",
        accepted.len()
    )
}

/// Adds names to the annotation, whatever somebody else adds at the same time. Which were new.
async fn accept(
    access: &Access,
    args: &AcceptLossArgs,
    before: &BTreeSet<String>,
) -> anyhow::Result<(BTreeSet<String>, Answer)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let pipeline = access.pipeline(&args.verb.name).await?;
        let known = acknowledged(&pipeline);
        let new = chosen(&open(&status(&pipeline)), &known, args)?;
        if new.is_empty() {
            // nothing is left of what an earlier round has begun
            let answer = if before.is_empty() {
                Answer::NotAwaited
            } else {
                Answer::Followed(Box::new(pipeline))
            };
            return Ok((new, answer));
        }
        let names: Vec<&str> = known.union(&new).map(String::as_str).collect();
        let names = names.join(",");
        if names.len() > LONGEST {
            bail!(
                "the annotation {ACKNOWLEDGED_GAPS} would be longer than Kubernetes takes: remove names from it whose rows are no longer in clickstream_gaps"
            );
        }
        let changes = [(ACKNOWLEDGED_GAPS, json!(names))];
        let version = pipeline.resource_version();
        match ask(access, &args.verb, &changes, version.as_deref()).await {
            Ok(answer) => return Ok((new, answer)),
            Err(error) if tries < TRIES && error.to_string().contains("has been modified") => {}
            Err(error) => return Err(error),
        }
    }
}

/// Which of the open gaps are meant, without those that are acknowledged.
fn chosen(
    open: &[String],
    known: &BTreeSet<String>,
    args: &AcceptLossArgs,
) -> anyhow::Result<BTreeSet<String>> {
    if args.all {
        return Ok(open
            .iter()
            .filter(|gap| !known.contains(*gap))
            .cloned()
            .collect());
    }
    let mut new = BTreeSet::new();
    for gap in &args.gaps {
        if known.contains(gap) {
            continue;
        }
        if !open.contains(gap) {
            let there = if open.is_empty() {
                "none".to_owned()
            } else {
                open.join(", ")
            };
            bail!("there is no gap {gap}; open are: {there}");
        }
        new.insert(gap.clone());
    }
    Ok(new)
}

fn acknowledged(pipeline: &DynamicObject) -> BTreeSet<String> {
    let names = pipeline.annotations().get(ACKNOWLEDGED_GAPS);
    let names = names.map_or("", String::as_str).split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The gaps that the status names.
fn open(status: &ClickstreamPipelineStatus) -> Vec<String> {
    let targets = status.targets.iter();
    targets
        .flat_map(|target| target.gaps.iter().cloned())
        .collect()
}

fn listed(
    place: &str,
    access: &Access,
    status: &ClickstreamPipelineStatus,
    args: &VerbArgs,
) -> String {
    let gaps = open(status);
    let unnamed: i64 = status
        .targets
        .iter()
        .filter_map(|target| target.unnamed_gaps)
        .map(i64::from)
        .sum();
    if gaps.is_empty() && unnamed == 0 {
        let known = status
            .targets
            .iter()
            .all(|target| target.gaps_known == Some(true));
        return if known && !status.targets.is_empty() {
            format!("{place}: nothing is lost that is not acknowledged\n")
        } else {
            format!(
                "{place}: nothing is known to be lost, and not every partition has been reported yet\n"
            )
        };
    }
    let mut text = format!(
        "{place}: Kafka dropped these records before they were read (target/topic/partition/first-next):\n"
    );
    for gap in &gaps {
        let records = records(gap)
            .map(|records| format!("  {records} records"))
            .unwrap_or_default();
        let _ = writeln!(text, "  {gap}{records}");
    }
    if unnamed > 0 {
        let _ = writeln!(
            text,
            "and {unnamed} more gaps, which are named as these are acknowledged"
        );
    }
    let _ = writeln!(
        text,
        "To acknowledge all of them: kubectl clickstream accept-loss {} --all --namespace {}",
        args.name, access.namespace
    );
    text
}

/// How many offsets a gap has.
fn records(gap: &str) -> Option<i64> {
    let (first, next) = gap.rsplit_once('/')?.1.split_once('-')?;
    next.parse::<i64>().ok()?.checked_sub(first.parse().ok()?)
}

fn plural(gaps: usize) -> String {
    if gaps == 1 {
        "1 gap".to_owned()
    } else {
        format!("{gaps} gaps")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn args(gaps: &[&str], all: bool) -> AcceptLossArgs {
        AcceptLossArgs {
            verb: VerbArgs {
                name: "web".to_owned(),
                timeout: 1,
            },
            gaps: gaps.iter().map(ToString::to_string).collect(),
            all,
        }
    }

    #[test]
    fn only_gaps_that_are_open_are_acknowledged_and_none_twice() {
        let open = ["a/t/0/1-5".to_owned(), "a/t/1/3-4".to_owned()];
        let known = BTreeSet::from(["a/t/1/3-4".to_owned()]);
        assert_eq!(chosen(&open, &known, &args(&[], true)).unwrap().len(), 1);
        assert!(
            chosen(&open, &known, &args(&["a/t/1/3-4"], false))
                .unwrap()
                .is_empty()
        );
        let wrong = chosen(&open, &known, &args(&["a/t/9/1-2"], false)).unwrap_err();
        assert!(wrong.to_string().contains("a/t/0/1-5"), "{wrong}");
    }

    #[test]
    fn a_gap_says_how_many_records_it_is() {
        assert_eq!(records("default/a.topic-with-1-2/3/1200-1500"), Some(300));
        assert_eq!(records("nonsense"), None);
    }
}
