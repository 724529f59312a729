//! An in-memory topic whose every record carries its ground truth beside the bytes: what it is,
//! known without decoding.

use std::{collections::BTreeMap, net::IpAddr};

use clickstream_pipeline::{
    decode::RejectReason,
    offset::{TopicId, TopicPartition},
};

use serde_json::Value;

use crate::{dice::Dice, scenario::Scenario};

/// Where event time starts: ten minutes before midnight UTC, so that days change within a log.
pub const BASE: i64 = 1_710_114_600_000_000;
/// What pages the simulated database's constraint refuses.
pub const REFUSED: &str = "https://refused.example/";
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// The event that a record is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// `event_id` as a number.
    pub id: u128,
    /// `event_ts` in microseconds.
    pub ts: i64,
    /// Kafka's time stamp in microseconds.
    pub received: i64,
    /// `user_id` as text.
    pub user: String,
    /// `url`.
    pub url: String,
    /// `referrer`.
    pub referrer: Option<String>,
    /// `ip`.
    pub ip: Option<IpAddr>,
    /// `session_id`.
    pub session: Option<String>,
    /// `user_agent`.
    pub agent: Option<String>,
}

/// What a record is, as long as the rules let it be so long.
#[derive(Clone, Debug)]
pub enum Truth {
    /// No value.
    Tombstone,
    /// No event, for this reason.
    Rejected(RejectReason),
    /// An event, unless it is dated further ahead than the rules allow; whether or not the database
    /// takes it.
    Event(Facts),
    /// Several records in one, where the rules say that there are such; otherwise an object that is
    /// no event.
    Batch(Vec<Part>),
}

/// An element of a batch.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its bytes.
    pub value: Vec<u8>,
    /// What it is.
    pub truth: Truth,
    /// Whether an optional field of it cannot be used.
    pub odd: bool,
}

/// A record in its partition.
pub struct Entry {
    /// Its offset; control records leave gaps.
    pub offset: i64,
    /// Kafka's time stamp in microseconds, whole milliseconds.
    pub received: i64,
    /// Its bytes.
    pub value: Option<Vec<u8>>,
    /// What it is.
    pub truth: Truth,
    /// Whether an optional field of it cannot be used: by some rules that costs the event.
    pub odd: bool,
}

/// One partition of the topic.
pub struct Partition {
    /// Records in the order of their offsets.
    pub entries: Vec<Entry>,
    /// The offset behind everything, control records included.
    pub end: i64,
    /// How many entries have been written so far.
    pub visible: usize,
    /// Whether the partition has been created.
    pub exists: bool,
}

/// The topic.
pub struct Log {
    /// Its partitions.
    pub partitions: BTreeMap<TopicPartition, Partition>,
}

impl Partition {
    /// The end of the log as a reader sees it now.
    pub fn visible_end(&self) -> i64 {
        if self.visible == self.entries.len() {
            self.end
        } else {
            self.visible
                .checked_sub(1)
                .map_or(0, |last| self.entries[last].offset + 1)
        }
    }

    /// The place of the first entry at or above an offset.
    pub fn seek(&self, offset: i64) -> usize {
        self.entries.partition_point(|entry| entry.offset < offset)
    }
}

impl Log {
    /// Writes the whole log of a scenario; how much of it can be seen is the world's business.
    pub fn generate(scenario: &Scenario) -> Self {
        let mut writer = Writer {
            scenario,
            dice: Dice::new(scenario.seed, 1),
            sent: Vec::new(),
            odd: false,
            now: BASE,
        };
        let topics = writer.dice.pick(&[1, 1, 2]);
        let mut partitions: Vec<(TopicPartition, Partition)> = (0..scenario.partitions)
            .map(|i| {
                let tp = TopicPartition {
                    topic: TopicId(i16::try_from(i % topics).expect("few") + 1),
                    partition: i32::try_from(i / topics).expect("few"),
                };
                let partition = Partition {
                    entries: Vec::new(),
                    end: 0,
                    visible: 0,
                    exists: false,
                };
                (tp, partition)
            })
            .collect();
        for _ in 0..scenario.records {
            let at = writer.dice.below(partitions.len());
            if writer.dice.chance(40) {
                partitions[at].1.end += writer.dice.between(1, 3);
            }
            let (value, truth) = writer.record(at);
            let partition = &mut partitions[at].1;
            partition.entries.push(Entry {
                offset: partition.end,
                received: writer.received(),
                value,
                truth,
                odd: std::mem::take(&mut writer.odd),
            });
            partition.end += 1;
        }
        for (_, partition) in &mut partitions {
            if writer.dice.chance(300) {
                partition.end += 1;
            }
        }
        Self {
            partitions: partitions.into_iter().collect(),
        }
    }
}

struct Writer<'a> {
    scenario: &'a Scenario,
    dice: Dice,
    /// Events sent so far, with the partition they went to.
    sent: Vec<(usize, Facts)>,
    /// Whether an optional field of the record that is being written cannot be used.
    odd: bool,
    now: i64,
}

impl Writer<'_> {
    /// `LogAppendTime`: milliseconds.
    fn received(&self) -> i64 {
        self.now / 1_000 * 1_000
    }

    fn record(&mut self, partition: usize) -> (Option<Vec<u8>>, Truth) {
        // a night without traffic, now and then
        self.now += if self.dice.chance(4) {
            self.dice.between(1, 8) * 3_600 * SECOND
        } else {
            self.dice.between(0, 6_000_000)
        };
        if self.scenario.whole_seconds {
            self.now -= self.now % SECOND;
        }
        match self.dice.below(100) {
            0..3 => (None, Truth::Tombstone),
            3..9 => self.malformed(),
            9..30 if !self.sent.is_empty() => self.resent(partition),
            30..50 if self.scenario.batches => self.batch(partition),
            _ => self.fresh(partition),
        }
    }

    /// Several events in one record, some of them twice or broken; now and then none.
    fn batch(&mut self, partition: usize) -> (Option<Vec<u8>>, Truth) {
        let mut parts = Vec::new();
        for _ in 0..self.dice.below(6) {
            let (value, truth) = match self.dice.below(10) {
                0 => self.malformed(),
                1..4 if !self.sent.is_empty() => self.resent(partition),
                _ => self.fresh(partition),
            };
            let odd = std::mem::take(&mut self.odd);
            // of what is no JSON there is no batch
            if let Some(value) =
                value.filter(|value| serde_json::from_slice::<Value>(value).is_ok())
            {
                parts.push(Part { value, truth, odd });
            }
        }
        let values: Vec<&[u8]> = parts.iter().map(|part| &part.value[..]).collect();
        let value = [br#"{"batch":["#, &values.join(&b","[..])[..], b"]}"].concat();
        (Some(value), Truth::Batch(parts))
    }

    fn fresh(&mut self, partition: usize) -> (Option<Vec<u8>>, Truth) {
        let received = self.received();
        let rules = self.scenario.changes.iter().chain([&self.scenario.spec]);
        let skews: Vec<i64> = rules.map(|rules| rules.max_future_skew_micros).collect();
        let skew = self.dice.pick(&skews);
        let ts = received
            + match self.dice.below(100) {
                // late by some rules, hopeless by others
                0..12 => -self.dice.between(0, 1_500 * SECOND),
                12..14 => -self.dice.between(0, 3 * DAY),
                // as far ahead as the spec lets it be
                14..18 => skew - self.dice.between(0, 5),
                // beyond
                18..20 => skew + self.dice.between(1, 5),
                _ => -self.dice.between(0, 8_000_000),
            };
        let user = self.dice.below(12);
        let facts = Facts {
            // few ids share a prefix with another; none is nil
            id: self.dice.bits() | 1,
            ts,
            received,
            user: if user < 3 {
                user.to_string()
            } else {
                format!("user-{user}")
            },
            url: if self.dice.chance(25) {
                format!("{REFUSED}{}", self.dice.below(3))
            } else {
                format!("https://shop.example/p/{}", self.dice.below(6))
            },
            referrer: match self.dice.below(4) {
                0 => Some("https://search.example/?q=\"é\"\n".to_owned()),
                1 => Some(String::new()),
                _ => None,
            },
            ip: match self.dice.below(3) {
                0 => Some(IpAddr::from([10, 0, 0, 7])),
                1 => Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9])),
                _ => None,
            },
            session: self
                .dice
                .chance(700)
                .then(|| format!("s-{}", self.dice.below(20))),
            agent: self.dice.chance(200).then(|| "agent/1.0".to_owned()),
        };
        self.send(partition, facts)
    }

    /// The same id again: exactly, at another time of the same day, or on the next day; now and
    /// then with another page.
    fn resent(&mut self, partition: usize) -> (Option<Vec<u8>>, Truth) {
        let candidates: Vec<usize> = (0..self.sent.len())
            .filter(|&at| self.scenario.across_partitions || self.sent[at].0 == partition)
            .collect();
        if candidates.is_empty() {
            return self.fresh(partition);
        }
        // mostly what was sent lately, sometimes anything
        let reach = if self.dice.chance(600) {
            candidates.len().min(8)
        } else {
            candidates.len()
        };
        let at = candidates[candidates.len() - 1 - self.dice.below(reach)];
        let mut facts = self.sent[at].1.clone();
        facts.received = self.received();
        if self.dice.chance(150) {
            let page = format!("https://shop.example/p/{}", self.dice.below(6));
            // whether the database takes what an id says may change only where every order of
            // commits says the same
            let refused = facts.url.starts_with(REFUSED);
            if self.scenario.across_partitions || self.scenario.ledger_refuses {
                facts.url = if refused { facts.url } else { page };
            } else {
                facts.url = if refused { page } else { format!("{REFUSED}9") };
            }
        }
        match self.dice.below(10) {
            0..6 => {}
            6..9 => {
                let day = facts.ts.div_euclid(DAY) * DAY;
                let now = self.received();
                facts.ts = if self.dice.chance(500) && now.div_euclid(DAY) * DAY == day {
                    now
                } else {
                    day + self.dice.between(0, DAY - 1)
                };
            }
            _ => facts.ts += DAY,
        }
        self.send(partition, facts)
    }

    fn send(&mut self, partition: usize, mut facts: Facts) -> (Option<Vec<u8>>, Truth) {
        if self.scenario.whole_seconds {
            facts.ts -= facts.ts % SECOND;
        }
        let value = self.json(&facts);
        self.sent.push((partition, facts.clone()));
        (Some(value), Truth::Event(facts))
    }

    fn json(&mut self, facts: &Facts) -> Vec<u8> {
        let ts = chrono::DateTime::from_timestamp_micros(facts.ts)
            .expect("within chrono's years")
            .to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let id = uuid::Uuid::from_u128(facts.id);
        let quoted = |text: &str| serde_json::to_string(text).expect("text is JSON");
        let user = if facts.user.starts_with('u') {
            quoted(&facts.user)
        } else {
            facts.user.clone()
        };
        let mut json = format!(
            r#"{{"event_id":"{id}","user_id":{user},"event_ts":"{ts}","url":{}"#,
            quoted(&facts.url)
        );
        let texts = [
            ("referrer", &facts.referrer),
            ("session_id", &facts.session),
            ("user_agent", &facts.agent),
        ];
        for (field, text) in texts {
            if let Some(text) = text {
                json.push_str(&format!(r#","{field}":{}"#, quoted(text)));
            }
        }
        match facts.ip {
            Some(ip) => json.push_str(&format!(r#","ip":"{ip}""#)),
            None if self.dice.chance(150) => {
                self.odd = true;
                json.push_str(r#","ip":"-""#);
            }
            None => {}
        }
        json.push('}');
        json.into_bytes()
    }

    fn malformed(&mut self) -> (Option<Vec<u8>>, Truth) {
        let id = uuid::Uuid::from_u128(self.dice.bits() | 1);
        let (value, reason) = match self.dice.below(8) {
            0 => (String::new(), RejectReason::Empty),
            1 => (
                // too long by some rules
                format!(r#"{{"x":"{}"}}"#, "y".repeat(800)),
                RejectReason::MissingField,
            ),
            2 => {
                return (
                    Some(vec![b'{', 0xff, b'}']),
                    Truth::Rejected(RejectReason::InvalidUtf8),
                );
            }
            3 => (
                format!(r#"{{"event_id":"{id}","#),
                RejectReason::InvalidJson,
            ),
            4 => (format!(r#"["{id}"]"#), RejectReason::NotAnObject),
            5 => (
                format!(r#"{{"event_id":"{id}","user_id":"u","event_ts":1710114600000}}"#),
                RejectReason::MissingField,
            ),
            6 => (
                r#"{"event_id":[7],"user_id":"u","event_ts":1710114600000,"url":"/"}"#.to_owned(),
                RejectReason::InvalidField,
            ),
            _ => (
                format!(
                    r#"{{"event_id":"{id}","user_id":"u","event_ts":"1999-12-31T00:00:00Z","url":"/"}}"#
                ),
                RejectReason::TimestampOutOfRange,
            ),
        };
        (Some(value.into_bytes()), Truth::Rejected(reason))
    }
}
