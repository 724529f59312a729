//! The bounds of pages by which rows were counted, as the anchors tell them: for aggregates that
//! are compared with rows.

use std::collections::HashMap;

use clickstream_pipeline::offset::{TopicId, TopicPartition};
use tokio_postgres::GenericClient;

/// By which bound the pages of a record were counted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Bound {
    /// By this one, or by none.
    Known(Option<usize>),
    /// The anchors of its time are gone.
    Unknown,
}

/// The bounds of all partitions, by offset.
#[derive(Default, Debug)]
pub struct Bounds {
    /// From which offset on which one is in force, ascending.
    changes: HashMap<TopicPartition, Vec<(i64, Option<usize>)>>,
}

impl Bounds {
    /// Reads them from the anchors.
    ///
    /// # Errors
    /// What the server says.
    pub async fn read(client: &impl GenericClient) -> anyhow::Result<Self> {
        let rows = client
            .query(
                "select topics.topic_id, changes.partition, changes.next_offset, changes.bound
                 from (
                     select topic, partition, next_offset, bound, row_number() over anchors as number,
                         lag(bound) over anchors as before
                     from (
                         select topic, partition, next_offset,
                             (spec #>> '{events,derived,page,max_per_window}')::bigint as bound
                         from clickstream_anchors
                     ) as bounds
                     window anchors as (partition by topic, partition order by next_offset)
                 ) as changes
                 join clickstream_topics as topics using (topic)
                 where changes.number = 1 or changes.bound is distinct from changes.before
                 order by topics.topic_id, changes.partition, changes.next_offset",
                &[],
            )
            .await?;
        let mut bounds = Self::default();
        for row in rows {
            let tp = TopicPartition {
                topic: TopicId(row.try_get(0)?),
                partition: row.try_get(1)?,
            };
            let bound: Option<i64> = row.try_get(3)?;
            let bound = bound.map(|most| usize::try_from(most).unwrap_or(0));
            bounds.add(tp, row.try_get(2)?, bound);
        }
        Ok(bounds)
    }

    fn add(&mut self, tp: TopicPartition, from: i64, bound: Option<usize>) {
        let changes = self.changes.entry(tp).or_default();
        if changes.last().is_none_or(|(_, last)| *last != bound) {
            changes.push((from, bound));
        }
    }

    /// The bound at an offset.
    pub fn at(&self, tp: TopicPartition, offset: i64) -> Bound {
        let changes = self.changes.get(&tp).map_or(&[][..], Vec::as_slice);
        let after = changes.partition_point(|(from, _)| *from <= offset);
        after
            .checked_sub(1)
            .map_or(Bound::Unknown, |at| Bound::Known(changes[at].1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_that_of_the_newest_anchor_at_or_below_an_offset() {
        let tp = |partition| TopicPartition {
            topic: TopicId(1),
            partition,
        };
        let mut bounds = Bounds::default();
        for (from, bound) in [(10, None), (20, Some(5)), (30, Some(5)), (40, None)] {
            bounds.add(tp(0), from, bound);
        }
        let at = |offset| bounds.at(tp(0), offset);
        assert_eq!(at(9), Bound::Unknown);
        assert_eq!([at(10), at(19)], [Bound::Known(None); 2]);
        assert_eq!([at(20), at(39)], [Bound::Known(Some(5)); 2]);
        assert_eq!(at(40), Bound::Known(None));
        assert_eq!(bounds.at(tp(1), 40), Bound::Unknown);
    }
}
