//! What cleaning did to the optional fields of an event.

use std::collections::BTreeMap;
use std::fmt;

use super::Field;

/// Why an optional field of an event is not what its record says. Of several reasons the last one
/// counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CleanReason {
    /// It says nothing: an empty text, for an address also `-`, `unknown` or `null`. It is left
    /// out.
    Empty,
    /// Its key appears twice, so which one was meant is not known. It is left out.
    RepeatedKey,
    /// It is neither text nor anything that could become one. It is left out.
    WrongType,
    /// It holds U+0000 or half of a surrogate pair, which no text can. It is left out.
    BadCharacters,
    /// It is no IP address, and no list of some. It is left out.
    NotAnAddress,
    /// It is a list of addresses, of which one was taken.
    List,
    /// An address stands in it with a port, a zone, brackets, quotes or spaces, which were taken
    /// off.
    Trimmed,
    /// It is a number, which was taken as text.
    Number,
    /// It is too long, and was cut behind the last character that fits.
    TooLong,
    /// It is a number or a time beyond what its column can hold. It is left out.
    OutOfRange,
}

impl CleanReason {
    /// Every reason, in order.
    pub const ALL: [Self; 10] = [
        Self::Empty,
        Self::RepeatedKey,
        Self::WrongType,
        Self::BadCharacters,
        Self::NotAnAddress,
        Self::List,
        Self::Trimmed,
        Self::Number,
        Self::TooLong,
        Self::OutOfRange,
    ];

    /// The reason as it labels metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::RepeatedKey => "repeated_key",
            Self::WrongType => "wrong_type",
            Self::BadCharacters => "bad_characters",
            Self::NotAnAddress => "not_an_address",
            Self::List => "list",
            Self::Trimmed => "trimmed",
            Self::Number => "number",
            Self::TooLong => "too_long",
            Self::OutOfRange => "out_of_range",
        }
    }
}

impl fmt::Display for CleanReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Fields that an event must have, which come first in [`Field::ALL`] and are never cleaned.
const REQUIRED: usize = Field::Referrer as usize;

/// The optional fields of one event that were cleaned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned([Option<CleanReason>; Field::ALL.len() - REQUIRED]);

impl Cleaned {
    /// Whether all fields are what the record says.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The fields and what was the matter with them, in the order of [`Field::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Field, CleanReason)> + '_ {
        let fields = Field::ALL[REQUIRED..].iter().zip(&self.0);
        fields.filter_map(|(&field, reason)| Some((field, (*reason)?)))
    }

    pub(super) fn note(&mut self, field: Field, reason: CleanReason) {
        // required fields are never cleaned, so there is a place
        if let Some(place) = (field as usize)
            .checked_sub(REQUIRED)
            .and_then(|at| self.0.get_mut(at))
        {
            *place = Some(reason);
        }
    }
}

/// How many optional fields of events were cleaned, by field and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanedCounts {
    fields: [[u64; CleanReason::ALL.len()]; Field::ALL.len() - REQUIRED],
    /// Of columns, by name; only those that are not zero.
    columns: BTreeMap<(Box<str>, CleanReason), u64>,
}

impl CleanedCounts {
    /// Counts what was cleaned in one event.
    pub fn count(&mut self, cleaned: &Cleaned) {
        for (row, reason) in self.fields.iter_mut().zip(&cleaned.0) {
            if let Some(reason) = reason {
                row[*reason as usize] += 1;
            }
        }
    }

    /// Counts values of one column.
    pub fn count_column(&mut self, name: &str, reason: CleanReason, count: u64) {
        *self.columns.entry((name.into(), reason)).or_default() += count;
    }

    /// Adds other counts.
    pub fn add(&mut self, other: &Self) {
        for (row, others) in self.fields.iter_mut().zip(&other.fields) {
            for (count, more) in row.iter_mut().zip(others) {
                *count += more;
            }
        }
        for ((name, reason), &count) in &other.columns {
            self.count_column(name, *reason, count);
        }
    }

    /// The counts that are not zero, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Field, CleanReason, u64)> + '_ {
        let rows = Field::ALL[REQUIRED..].iter().zip(&self.fields);
        rows.flat_map(|(&field, row)| {
            let counts = CleanReason::ALL.iter().zip(row);
            counts.map(move |(&reason, &count)| (field, reason, count))
        })
        .filter(|(_, _, count)| *count > 0)
    }

    /// The counts of columns that are not zero, by the column's name.
    pub fn columns(&self) -> impl Iterator<Item = (&str, CleanReason, u64)> {
        let counts = self.columns.iter();
        counts.map(|((name, reason), &count)| (&**name, *reason, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_in_their_order() {
        assert!(CleanReason::ALL.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn counts_are_kept_by_field_and_reason() {
        let mut cleaned = Cleaned::default();
        assert!(cleaned.is_empty());
        cleaned.note(Field::UserAgent, CleanReason::TooLong);
        cleaned.note(Field::Ip, CleanReason::List);
        cleaned.note(Field::Url, CleanReason::Empty);
        let expected = [
            (Field::Ip, CleanReason::List),
            (Field::UserAgent, CleanReason::TooLong),
        ];
        assert_eq!(cleaned.iter().collect::<Vec<_>>(), expected);
        let mut counts = CleanedCounts::default();
        counts.count(&cleaned);
        counts.count(&Cleaned::default());
        let mut twice = counts.clone();
        twice.add(&counts);
        let expected = expected.map(|(field, reason)| (field, reason, 2));
        assert_eq!(twice.iter().collect::<Vec<_>>(), expected);
        assert_eq!(twice.columns().count(), 0);
        counts.count_column("plan", CleanReason::WrongType, 3);
        twice.add(&counts);
        twice.add(&counts);
        let columns: Vec<_> = twice.columns().collect();
        assert_eq!(columns, [("plan", CleanReason::WrongType, 6)]);
    }
}
