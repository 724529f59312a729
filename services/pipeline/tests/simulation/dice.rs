//! Seeded chance: the same seed throws the same sequence on every machine.

/// One independent stream of a seed: `SplitMix64` (Steele, Lea and Flood 2014). Six lines here cost
/// a third of the run's time less than a cryptographic generator that the dev profile leaves
/// unoptimized.
pub struct Dice(u64);

impl Dice {
    /// Stream `stream` of `seed`. Streams are independent, so that one more throw in the database
    /// does not change the log.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed);
        let seeded = dice.next();
        Self(seeded ^ stream.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// A number below `n`, or 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n.max(1) as u64;
        usize::try_from(self.next() % n).expect("below a usize")
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.below(usize::try_from(high - low).expect("ordered") + 1))
            .expect("within the range")
    }

    /// True in `per_mille` of 1,000 throws.
    pub fn chance(&mut self, per_mille: usize) -> bool {
        self.below(1_000) < per_mille
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// 128 bits, for ids and tokens.
    pub fn bits(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
