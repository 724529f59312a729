//! What a stored sketch says, apart from how it came to be.
//!
//! The bytes of a sketch depend on the order in which its values came: a small one lists them as they came, a large one
//! keeps its exceptions where they found room, and an estimator of the way there, which nothing reads. The values of the
//! list and the registers of the table depend on the set alone, so two sketches of the same set are equal once entries are
//! sorted and that estimator is left out: bit for bit, which is more than equal estimates.

/// Where the byte is that says whether a sketch is a list, a set or a table of registers; in its lowest two bits.
const MODE: usize = 7;
/// Where the logarithm of the number of registers is.
const LG_K: usize = 3;
/// The estimator of the way there, in a table.
const ACCUMULATOR: std::ops::Range<usize> = 8..16;

/// The form that two sketches of the same set have in common (`SKETCH_FORMAT` 1). Bytes that are no sketch stay as they
/// are, and so are equal to no sketch.
pub fn canonical(mut bytes: Vec<u8>) -> Vec<u8> {
    let entries = match bytes.get(MODE).map(|mode| mode & 3) {
        Some(0) => 8,
        Some(1) => 12,
        Some(2) => {
            if let Some(accumulator) = bytes.get_mut(ACCUMULATOR) {
                accumulator.fill(0);
            }
            // a header, half a byte for each register, and the exceptions
            40 + (1usize << bytes[LG_K].min(21)) / 2
        }
        _ => return bytes,
    };
    if let Some(entries) = bytes.get_mut(entries..)
        && let (words, []) = entries.as_chunks_mut::<4>()
    {
        words.sort_unstable();
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use clickstream_pipeline::sketch::Sketch;

    use super::*;

    fn of<'a>(values: impl IntoIterator<Item = &'a String>) -> Sketch {
        let mut sketch = Sketch::default();
        values.into_iter().for_each(|value| sketch.add(value));
        sketch
    }

    #[test]
    fn sketches_of_the_same_set_are_equal_whatever_the_order_and_the_stops_on_the_way() {
        let users: Vec<String> = (0..60_000).map(|number| format!("user-{number}")).collect();
        // lists, sets, tables, and tables with many exceptions
        for taken in [
            0, 1, 5, 8, 9, 24, 30, 100, 180, 190, 200, 1_000, 7_000, 60_000,
        ] {
            let users = &users[..taken];
            let forwards = canonical(of(users).to_bytes());
            let backwards = canonical(of(users.iter().rev()).to_bytes());
            assert_eq!(forwards, backwards, "{taken} values");
            let mut stored = Sketch::default();
            let step = 7;
            for first in 0..step {
                let some = users.iter().skip(first).step_by(step);
                some.for_each(|user| stored.add(user));
                stored = Sketch::from_bytes(&stored.to_bytes()).unwrap();
            }
            assert_eq!(forwards, canonical(stored.to_bytes()), "{taken} values");
        }
    }

    #[test]
    fn sketches_of_other_sets_differ() {
        let users: Vec<String> = (0..3_000).map(|number| format!("user-{number}")).collect();
        for taken in [1, 8, 9, 100, 250, 2_000] {
            let whole = canonical(of(&users[..taken]).to_bytes());
            let others = canonical(of(&users[taken..2 * taken.min(1_500)]).to_bytes());
            assert_ne!(whole, others, "{taken} values");
        }
        assert_ne!(
            canonical(of(&users[..8]).to_bytes()),
            canonical(of(&users[..7]).to_bytes())
        );
    }

    #[test]
    fn what_is_no_sketch_is_equal_to_none_and_harmless() {
        let sketch = of(&[String::from("user")]).to_bytes();
        for length in 0..sketch.len() {
            assert_ne!(
                canonical(sketch[..length].to_vec()),
                canonical(sketch.clone())
            );
        }
        for mode in 0..=u8::MAX {
            let _ = canonical(vec![mode; 9]);
            let _ = canonical(vec![mode; 50]);
        }
    }
}
