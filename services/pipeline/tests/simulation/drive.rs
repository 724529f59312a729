//! Runs many seeds on two threads and reports the first one that fails.

use std::{
    io::Write,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::{TRACE, processor::Tally, sabotage::Sabotage, scenario::Scenario, world};

/// Threads that share the seeds.
const THREADS: u64 = 2;
/// Seeds between two lines of progress: a few seconds.
const PROGRESS: u64 = 2_500;

/// How a run of many seeds ended.
pub enum Outcome {
    /// Every seed agreed with the oracle.
    Passed(Tally),
    /// This one did not; of those that were found, the one with the lowest number.
    Failed {
        /// Its number.
        seed: u64,
        /// What was wrong.
        message: String,
    },
}

/// A number from the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the core has no environment, but its test driver does"
)]
pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A line for whoever waits. Written past the test harness, which would keep it until the end.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs the seeds; stops at the first failure. A single seed is traced.
pub fn run(seeds: Range<u64>, sabotage: Option<Sabotage>, progress: bool) -> Outcome {
    let traced = seeds.end - seeds.start == 1;
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Tally::default());
    let failed: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let work = || {
        TRACE.set(traced);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || failed.lock().is_ok_and(|failed| failed.is_some()) {
                return;
            }
            match one(Scenario::of(seed, sabotage)) {
                Ok(tally) => total.lock().expect("no panic while held").add(&tally),
                Err(message) => {
                    let mut failed = failed.lock().expect("no panic while held");
                    if failed.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                        *failed = Some((seed, message));
                    }
                }
            }
            let done = seed - seeds.start + 1;
            if progress && done.is_multiple_of(PROGRESS) {
                say(&format!(
                    "simulation: {done} of {} seeds",
                    seeds.end - seeds.start
                ));
            }
        }
    };
    spawn_all(work);
    match failed.into_inner().expect("no panic while held") {
        Some((seed, message)) => Outcome::Failed { seed, message },
        None => Outcome::Passed(total.into_inner().expect("no panic while held")),
    }
}

fn spawn_all(work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(&work);
        }
    });
}

fn one(scenario: Scenario) -> Result<Tally, String> {
    let described = TRACE.get().then(|| format!("{scenario:#?}"));
    let outcome = catch_unwind(AssertUnwindSafe(|| world::run(scenario)));
    match outcome {
        Ok(Ok(tally)) => Ok(tally),
        Ok(Err(failure)) => {
            for line in described.iter().chain(&failure.trace) {
                say(line);
            }
            Err(failure.message)
        }
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned()))
            .unwrap_or_else(|| "a panic without a message".to_owned())),
    }
}

/// A simulation that never reaches a fault proves nothing about it.
pub fn assert_everything_happened(tally: &Tally) {
    let counts = [
        ("flushes", tally.flushes),
        ("claims", tally.claims),
        ("fenced partitions", tally.fenced),
        ("copied rows", tally.copied),
        ("distrusted flushes", tally.distrusted),
        ("refused rows", tally.refused),
        ("repeated flushes", tally.repeated),
        ("lost connections", tally.reclaimed),
        ("stale records", tally.stale),
        ("killed processes", tally.killed),
        ("crashes", tally.crashes),
        ("moved partitions", tally.moved),
        ("questions without an answer", tally.unanswered),
        ("ends of logs that were too old", tally.outdated),
        ("batches that could not be read", tally.unreadable),
        ("positions outside the log", tally.outside),
        ("claims given back", tally.released),
        ("failed seeks", tally.unsought),
        ("changes of the rules", tally.changed),
        ("anchors of changes", tally.anchored),
        ("hits of other pages", tally.folded),
    ];
    for (what, count) in counts {
        assert!(count > 100, "only {count} {what} in all seeds");
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.longest = self.longest.max(other.steps);
        self.flushes += other.flushes;
        self.claims += other.claims;
        self.fenced += other.fenced;
        self.copied += other.copied;
        self.distrusted += other.distrusted;
        self.refused += other.refused;
        self.repeated += other.repeated;
        self.reclaimed += other.reclaimed;
        self.stale += other.stale;
        self.killed += other.killed;
        self.crashes += other.crashes;
        self.moved += other.moved;
        self.overtaken += other.overtaken;
        self.unanswered += other.unanswered;
        self.outdated += other.outdated;
        self.unreadable += other.unreadable;
        self.outside += other.outside;
        self.released += other.released;
        self.unsought += other.unsought;
        self.changed += other.changed;
        self.anchored += other.anchored;
        self.folded += other.folded;
    }
}
