//! Records that hold several events: each of them is read by itself.

use super::mapping::{self, Batches, Mapper, Read};
use super::{Decoder, Element, RejectReason, Rejected, several};
use crate::event::{self, Day, Event, EventTime};
use crate::spec::EventIds;

/// Days that the events of one record may have. They are in one flush, and each day is a partition
/// of the table that the flush opens and locks.
pub const MAX_BATCH_DAYS: usize = 16;

/// A record that may be a batch, on its way to its events.
pub(super) struct Split<'d> {
    pub(super) decoder: &'d Decoder,
    pub(super) mapper: &'d Mapper,
    /// The record's value.
    pub(super) payload: &'d [u8],
    pub(super) received_at: EventTime,
    /// The days of the events so far.
    pub(super) days: Vec<Day>,
}

impl Split<'_> {
    /// Hands over what the record holds.
    pub(super) fn record(
        &mut self,
        text: &str,
        each: &mut impl FnMut(Element<'_>),
    ) -> Result<(), Rejected> {
        if self.mapper.batches() == Batches::Records && mapping::is_array(text) {
            for (index, raw) in (0..).zip(mapping::elements(text)?) {
                let event = self
                    .decoder
                    .mapped(self.mapper, raw.get(), self.received_at);
                self.element(index, raw.get(), event, each);
            }
            return Ok(());
        }
        match self.mapper.read(text)? {
            Read::Text(inner) => self.read(self.mapper.read_text(&inner)?, each),
            read => self.read(read, each),
        }
    }

    fn read(&mut self, read: Read<'_>, each: &mut impl FnMut(Element<'_>)) -> Result<(), Rejected> {
        match read {
            Read::Event(found) => each(Element {
                index: 0,
                payload: self.payload,
                verdict: Ok(self
                    .decoder
                    .located(self.mapper, &found, self.received_at)?),
            }),
            Read::Batch(elements) => {
                for (index, &raw) in (0..).zip(&elements.raw) {
                    let found = self.mapper.element(&elements, raw);
                    let event = found.and_then(|found| {
                        let event = self
                            .decoder
                            .located(self.mapper, &found, self.received_at)?;
                        Ok(self.with_own_id(event, found.has_id_of_record, index))
                    });
                    self.element(index, raw.get(), event, each);
                }
            }
            Read::Text(_) => return Err(several()),
        }
        Ok(())
    }

    /// The event with an id of its own where it has the record's: by its place in the record, so
    /// that the same record sent again has the same events.
    fn with_own_id<'a>(&self, event: Event<'a>, has_id_of_record: bool, index: i16) -> Event<'a> {
        if !has_id_of_record || self.decoder.ids != EventIds::EventId {
            return event;
        }
        Event {
            event_id: event::id::of_element(event.event_id, index),
            ..event
        }
    }

    /// Hands over one element of a batch.
    fn element(
        &mut self,
        index: i16,
        raw: &str,
        event: Result<Event<'_>, Rejected>,
        each: &mut impl FnMut(Element<'_>),
    ) {
        each(Element {
            index,
            payload: raw.as_bytes(),
            verdict: event.and_then(|event| self.within_days(event)),
        });
    }

    /// The event, unless its record holds events of more days than a flush can take at once.
    fn within_days<'a>(&mut self, event: Event<'a>) -> Result<Event<'a>, Rejected> {
        let day = event.event_ts.day();
        if !self.days.contains(&day) {
            if self.days.len() == MAX_BATCH_DAYS {
                let detail = format!("events of more than {MAX_BATCH_DAYS} days in one record");
                return Err(Rejected::record(RejectReason::TooLarge, detail));
            }
            self.days.push(day);
        }
        Ok(event)
    }
}
