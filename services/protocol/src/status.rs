//! A processor's account of itself, at `/status` of its admin server.

use std::collections::BTreeMap;

use clickstream_pipeline::checkpoint::Counters;
use serde::{Deserialize, Serialize};

/// What a processor says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessorStatus {
    /// Its name, which stands in the tables of what it has claimed.
    pub owner: String,
    /// The pipeline, as `namespace/name`.
    pub pipeline: String,
    /// Its target.
    pub target: String,
    /// What it does.
    pub state: ProcessorState,
    /// The partitions it holds.
    pub partitions: Vec<PartitionReport>,
    /// Partitions that it must not work on until a person has looked at them.
    pub halted: Vec<Halted>,
    /// A short name for the rules by which it judges records: the same where the same rules are in
    /// force. Absent before it has begun, and from releases whose rules never change while they
    /// run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
    /// How many optional fields of the events it has committed since its start were not usable as
    /// they came, by field and reason (`{"ip":{"list":3}}`): they were repaired or left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cleaned: BTreeMap<String, BTreeMap<String, u64>>,
    /// How many entries of the properties of these events a limit left out, or had to be changed to
    /// be stored.
    #[serde(skip_serializing_if = "is_zero")]
    pub trimmed_properties: u64,
    /// How many hits of these events were counted as those of other pages, since the rules bound
    /// the pages of a window.
    #[serde(skip_serializing_if = "is_zero")]
    pub folded_hits: u64,
    /// PostgreSQL answers, and refuses what it writes again and again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

/// What a processor does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessorState {
    /// It has not begun to read.
    Starting,
    /// It reads and writes.
    Running,
    /// PostgreSQL does not answer.
    WaitingForPostgres,
    /// It was told to end.
    Stopping,
    /// A word of another release, or none.
    #[default]
    #[serde(other)]
    Unknown,
}

/// One partition, as its owner reports it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionReport {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// How often it has changed owners; of two reports the one with the larger epoch counts.
    #[serde(default)]
    pub epoch: i64,
    /// The first offset that is not accounted for yet.
    pub next_offset: Option<i64>,
    /// The first offset that is not in the log yet.
    pub log_end: Option<i64>,
    /// Records behind the end of the log.
    pub lag: Option<i64>,
    /// Its event clock.
    pub t: Option<String>,
    /// Its watermark.
    pub watermark: Option<String>,
    /// Intake is paused.
    #[serde(default)]
    pub paused: bool,
    /// What it waits for, or does: a word for people, empty where an older release tells none.
    #[serde(default)]
    pub state: String,
    /// What became of its records.
    #[serde(default)]
    pub counters: Counters,
    /// When it last committed.
    pub last_commit_at: Option<String>,
    /// Age of the oldest record that is read and not committed, or would be read next.
    pub oldest_unprocessed_seconds: Option<f64>,
    /// The time in the last heartbeat that was committed.
    pub heartbeat_at: Option<String>,
    /// For how long a Kafka transaction that is still open has held it back; absent where none
    /// does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_transaction_seconds: Option<f64>,
    /// Offsets that Kafka dropped before they were read, as `[first, next]`.
    #[serde(default)]
    pub gaps: Vec<[i64; 2]>,
}

/// A partition that a processor must not work on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halted {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// Why, and what to do.
    #[serde(default)]
    pub reason: String,
}

/// Since when PostgreSQL refuses what a processor writes, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When it did so first.
    pub since: String,
    /// The kind of failure, as in the metrics: `resources` is disk, memory or connections.
    pub class: String,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::{Value, json};

    use super::*;

    /// As the first release writes it.
    fn first_release() -> Value {
        json!({
            "owner": "web-main-7d9c", "pipeline": "shop/web", "target": "main", "state": "running",
            "partitions": [{
                "topic": "clicks", "partition": 3, "epoch": 2, "next_offset": 40, "log_end": 42, "lag": 2,
                "t": "2026-01-01T00:00:07.000Z", "watermark": "2026-01-01T00:00:02.000Z", "paused": false,
                "counters": {
                    "consumed": 39, "accepted": 30, "duplicate": 4, "rejected": 3, "late": 2, "skipped": 1, "revised": 5,
                },
                "last_commit_at": "2026-01-01T00:00:08.000Z", "oldest_unprocessed_seconds": 0.5,
                "heartbeat_at": null, "gaps": [[0, 1]],
            }],
            "halted": [{ "topic": "clicks", "partition": 4, "reason": "another cluster" }],
        })
    }

    #[test]
    fn the_first_releases_status_is_read_whole() {
        let status: ProcessorStatus = serde_json::from_value(first_release()).unwrap();
        assert_eq!(status.state, ProcessorState::Running);
        let partition = &status.partitions[0];
        assert_eq!((partition.lag, partition.epoch), (Some(2), 2));
        assert_eq!(partition.gaps, [[0, 1]]);
        assert!(partition.counters.conserved() && partition.counters.revised == 5);
        assert_eq!(status.halted[0].reason, "another cluster");
        assert_eq!(status.refused, None);
    }

    #[test]
    fn what_is_written_is_what_the_first_release_wrote_and_more() {
        let before = first_release();
        let status: ProcessorStatus = serde_json::from_value(before.clone()).unwrap();
        let now = serde_json::to_value(status).unwrap();
        let is_kept = |before: &Value, now: &Value| {
            for (key, value) in before.as_object().unwrap() {
                if !matches!(key.as_str(), "partitions" | "counters") {
                    assert_eq!(value, &now[key], "{key}");
                }
            }
        };
        is_kept(&before, &now);
        is_kept(&before["partitions"][0], &now["partitions"][0]);
        is_kept(
            &before["partitions"][0]["counters"],
            &now["partitions"][0]["counters"],
        );
    }

    #[test]
    fn today_it_is_written_so() {
        let status = ProcessorStatus {
            owner: "o".to_owned(),
            pipeline: "shop/web".to_owned(),
            target: "main".to_owned(),
            state: ProcessorState::WaitingForPostgres,
            partitions: vec![PartitionReport {
                topic: "clicks".to_owned(),
                state: "reading".to_owned(),
                open_transaction_seconds: Some(1.5),
                ..PartitionReport::default()
            }],
            halted: Vec::new(),
            rules: Some("4f1d2c3b5a69".to_owned()),
            cleaned: [("ip".to_owned(), [("list".to_owned(), 3)].into())].into(),
            trimmed_properties: 2,
            folded_hits: 5,
            refused: Some(Refused {
                since: "2026-01-01T00:00:00.000Z".to_owned(),
                class: "resources".to_owned(),
            }),
        };
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            concat!(
                r#"{"owner":"o","pipeline":"shop/web","target":"main","state":"waiting_for_postgres","partitions":["#,
                r#"{"topic":"clicks","partition":0,"epoch":0,"next_offset":null,"log_end":null,"lag":null,"t":null,"#,
                r#""watermark":null,"paused":false,"state":"reading","counters":{"consumed":0,"accepted":0,"merged":0,"#,
                r#""duplicate":0,"rejected":0,"late":0,"skipped":0,"revised":0},"last_commit_at":null,"#,
                r#""oldest_unprocessed_seconds":null,"heartbeat_at":null,"open_transaction_seconds":1.5,"gaps":[]}],"#,
                r#""halted":[],"rules":"4f1d2c3b5a69","cleaned":{"ip":{"list":3}},"trimmed_properties":2,"folded_hits":5,"#,
                r#""refused":{"since":"2026-01-01T00:00:00.000Z","class":"resources"}}"#,
            )
        );
    }

    #[test]
    fn another_releases_words_and_fields_do_no_harm() {
        let status: ProcessorStatus = serde_json::from_value(json!({
            "state": "meditating", "mood": "good",
            "partitions": [{ "topic": "clicks", "partition": 0, "counters": { "consumed": 1, "sold": 2 } }],
        }))
        .unwrap();
        assert_eq!(status.state, ProcessorState::Unknown);
        assert_eq!(status.partitions[0].counters.consumed, 1);
        let nothing: ProcessorStatus = serde_json::from_str("{}").unwrap();
        assert_eq!(nothing, ProcessorStatus::default());
    }
}
