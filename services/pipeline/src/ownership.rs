//! Who may read a partition, and what stands in the way: one state for each partition, and one
//! function that moves it.
//!
//! ```text
//!            the group gives it
//!                   │            no leader, session lost, fenced, cannot seek
//!                   ▼          ┌──────────────────────────────────────────────┐
//!  ┌──────────▶  Waiting  ◀────┴──┬────────────────┬───────────────┐          │
//!  │           until due          │                │               │          │
//!  │ examined       ▼             │                │               │          │
//!  │ again       Asking ───▶ Claiming ───▶ Granted ───▶ Seeking ───▶ Reading  │
//!  │           for bounds   queued, running   │    in the callback    ▲  │    │
//!  │                │             │           └───────────────────────┘  ▼    │
//!  └─ Halted ◀──────┴─────────────┴──────────────────────────────────Draining─┘
//!
//!  taken away: Claiming (running) ─▶ Abandoned ─▶ Releasing ─▶ gone;  Reading ─▶ Releasing ─▶ gone
//! ```
//! The reading thread and the writing task tell [`Ownership::on`] what has happened and carry out
//! what it returns. It has no clock: times are counted from any fixed instant, and passed in.

use std::{collections::BTreeMap, time::Duration};

use self::partition::{Partition, Phase};
use crate::offset::TopicPartition;

mod event;
mod obstacle;
mod partition;
mod standing;
#[cfg(test)]
mod tests;

pub use event::{Action, ClaimRequest, Claimed, Event, Grant};
pub use obstacle::Obstacle;
pub use standing::{Cause, Standing};

/// How long things take.
#[derive(Copy, Clone, Debug)]
pub struct Timing {
    /// Until a halted partition is examined again.
    pub examine: Duration,
    /// Until the end of a log that seems to be too short is asked for again.
    pub confirm: Duration,
    /// Until a log that did not answer is asked for again; doubled with every failure.
    pub again: Duration,
    /// The longest pause between two questions.
    pub again_max: Duration,
    /// When a question counts as lost.
    pub answer: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            examine: Duration::from_secs(60),
            confirm: Duration::from_millis(500),
            again: Duration::from_secs(1),
            again_max: Duration::from_secs(30),
            answer: Duration::from_secs(15),
        }
    }
}

/// The states of all partitions of this process.
#[derive(Debug, Default)]
pub struct Ownership {
    timing: Timing,
    partitions: BTreeMap<TopicPartition, Partition>,
    questions: u64,
    full: bool,
}

impl Ownership {
    /// Without partitions.
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            ..Self::default()
        }
    }

    /// Takes what has happened and returns what is to be done, in its order.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Assigned(partitions) => self.assigned_now(partitions, now),
            Event::Revoked {
                partitions,
                release,
            } => {
                for tp in partitions {
                    self.revoked(tp, release, &mut actions);
                }
            }
            Event::AskTurn => self.ask_turn(now, &mut actions),
            Event::ReaderTurn => self.reader_turn(&mut actions),
            Event::Bounds {
                partition,
                number,
                bounds,
            } => self.bounds(partition, number, bounds, now, &mut actions),
            Event::CallbackEnds(partitions) => {
                for tp in partitions {
                    self.start_in_callback(tp, &mut actions);
                }
            }
            Event::Sought { partition, done } => self.sought(partition, done, now, &mut actions),
            Event::Claimed { partition, outcome } => {
                self.claimed(partition, outcome, now, &mut actions);
            }
            Event::ClaimsFailed => self.claims_failed(now),
            Event::ClaimTurn | Event::ReleaseTurn => {
                let claims = matches!(event, Event::ClaimTurn);
                self.writer_turn(claims, &mut actions);
            }
            Event::Released => self
                .partitions
                .retain(|_, p| !matches!(p.phase, Phase::Releasing { running: true, .. })),
            Event::SessionLost { pause } => self.session_lost(now + pause, &mut actions),
            Event::Full(full) => self.full = full,
            Event::Reachable(tp)
            | Event::Outside(tp)
            | Event::Drained(tp)
            | Event::Unreadable { partition: tp, .. }
            | Event::Barred { partition: tp, .. }
            | Event::Stands { partition: tp, .. }
            | Event::Moved { partition: tp, .. }
            | Event::Fenced { partition: tp, .. } => self.about_one(tp, event, now, &mut actions),
        }
        actions
    }

    fn assigned_now(&mut self, partitions: Vec<TopicPartition>, now: Duration) {
        for tp in partitions {
            let given = Phase::Waiting {
                until: now,
                cause: Cause::Given,
                beyond: None,
            };
            let phase = match self.partitions.get(&tp).map(|p| &p.phase) {
                // what was to be given back is claimed anew
                None | Some(Phase::Releasing { .. }) => given,
                Some(Phase::Abandoned(request)) => Phase::Claiming {
                    request: *request,
                    running: true,
                },
                Some(_) => continue,
            };
            let partition = Partition {
                given: Some(now),
                ..Partition::at(phase)
            };
            self.partitions.insert(tp, partition);
        }
    }

    fn revoked(&mut self, tp: TopicPartition, release: bool, actions: &mut Vec<Action>) {
        let Some(partition) = self.partitions.get_mut(&tp) else {
            return;
        };
        let claim = match &partition.phase {
            Phase::Abandoned(_) | Phase::Releasing { .. } => return,
            Phase::Claiming {
                request,
                running: true,
            } => {
                *partition = Partition::at(Phase::Abandoned(*request));
                actions.push(Action::Drop(tp));
                return;
            }
            Phase::Granted(grant) | Phase::Seeking(grant) => Some(grant.recovered.claim),
            Phase::Reading(claim) | Phase::Draining(claim) => Some(*claim),
            Phase::Halted { claim, .. } => *claim,
            Phase::Waiting { .. } | Phase::Asking { .. } | Phase::Claiming { .. } => None,
        };
        actions.push(Action::Drop(tp));
        match claim.filter(|_| release) {
            Some(claim) => {
                *partition = Partition::at(Phase::Releasing {
                    claim,
                    running: false,
                });
            }
            None => drop(self.partitions.remove(&tp)),
        }
    }

    fn ask_turn(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for (&tp, partition) in &mut self.partitions {
            if let Phase::Asking { until, .. } = partition.phase
                && until <= now
            {
                partition.unanswered(&self.timing, now);
            }
            let ask = match &partition.phase {
                Phase::Waiting { until, beyond, .. } if *until <= now => Some(*beyond),
                Phase::Halted { until, claim } if *until <= now => {
                    if claim.is_some() {
                        actions.push(Action::Drop(tp));
                    }
                    Some(None)
                }
                _ => None,
            };
            if let Some(beyond) = ask {
                self.questions += 1;
                partition.phase = Phase::Asking {
                    number: self.questions,
                    until: now + self.timing.answer,
                    beyond,
                };
                actions.push(Action::Ask {
                    partition: tp,
                    number: self.questions,
                    alone: partition.failures > 0,
                });
            }
        }
    }

    fn reader_turn(&mut self, actions: &mut Vec<Action>) {
        for (&tp, partition) in &mut self.partitions {
            let wanted = matches!(partition.phase, Phase::Reading(_)) && !self.full;
            if partition.is_assigned() && partition.fetched != wanted {
                partition.fetched = wanted;
                actions.push(if wanted {
                    Action::Resume(tp)
                } else {
                    Action::Pause(tp)
                });
            }
            if let Phase::Granted(grant) = &partition.phase {
                actions.push(Action::Seek {
                    partition: tp,
                    next: grant.recovered.next,
                    afresh: std::mem::take(&mut partition.afresh),
                });
                partition.phase = Phase::Seeking(grant.clone());
            }
        }
    }

    fn bounds(
        &mut self,
        tp: TopicPartition,
        number: u64,
        bounds: Option<(i64, i64)>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(partition) = self.partitions.get_mut(&tp) else {
            return;
        };
        let Phase::Asking {
            number: asked,
            beyond,
            ..
        } = partition.phase
        else {
            return;
        };
        // an answer to a question that counts as lost is too old to decide by
        if asked != number {
            return;
        }
        let Some((log_start, log_end)) = bounds else {
            return partition.unanswered(&self.timing, now);
        };
        partition.failures = 0;
        match beyond {
            Some(next) if next > log_end => {
                let obstacle = Obstacle::LogShrunk { log_end, next };
                partition.halt(tp, obstacle, None, now + self.timing.examine, actions);
            }
            _ => {
                partition.phase = Phase::Claiming {
                    request: ClaimRequest {
                        partition: tp,
                        log_start,
                        log_end,
                    },
                    running: false,
                };
            }
        }
    }

    /// The callback puts the position into the list of partitions that it assigns: no seek is
    /// needed.
    fn start_in_callback(&mut self, tp: TopicPartition, actions: &mut Vec<Action>) {
        if let Some(partition) = self.partitions.get_mut(&tp) {
            if let Phase::Granted(grant) = &partition.phase {
                let grant = grant.clone();
                partition.afresh = false;
                partition.begin(tp, grant, actions);
                partition.fetched = true;
            } else if partition.is_assigned() {
                partition.fetched = false;
                actions.push(Action::Pause(tp));
            }
        }
    }

    fn sought(&mut self, tp: TopicPartition, done: bool, now: Duration, actions: &mut Vec<Action>) {
        let full = self.full;
        let Some(partition) = self.partitions.get_mut(&tp) else {
            return;
        };
        let Phase::Seeking(grant) = &partition.phase else {
            return;
        };
        if !done {
            partition.wait(now + self.timing.again, Cause::Seek);
            return;
        }
        let grant = grant.clone();
        partition.begin(tp, grant, actions);
        if !full {
            partition.fetched = true;
            actions.push(Action::Resume(tp));
        }
    }

    fn claimed(
        &mut self,
        tp: TopicPartition,
        outcome: Claimed,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(partition) = self.partitions.get_mut(&tp) else {
            return;
        };
        match (&partition.phase, outcome) {
            (Phase::Claiming { running: true, .. }, Claimed::Ours(grant)) => {
                partition.phase = Phase::Granted(grant);
            }
            // the end of the log was asked for before the claim, which may have waited: it may have
            // grown since, while the previous owner went on. Only an end that is asked for
            // afterwards counts
            (
                Phase::Claiming { running: true, .. },
                Claimed::Halted(Obstacle::LogShrunk { next, .. }),
            ) => {
                partition.phase = Phase::Waiting {
                    until: now + self.timing.confirm,
                    cause: Cause::Shorter,
                    beyond: Some(next),
                };
            }
            (Phase::Claiming { running: true, .. }, Claimed::Halted(obstacle)) => {
                partition.halt(tp, obstacle, None, now + self.timing.examine, actions);
            }
            (Phase::Abandoned(_), Claimed::Ours(grant)) => {
                partition.phase = Phase::Releasing {
                    claim: grant.recovered.claim,
                    running: false,
                };
            }
            (Phase::Abandoned(_), Claimed::Halted(_)) => drop(self.partitions.remove(&tp)),
            _ => {}
        }
    }

    fn claims_failed(&mut self, now: Duration) {
        self.partitions
            .retain(|_, p| !matches!(p.phase, Phase::Abandoned(_)));
        for partition in self.partitions.values_mut() {
            if matches!(partition.phase, Phase::Claiming { running: true, .. }) {
                partition.wait(now, Cause::Session);
            }
        }
    }

    fn writer_turn(&mut self, claims: bool, actions: &mut Vec<Action>) {
        for (&tp, partition) in &mut self.partitions {
            match &mut partition.phase {
                Phase::Claiming { request, running } if claims && !*running => {
                    *running = true;
                    actions.push(Action::Claim(*request));
                }
                Phase::Releasing { claim, running } if !claims && !*running => {
                    *running = true;
                    actions.push(Action::Release(tp, *claim));
                }
                _ => {}
            }
        }
    }

    fn session_lost(&mut self, until: Duration, actions: &mut Vec<Action>) {
        self.partitions
            .retain(|_, partition| partition.is_assigned());
        for (&tp, partition) in &mut self.partitions {
            match &mut partition.phase {
                Phase::Reading(_) | Phase::Draining(_) => {
                    partition.wait(until, Cause::Session);
                    actions.push(Action::Drop(tp));
                }
                Phase::Halted {
                    claim: claim @ Some(_),
                    ..
                } => {
                    *claim = None;
                    actions.push(Action::Drop(tp));
                }
                Phase::Claiming { running: true, .. } | Phase::Granted(_) | Phase::Seeking(_) => {
                    partition.wait(until, Cause::Session);
                }
                _ => {}
            }
        }
    }

    fn about_one(
        &mut self,
        tp: TopicPartition,
        event: Event,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let examine = now + self.timing.examine;
        let others_stand = self
            .partitions
            .iter()
            .any(|(&other, p)| other != tp && p.stuck.is_some());
        let Some(partition) = self.partitions.get_mut(&tp) else {
            return;
        };
        let reading = match partition.phase {
            Phase::Reading(claim) => Some(claim),
            _ => None,
        };
        match (event, reading) {
            (Event::Outside(_), Some(claim)) => partition.phase = Phase::Draining(claim),
            (Event::Reachable(_), _) => {
                if let Phase::Waiting { until, cause, .. } = &mut partition.phase
                    && *cause == Cause::NoLeader
                {
                    *until = now;
                }
            }
            (Event::Drained(_), _) => {
                if matches!(partition.phase, Phase::Draining(_)) {
                    partition.wait(now, Cause::Outside);
                    actions.push(Action::Drop(tp));
                }
            }
            (Event::Unreadable { offset, why, .. }, Some(claim)) => {
                let obstacle = Obstacle::Unreadable { offset, why };
                actions.push(Action::Close(tp));
                partition.halt(tp, obstacle, Some(claim), examine, actions);
            }
            (Event::Barred { obstacle, .. }, _) if partition.is_assigned() => {
                let known = matches!(partition.phase, Phase::Halted { .. })
                    && partition.obstacle.as_ref() == Some(&obstacle);
                if !known {
                    actions.push(Action::Drop(tp));
                    partition.halt(tp, obstacle, None, examine, actions);
                }
            }
            (Event::Stands { position, .. }, Some(_)) => {
                if others_stand || partition.stuck == Some(position) {
                    actions.push(Action::End {
                        partition: tp,
                        position,
                    });
                    return;
                }
                partition.stuck = Some(position);
                partition.afresh = true;
                partition.wait(now, Cause::Stuck);
                actions.push(Action::Drop(tp));
            }
            (Event::Moved { position, .. }, Some(_)) => partition.moved(position),
            (Event::Fenced { pause, .. }, _) => match &mut partition.phase {
                Phase::Reading(_) | Phase::Draining(_) => {
                    partition.wait(now + pause, Cause::Fenced);
                    actions.push(Action::Drop(tp));
                }
                Phase::Halted { claim, .. } => {
                    *claim = None;
                    actions.push(Action::Drop(tp));
                }
                _ => {}
            },
            _ => {}
        }
    }
}
