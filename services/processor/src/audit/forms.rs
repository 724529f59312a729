//! Which rows of `clickstream_traffic_parts` hold all of their users and visits. A processor of an
//! earlier version wrote numbers and sketches of its own; what it wrote stays what it is, and
//! nothing proves it.

use std::collections::HashMap;

use clickstream_pipeline::{event::EventTime, offset::TopicPartition};

/// Forms by partition. They change where versions took turns, so only the changes are kept.
#[derive(Default, Debug)]
pub struct Forms {
    changes: HashMap<TopicPartition, Vec<(EventTime, bool)>>,
    older: usize,
    last: Option<EventTime>,
}

impl Forms {
    /// Notes a row; rows come in the order of their windows.
    pub fn note(&mut self, tp: TopicPartition, start: EventTime, older: bool) {
        if older && self.last != Some(start) {
            self.older += 1;
            self.last = Some(start);
        }
        let changes = self.changes.entry(tp).or_default();
        if changes.last().map_or(older, |(_, last)| *last != older) {
            changes.push((start, older));
        }
    }

    /// Whether the partition's row of the window that starts at `start` is of the older form, if
    /// there is one.
    pub fn is_older(&self, tp: TopicPartition, start: EventTime) -> bool {
        let changes = self.changes.get(&tp).map_or(&[][..], Vec::as_slice);
        let at = changes.partition_point(|(since, _)| *since <= start);
        at > 0 && changes[at - 1].1
    }

    /// Windows with such rows.
    pub fn older_windows(&self) -> usize {
        self.older
    }
}

#[cfg(test)]
mod tests {
    use clickstream_pipeline::offset::TopicId;

    use super::*;

    #[test]
    fn a_row_has_the_form_that_was_noted_and_windows_count_once() {
        let tp = |partition| TopicPartition {
            topic: TopicId(1),
            partition,
        };
        let time = EventTime::from_micros;
        let mut forms = Forms::default();
        let older = [
            [true, true],
            [true, false],
            [false, false],
            [true, true],
            [false, true],
        ];
        for (start, of_both) in (0..).zip(older) {
            for (partition, older) in (0..).zip(of_both) {
                forms.note(tp(partition), time(start), older);
            }
        }
        for (start, of_both) in (0..).zip(older) {
            for (partition, older) in (0..).zip(of_both) {
                assert_eq!(
                    forms.is_older(tp(partition), time(start)),
                    older,
                    "{partition} {start}"
                );
            }
        }
        assert_eq!(forms.older_windows(), 4);
        assert!(!forms.is_older(tp(7), time(0)));
        assert!(!forms.is_older(tp(0), time(-1)));
    }
}
