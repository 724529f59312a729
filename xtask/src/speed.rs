//! How fast this machine is, so that estimates and budgets fit it.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// What [`work`] takes on the machine that the budgets were chosen on, in this profile.
const REFERENCE: Duration = Duration::from_millis(14);

/// Rounds of the work; the fastest counts, since others can only slow it down.
const ROUNDS: u32 = 5;

/// Steps of one round.
const STEPS: u64 = 2_000_000;

/// This machine's speed, 1 for the reference: at 0.5 everything takes twice as long. Takes a fifth
/// of a second.
#[must_use]
pub fn measured() -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        black_box(work(black_box(STEPS)));
        begun.elapsed()
    });
    let fastest = rounds.min().unwrap_or(REFERENCE);
    REFERENCE.as_secs_f64() / fastest.as_secs_f64().max(1e-6)
}

/// The cores that can be used.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Arithmetic with a dependency from each step to the next, so that nothing of it is left out.
fn work(steps: u64) -> u64 {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..steps {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    state
}
