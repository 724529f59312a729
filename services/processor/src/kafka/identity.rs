//! Whether a topic still is the one that the schema was filled from.
//!
//! When a topic is deleted and made anew under its name, librdkafka reads on at the old position.
//! Where that lies within the new log it hands out records as if nothing had happened (it says so
//! itself: the FIXME in `rd_kafka_topic_metadata_update`). But it fetches by topic id, and it
//! writes a debug line when it learns another id, before the first fetch by that id.
//! [`Identity::hear`] reads that line, so that no record of another log is ever taken: the id is
//! known before the record can be there. Brokers that tell no ids (before Kafka 2.8) cannot be
//! guarded in this way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use clickstream_pipeline::ownership::Obstacle;

use crate::sink::Described;

/// The debug context in which librdkafka tells topic ids: a few lines with every refresh of
/// metadata.
pub const DEBUG_CONTEXT: &str = "metadata";

/// Another id of a topic.
struct Other {
    id: String,
    /// librdkafka fetches by it.
    heard: bool,
}

/// The ids of the topics as they were when the schema was filled first, and the others that were
/// heard of since.
pub struct Identity {
    expected: BTreeMap<String, String>,
    others: Mutex<BTreeMap<String, Other>>,
    /// Topics that were not there at start, until their ids are told.
    awaited: Mutex<BTreeSet<String>>,
    /// Whether `others` holds anything: all that is looked at for every record.
    doubted: AtomicBool,
}

impl Identity {
    /// Expects these ids, whatever the brokers have told at start; topics without one are not
    /// guarded.
    pub fn new(ids: &BTreeMap<String, Option<String>>, described: &Described) -> Self {
        let expected: BTreeMap<_, _> = ids
            .iter()
            .filter_map(|(topic, id)| Some((topic.clone(), id.clone()?)))
            .collect();
        let awaited = described.missing.iter();
        let awaited = awaited.filter(|topic| expected.contains_key(*topic));
        let identity = Self {
            awaited: Mutex::new(awaited.cloned().collect()),
            expected,
            others: Mutex::default(),
            doubted: AtomicBool::new(false),
        };
        for topic in &described.topics {
            if let Some(id) = &topic.id {
                identity.found(&topic.name, id);
            }
        }
        identity
    }

    /// Takes a line of librdkafka's log. Runs on its threads, under its locks: nothing here waits
    /// for it.
    pub fn hear(&self, line: &str) {
        let Some((before, after)) = line.split_once(" changed id from ") else {
            return;
        };
        let (Some((_, topic)), Some((_, id))) =
            (before.rsplit_once("Topic "), after.split_once(" to "))
        else {
            return;
        };
        self.note(topic, id, true);
    }

    /// Notes which id the brokers say that a topic has now. Once another one was found, the topic
    /// stays refused until both they and librdkafka know it by the old one again.
    pub fn found(&self, topic: &str, id: &str) {
        self.awaited.lock().remove(topic);
        self.note(topic, id, false);
    }

    fn note(&self, topic: &str, id: &str, heard: bool) {
        let Some(expected) = self.expected.get(topic) else {
            return;
        };
        let mut others = self.others.lock();
        match others.get_mut(topic) {
            None if expected == id => {}
            Some(other) if expected == id => {
                if heard {
                    other.heard = false;
                } else if !other.heard {
                    others.remove(topic);
                }
            }
            known => {
                let heard = heard || known.is_some_and(|other| other.heard);
                let id = id.to_owned();
                others.insert(topic.to_owned(), Other { id, heard });
            }
        }
        self.doubted.store(!others.is_empty(), Ordering::Release);
    }

    /// Whether any topic is another one now.
    pub fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Acquire)
    }

    /// Whether a topic was not there at start, and its id is not known yet: it may be another one.
    pub fn is_awaited(&self, topic: &str) -> bool {
        self.awaited.lock().contains(topic)
    }

    /// What stands against reading a topic.
    pub fn obstacle(&self, topic: &str) -> Option<Obstacle> {
        if !self.is_doubted() {
            return None;
        }
        let found = self.others.lock().get(topic)?.id.clone();
        Some(Obstacle::TopicReplaced {
            stored: self.expected.get(topic)?.clone(),
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::KnownTopic;

    fn identity() -> Identity {
        started(&[], &[])
    }

    /// At start the brokers told these ids, and that they have no topics of these names.
    fn started(ids: &[(&str, &str)], missing: &[&str]) -> Identity {
        let described = Described {
            servers: String::new(),
            cluster: None,
            topics: ids
                .iter()
                .map(|(name, id)| KnownTopic {
                    name: (*name).to_owned(),
                    partitions: 1,
                    id: Some((*id).to_owned()),
                })
                .collect(),
            missing: missing.iter().map(|name| (*name).to_owned()).collect(),
        };
        let stored = [
            ("clicks".to_owned(), Some("AbC".to_owned())),
            ("old".to_owned(), None),
        ];
        Identity::new(&stored.into(), &described)
    }

    #[test]
    fn a_topic_that_was_made_anew_before_the_start_is_another_one() {
        let identity = started(&[("clicks", "XyZ")], &[]);
        assert!(identity.obstacle("clicks").is_some());
        assert!(!started(&[("clicks", "AbC")], &[]).is_doubted());
    }

    #[test]
    fn a_topic_that_comes_back_is_not_believed_before_its_id_is_told() {
        let identity = started(&[], &["clicks", "old"]);
        assert!(identity.is_awaited("clicks"));
        // the schema knows no id to compare with
        assert!(!identity.is_awaited("old"));
        identity.found("clicks", "XyZ");
        assert!(!identity.is_awaited("clicks") && identity.obstacle("clicks").is_some());
    }

    #[test]
    fn a_topic_is_itself_again_when_brokers_and_librdkafka_say_so() {
        let identity = identity();
        identity.found("clicks", "XyZ");
        assert!(identity.obstacle("clicks").is_some());
        identity.found("clicks", "AbC");
        assert_eq!(identity.obstacle("clicks"), None);
        identity.hear("[thrd:main]: Topic clicks changed id from AbC to XyZ");
        // a broker that has not heard of it yet
        identity.found("clicks", "AbC");
        assert!(identity.obstacle("clicks").is_some());
        identity.hear("[thrd:main]: Topic clicks changed id from XyZ to AbC");
        assert!(identity.obstacle("clicks").is_some());
        identity.found("clicks", "AbC");
        assert!(!identity.is_doubted());
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
