//! Who may read a partition, and what stands in the way: one state for each partition, and one function that moves it.
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
//! The reading thread and the writing task tell [`Ownership::on`] what has happened and carry out what it returns. It has
//! no clock: times are counted from any fixed instant, and passed in.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use crate::{
    checkpoint::Counters,
    engine::{Claim, Recovered},
    offset::{NextOffset, TopicPartition},
};

mod obstacle;
#[cfg(test)]
mod tests;

pub use obstacle::Obstacle;

/// A partition to claim, with what the log looks like now.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ClaimRequest {
    /// Which one.
    pub partition: TopicPartition,
    /// First offset that is still in the log.
    pub log_start: i64,
    /// End of the log.
    pub log_end: i64,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// It is ours.
    Ours(Grant),
    /// It cannot be read on, and a person has to decide.
    Halted(Obstacle),
}

/// A claim that was granted.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Where to go on.
    pub recovered: Box<Recovered>,
    /// The partition's totals there.
    pub totals: Counters,
    /// Kafka dropped these records before they were read; they are in `clickstream_gaps`.
    pub gap: Option<Range<i64>>,
    /// All gaps of the partition, that one included, in the order of the log.
    pub gaps: Vec<Range<i64>>,
}

/// Something that has happened, told by the reading thread or the writing task.
#[derive(Debug)]
pub enum Event {
    /// The group gives these partitions to this process.
    Assigned(Vec<TopicPartition>),
    /// The group takes these partitions away. With `release` the database is told that nobody holds them.
    Revoked {
        /// Which ones.
        partitions: Vec<TopicPartition>,
        /// Whether the claims still are this process's to give back.
        release: bool,
    },
    /// The reader asks which questions are to be put to the brokers.
    AskTurn,
    /// The reader asks what the consumer is to be told.
    ReaderTurn,
    /// The answer to a question for the bounds of a log.
    Bounds {
        /// Of which partition.
        partition: TopicPartition,
        /// Number of the question.
        number: u64,
        /// First offset and end; `None`: no answer.
        bounds: Option<(i64, i64)>,
    },
    /// The broker that leads the partition answers again.
    Reachable(TopicPartition),
    /// The rebalance callback goes on: of these partitions, those that are granted start where the claim says, and the
    /// others are assigned paused.
    CallbackEnds(Vec<TopicPartition>),
    /// A seek has ended.
    Sought {
        /// Of which partition.
        partition: TopicPartition,
        /// Whether the consumer stands at the claimed position now.
        done: bool,
    },
    /// The position lies outside the log.
    Outside(TopicPartition),
    /// Nothing of the partition waits for a commit any more.
    Drained(TopicPartition),
    /// A batch of the log cannot be read.
    Unreadable {
        /// In which partition.
        partition: TopicPartition,
        /// The offset of its first record.
        offset: i64,
        /// What is wrong with it.
        why: String,
    },
    /// A partition is not what it was, and must not be read.
    Barred {
        /// Which one.
        partition: TopicPartition,
        /// What stands against it.
        obstacle: Obstacle,
    },
    /// There is lag, everything answers, and nothing moves.
    Stands {
        /// In which partition.
        partition: TopicPartition,
        /// Where it stands.
        position: NextOffset,
    },
    /// A partition is read, up to here.
    Moved {
        /// Which one.
        partition: TopicPartition,
        /// What comes next.
        position: NextOffset,
    },
    /// There is no room for more records, or there is again.
    Full(bool),
    /// The writer asks which claims are wanted.
    ClaimTurn,
    /// A claim has been answered.
    Claimed {
        /// Of which partition.
        partition: TopicPartition,
        /// What became of it.
        outcome: Claimed,
    },
    /// The claims under way have failed, none was made.
    ClaimsFailed,
    /// The writer asks which claims are to be given back.
    ReleaseTurn,
    /// They have been given back.
    Released,
    /// Another owner has claimed the partition.
    Fenced {
        /// Which one.
        partition: TopicPartition,
        /// How long to wait before it is claimed again.
        pause: Duration,
    },
    /// The session with the database is gone, and every claim with it.
    SessionLost {
        /// How long to wait before partitions are claimed again.
        pause: Duration,
    },
}

/// What is to be done now, by whoever told the event, and in this order.
#[derive(Debug)]
pub enum Action {
    /// Forget what the engine holds of the partition, its claim included.
    Drop(TopicPartition),
    /// Take no more records of it; what is buffered may still be committed.
    Close(TopicPartition),
    /// Start to take records, from the position of the grant.
    Begin {
        /// Which partition.
        partition: TopicPartition,
        /// Under which claim.
        grant: Grant,
        /// When the group gave it, where it is read for the first time since.
        given: Option<Duration>,
    },
    /// Ask for the bounds of its log.
    Ask {
        /// Of which partition.
        partition: TopicPartition,
        /// Number of the question, which comes back with the answer.
        number: u64,
        /// It did not answer the last time: others must not wait for it.
        alone: bool,
    },
    /// Make the consumer go on at this position.
    Seek {
        /// Which partition.
        partition: TopicPartition,
        /// Where to go on.
        next: NextOffset,
        /// Take it from the consumer first, and give it back.
        afresh: bool,
    },
    /// Fetch no more of it.
    Pause(TopicPartition),
    /// Fetch it again.
    Resume(TopicPartition),
    /// Claim it.
    Claim(ClaimRequest),
    /// Give this claim back.
    Release(TopicPartition, Claim),
    /// A person has to look at it: said once for each obstacle.
    Say(TopicPartition, Obstacle),
    /// Nothing that this process can do makes the partition move.
    End {
        /// Which partition.
        partition: TopicPartition,
        /// Where it stands.
        position: NextOffset,
    },
}

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

#[derive(Debug)]
enum Phase {
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
struct Partition {
    phase: Phase,
    /// When the group gave it, until it is read.
    given: Option<Duration>,
    /// What the consumer was told last.
    fetched: bool,
    /// Stands until something shows that it has passed, also while the partition is examined again.
    obstacle: Option<Obstacle>,
    /// Questions in a row without an answer.
    failures: u32,
    /// Where it stood when it was given back to the consumer because it did not move.
    stuck: Option<NextOffset>,
    /// The next seek takes it from the consumer first.
    afresh: bool,
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
            | Event::Fenced { partition: tp, .. } => self.to_one(tp, event, now, &mut actions),
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

    /// The callback puts the position into the list of partitions that it assigns: no seek is needed.
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
            // the end of the log was asked for before the claim, which may have waited: it may have grown since, while the
            // previous owner went on. Only an end that is asked for afterwards counts
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
                Phase::Halted { claim, .. } => {
                    if claim.take().is_some() {
                        actions.push(Action::Drop(tp));
                    }
                }
                Phase::Claiming { running: true, .. } | Phase::Granted(_) | Phase::Seeking(_) => {
                    partition.wait(until, Cause::Session);
                }
                _ => {}
            }
        }
    }

    fn to_one(
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

impl Partition {
    fn at(phase: Phase) -> Self {
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

    fn is_assigned(&self) -> bool {
        !matches!(self.phase, Phase::Abandoned(_) | Phase::Releasing { .. })
    }

    fn wait(&mut self, until: Duration, cause: Cause) {
        self.phase = Phase::Waiting {
            until,
            cause,
            beyond: None,
        };
    }

    fn unanswered(&mut self, timing: &Timing, now: Duration) {
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

    fn halt(
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

    fn begin(&mut self, tp: TopicPartition, grant: Grant, actions: &mut Vec<Action>) {
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

    fn moved(&mut self, position: NextOffset) {
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
