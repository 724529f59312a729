//! Distinct counts as sets of bits, which plain SQL unites with `bit_or`.
//!
//! A value sets one bit of a matrix of 1,024 rows and 24 columns: its row is drawn evenly, its
//! column is n with probability 2^-(n+1). A bit set twice is set once, so the bits depend on the
//! set of values alone, not on their order, on repetitions or on how they were spread over
//! partitions and processors, and the union of two sets is the `or` of their bits. The number of
//! values follows from the number of bits; `clickstream_distinct` in SQL computes it, with a
//! standard error of about 2 %. Two values share a bit with a probability of 1/3072, so of 10
//! values one is missed in one case of 70, of 25 in one of ten.
//!
//! Probabilistic counting with stochastic averaging: P. Flajolet, G. N. Martin, "Probabilistic
//! counting algorithms for data base applications", 1985. The estimate by the number of bits: B.
//! Scheuermann, M. Mauve, "Near-optimal compression of probabilistic counting sketches for
//! networking applications", 2007.

use sha2::{Digest, Sha256};

/// Version of the stored form, `sketch_format` of a row: 2 is this one. 1 were `HyperLogLog`
/// sketches, which SQL cannot unite.
pub const SKETCH_FORMAT: i16 = 2;

/// Columns; the last one stands for all that would follow.
const COLUMNS: u32 = 24;
/// 1,024 rows: a column's bits, side by side, so that small sets are short and all sets compress
/// well.
const COLUMN_BYTES: usize = 1_024 / 8;

/// A set of values of which little more than their number is left; at most 3 KiB.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Sketch(Vec<u8>);

impl Sketch {
    /// Adds a value; adding it again changes nothing.
    pub fn add(&mut self, value: &str) {
        let place = place(value);
        let byte = place / 8;
        if self.0.len() <= byte {
            self.0.resize((byte / COLUMN_BYTES + 1) * COLUMN_BYTES, 0);
        }
        self.0[byte] |= 0x80 >> (place % 8);
    }

    /// Adds all values of another set.
    pub fn unite(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (byte, more) in self.0.iter_mut().zip(&other.0) {
            *byte |= more;
        }
    }

    /// The bits in the order of PostgreSQL's `bit`, the highest bit of a byte first, up to the last
    /// column that is not empty: 0 to 3,072 bytes, a multiple of 128.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The bit that a value sets: `1024 * column + row`. The row is the first ten bits of the value's
/// SHA-256, the column the number of leading zeros of the 64 bits from the third byte on.
fn place(value: &str) -> usize {
    let hash = Sha256::digest(value.as_bytes());
    let row = usize::from(hash[0]) << 2 | usize::from(hash[1]) >> 6;
    let rest = hash[2..10]
        .iter()
        .fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    let column = rest.leading_zeros().min(COLUMNS - 1) as usize;
    8 * COLUMN_BYTES * column + row
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of<'a>(values: impl IntoIterator<Item = &'a String>) -> Sketch {
        let mut sketch = Sketch::default();
        values.into_iter().for_each(|value| sketch.add(value));
        sketch
    }

    fn users(numbers: std::ops::Range<u32>) -> Vec<String> {
        numbers.map(|number| format!("user-{number}")).collect()
    }

    proptest! {
        #[test]
        fn the_union_of_parts_is_the_whole_whatever_the_order_the_parts_and_the_repetitions(
            parts in prop::collection::vec(prop::collection::vec("[a-c]{0,3}", 0..40), 0..6),
        ) {
            let whole = of(parts.iter().flatten());
            let mut united = Sketch::default();
            for part in parts.iter().rev() {
                united.unite(&of(part.iter().rev().chain(part)));
            }
            prop_assert_eq!(whole, united);
        }
    }

    #[test]
    fn the_number_of_bits_is_what_theory_expects_of_the_number_of_values() {
        for number in [1, 10, 100, 1_000, 10_000, 100_000] {
            let bits: u32 = of(&users(0..number))
                .bytes()
                .iter()
                .map(|byte| byte.count_ones())
                .sum();
            let expected: f64 = (0..COLUMNS)
                .map(|column| {
                    let chance = 0.5f64.powi((column + 1).min(COLUMNS - 1) as i32);
                    1_024.0 * (1.0 - (-f64::from(number) * chance / 1_024.0).exp())
                })
                .sum();
            // 1,024 rows of which each has about as many bits as the others: far fewer than 30 too
            // many or too few
            assert!(
                (f64::from(bits) - expected).abs() < 30.0,
                "{bits} bits of {number}, not {expected}"
            );
        }
    }

    #[test]
    fn a_place_is_what_the_documented_rule_says() {
        // the rule by its words: binary digits, the first ten, and the first 1 from the seventeenth
        // on
        let rule = |value: &str| {
            let hex = format!("{:x}", Sha256::digest(value.as_bytes()));
            let bits: String = hex
                .chars()
                .map(|digit| format!("{:04b}", digit.to_digit(16).unwrap_or_default()))
                .collect();
            let row = usize::from_str_radix(&bits[..10], 2).unwrap_or_default();
            let column = bits[16..80].find('1').unwrap_or(64).min(23);
            1_024 * column + row
        };
        for user in users(0..5_000) {
            assert_eq!(place(&user), rule(&user), "{user}");
        }
    }

    #[test]
    fn no_sketch_is_longer_than_its_matrix() {
        assert_eq!(of(&users(0..200_000)).bytes().len() % COLUMN_BYTES, 0);
        assert!(of(&users(0..200_000)).bytes().len() <= COLUMN_BYTES * COLUMNS as usize);
        assert!(Sketch::default().bytes().is_empty());
    }
}
