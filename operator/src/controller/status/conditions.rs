//! Conditions: what is said about a pipeline, decided in one place. Pure.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// How long Kafka or PostgreSQL may be away before a pipeline that worked counts as not ready: a failover takes less.
pub const OUTAGE_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Reasons that no Secret has to do with.
const OTHERWISE: [&str; 4] = [
    "Paused",
    "PodsRefused",
    "PartitionsHalted",
    "PartitionsUnowned",
];

/// `status` of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It cannot be known at the moment.
    Unknown,
}

impl Truth {
    const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    fn of(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition without the times that depend on what was said before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it holds.
    pub truth: Truth,
    /// Why, in CamelCase.
    pub reason: Cow<'static, str>,
    /// For people: what is the case, and what to do.
    pub message: String,
    /// Kafka or PostgreSQL is away: nothing that a change of the resource would mend.
    pub outage: bool,
}

impl Finding {
    /// It holds.
    pub fn yes(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Truth::True, reason, message)
    }

    /// It does not.
    pub fn no(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Truth::False, reason, message)
    }

    /// It cannot be known.
    pub fn unknown(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Truth::Unknown, reason, message)
    }

    /// Something that the pipeline needs is away.
    pub fn outage(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            outage: true,
            ..Self::new(Truth::False, reason, message)
        }
    }

    fn new(truth: Truth, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            truth,
            reason: reason.into(),
            message: message.into(),
            outage: false,
        }
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.truth == Truth::True
    }
}

/// All that is said about a pipeline, but for what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The topics are as the spec has them.
    pub topics: Finding,
    /// The schemas of all targets are migrated, and PostgreSQL answers.
    pub database: Finding,
    /// All wanted processors work.
    pub processors: Finding,
    /// The producer works; `None` when it is off.
    pub producer: Option<Finding>,
    /// Nobody is too far behind.
    pub lag: Finding,
    /// Kafka dropped records before they were read.
    pub data_loss: Finding,
    /// The spec says that nothing shall run.
    pub suspended: bool,
    /// The operator changes nothing, because somebody asked for it; `None`: nobody did.
    pub paused: Option<Finding>,
    /// The spec itself cannot be followed; nothing that runs is changed.
    pub refused: Option<Finding>,
    /// Something is on its way that needs nobody's help.
    pub in_progress: Option<String>,
}

impl Findings {
    /// Whether something is wrong that another value in a Secret may mend: whoever does not get on may not be let in.
    pub fn may_lack_a_secret(&self) -> bool {
        let needed = [&self.topics, &self.database, &self.processors];
        let mut needed = needed.into_iter().chain(&self.producer);
        needed.any(|finding| {
            finding.truth == Truth::False && !OTHERWISE.contains(&finding.reason.as_ref())
        })
    }
}

/// The conditions, with the time of the last change of each, and the generation they are about.
pub fn conditions(
    findings: &Findings,
    previous: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let ready = ready(findings, previous, generation, now);
    let stalled = match &findings.refused {
        Some(refused) => Finding::yes(refused.reason.clone(), refused.message.clone()),
        None => Finding::no("NotStalled", "nothing stands against the spec"),
    };
    let reconciling = match (&findings.refused, &findings.in_progress) {
        (None, Some(what)) => Finding::yes("Progressing", what.clone()),
        _ => Finding::no("Settled", "there is nothing left to do"),
    };
    let suspended = if findings.suspended {
        Finding::yes(
            "Suspended",
            "spec.suspend is true: processors and producer are stopped",
        )
    } else {
        Finding::no("Running", "spec.suspend is false")
    };
    let mut all = vec![
        ("Ready", ready),
        ("TopicsReady", findings.topics.clone()),
        ("DatabaseReady", findings.database.clone()),
        ("ProcessorsAvailable", findings.processors.clone()),
        ("LagWithinTarget", findings.lag.clone()),
        ("DataLossDetected", findings.data_loss.clone()),
        ("Suspended", suspended),
        ("Reconciling", reconciling),
        ("Stalled", stalled),
    ];
    if let Some(producer) = &findings.producer {
        all.insert(4, ("ProducerAvailable", producer.clone()));
    }
    all.extend(findings.paused.clone().map(|paused| ("Paused", paused)));
    all.into_iter()
        .map(|(kind, finding)| dated(kind, &finding, previous, generation, now))
        .collect()
}

/// Ready is the topics, the database, the processors and, if it is on, the producer, or that nothing runs where nothing is to; lag and
/// data loss never change it.
fn ready(findings: &Findings, previous: &[Condition], generation: i64, now: Timestamp) -> Finding {
    if let Some(refused) = &findings.refused {
        return Finding::no(refused.reason.clone(), refused.message.clone());
    }
    let needed = [
        ("TopicsReady", Some(&findings.topics)),
        ("DatabaseReady", Some(&findings.database)),
        ("ProcessorsAvailable", Some(&findings.processors)),
        ("ProducerAvailable", findings.producer.as_ref()),
    ];
    // of one that is to rest, pods that are stopped are all that is wanted; what else there is to say, its own condition does
    let needed = needed
        .iter()
        .skip(if findings.suspended { 2 } else { 0 })
        .copied();
    let pending: Vec<(&str, &Finding)> = needed
        .filter_map(|(kind, finding)| Some((kind, finding?)))
        .filter(|(_, finding)| !finding.holds())
        .collect();
    // what is wrong says more than what is not known
    let wrong = pending
        .iter()
        .find(|(_, finding)| finding.truth == Truth::False);
    let Some((_, first)) = wrong.or(pending.first()) else {
        if findings.suspended {
            return Finding::yes(
                "Suspended",
                "processors and producer are stopped, as spec.suspend says: set it to false to resume",
            );
        }
        return Finding::yes(
            "Ready",
            "topics, tables and processors are as the spec has them",
        );
    };
    // what was ready stays ready through a short outage; a new generation has to earn it
    let was_ready = find(previous, "Ready").is_some_and(|condition| {
        condition.status == "True" && condition.observed_generation == Some(generation)
    });
    let outage = pending.iter().any(|(_, finding)| finding.outage);
    let since = pending
        .iter()
        .map(|(kind, finding)| {
            find(previous, kind)
                .filter(|condition| condition.status == finding.truth.as_str())
                .map_or(now, |condition| condition.last_transition_time.0)
        })
        .min()
        .unwrap_or(now);
    if was_ready && outage && now.duration_since(since) < OUTAGE_GRACE {
        return Finding::yes(
            "Outage",
            format!(
                "{}; not ready when it lasts for {} s",
                first.message,
                OUTAGE_GRACE.as_secs()
            ),
        );
    }
    Finding {
        outage: false,
        ..(*first).clone()
    }
}

fn find<'c>(conditions: &'c [Condition], kind: &str) -> Option<&'c Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// The time of the last change moves only with the status.
fn dated(
    kind: &str,
    finding: &Finding,
    previous: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Condition {
    let before = find(previous, kind).filter(|before| before.status == finding.truth.as_str());
    Condition {
        type_: kind.to_owned(),
        status: finding.truth.as_str().to_owned(),
        reason: finding.reason.clone().into_owned(),
        message: shortened(&finding.message),
        observed_generation: Some(generation),
        last_transition_time: before.map_or_else(
            // whole seconds, as the API keeps them
            || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
            |before| before.last_transition_time.clone(),
        ),
    }
}

/// The status but for the accepted spec stays under 16 KiB, and ten conditions are a part of it.
fn shortened(message: &str) -> String {
    const LONGEST: usize = 512;
    if message.len() <= LONGEST {
        return message.to_owned();
    }
    format!(
        "{}...",
        &message[..message.floor_char_boundary(LONGEST - 3)]
    )
}

/// Whether the lag is within the target, given the target and the lag; `None` where either is not known.
pub fn lag_finding(target: Option<u64>, lag: Option<i64>) -> Finding {
    let Some(target) = target else {
        return Finding::unknown("NoTarget", "spec.processor.lagTarget is not set");
    };
    let Some(lag) = lag else {
        return Finding::unknown("LagUnknown", "not all partitions report their lag");
    };
    let within = u64::try_from(lag).unwrap_or(0) <= target;
    let message = format!("{lag} records behind, lagTarget is {target}");
    Finding {
        truth: Truth::of(within),
        reason: if within { "WithinTarget" } else { "Lagging" }.into(),
        message,
        outage: false,
    }
}

#[cfg(test)]
mod tests;
