//! Places in the Kafka log.

use std::fmt;

/// Number of a topic in the target's topic dictionary (`clickstream_topics.topic_id`).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicId(pub i16);

/// One partition of one topic. Ordered by topic, then partition: the order in which the records of
/// one flush are judged.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// Topic, by its number in the target's dictionary.
    pub topic: TopicId,
    /// Kafka partition, from 0.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {} partition {}", self.topic.0, self.partition)
    }
}

/// The offset of the next record to read: everything below it is done.
///
/// Progress is kept as this exclusive end and nowhere as "the last offset", so `after` is the only
/// `+ 1` of the project.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NextOffset(i64);

impl NextOffset {
    /// The beginning of a log.
    pub const ZERO: NextOffset = NextOffset(0);

    /// Reads a stored position.
    pub fn at(offset: i64) -> Self {
        Self(offset)
    }

    /// The position right behind the record at `offset`.
    pub fn after(offset: i64) -> Self {
        Self(offset.saturating_add(1))
    }

    /// The position as Kafka and PostgreSQL count it.
    pub fn get(self) -> i64 {
        self.0
    }

    /// Whether a record at `offset` lies below this position, that is, was already taken.
    pub fn covers(self, offset: i64) -> bool {
        offset < self.0
    }
}

impl fmt::Display for NextOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_offset_covers_exactly_what_lies_below_it() {
        let next = NextOffset::after(41);
        assert_eq!(next.get(), 42);
        assert!(next.covers(41));
        assert!(!next.covers(42));
    }

    #[test]
    fn partitions_are_ordered_by_topic_first() {
        let tp = |topic, partition| TopicPartition {
            topic: TopicId(topic),
            partition,
        };
        let mut all = vec![tp(2, 0), tp(1, 7), tp(1, 2)];
        all.sort();
        assert_eq!(all, vec![tp(1, 2), tp(1, 7), tp(2, 0)]);
    }
}
