//! What is random in a test: from a seed that it prints, and that can be given.

use rand::{SeedableRng as _, rngs::StdRng};

/// Dice from `CLICKSTREAM_FAULT_SEED`, or from a seed of this run. A red test shows it.
pub fn dice() -> StdRng {
    let given = std::env::var("CLICKSTREAM_FAULT_SEED").ok();
    let given = given.and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    eprintln!("CLICKSTREAM_FAULT_SEED={seed}");
    StdRng::seed_from_u64(seed)
}
