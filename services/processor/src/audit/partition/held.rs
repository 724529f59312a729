//! What one record holds, and which stored rows are those of which of its events.

use std::collections::BTreeMap;

use clickstream_pipeline::decode::Element;

use super::super::{
    judge::Outcome,
    log::LoggedRecord,
    stored::{Key, StoredRow},
};

/// What a record holds at one place.
pub(super) struct Held<'a> {
    pub(super) record: &'a LoggedRecord,
    pub(super) element: Element<'a>,
    pub(super) outcome: &'a Outcome,
    /// The verdicts on all that the record holds.
    pub(super) siblings: &'a [Outcome],
}

impl Held<'_> {
    /// Whether a row with this event's key that names this record and the place `at` in it is this
    /// event's: the place is its own, or that of no event with the key, and this is the first one
    /// of the record.
    pub(super) fn is_home(&self, key: Key, at: i16) -> bool {
        let own = usize::try_from(self.element.index).ok();
        let has_key = |outcome: &Outcome| matches!(outcome, Outcome::Event { key: other, .. } if *other == key);
        let named = usize::try_from(at).ok();
        let named = named.filter(|&named| self.siblings.get(named).is_some_and(has_key));
        named.or_else(|| self.siblings.iter().position(has_key)) == own
    }
}

/// The row of the late ledger at a place, or the one of this event that names another place in its
/// record.
pub(super) fn late_event_of(
    rows: &mut BTreeMap<(i64, i16), StoredRow>,
    place: (i64, i16),
    key: Key,
    is_home: &dyn Fn(i16) -> bool,
) -> Option<StoredRow> {
    let (offset, _) = place;
    let misplaced = || {
        let mut all = rows.range((offset, i16::MIN)..=(offset, i16::MAX));
        let own = all.find(|((_, at), row)| is_home(*at) && row.key().is_ok_and(|own| own == key));
        own.map(|(place, _)| *place)
    };
    let place = if rows.contains_key(&place) {
        place
    } else {
        misplaced()?
    };
    rows.remove(&place)
}
