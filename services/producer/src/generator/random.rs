//! Random choices whose outcome depends on the seed alone: integer arithmetic over ChaCha8, so
//! every machine and every version of the random crates gives the same bytes.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The generator's only source of chance.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A uniform 64-bit number.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // the high half of a 64x64-bit product: uniform to within bound / 2^64
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// An index into something of `len` elements; `len` must not be 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// One element of a list that is not empty.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.index(list.len())]
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True with the given chance.
    pub fn chance(&mut self, chance: Chance) -> bool {
        chance.0 != 0 && self.bits() <= chance.0
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

/// A probability, kept as the largest 64-bit number that still counts as a hit (0: never).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    /// From a fraction in `[0, 1]`; what lies outside is clamped.
    pub fn new(fraction: f64) -> Self {
        // `as` saturates: 1.0 * 2^64 becomes u64::MAX
        Self((fraction.clamp(0.0, 1.0) * 18_446_744_073_709_551_616.0) as u64)
    }
}

/// Ranks `0..len` with weight 1 / (rank + 1): few pages get most of the traffic.
#[derive(Clone, Debug)]
pub struct Zipf {
    cumulative: Vec<u64>,
}

impl Zipf {
    /// A distribution over `len` ranks, at least one.
    pub fn new(len: usize) -> Self {
        let mut sum = 0;
        let cumulative = (1..=len.max(1) as u64)
            .map(|rank| {
                sum += (1 << 40) / rank;
                sum
            })
            .collect();
        Self { cumulative }
    }

    /// A rank, the smallest being the most frequent.
    pub fn rank(&self, random: &mut Random) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0);
        let draw = random.below(total);
        self.cumulative.partition_point(|&upper| upper <= draw)
    }
}

/// A hash that turns an index into independent-looking bits (splitmix64's finaliser).
pub fn scatter(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Chance, Random, Zipf};

    #[test]
    fn a_chance_of_zero_never_hits_and_of_one_always() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| !random.chance(Chance::new(0.0))));
        assert!((0..1000).all(|_| random.chance(Chance::new(1.0))));
    }

    #[test]
    fn a_chance_of_a_quarter_hits_a_quarter_of_the_time() {
        let mut random = Random::new(2);
        let hits = (0..100_000)
            .filter(|_| random.chance(Chance::new(0.25)))
            .count();
        assert!((24_500..25_500).contains(&hits), "{hits} hits");
    }

    #[test]
    fn the_first_rank_is_drawn_twice_as_often_as_the_second() {
        let mut random = Random::new(3);
        let zipf = Zipf::new(1000);
        let mut seen = vec![0_u32; 1000];
        for _ in 0..200_000 {
            seen[zipf.rank(&mut random)] += 1;
        }
        let ratio = f64::from(seen[0]) / f64::from(seen[1]);
        assert!((1.9..2.1).contains(&ratio), "ratio {ratio}");
        assert!(seen[999] > 0);
    }
}
