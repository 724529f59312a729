//! What people ask for by annotations. Pure.

use std::collections::BTreeMap;

use clickstream_protocol::annotations;

/// A time, and anything else that is repeated in a status or a pod, is no longer than this.
const LONGEST: usize = 64;

/// What a pipeline's annotations ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Nothing is changed but the status.
    pub paused: bool,
    /// What stands where only `paused` is known.
    pub unknown: Option<String>,
    /// Everything is looked at anew when this changes.
    pub reconcile_at: Option<String>,
    /// Pods are replaced when this changes.
    pub restart_at: Option<String>,
    /// Migrations run again when this changes.
    pub migrate_at: Option<String>,
    /// Owners whose schemas become this pipeline's.
    pub take_over_from: Option<String>,
}

impl Asked {
    /// Reads the annotations of a pipeline.
    pub fn of(found: &BTreeMap<String, String>) -> Self {
        let value = |key: &str| {
            let value = found.get(key)?.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        let short = |key: &str| {
            let mut value = value(key)?;
            value.truncate(value.floor_char_boundary(LONGEST));
            Some(value)
        };
        let reconcile = short(annotations::RECONCILE);
        let paused = reconcile.as_deref() == Some(annotations::PAUSED);
        Self {
            paused,
            unknown: reconcile.filter(|_| !paused),
            reconcile_at: short(annotations::RECONCILE_AT),
            restart_at: short(annotations::RESTART_AT),
            migrate_at: short(annotations::MIGRATE_AT),
            take_over_from: value(annotations::TAKE_OVER_FROM),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Asked {
        let pairs = pairs.iter();
        Asked::of(
            &pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn nothing_is_asked_by_what_is_not_there_or_empty() {
        assert_eq!(asked(&[("other", "paused")]), Asked::default());
        let empty = asked(&[(annotations::RECONCILE, " "), (annotations::RESTART_AT, "")]);
        assert_eq!(empty, Asked::default());
    }

    #[test]
    fn only_one_word_pauses_and_any_other_is_told() {
        let paused = asked(&[(annotations::RECONCILE, "paused")]);
        assert!(paused.paused && paused.unknown.is_none());
        let other = asked(&[(annotations::RECONCILE, "Paused")]);
        assert!(!other.paused);
        assert_eq!(other.unknown.as_deref(), Some("Paused"));
    }

    #[test]
    fn what_is_repeated_elsewhere_is_short() {
        let long = "ä".repeat(5_000);
        let asked = asked(&[
            (annotations::RECONCILE_AT, &long),
            (annotations::RECONCILE, &long),
        ]);
        assert!(
            asked
                .reconcile_at
                .as_ref()
                .is_some_and(|at| at.len() == LONGEST)
        );
        assert!(asked.unknown.is_some_and(|value| value.len() == LONGEST));
    }
}
