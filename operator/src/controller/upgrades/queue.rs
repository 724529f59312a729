//! Whose turn it is after an upgrade of the operator. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::crd::UpgradeStatus;

/// Pipelines that were not Ready anyhow begin no faster than `at_once` in this time: what is away
/// for all of them may come back.
const PACE: SignedDuration = SignedDuration::from_secs(30);

/// What the queue goes by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The operator's release.
    pub release: String,
    /// So many may roll at a time.
    pub at_once: usize,
    /// After so long a pipeline that rolls keeps nobody waiting any more; `None`: it does until it
    /// is Ready.
    pub deadline: Option<SignedDuration>,
}

/// How a pipeline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is Ready.
    Ready,
    /// It counts as Ready, and Kafka or PostgreSQL is away for a moment.
    Outage,
    /// It is not Ready.
    Sick,
}

/// What the queue knows of a pipeline, from its status.
#[derive(Clone, Debug)]
pub struct Member {
    /// How it does.
    pub health: Health,
    /// The release that its pods are of.
    pub release: Option<String>,
    /// Since when it rolls because of the operator.
    pub upgrade: Option<UpgradeStatus>,
    /// Whether it asks for its turn, or may do so yet.
    pub asks: bool,
    /// Its name, if all that are no canaries wait for it.
    pub canary: Option<String>,
}

impl Rules {
    /// What to note before this pipeline rolls; `None`: others go first.
    pub fn turn(&self, me: &Member, others: &[Member], now: Timestamp) -> Option<UpgradeStatus> {
        // whoever has begun goes on, whatever became of it; one that a release has broken goes on
        // to the next release first
        if let Some(begun) = &me.upgrade
            && (begun.was_ready || begun.release == self.release)
        {
            return Some(begun.clone());
        }
        if self.waits_for(me, others).is_some() {
            return None;
        }
        let holding = others.iter().filter(|other| self.holds_a_place(other, now));
        let held = holding.count();
        let goes = match me.health {
            Health::Ready => held < self.at_once,
            Health::Outage => false,
            Health::Sick => {
                let began = others
                    .iter()
                    .filter(|other| self.has_just_begun(other, now));
                held == 0
                    && began.count() < self.at_once
                    && !others.iter().any(|other| self.goes_before_sick_ones(other))
            }
        };
        goes.then(|| UpgradeStatus {
            release: self.release.clone(),
            // whole seconds, as the API keeps them
            since: Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
            was_ready: me.health == Health::Ready,
        })
    }

    /// The canary that keeps a pipeline from beginning: one that was in order and rolls, however
    /// late it is, or is about to.
    pub fn waits_for<'o>(&self, me: &Member, others: &'o [Member]) -> Option<&'o str> {
        if me.canary.is_some() {
            return None;
        }
        let keeps_back = |other: &&Member| match &other.upgrade {
            Some(begun) => begun.was_ready,
            None => self.goes_before_sick_ones(other),
        };
        let canaries = others.iter().filter(|other| other.canary.is_some());
        // one that rolls says more than one that is about to
        let first = canaries
            .filter(keeps_back)
            .max_by_key(|other| other.upgrade.is_some())?;
        first.canary.as_deref()
    }

    /// Whether a pipeline takes one of the places: it was in order, rolls, and is not late.
    fn holds_a_place(&self, member: &Member, now: Timestamp) -> bool {
        let Some(begun) = member.upgrade.as_ref().filter(|begun| begun.was_ready) else {
            return false;
        };
        self.deadline
            .is_none_or(|deadline| is_younger(begun, deadline, now))
    }

    fn has_just_begun(&self, member: &Member, now: Timestamp) -> bool {
        let begun = member.upgrade.as_ref();
        begun.is_some_and(|begun| {
            !begun.was_ready && begun.release == self.release && is_younger(begun, PACE, now)
        })
    }

    fn goes_before_sick_ones(&self, member: &Member) -> bool {
        member.asks
            && member.health != Health::Sick
            && member.upgrade.is_none()
            && member.release.as_deref() != Some(&self.release)
    }
}

fn is_younger(begun: &UpgradeStatus, age: SignedDuration, now: Timestamp) -> bool {
    let since = begun.since.as_ref();
    since.is_some_and(|since| now.duration_since(since.0) < age)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    const DEADLINE: SignedDuration = SignedDuration::from_mins(10);

    fn rules(at_once: usize) -> Rules {
        Rules {
            release: "new".to_owned(),
            at_once,
            deadline: Some(DEADLINE),
        }
    }

    fn member(health: Health) -> Member {
        Member {
            health,
            release: Some("old".to_owned()),
            upgrade: None,
            asks: true,
            canary: None,
        }
    }

    fn canary(member: Member) -> Member {
        Member {
            canary: Some("shop/first".to_owned()),
            ..member
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn rolling(release: &str, since: i64, was_ready: bool) -> Member {
        let upgrade = UpgradeStatus {
            release: release.to_owned(),
            since: Some(Time(at(since))),
            was_ready,
        };
        Member {
            upgrade: Some(upgrade),
            ..member(Health::Sick)
        }
    }

    #[test]
    fn the_next_rolls_when_the_one_before_is_ready_gone_or_late() {
        let (rules, me) = (rules(1), member(Health::Ready));
        let goes = |others: &[Member], now| rules.turn(&me, others, at(now)).is_some();
        assert!(goes(&[member(Health::Ready)], 0));
        let before = rolling("new", 0, true);
        assert!(!goes(std::slice::from_ref(&before), 1));
        assert!(goes(&[], 1), "it was deleted");
        assert!(!goes(std::slice::from_ref(&before), 599));
        assert!(goes(&[before], 600), "it is late");
        assert!(
            goes(&[rolling("new", 0, false)], 1),
            "it was not Ready before"
        );
    }

    #[test]
    fn without_a_deadline_a_bad_release_stops_at_the_first() {
        let rules = Rules {
            deadline: None,
            ..rules(1)
        };
        let me = member(Health::Ready);
        let late = [rolling("new", 0, true)];
        assert!(rules.turn(&me, &late, at(1_000_000)).is_none());
    }

    #[test]
    fn whoever_has_begun_goes_on_and_keeps_its_time() {
        let others = [rolling("new", 0, true)];
        let begun = rolling("new", 5, true);
        let noted = rules(1).turn(&begun, &others, at(900)).unwrap();
        assert_eq!(Some(noted), begun.upgrade);
        // broken by the release before: this one may be its cure
        assert!(
            rules(1)
                .turn(&rolling("bad", 5, true), &others, at(6))
                .is_some()
        );
        assert!(
            rules(1)
                .turn(&rolling("bad", 5, false), &others, at(6))
                .is_none()
        );
    }

    #[test]
    fn sick_ones_come_after_the_healthy_and_not_all_at_once() {
        let (rules, sick) = (rules(1), member(Health::Sick));
        let goes = |others: &[Member], now| rules.turn(&sick, others, at(now));
        assert!(goes(&[member(Health::Ready)], 0).is_none());
        assert!(goes(&[member(Health::Outage)], 0).is_none());
        assert!(goes(&[rolling("new", 0, true)], 0).is_none());
        let silent = Member {
            asks: false,
            ..member(Health::Ready)
        };
        assert!(goes(&[silent], 0).is_some(), "one that never asks");
        let done = Member {
            release: Some("new".to_owned()),
            ..member(Health::Ready)
        };
        let noted = goes(&[done, member(Health::Sick)], 0).unwrap();
        assert!(!noted.was_ready);
        assert!(goes(&[rolling("new", 0, false)], 29).is_none());
        assert!(goes(&[rolling("new", 0, false)], 30).is_some());
    }

    #[test]
    fn nobody_begins_during_a_short_outage() {
        assert!(rules(1).turn(&member(Health::Outage), &[], at(0)).is_none());
    }

    #[test]
    fn canaries_go_first_and_one_that_breaks_stops_the_others_for_as_long_as_it_takes() {
        let rules = rules(3);
        let goes = |me: &Member, others: &[Member], now| rules.turn(me, others, at(now)).is_some();
        let (me, sick) = (member(Health::Ready), member(Health::Sick));
        let first = canary(member(Health::Ready));
        assert!(goes(&first, std::slice::from_ref(&me), 0));
        assert!(
            !goes(&me, std::slice::from_ref(&first), 0),
            "it has yet to begin"
        );
        let rolls = canary(rolling("new", 0, true));
        for now in [0, 599, 1_000_000] {
            for other in [&me, &sick] {
                assert!(!goes(other, std::slice::from_ref(&rolls), now));
            }
        }
        assert_eq!(
            rules.waits_for(&me, &[rolls.clone(), first.clone()]),
            Some("shop/first")
        );
        assert!(
            goes(&first, std::slice::from_ref(&rolls), 0),
            "canaries go as all others did"
        );
        let done = Member {
            release: Some("new".to_owned()),
            ..first
        };
        assert!(goes(&me, &[done], 0));
        assert!(
            goes(&me, &[canary(sick.clone())], 0),
            "it was not in order anyhow"
        );
        assert!(goes(&me, &[canary(rolling("new", 0, false))], 0));
        assert!(
            goes(&rolling("new", 0, true), std::slice::from_ref(&rolls), 0),
            "it has begun"
        );
        // broken by the release before, and cured by this one or not
        assert!(!goes(&me, &[canary(rolling("bad", 0, true))], 0));
    }

    /// A fleet of which some never get Ready and some are deleted, asked in any order.
    fn fleet(seed: u64) -> Result<(), String> {
        let mut random = StdRng::seed_from_u64(seed);
        let rules = rules(random.random_range(1..4));
        let mut now = 0;
        let mut fleet: Vec<Member> = (0..random.random_range(1..12))
            .map(|_| {
                member(if random.random_bool(0.7) {
                    Health::Ready
                } else {
                    Health::Sick
                })
            })
            .collect();
        let breaks: Vec<bool> = fleet.iter().map(|_| random.random_bool(0.3)).collect();
        if random.random_bool(0.5) {
            for member in &mut fleet {
                if random.random_bool(0.3) {
                    *member = canary(member.clone());
                }
            }
        }
        let mut gone = vec![false; fleet.len()];
        let is_done = |member: &Member, gone: bool, breaks: bool| {
            gone || member.release.as_deref() == Some("new") || (breaks && member.upgrade.is_some())
        };
        for _ in 0..20_000 {
            let stands = (0..fleet.len()).any(|i| {
                let begun = fleet[i].upgrade.as_ref();
                !gone[i]
                    && breaks[i]
                    && fleet[i].canary.is_some()
                    && begun.is_some_and(|begun| begun.was_ready)
            });
            let all_done = (0..fleet.len()).all(|i| {
                is_done(&fleet[i], gone[i], breaks[i])
                    || (stands && fleet[i].canary.is_none() && fleet[i].upgrade.is_none())
            });
            if all_done {
                return Ok(());
            }
            now += random.random_range(0..20);
            let who = random.random_range(0..fleet.len());
            if gone[who] {
                continue;
            }
            match random.random_range(0..10) {
                0 if random.random_bool(0.02) => gone[who] = true,
                // it becomes Ready
                1..4 if fleet[who].upgrade.is_some() && !breaks[who] => {
                    fleet[who] = Member {
                        release: Some("new".to_owned()),
                        canary: fleet[who].canary.clone(),
                        ..member(Health::Ready)
                    };
                }
                _ if fleet[who].release.as_deref() == Some("new") => {}
                _ => {
                    let others: Vec<_> = (0..fleet.len())
                        .filter(|other| *other != who && !gone[*other])
                        .map(|other| fleet[other].clone())
                        .collect();
                    let Some(noted) = rules.turn(&fleet[who], &others, at(now)) else {
                        continue;
                    };
                    let healthy_wait = others.iter().any(|other| {
                        other.health == Health::Ready && other.release.as_deref() == Some("old")
                    });
                    if fleet[who].upgrade.is_none() && !noted.was_ready && healthy_wait {
                        return Err(format!("seed {seed}: a sick one went first"));
                    }
                    let rolls = |other: &Member| {
                        let begun = other.upgrade.as_ref();
                        other.canary.is_some() && begun.is_some_and(|begun| begun.was_ready)
                    };
                    let is_new = fleet[who].upgrade.is_none() && fleet[who].canary.is_none();
                    if is_new && others.iter().any(rolls) {
                        return Err(format!("seed {seed}: it did not wait for a canary"));
                    }
                    fleet[who].upgrade = Some(noted);
                    fleet[who].health = Health::Sick;
                    let held = (0..fleet.len())
                        .filter(|i| !gone[*i] && rules.holds_a_place(&fleet[*i], at(now)));
                    if held.count() > rules.at_once {
                        return Err(format!("seed {seed}: too many roll"));
                    }
                }
            }
        }
        Err(format!("seed {seed}: some never had their turn"))
    }

    #[test]
    fn every_pipeline_has_its_turn_and_never_too_many_at_once() {
        for seed in 0..2_000 {
            fleet(seed).unwrap();
        }
    }
}
