//! Names of children: readable, unique, and never longer than a label may be.

use sha2::{Digest, Sha256};

use crate::hash::short_hash;

/// What a label value, a Service and a host name may hold.
const LONGEST: usize = 63;

/// `<pipeline>-<part>…-<hash>`. The hash is of the parts themselves, so that `a-b` with `c` and `a`
/// with `b-c` differ, and so do two long names with the same beginning.
pub fn child(pipeline: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    let mut readable = pipeline.to_owned();
    hash.update(pipeline);
    for part in parts {
        hash.update([0]);
        hash.update(part);
        readable.push('-');
        readable.push_str(part);
    }
    let hash = short_hash(&hash.finalize());
    // names are DNS labels, and so ASCII: any length is a character boundary
    readable.truncate(LONGEST - 1 - hash.len());
    format!("{}-{hash}", readable.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::child;

    #[test]
    fn the_same_letters_split_elsewhere_are_another_name() {
        assert_ne!(child("a-b", &["c"]), child("a", &["b-c"]));
    }

    #[test]
    fn the_longest_names_fit_and_stay_apart() {
        let (pipeline, target) = ("p".repeat(40), "t".repeat(20));
        let name = child(&pipeline, &[&target, "migrate"]);
        assert_eq!(name.len(), 63);
        assert_ne!(name, child(&pipeline, &[&target, "migrate2"]));
    }

    #[test]
    fn a_cut_never_leaves_two_dashes() {
        let name = child(&"p".repeat(40), &["abcdefghijkl", "z"]);
        assert!(!name.contains("--"), "{name}");
    }

    #[test]
    fn a_name_can_be_read() {
        assert!(child("shop", &["default"]).starts_with("shop-default-"));
    }
}
