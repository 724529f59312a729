//! What the producer sends, whether generated or replayed.

use std::time::Duration;

use crate::generator::Malformed;

/// One Kafka record and when to send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The user id as text, so that all events of a user, resends included, meet on one partition.
    pub key: String,
    /// The event as JSON; anything at all for malformed records.
    pub payload: Vec<u8>,
    /// When the record is due, from the start of the run.
    pub due: Duration,
    /// What the record is meant to be.
    pub kind: RecordKind,
}

/// What a record is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// An event, sent for the first time, about on time.
    Event,
    /// The same key and bytes as an earlier event.
    Duplicate,
    /// The same bytes as an earlier event under another user's key.
    DuplicateElsewhere,
    /// An event dated long before it is sent.
    Late,
    /// A record that no decoder accepts.
    Malformed(Malformed),
}

impl RecordKind {
    /// The names in the order of [`RecordKind::index`]: labels of metrics and keys of the summary.
    pub const NAMES: [&'static str; 5] = [
        "event",
        "duplicate",
        "duplicate_elsewhere",
        "late",
        "malformed",
    ];

    /// The place of this kind's name in [`RecordKind::NAMES`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Event => 0,
            Self::Duplicate => 1,
            Self::DuplicateElsewhere => 2,
            Self::Late => 3,
            Self::Malformed(_) => 4,
        }
    }

    /// The kind as one lower-case word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        Self::NAMES[self.index()]
    }
}
