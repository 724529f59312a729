//! Deterministic simulation of the pipeline core: an in-memory log and database, processors that
//! are killed, fenced and rebalanced at every step, and an oracle that says what the tables must
//! hold.
//!
//! ```text
//!   log ──▶ processor (engine, settle, claims) ──▶ database ──▶ checker
//!    │          ▲ kill, rebalance, zombie            ▲ lost commit, crash, deadlock  ▲
//!    └──────────┴───────────── ground truth ─────────┴───────────────────────────────┘
//! ```
//! `CLICKSTREAM_SIM_SEEDS` sets how many seeds run (20,000), `CLICKSTREAM_SIM_FIRST` the first one.
//! A failure prints its seed and the command that replays it with a trace.

mod checker;
mod database;
mod dice;
mod directed;
mod drive;
mod log;
mod processor;
mod reader;
mod sabotage;
mod scenario;
mod state;
mod transaction;
mod world;

use std::cell::Cell;

use crate::{drive::Outcome, sabotage::Sabotage};

/// Seeds of an ordinary run.
const SEEDS: u64 = 20_000;
/// Seeds within which every sabotage must be found.
const SEEDS_TO_CATCH: u64 = 4_000;

thread_local! {
    /// Whether the database notes what happens: when a single seed runs.
    static TRACE: Cell<bool> = const { Cell::new(false) };
}

#[test]
fn every_seed_ends_with_the_tables_that_log_and_spec_demand() {
    let first = drive::setting("CLICKSTREAM_SIM_FIRST").unwrap_or(0);
    let seeds = drive::setting("CLICKSTREAM_SIM_SEEDS").unwrap_or(SEEDS);
    match drive::run(first..first + seeds, None, true) {
        Outcome::Passed(tally) => {
            drive::say(&format!(
                "simulation: {seeds} seeds from {first} agree: {tally:?}"
            ));
            if seeds >= SEEDS {
                drive::assert_everything_happened(&tally);
            }
        }
        Outcome::Failed { seed, message } => panic!(
            "seed {seed}: {message}\nreplay it with a trace:\n  CLICKSTREAM_SIM_FIRST={seed} CLICKSTREAM_SIM_SEEDS=1 \
             cargo test -p clickstream-pipeline --test simulation every_seed -- --nocapture"
        ),
    }
}

#[test]
fn the_checker_objects_to_every_sabotage() {
    for sabotage in Sabotage::ALL {
        match drive::run(0..SEEDS_TO_CATCH, Some(sabotage), false) {
            Outcome::Passed(_) => panic!("{sabotage:?} went unnoticed in {SEEDS_TO_CATCH} seeds"),
            Outcome::Failed { seed, message } => {
                let message: String = message.chars().take(100).collect();
                drive::say(&format!("{sabotage:?}: found by seed {seed}: {message}"));
            }
        }
    }
}
