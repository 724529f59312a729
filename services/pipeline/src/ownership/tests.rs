#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    checkpoint::Counters,
    engine::{Claim, Recovered},
    offset::{NextOffset, TopicId},
    watermark::EventClock,
};

fn tp(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(1),
        partition,
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn grant(token: u128, next: i64) -> Grant {
    Grant {
        recovered: Box::new(Recovered {
            claim: Claim {
                token: Uuid::from_u128(token),
                epoch: 1,
            },
            next: NextOffset::at(next),
            clock: EventClock::default(),
            first: false,
            rules: Arc::default(),
        }),
        totals: Counters::default(),
        gap: None,
        gaps: Vec::new(),
    }
}

/// Both threads, and everything that they talk to, which answers well unless told otherwise.
#[derive(Default)]
struct World {
    ownership: Ownership,
    now: Duration,
    asked: Vec<(TopicPartition, u64)>,
    sought: Vec<TopicPartition>,
    /// Partitions whose claims are under way.
    claiming: Vec<ClaimRequest>,
    /// What the engine holds.
    engine: BTreeMap<TopicPartition, Claim>,
    closed: BTreeSet<TopicPartition>,
    /// What the consumer fetches.
    fetched: BTreeSet<TopicPartition>,
    released: Vec<Claim>,
    said: Vec<Obstacle>,
    ended: bool,
    tokens: u128,
    next: BTreeMap<TopicPartition, i64>,
}

impl World {
    fn on(&mut self, event: Event) {
        for action in self.ownership.on(event, self.now) {
            match action {
                Action::Drop(tp) => {
                    self.engine.remove(&tp);
                    self.closed.remove(&tp);
                }
                Action::Close(tp) => assert!(self.closed.insert(tp), "closed twice"),
                Action::Begin {
                    partition, grant, ..
                } => {
                    let held = self.engine.insert(partition, grant.recovered.claim);
                    assert_eq!(held, None, "{partition} was read already");
                }
                Action::Ask {
                    partition, number, ..
                } => self.asked.push((partition, number)),
                Action::Seek { partition, .. } => {
                    assert!(!self.fetched.contains(&partition), "sought while fetched");
                    self.sought.push(partition);
                }
                Action::Pause(tp) => drop(self.fetched.remove(&tp)),
                Action::Resume(tp) => assert!(self.fetched.insert(tp), "resumed twice"),
                Action::Claim(request) => self.claiming.push(request),
                Action::Release(_, claim) => {
                    assert!(!self.released.contains(&claim), "released twice");
                    self.released.push(claim);
                }
                Action::Say(_, obstacle) => self.said.push(obstacle),
                Action::End { .. } => self.ended = true,
            }
        }
    }

    fn answer(&mut self, bounds: Option<(i64, i64)>) {
        if !self.asked.is_empty() {
            let (partition, number) = self.asked.remove(0);
            self.on(Event::Bounds {
                partition,
                number,
                bounds,
            });
        }
    }

    fn turn(&mut self) {
        self.on(Event::AskTurn);
        self.on(Event::ReaderTurn);
    }

    /// The writer makes the claims that are wanted; `shrunk` finds the stored position beyond the
    /// end of the log.
    fn claim(&mut self, shrunk: bool) {
        self.on(Event::ClaimTurn);
        for request in std::mem::take(&mut self.claiming) {
            let partition = request.partition;
            self.tokens += 1;
            let next = self.next.get(&partition).copied().unwrap_or(0);
            let outcome = if shrunk || next > request.log_end {
                Claimed::Halted(Obstacle::LogShrunk {
                    log_end: request.log_end,
                    next: next.max(request.log_end + 1),
                })
            } else {
                Claimed::Ours(grant(self.tokens, next))
            };
            self.on(Event::Claimed { partition, outcome });
        }
    }

    fn seek(&mut self, done: bool) {
        for partition in std::mem::take(&mut self.sought) {
            self.on(Event::Sought { partition, done });
        }
    }

    fn release(&mut self) {
        self.on(Event::ReleaseTurn);
        self.on(Event::Released);
    }

    /// Everything answers well for a round.
    fn round(&mut self) {
        self.turn();
        while !self.asked.is_empty() {
            self.answer(Some((0, 100)));
        }
        self.claim(false);
        self.on(Event::ReaderTurn);
        self.seek(true);
        self.release();
    }

    fn reading() -> Self {
        let mut world = Self::default();
        world.on(Event::Assigned(vec![tp(0)]));
        world.round();
        assert_eq!(world.standing(0), Some(Standing::Reading));
        world
    }

    fn standing(&self, partition: i32) -> Option<Standing> {
        self.ownership.standing(tp(partition))
    }

    fn check(&self) {
        for (tp, partition) in &self.ownership.partitions {
            let held = match &partition.phase {
                Phase::Reading(claim) | Phase::Draining(claim) => Some(*claim),
                Phase::Halted { claim, .. } => *claim,
                _ => None,
            };
            assert_eq!(self.engine.get(tp).copied(), held, "{tp}: {partition:?}");
            if matches!(partition.phase, Phase::Halted { .. }) {
                assert!(partition.obstacle.is_some(), "{tp} is halted for nothing");
            }
            if matches!(partition.phase, Phase::Reading(_)) {
                assert!(!self.closed.contains(tp), "{tp} is read and closed");
            }
            assert_eq!(self.fetched.contains(tp), partition.fetched, "{tp}");
        }
        let known = |tp| self.ownership.partitions.contains_key(tp);
        assert!(
            self.engine.keys().all(known),
            "the engine holds what is gone"
        );
    }
}

#[test]
fn a_partition_without_a_leader_is_asked_about_ever_more_seldom_and_alone() {
    let mut world = World::default();
    world.on(Event::Assigned(vec![tp(0)]));
    let mut pauses = Vec::new();
    let mut last = 0;
    for second in 0..200 {
        world.now = secs(second);
        world.turn();
        if !world.asked.is_empty() {
            pauses.push(second - last);
            last = second;
            world.answer(None);
            assert_eq!(world.standing(0), Some(Standing::Waiting(Cause::NoLeader)));
        }
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30]);
    world.on(Event::Reachable(tp(0)));
    world.round();
    assert_eq!(world.standing(0), Some(Standing::Reading));
}

#[test]
fn an_answer_that_came_too_late_decides_nothing() {
    let mut world = World::default();
    world.on(Event::Assigned(vec![tp(0)]));
    world.turn();
    world.now = secs(15);
    world.turn();
    assert_eq!(world.standing(0), Some(Standing::Waiting(Cause::NoLeader)));
    world.now = secs(16);
    world.turn();
    assert_eq!(world.asked.len(), 2);
    world.answer(Some((0, 1)));
    assert_eq!(world.standing(0), Some(Standing::Waiting(Cause::NoLeader)));
    world.answer(Some((0, 100)));
    assert_eq!(world.standing(0), Some(Standing::Claiming));
}

#[test]
fn an_old_end_of_the_log_halts_nothing() {
    let mut world = World::default();
    world.next.insert(tp(0), 150);
    world.on(Event::Assigned(vec![tp(0)]));
    world.turn();
    world.answer(Some((0, 100)));
    world.claim(false);
    assert_eq!(world.standing(0), Some(Standing::Waiting(Cause::Shorter)));
    world.now += secs(1);
    world.turn();
    // the log has grown while the claim waited
    world.answer(Some((0, 160)));
    world.claim(false);
    world.turn();
    world.seek(true);
    assert_eq!(world.standing(0), Some(Standing::Reading));
    assert_eq!(world.said, []);
}

#[test]
fn a_log_that_is_shorter_halts_and_goes_on_by_itself_once_it_is_restored() {
    let mut world = World::default();
    world.next.insert(tp(0), 150);
    world.on(Event::Assigned(vec![tp(0)]));
    let shrunk = Obstacle::LogShrunk {
        log_end: 100,
        next: 150,
    };
    for second in 0..119 {
        world.now = secs(second);
        world.round();
        world.check();
        if second > 1 {
            assert_eq!(world.ownership.obstacle(tp(0)), Some(&shrunk));
        }
    }
    assert_eq!(world.said, [shrunk], "said once");
    world.next.insert(tp(0), 90);
    for second in 119..190 {
        world.now = secs(second);
        world.round();
    }
    assert_eq!(world.standing(0), Some(Standing::Reading));
    assert_eq!(world.ownership.halted().count(), 0);
}

#[test]
fn what_cannot_be_read_halts_its_partition_and_keeps_what_was_read_before() {
    let mut world = World::reading();
    let claim = world.engine[&tp(0)];
    let unreadable = || Event::Unreadable {
        partition: tp(0),
        offset: 7,
        why: "bad crc".to_owned(),
    };
    world.on(unreadable());
    world.turn();
    world.check();
    assert_eq!(world.engine[&tp(0)], claim, "it can still be committed");
    assert!(world.closed.contains(&tp(0)));
    assert_eq!(world.standing(0), Some(Standing::Halted));
    // examined again, and the same: it counts as halted all the time, and is said once
    world.now = secs(60);
    world.round();
    assert_eq!(world.standing(0), Some(Standing::Reading));
    assert!(world.ownership.obstacle(tp(0)).is_some());
    world.on(unreadable());
    assert_eq!(world.said.len(), 1);
    // and the third time it was restored
    world.now = secs(120);
    world.round();
    world.on(Event::Moved {
        partition: tp(0),
        position: NextOffset::at(7),
    });
    assert!(world.ownership.obstacle(tp(0)).is_some());
    world.on(Event::Moved {
        partition: tp(0),
        position: NextOffset::at(8),
    });
    assert_eq!(world.ownership.obstacle(tp(0)), None);
}

#[test]
fn a_partition_that_stands_is_assigned_afresh_once_and_ends_the_process_the_second_time() {
    let stands = |position| Event::Stands {
        partition: tp(0),
        position: NextOffset::at(position),
    };
    let mut world = World::reading();
    world.on(stands(5));
    assert!(!world.ended);
    world.round();
    // it moved: the next time counts anew
    world.on(Event::Moved {
        partition: tp(0),
        position: NextOffset::at(6),
    });
    world.on(stands(6));
    assert!(!world.ended);
    world.round();
    world.on(stands(6));
    assert!(world.ended);
}

#[test]
fn two_partitions_that_stand_end_the_process() {
    let mut world = World::default();
    world.on(Event::Assigned(vec![tp(0), tp(1)]));
    world.round();
    for partition in 0..2 {
        assert!(!world.ended);
        world.on(Event::Stands {
            partition: tp(partition),
            position: NextOffset::ZERO,
        });
    }
    assert!(world.ended);
}

#[test]
fn a_claim_that_was_under_way_when_the_partition_was_taken_away_is_given_back_once() {
    let mut world = World::default();
    world.on(Event::Assigned(vec![tp(0)]));
    world.turn();
    world.answer(Some((0, 10)));
    world.on(Event::ClaimTurn);
    world.on(Event::Revoked {
        partitions: vec![tp(0)],
        release: true,
    });
    let outcome = Claimed::Ours(grant(9, 0));
    world.on(Event::Claimed {
        partition: tp(0),
        outcome,
    });
    world.release();
    world.release();
    assert_eq!(world.released, [grant(9, 0).recovered.claim]);
    assert_eq!(world.standing(0), None);
}

/// What may happen, in any order.
#[derive(Clone, Debug)]
enum Step {
    Assign(i32),
    Revoke(i32, bool),
    Turn,
    Answer(bool),
    Callback(i32),
    Seek(bool),
    Claim(bool),
    FailClaims,
    Release,
    Lose,
    Fence(i32),
    Outside(i32),
    Drain(i32),
    Unreadable(i32),
    Bar(i32),
    Stand(i32),
    Move(i32),
    Full(bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let p = 0..3_i32;
    let flag = any::<bool>();
    prop_oneof![
        3 => p.clone().prop_map(Step::Assign),
        2 => (p.clone(), flag).prop_map(|(p, release)| Step::Revoke(p, release)),
        6 => Just(Step::Turn),
        6 => proptest::bool::weighted(0.8).prop_map(Step::Answer),
        2 => p.clone().prop_map(Step::Callback),
        4 => proptest::bool::weighted(0.8).prop_map(Step::Seek),
        5 => proptest::bool::weighted(0.2).prop_map(Step::Claim),
        1 => Just(Step::FailClaims),
        3 => Just(Step::Release),
        1 => Just(Step::Lose),
        1 => p.clone().prop_map(Step::Fence),
        1 => p.clone().prop_map(Step::Outside),
        2 => p.clone().prop_map(Step::Drain),
        1 => p.clone().prop_map(Step::Unreadable),
        1 => p.clone().prop_map(Step::Bar),
        1 => p.clone().prop_map(Step::Stand),
        2 => p.prop_map(Step::Move),
        1 => any::<bool>().prop_map(Step::Full),
        3 => (0..40_u64).prop_map(Step::Pass),
    ]
}

impl World {
    fn take(&mut self, step: Step) {
        match step {
            Step::Assign(p) => self.on(Event::Assigned(vec![tp(p)])),
            Step::Revoke(p, release) => {
                let held = self.engine.get(&tp(p)).copied();
                self.on(Event::Revoked {
                    partitions: vec![tp(p)],
                    release,
                });
                // librdkafka forgets a pause with the assignment
                self.fetched.remove(&tp(p));
                if let Some(claim) = held {
                    let leaves = self.standing(p) == Some(Standing::Leaving);
                    assert_eq!(leaves, release, "{claim:?} is to be given back");
                }
            }
            Step::Turn => self.turn(),
            Step::Answer(answers) => self.answer(answers.then_some((0, 100))),
            Step::Callback(p) => {
                let partition = self.ownership.partitions.get(&tp(p));
                let granted = partition.is_some_and(|p| matches!(p.phase, Phase::Granted(_)));
                self.on(Event::CallbackEnds(vec![tp(p)]));
                if granted {
                    self.fetched.insert(tp(p));
                }
            }
            Step::Seek(done) => self.seek(done),
            Step::Claim(shrunk) => self.claim(shrunk),
            Step::FailClaims => {
                self.on(Event::ClaimTurn);
                self.claiming.clear();
                self.on(Event::ClaimsFailed);
                self.take(Step::Lose);
            }
            Step::Release => self.release(),
            Step::Lose => {
                self.on(Event::SessionLost {
                    pause: Duration::from_millis(150),
                });
                assert!(self.engine.is_empty(), "no claim outlives its session");
            }
            Step::Fence(p) => {
                self.on(Event::Fenced {
                    partition: tp(p),
                    pause: secs(2),
                });
                assert!(!self.engine.contains_key(&tp(p)), "fenced, and held on");
            }
            Step::Outside(p) => self.on(Event::Outside(tp(p))),
            Step::Drain(p) => self.on(Event::Drained(tp(p))),
            Step::Unreadable(p) => self.on(Event::Unreadable {
                partition: tp(p),
                offset: 3,
                why: "bad".to_owned(),
            }),
            Step::Bar(p) => self.on(Event::Barred {
                partition: tp(p),
                obstacle: Obstacle::TopicReplaced {
                    stored: "a".to_owned(),
                    found: "b".to_owned(),
                },
            }),
            Step::Stand(p) => self.on(Event::Stands {
                partition: tp(p),
                position: NextOffset::at(2),
            }),
            Step::Move(p) => self.on(Event::Moved {
                partition: tp(p),
                position: NextOffset::at(9),
            }),
            Step::Full(full) => self.on(Event::Full(full)),
            Step::Pass(seconds) => self.now += secs(seconds),
        }
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_two_sides_agree_and_in_the_end_everything_is_read(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let mut world = World::default();
        for step in steps {
            world.take(step);
        }
        // from here on everything answers
        world.on(Event::Full(false));
        for _ in 0..40 {
            world.now += secs(15);
            for p in 0..3 {
                world.on(Event::Drained(tp(p)));
            }
            world.round();
            world.check();
        }
        for tp in world.ownership.assigned().collect::<Vec<_>>() {
            prop_assert_eq!(world.ownership.standing(tp), Some(Standing::Reading));
            world.on(Event::Moved { partition: tp, position: NextOffset::at(9) });
        }
        prop_assert!(!world.ownership.is_releasing());
        prop_assert_eq!(world.ownership.halted().count(), 0);
        prop_assert_eq!(world.ownership.unclaimed(), 0);
    }
}
