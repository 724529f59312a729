//! Whether a topic still is the one that the schema was filled from.
//!
//! When a topic is deleted and made anew under its name, librdkafka reads on at the old position. Where that lies within the
//! new log it hands out records as if nothing had happened (it says so itself: the FIXME in
//! `rd_kafka_topic_metadata_update`). But it fetches by topic id, and it writes a debug line when it learns another id, before
//! the first fetch by that id. [`Identity::hear`] reads that line, so that no record of another log is ever taken: the id is
//! known before the record can be there. Brokers that tell no ids (before Kafka 2.8) cannot be guarded in this way.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use crate::sink::Obstacle;

/// The debug context in which librdkafka tells topic ids: a few lines with every refresh of metadata.
pub const DEBUG_CONTEXT: &str = "metadata";

/// The ids of the topics as they were at start, and the others that were heard of since.
pub struct Identity {
    expected: BTreeMap<String, String>,
    others: Mutex<BTreeMap<String, String>>,
    /// Whether `others` holds anything: all that is looked at for every record.
    doubted: AtomicBool,
}

impl Identity {
    /// Expects these ids; topics without one are not guarded.
    pub fn new(ids: &BTreeMap<String, Option<String>>) -> Self {
        Self {
            expected: ids
                .iter()
                .filter_map(|(topic, id)| Some((topic.clone(), id.clone()?)))
                .collect(),
            others: Mutex::default(),
            doubted: AtomicBool::new(false),
        }
    }

    /// Takes a line of librdkafka's log. Runs on its threads, under its locks: nothing here waits for it.
    pub fn hear(&self, line: &str) {
        let Some((before, after)) = line.split_once(" changed id from ") else {
            return;
        };
        let (Some((_, topic)), Some((_, id))) =
            (before.rsplit_once("Topic "), after.split_once(" to "))
        else {
            return;
        };
        self.found(topic, id);
    }

    /// Notes which id a topic has now. Once another one was found, the topic stays refused.
    pub fn found(&self, topic: &str, id: &str) {
        if self
            .expected
            .get(topic)
            .is_some_and(|expected| expected != id)
        {
            self.others.lock().insert(topic.to_owned(), id.to_owned());
            self.doubted.store(true, Ordering::Release);
        }
    }

    /// Whether any topic is another one now.
    pub fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Acquire)
    }

    /// What stands against reading a topic.
    pub fn obstacle(&self, topic: &str) -> Option<Obstacle> {
        if !self.is_doubted() {
            return None;
        }
        let found = self.others.lock().get(topic)?.clone();
        Some(Obstacle::TopicReplaced {
            stored: self.expected.get(topic)?.clone(),
            found,
        })
    }

    /// Whether the topic's id is known and should be compared.
    pub fn is_guarded(&self, topic: &str) -> bool {
        self.expected.contains_key(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::new(
            &[
                ("clicks".to_owned(), Some("AbC".to_owned())),
                ("old".to_owned(), None),
            ]
            .into(),
        )
    }

    #[test]
    fn another_id_is_heard_from_the_log_and_remembered() {
        let identity = identity();
        identity.hear("[thrd:main]: Topic clicks changed id from AbC to XyZ");
        identity.hear("[thrd:main]: Topic clicks changed id from XyZ to AbC");
        let (stored, found) = ("AbC".to_owned(), "XyZ".to_owned());
        assert_eq!(
            identity.obstacle("clicks"),
            Some(Obstacle::TopicReplaced { stored, found })
        );
    }

    #[test]
    fn the_expected_id_other_topics_and_other_lines_mean_nothing() {
        let identity = identity();
        identity.hear("[thrd:main]: Topic clicks changed id from AAAAAAAAAAAAAAAAAAAAAA to AbC");
        identity.hear("[thrd:main]: Topic old changed id from A to B");
        identity.hear("[thrd:main]: Topic elsewhere changed id from A to B");
        identity.hear("[thrd:main]: Topic clicks [0] Leader 1 Epoch 0");
        assert!(!identity.is_doubted());
    }
}
