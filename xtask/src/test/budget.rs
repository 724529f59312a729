//! How often tests repeat themselves, so that a slow machine is done in time too. Every test runs
//! on every machine; only seeds and repetitions grow with its speed.

use std::fmt;

use crate::speed;

/// Seeds of the simulation in an ordinary run of a machine with speed 1.
const SEEDS: u64 = 20_000;

/// Seeds with `--fast`.
const FAST_SEEDS: u64 = 2_000;

/// Seeds on the slowest machine: what sabotage of the core shows within (see the simulation).
const FEWEST_SEEDS: u64 = 5_000;

/// What a run can afford.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// This machine's speed, 1 for the one that the figures were chosen on.
    speed: f64,
    /// Seeds of the simulation.
    pub seeds: u64,
}

impl Budget {
    /// Measures this machine.
    pub fn of_this_machine(fast: bool) -> Self {
        Self::of(speed::measured(), fast)
    }

    fn of(speed: f64, fast: bool) -> Self {
        let most = if fast { FAST_SEEDS } else { SEEDS };
        let least = FEWEST_SEEDS.min(most);
        // to whole hundreds; a speed is positive and far below what a u64 holds
        let seeds = (most as f64 * speed / 100.0).round().max(0.0) as u64 * 100;
        Self {
            speed,
            seeds: seeds.clamp(least, most),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this machine: {} cores, speed {:.2} (1 is fast): {} seeds of the simulation",
            speed::cores(),
            self.speed,
            self.seeds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_machine_runs_fewer_seeds_and_never_too_few() {
        assert_eq!(Budget::of(1.0, false).seeds, SEEDS);
        assert_eq!(Budget::of(3.0, false).seeds, SEEDS);
        assert_eq!(Budget::of(0.5, false).seeds, SEEDS / 2);
        assert_eq!(Budget::of(0.01, false).seeds, FEWEST_SEEDS);
        assert_eq!(Budget::of(0.01, true).seeds, FAST_SEEDS);
    }
}
