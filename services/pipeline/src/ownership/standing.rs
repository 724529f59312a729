//! How a partition's state looks from outside.

use super::{
    Obstacle, Ownership,
    partition::{Partition, Phase},
};
use crate::offset::TopicPartition;

/// Why a partition waits until it is claimed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The group has just given it.
    Given,
    /// No broker tells the bounds of its log.
    NoLeader,
    /// The session with the database is gone.
    Session,
    /// Another owner had claimed it.
    Fenced,
    /// The consumer could not go to the claimed position.
    Seek,
    /// The position was outside the log.
    Outside,
    /// It did not move.
    Stuck,
    /// The log seems to be shorter than what was read of it; its end is asked for again.
    Shorter,
    /// What halted it may have passed.
    Examined,
}

/// What a partition is waiting for, or does.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Its turn to be asked about.
    Waiting(Cause),
    /// The bounds of its log.
    Asking,
    /// PostgreSQL's answer to its claim.
    Claiming,
    /// The consumer, which goes to the claimed position.
    Starting,
    /// Records.
    Reading,
    /// Room for its records.
    Paused,
    /// The commit of what was read before its position left the log.
    Draining,
    /// A person, or the next examination.
    Halted,
    /// The end of a claim that nobody wants any more, or of giving it back.
    Leaving,
}

impl Standing {
    /// The word for `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting(Cause::NoLeader) => "waiting_for_leader",
            Self::Waiting(Cause::Session) => "waiting_for_postgres",
            Self::Waiting(Cause::Fenced) => "fenced",
            Self::Waiting(Cause::Shorter) | Self::Asking => "waiting_for_log_bounds",
            Self::Waiting(_) => "waiting",
            Self::Claiming => "claiming",
            Self::Starting => "starting",
            Self::Reading => "reading",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Halted => "halted",
            Self::Leaving => "releasing",
        }
    }
}

/// Partitions as others see them.
impl Ownership {
    /// The partitions that the group gives to this process.
    pub fn assigned(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        self.partitions
            .iter()
            .filter(|(_, partition)| partition.is_assigned())
            .map(|(&tp, _)| tp)
    }

    /// Whether the group gives it to this process.
    pub fn is_assigned(&self, tp: TopicPartition) -> bool {
        self.partitions.get(&tp).is_some_and(Partition::is_assigned)
    }

    /// What it is waiting for, or does; `None`: it is not this process's.
    pub fn standing(&self, tp: TopicPartition) -> Option<Standing> {
        let partition = self.partitions.get(&tp)?;
        Some(match partition.phase {
            Phase::Waiting { cause, .. } => Standing::Waiting(cause),
            Phase::Asking { .. } if partition.failures > 0 => Standing::Waiting(Cause::NoLeader),
            Phase::Asking { .. } => Standing::Asking,
            Phase::Claiming { .. } => Standing::Claiming,
            Phase::Granted(_) | Phase::Seeking(_) => Standing::Starting,
            Phase::Reading(_) if partition.fetched => Standing::Reading,
            Phase::Reading(_) => Standing::Paused,
            Phase::Draining(_) => Standing::Draining,
            Phase::Halted { .. } => Standing::Halted,
            Phase::Abandoned(_) | Phase::Releasing { .. } => Standing::Leaving,
        })
    }

    /// Whether the consumer fetches it.
    pub fn is_fetched(&self, tp: TopicPartition) -> bool {
        self.partitions.get(&tp).is_some_and(|p| p.fetched)
    }

    /// Whether its records are taken.
    pub fn is_reading(&self, tp: TopicPartition) -> bool {
        self.partitions
            .get(&tp)
            .is_some_and(|p| matches!(p.phase, Phase::Reading(_)))
    }

    /// Whether PostgreSQL is asked for any of these, or will be.
    pub fn is_claiming(&self, partitions: &[TopicPartition]) -> bool {
        partitions.iter().any(|tp| {
            self.partitions
                .get(tp)
                .is_some_and(|p| matches!(p.phase, Phase::Claiming { .. }))
        })
    }

    /// Whether the bounds of any of these logs are being asked for.
    pub fn is_asking(&self, partitions: &[TopicPartition]) -> bool {
        partitions.iter().any(|tp| {
            self.partitions
                .get(tp)
                .is_some_and(|p| matches!(p.phase, Phase::Asking { .. }))
        })
    }

    /// Whether anything is to be given back.
    pub fn is_releasing(&self) -> bool {
        self.partitions
            .values()
            .any(|p| matches!(p.phase, Phase::Releasing { .. }))
    }

    /// Partitions that wait for the commit of what was read of them.
    pub fn draining(&self) -> Vec<TopicPartition> {
        self.partitions
            .iter()
            .filter(|(_, p)| matches!(p.phase, Phase::Draining(_)))
            .map(|(&tp, _)| tp)
            .collect()
    }

    /// Partitions that are read, and of which it is to be told how far.
    pub fn watched(&self) -> Vec<TopicPartition> {
        self.partitions
            .iter()
            .filter(|(_, p)| {
                matches!(p.phase, Phase::Reading(_)) && (p.stuck.is_some() || p.obstacle.is_some())
            })
            .map(|(&tp, _)| tp)
            .collect()
    }

    /// How many assigned partitions are neither read nor halted.
    pub fn unclaimed(&self) -> usize {
        self.partitions
            .values()
            .filter(|p| {
                p.is_assigned()
                    && p.obstacle.is_none()
                    && !matches!(
                        p.phase,
                        Phase::Reading(_) | Phase::Draining(_) | Phase::Halted { .. }
                    )
            })
            .count()
    }

    /// Partitions that a person has to look at, and why.
    pub fn halted(&self) -> impl Iterator<Item = (TopicPartition, &Obstacle)> {
        self.partitions
            .iter()
            .filter_map(|(&tp, p)| Some((tp, p.obstacle.as_ref()?)))
    }

    /// What stands against reading it.
    pub fn obstacle(&self, tp: TopicPartition) -> Option<&Obstacle> {
        self.partitions.get(&tp)?.obstacle.as_ref()
    }
}
