//! The promoted columns of a batch's events: what is written to them, and what was cleaned.

use std::sync::Arc;

use super::{Batch, Row, Text};
use crate::{
    decode::{
        CleanReason, CleanedCounts,
        columns::{ColumnValue, Finite, Promoted, PromotedColumn},
    },
    event::EventTime,
};

/// A value of a promoted column.
#[derive(Copy, Clone, Debug)]
pub(super) enum PlacedValue {
    Text(Text<u16>),
    Integer(i64),
    Number(Finite),
    Boolean(bool),
    Timestamp(EventTime),
}

/// What became of a promoted column of an event.
#[derive(Copy, Clone, Debug)]
pub(super) struct ColumnPlace {
    value: Option<PlacedValue>,
    cleaned: Option<CleanReason>,
}

impl Batch {
    /// The promoted columns that have to be written: none where no event has a value for one.
    pub fn promoted(&self) -> &[PromotedColumn] {
        if self.promotes { &self.promoted } else { &[] }
    }

    /// The value of a row for the column at this place of [`Self::promoted`]; `None` is null.
    pub fn column(&self, row: &Row, at: usize) -> Option<ColumnValue<'_>> {
        let place = self.columns.get(row.columns as usize + at)?;
        Some(match place.value? {
            PlacedValue::Text(text) => ColumnValue::Text(self.text(text)?.into()),
            PlacedValue::Integer(number) => ColumnValue::Integer(number),
            PlacedValue::Number(number) => ColumnValue::Number(number),
            PlacedValue::Boolean(truth) => ColumnValue::Boolean(truth),
            PlacedValue::Timestamp(time) => ColumnValue::Timestamp(time),
        })
    }

    /// Counts what was cleaned in the events, those included that turned out to be duplicates.
    pub fn cleaned(&self) -> CleanedCounts {
        let mut counts = CleanedCounts::default();
        for row in &self.rows {
            counts.count(&row.cleaned);
        }
        for (at, column) in self.promoted.iter().enumerate() {
            let places = self.rows.iter().map(|row| row.columns as usize + at);
            for place in places.filter_map(|place| self.columns.get(place)) {
                if let Some(reason) = place.cleaned {
                    counts.count_column(&column.name, reason, 1);
                }
            }
        }
        counts
    }

    /// Notes the columns of the rules that all its events were read by.
    pub fn promote(&mut self, columns: &Arc<[PromotedColumn]>) {
        self.promoted = Arc::clone(columns);
    }

    pub(super) fn push_column(&mut self, start: u32, record: &str, promoted: &Promoted<'_>) {
        let value = promoted.value.as_ref().map(|value| match value {
            ColumnValue::Text(text) => {
                PlacedValue::Text(self.place_text(start, record, Some(text)))
            }
            ColumnValue::Integer(number) => PlacedValue::Integer(*number),
            ColumnValue::Number(number) => PlacedValue::Number(*number),
            ColumnValue::Boolean(truth) => PlacedValue::Boolean(*truth),
            ColumnValue::Timestamp(time) => PlacedValue::Timestamp(*time),
        });
        self.promotes |= value.is_some();
        self.columns.push(ColumnPlace {
            value,
            cleaned: promoted.cleaned,
        });
    }
}
