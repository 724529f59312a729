//! The verdict on a valid event, from what is stored under its key and at its place.

use clickstream_pipeline::{
    decode::RejectReason,
    event::{Event, EventTime},
    spec::LatePolicy,
};

use super::super::{
    partition::PartitionAudit,
    promoted::Compared,
    report::Kind,
    stored::{Key, Letter, Place, StoredRow},
    tally::Verdict,
};

/// A valid event of the log.
pub struct EventRecord<'a> {
    pub offset: i64,
    /// Which event of its record it is.
    pub index: i16,
    /// Whether a row that names the record is this event's, whatever it says of its place in it: no
    /// other event of the record has that place and this key.
    pub is_home: &'a dyn Fn(i16) -> bool,
    pub received_at: EventTime,
    pub value: &'a [u8],
    pub event: &'a Event<'a>,
    pub key: Key,
    pub late: bool,
    pub policy: LatePolicy,
    pub promoted: &'a [Compared],
}

/// What is stored under an event's key or place.
pub struct Found<'a> {
    pub row: Option<&'a StoredRow>,
    pub late_event: Option<StoredRow>,
    pub ledger: Option<&'a Place>,
    pub letter: Option<Letter>,
}

impl PartitionAudit<'_> {
    /// The verdict on a valid event: one, or several where retention has dropped what would decide.
    pub(super) fn compare_event(
        &mut self,
        record: &EventRecord<'_>,
        found: Found<'_>,
    ) -> Result<&'static [Verdict], tokio_postgres::Error> {
        use Verdict::{Accepted, Duplicate, Late, Merged, Rejected};
        let offset = record.offset;
        let source = found.row.map(StoredRow::place).transpose()?;
        let own = source.is_some_and(|(tp, at, index)| {
            (tp, at) == (self.progress.tp, offset) && (record.is_home)(index)
        });
        if let Some(letter) = &found.letter {
            if letter.reason == RejectReason::RefusedByDatabase.as_str() {
                self.compare_refused(letter, record, own);
                self.no_late_event(
                    found.late_event,
                    offset,
                    "the record is in the dead letters",
                );
                return Ok(&[Rejected]);
            }
            self.no_letter(found.letter, offset, "the record is a valid event");
        }
        if own && let Some(row) = found.row {
            self.matched.count(offset);
            self.compare_row(record, row)?;
            self.no_late_event(found.late_event, offset, "the event is stored");
            return Ok(match (record.late, record.policy) {
                (true, LatePolicy::Merge) => &[Merged],
                (true, _) => &[Late],
                (false, _) => &[Accepted],
            });
        }
        let diverted = record.late && record.policy == LatePolicy::Divert;
        if diverted && let Some(row) = &found.late_event {
            self.compare_late_event(record, row)?;
            if source.is_some_and(|twin| self.same_partition_before(twin, record)) {
                self.differ(
                    Kind::StrayLateEvent,
                    Some(offset),
                    "in the late ledger, but a duplicate of a stored event",
                );
                return Ok(&[Duplicate]);
            }
            return Ok(&[Late]);
        }
        self.no_late_event(
            found.late_event,
            offset,
            "the event is no late one by the rules",
        );
        if let Some(twin) = source {
            let other = twin.0 != self.progress.tp;
            let first = self.may_come_first(twin, record);
            // the row that decided may have gone with its day, and the twin have come in its place;
            // only a twin from before in the same partition has been there ever since
            if (other || !first) && self.shared.retained.day_was_dropped(record.key.1) {
                return Ok(self.explain_absent(record, found.ledger.copied()));
            }
            if first {
                let dropped = record.late && record.policy == LatePolicy::Drop;
                // which of the two came first is not written down anywhere
                return Ok(if dropped && other {
                    &[Late, Duplicate]
                } else {
                    &[Duplicate]
                });
            }
            if !record.late || record.policy.stores() {
                let (tp, at, index) = twin;
                let detail = format!(
                    "passed over for a twin that is stored only later, from {tp} offset {at} place {index}"
                );
                self.differ(Kind::DuplicateOfLater, Some(offset), detail);
                return Ok(&[Duplicate]);
            }
        }
        Ok(self.explain_absent(record, found.ledger.copied()))
    }

    /// The verdict on an event without a row of its own and without an earlier twin among the
    /// stored.
    fn explain_absent(
        &mut self,
        record: &EventRecord<'_>,
        ledger: Option<Place>,
    ) -> &'static [Verdict] {
        use Verdict::{Accepted, Duplicate, Late, Merged, Rejected};
        let retained = self.shared.retained;
        let day_gone = retained.day_was_dropped(record.key.1);
        match (record.late, record.policy) {
            (true, LatePolicy::Drop) if day_gone => &[Late, Duplicate],
            (true, LatePolicy::Drop) => &[Late],
            (true, LatePolicy::Divert) => {
                if ledger.is_some_and(|twin| self.may_come_first(twin, record)) {
                    return &[Duplicate];
                }
                if day_gone || retained.late_event_may_be_gone(record.received_at) {
                    return &[Late, Duplicate];
                }
                self.differ(
                    Kind::MissingLateEvent,
                    Some(record.offset),
                    format!("late event {} is not in the late ledger", record.key.0),
                );
                &[Late]
            }
            (true, LatePolicy::Store) if day_gone => &[Late, Duplicate],
            (true, LatePolicy::Merge) if day_gone => &[Merged, Duplicate],
            (false, _) if day_gone => &[Accepted, Duplicate],
            // what only the database could refuse, and a dead letter that is no longer kept
            _ if retained.dead_letter_may_be_gone(record.received_at) => &[Rejected],
            (late, _) => {
                self.differ(
                    Kind::MissingRow,
                    Some(record.offset),
                    format!("event {} of {} has no row", record.key.0, record.key.1),
                );
                match (late, record.policy) {
                    (true, LatePolicy::Merge) => &[Merged],
                    (true, _) => &[Late],
                    (false, _) => &[Accepted],
                }
            }
        }
    }

    fn compare_row(
        &mut self,
        record: &EventRecord<'_>,
        row: &StoredRow,
    ) -> Result<(), tokio_postgres::Error> {
        let differing = row.differing(
            record.event,
            record.index,
            record.received_at,
            record.promoted,
        )?;
        if !differing.is_empty() {
            let detail = format!(
                "event {}: {} not as in the log",
                record.key.0,
                differing.join(", ")
            );
            self.differ(Kind::RowDiffers, Some(record.offset), detail);
        }
        let detail = match (record.late, row.is_late()?, record.policy) {
            (true, true, LatePolicy::Merge | LatePolicy::Store) | (false, false, _) => {
                return Ok(());
            }
            (true, false, LatePolicy::Merge | LatePolicy::Store) => {
                "late by the rules, but not marked so"
            }
            (true, ..) => "late by the rules, but stored",
            (false, true, _) => "marked late, but on time by the rules",
        };
        self.differ(Kind::LatenessDiffers, Some(record.offset), detail);
        Ok(())
    }

    fn compare_late_event(
        &mut self,
        record: &EventRecord<'_>,
        row: &StoredRow,
    ) -> Result<(), tokio_postgres::Error> {
        let differing = row.differing(
            record.event,
            record.index,
            record.received_at,
            record.promoted,
        )?;
        if !differing.is_empty() {
            let detail = format!(
                "late event {}: {} not as in the log",
                record.key.0,
                differing.join(", ")
            );
            self.differ(Kind::LateEventDiffers, Some(record.offset), detail);
        }
        Ok(())
    }

    /// Whether a stored twin can have been there when this record was judged. Within a partition
    /// the log's order decides, between partitions the order of commits; what was above its own
    /// partition's checkpoint at the snapshot came later.
    fn may_come_first(&self, twin: Place, record: &EventRecord<'_>) -> bool {
        let (tp, at, index) = twin;
        if tp == self.progress.tp {
            return (at, index) < (record.offset, record.index);
        }
        self.shared
            .positions
            .get(&tp)
            .is_some_and(|next| next.covers(at))
    }

    fn same_partition_before(&self, twin: Place, record: &EventRecord<'_>) -> bool {
        twin.0 == self.progress.tp && (twin.1, twin.2) < (record.offset, record.index)
    }
}
