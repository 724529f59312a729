//! Conditions: what is said about a pipeline, decided in one place. Pure.

use clickstream_protocol::conditions::{ConditionType, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// How long Kafka or PostgreSQL may be away before a pipeline that worked counts as not ready: a
/// failover takes less.
pub const OUTAGE_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Reasons that no Secret has to do with.
const OTHERWISE: [Reason; 5] = [
    Reason::Paused,
    Reason::ObjectRefused,
    Reason::PodsRefused,
    Reason::PartitionsHalted,
    Reason::PartitionsUnowned,
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
    /// Why.
    pub reason: Reason,
    /// For people: what is the case, and what to do.
    pub message: String,
    /// Kafka or PostgreSQL is away: nothing that a change of the resource would mend.
    pub outage: bool,
}

impl Finding {
    /// It holds.
    pub fn yes(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Truth::True, reason, message)
    }

    /// It does not.
    pub fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Truth::False, reason, message)
    }

    /// It cannot be known.
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Truth::Unknown, reason, message)
    }

    /// Something that the pipeline needs is away.
    pub fn outage(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            outage: true,
            ..Self::new(Truth::False, reason, message)
        }
    }

    fn new(truth: Truth, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            truth,
            reason,
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
    /// Whether something is wrong that another value in a Secret may mend: whoever does not get on
    /// may not be let in.
    pub fn may_lack_a_secret(&self) -> bool {
        let needed = [&self.topics, &self.database, &self.processors];
        let mut needed = needed.into_iter().chain(&self.producer);
        needed.any(|finding| finding.truth == Truth::False && !OTHERWISE.contains(&finding.reason))
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
        Some(refused) => Finding::yes(refused.reason, refused.message.clone()),
        None => Finding::no(Reason::NotStalled, "nothing stands against the spec"),
    };
    let reconciling = match (&findings.refused, &findings.in_progress) {
        (None, Some(what)) => Finding::yes(Reason::Progressing, what.clone()),
        _ => Finding::no(Reason::Settled, "there is nothing left to do"),
    };
    let suspended = if findings.suspended {
        Finding::yes(
            Reason::Suspended,
            "spec.suspend is true: processors and producer are stopped",
        )
    } else {
        Finding::no(Reason::Running, "spec.suspend is false")
    };
    let mut all = vec![
        (ConditionType::Ready, ready),
        (ConditionType::TopicsReady, findings.topics.clone()),
        (ConditionType::DatabaseReady, findings.database.clone()),
        (
            ConditionType::ProcessorsAvailable,
            findings.processors.clone(),
        ),
        (ConditionType::LagWithinTarget, findings.lag.clone()),
        (ConditionType::DataLossDetected, findings.data_loss.clone()),
        (ConditionType::Suspended, suspended),
        (ConditionType::Reconciling, reconciling),
        (ConditionType::Stalled, stalled),
    ];
    if let Some(producer) = &findings.producer {
        all.insert(4, (ConditionType::ProducerAvailable, producer.clone()));
    }
    all.extend(
        findings
            .paused
            .clone()
            .map(|paused| (ConditionType::Paused, paused)),
    );
    all.into_iter()
        .map(|(kind, finding)| dated(kind, &finding, previous, generation, now))
        .collect()
}

/// Ready is the topics, the database, the processors and, if it is on, the producer, or that
/// nothing runs where nothing is to; lag and data loss never change it.
fn ready(findings: &Findings, previous: &[Condition], generation: i64, now: Timestamp) -> Finding {
    if let Some(refused) = &findings.refused {
        return Finding::no(refused.reason, refused.message.clone());
    }
    let needed = [
        (ConditionType::TopicsReady, Some(&findings.topics)),
        (ConditionType::DatabaseReady, Some(&findings.database)),
        (
            ConditionType::ProcessorsAvailable,
            Some(&findings.processors),
        ),
        (ConditionType::ProducerAvailable, findings.producer.as_ref()),
    ];
    // of one that is to rest, pods that are stopped are all that is wanted; what else there is to
    // say, its own condition does
    let needed = needed
        .iter()
        .skip(if findings.suspended { 2 } else { 0 })
        .copied();
    let pending: Vec<(ConditionType, &Finding)> = needed
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
                Reason::Suspended,
                "processors and producer are stopped, as spec.suspend says: set it to false to resume",
            );
        }
        return Finding::yes(
            Reason::Ready,
            "topics, tables and processors are as the spec has them",
        );
    };
    // what was ready stays ready through a short outage; a new generation has to earn it
    let was_ready = find(previous, ConditionType::Ready).is_some_and(|condition| {
        condition.status == "True" && condition.observed_generation == Some(generation)
    });
    let outage = pending.iter().any(|(_, finding)| finding.outage);
    let since = pending
        .iter()
        .map(|(kind, finding)| {
            find(previous, *kind)
                .filter(|condition| condition.status == finding.truth.as_str())
                .map_or(now, |condition| condition.last_transition_time.0)
        })
        .min()
        .unwrap_or(now);
    if was_ready && outage && now.duration_since(since) < OUTAGE_GRACE {
        return Finding::yes(
            Reason::Outage,
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

fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// The time of the last change moves only with the status.
fn dated(
    kind: ConditionType,
    finding: &Finding,
    previous: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Condition {
    let before = find(previous, kind).filter(|before| before.status == finding.truth.as_str());
    Condition {
        type_: kind.as_str().to_owned(),
        status: finding.truth.as_str().to_owned(),
        reason: finding.reason.as_str().to_owned(),
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

/// Whether the lag is within the target, given the target and the lag; `None` where either is not
/// known.
pub fn lag_finding(target: Option<u64>, lag: Option<i64>) -> Finding {
    let Some(target) = target else {
        return Finding::unknown(Reason::NoTarget, "spec.processor.lagTarget is not set");
    };
    let Some(lag) = lag else {
        return Finding::unknown(Reason::LagUnknown, "not all partitions report their lag");
    };
    let within = u64::try_from(lag).unwrap_or(0) <= target;
    let message = format!("{lag} records behind, lagTarget is {target}");
    Finding {
        truth: Truth::of(within),
        reason: if within {
            Reason::WithinTarget
        } else {
            Reason::Lagging
        },
        message,
        outage: false,
    }
}

#[cfg(test)]
mod tests;
