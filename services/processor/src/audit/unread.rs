//! Partitions of the topics that the target has no checkpoint of. Every processor that is given a
//! partition writes one before it reads, so nothing of such a partition ever came into this target,
//! while somebody else may have read it.

use std::{
    collections::HashSet,
    ops::Range,
    time::{Duration, Instant},
};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::report::PartitionReport;
use crate::sink::KnownTopic;

/// How long a broker's answer may take.
const BROKER_ANSWER: Duration = Duration::from_secs(15);
/// How long all of them may take: a partition without a leader gives none.
const ANSWERS: Duration = Duration::from_secs(60);

/// A partition without a checkpoint, whose log is not known to be empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unread {
    topic: String,
    partition: i32,
    /// What its log holds; `None` where no broker told.
    log: Option<Range<i64>>,
}

impl Unread {
    /// Asks the brokers for the logs of the partitions of `topics` that are not among
    /// `checkpoints`.
    pub fn ask(
        consumer: &BaseConsumer,
        topics: &[KnownTopic],
        checkpoints: &[(String, i32)],
    ) -> Vec<Self> {
        let checkpoints: HashSet<(&str, i32)> = checkpoints
            .iter()
            .map(|(topic, partition)| (topic.as_str(), *partition))
            .collect();
        let deadline = Instant::now() + ANSWERS;
        let mut unread = Vec::new();
        for topic in topics {
            for partition in 0..topic.partitions {
                if checkpoints.contains(&(topic.name.as_str(), partition)) {
                    continue;
                }
                let left = deadline.saturating_duration_since(Instant::now());
                let log = (!left.is_zero())
                    .then(|| {
                        consumer
                            .fetch_watermarks(&topic.name, partition, left.min(BROKER_ANSWER))
                            .ok()
                    })
                    .flatten()
                    .map(|(start, end)| start..end);
                if log.as_ref().is_none_or(|log| !log.is_empty()) {
                    unread.push(Self {
                        topic: topic.name.clone(),
                        partition,
                        log,
                    });
                }
            }
        }
        unread
    }

    /// Why the target is not proven.
    pub fn doubt(&self) -> String {
        let (topic, partition) = (&self.topic, self.partition);
        match &self.log {
            Some(log) => format!(
                "{topic}[{partition}]: {} records, offsets {} to {}, but no checkpoint: none of them was read into this target; does another one have the same consumer group?",
                log.end - log.start,
                log.start,
                log.end
            ),
            None => format!(
                "{topic}[{partition}]: no checkpoint, and no broker told whether its log holds records"
            ),
        }
    }

    /// The partition as the report lists it: nothing was compared.
    pub fn report(&self) -> PartitionReport {
        let start = self.log.as_ref().map_or(0, |log| log.start);
        PartitionReport {
            topic: self.topic.clone(),
            partition: self.partition,
            checkpoint: false,
            from_offset: start,
            to_offset: start,
            rules: Vec::new(),
            unread: self.log.as_ref().map(|log| log.end - log.start),
            consumed: 0,
            accepted: 0,
            duplicate: 0,
            rejected: 0,
            late: 0,
            skipped: 0,
            undecided: 0,
            differences: 0,
            records_compared: 0,
            records_counted: 0,
            windows_compared: 0,
            windows_stored: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_no_broker_told_of_is_not_taken_for_an_empty_one() {
        let mut unread = Unread {
            topic: "clicks".to_owned(),
            partition: 3,
            log: None,
        };
        assert_eq!(unread.report().unread, None);
        assert!(unread.doubt().contains("no broker told"));
        unread.log = Some(5..12);
        assert_eq!(unread.report().unread, Some(7));
        assert!(
            unread
                .doubt()
                .starts_with("clicks[3]: 7 records, offsets 5 to 12")
        );
    }
}
