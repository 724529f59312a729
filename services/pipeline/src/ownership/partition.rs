//! The state of one partition.

use std::time::Duration;

use super::{Action, Cause, ClaimRequest, Grant, Obstacle, Timing};
use crate::{
    engine::Claim,
    offset::{NextOffset, TopicPartition},
};

#[derive(Debug)]
pub(super) enum Phase {
    Waiting {
        until: Duration,
        cause: Cause,
        /// The position that a claim found beyond the end of the log.
        beyond: Option<i64>,
    },
    Asking {
        number: u64,
        until: Duration,
        beyond: Option<i64>,
    },
    Claiming {
        request: ClaimRequest,
        /// The writer is at it.
        running: bool,
    },
    Granted(Grant),
    Seeking(Grant),
    Reading(Claim),
    Draining(Claim),
    Halted {
        until: Duration,
        /// What was read before may still be committed.
        claim: Option<Claim>,
    },
    /// Taken away while its claim was under way.
    Abandoned(ClaimRequest),
    Releasing {
        claim: Claim,
        running: bool,
    },
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) phase: Phase,
    /// When the group gave it, until it is read.
    pub(super) given: Option<Duration>,
    /// What the consumer was told last.
    pub(super) fetched: bool,
    /// Stands until something shows that it has passed, also while the partition is examined again.
    pub(super) obstacle: Option<Obstacle>,
    /// Questions in a row without an answer.
    pub(super) failures: u32,
    /// Where it stood when it was given back to the consumer because it did not move.
    pub(super) stuck: Option<NextOffset>,
    /// The next seek takes it from the consumer first.
    pub(super) afresh: bool,
}

impl Partition {
    pub(super) fn at(phase: Phase) -> Self {
        Self {
            phase,
            given: None,
            fetched: false,
            obstacle: None,
            failures: 0,
            stuck: None,
            afresh: false,
        }
    }

    pub(super) fn is_assigned(&self) -> bool {
        !matches!(self.phase, Phase::Abandoned(_) | Phase::Releasing { .. })
    }

    pub(super) fn wait(&mut self, until: Duration, cause: Cause) {
        self.phase = Phase::Waiting {
            until,
            cause,
            beyond: None,
        };
    }

    pub(super) fn unanswered(&mut self, timing: &Timing, now: Duration) {
        let Phase::Asking { beyond, .. } = self.phase else {
            return;
        };
        let pause = timing
            .again
            .saturating_mul(1 << self.failures.min(10))
            .min(timing.again_max);
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Waiting {
            until: now + pause,
            cause: Cause::NoLeader,
            beyond,
        };
    }

    pub(super) fn halt(
        &mut self,
        tp: TopicPartition,
        obstacle: Obstacle,
        claim: Option<Claim>,
        until: Duration,
        actions: &mut Vec<Action>,
    ) {
        self.phase = Phase::Halted { until, claim };
        if self.obstacle.as_ref() != Some(&obstacle) {
            actions.push(Action::Say(tp, obstacle.clone()));
            self.obstacle = Some(obstacle);
        }
    }

    pub(super) fn begin(&mut self, tp: TopicPartition, grant: Grant, actions: &mut Vec<Action>) {
        self.phase = Phase::Reading(grant.recovered.claim);
        // a batch that cannot be read is met again before anybody knows
        if !matches!(self.obstacle, Some(Obstacle::Unreadable { .. })) {
            self.obstacle = None;
        }
        self.moved(grant.recovered.next);
        actions.push(Action::Begin {
            partition: tp,
            grant,
            given: self.given.take(),
        });
    }

    pub(super) fn moved(&mut self, position: NextOffset) {
        if self.stuck.is_some_and(|stood| position > stood) {
            self.stuck = None;
        }
        if let Some(Obstacle::Unreadable { offset, .. }) = self.obstacle
            && position.covers(offset)
        {
            self.obstacle = None;
        }
    }
}
