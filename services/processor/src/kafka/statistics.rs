//! The little that is read of librdkafka's statistics: which brokers answer, who leads the
//! partitions, and who gives out their records.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// The document that librdkafka writes every `statistics.interval.ms`; everything else in it is
/// passed over.
#[derive(Deserialize)]
pub struct Statistics {
    #[serde(default)]
    brokers: BTreeMap<String, Broker>,
    #[serde(default)]
    topics: BTreeMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i32,
    state: String,
}

#[derive(Deserialize)]
struct Topic {
    #[serde(default)]
    partitions: BTreeMap<String, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    leader: i32,
    /// The broker that it is fetched from.
    #[serde(default = "nobody")]
    broker: i32,
}

fn nobody() -> i32 {
    -1
}

impl Statistics {
    /// Ids of the brokers with a working connection; those of bootstrap addresses (-1) count as
    /// soon as nothing else is known.
    pub fn reachable(&self) -> BTreeSet<i32> {
        self.brokers
            .values()
            .filter(|broker| broker.state == "UP")
            .map(|broker| broker.nodeid)
            .collect()
    }

    /// The broker that leads a partition, if one does.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let found = self.partition(topic, partition)?;
        (found.leader >= 0).then_some(found.leader)
    }

    /// Whether a partition is fetched from a replica that is not its leader.
    pub fn is_from_follower(&self, topic: &str, partition: i32) -> bool {
        let found = self.partition(topic, partition);
        found.is_some_and(|found| {
            found.leader >= 0 && found.broker >= 0 && found.broker != found.leader
        })
    }

    fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        let partitions = &self.topics.get(topic)?.partitions;
        partitions.get(&partition.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    #[test]
    fn a_partition_is_within_reach_while_its_leader_is_up() {
        let statistics: Statistics = serde_json::from_str(
            r#"{"name":"x","brokers":{
                "a:9092/1":{"nodeid":1,"state":"UP","rtt":{"min":0}},
                "b:9092/2":{"nodeid":2,"state":"DOWN"}},
              "topics":{"clicks":{"topic":"clicks","partitions":{
                "0":{"partition":0,"leader":1},"1":{"partition":1,"leader":2},"-1":{"partition":-1,"leader":-1}}}}}"#,
        )
        .unwrap();
        let reachable = statistics.reachable();
        let within = |partition| {
            let leader = statistics.leader("clicks", partition);
            leader.is_some_and(|leader| reachable.contains(&leader))
        };
        assert!(within(0));
        assert!(!within(1));
        assert!(!within(2));
        assert_eq!(statistics.leader("other", 0), None);
    }

    #[test]
    fn a_partition_is_from_a_follower_when_both_are_known_and_differ() {
        let statistics: Statistics = serde_json::from_str(
            r#"{"topics":{"clicks":{"partitions":{
                "0":{"leader":1,"broker":1},"1":{"leader":1,"broker":2},
                "2":{"leader":-1,"broker":2},"3":{"leader":1,"broker":-1},"4":{"leader":1}}}}}"#,
        )
        .unwrap();
        let from_followers: Vec<_> = (0..6)
            .filter(|partition| statistics.is_from_follower("clicks", *partition))
            .collect();
        assert_eq!(from_followers, [1]);
    }
}
