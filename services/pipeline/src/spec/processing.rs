//! What happens between the log and the tables: windows, watermarks, late events, and who does the work.

use serde::{Deserialize, Serialize};

use super::quantity::{Bytes, Duration};
use super::semantic::LatePolicy;
use super::validate::At;

/// The windows that clicks are counted in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WindowSpec {
    /// Length of a window; windows begin at midnight UTC and never cross it. Refused once a schema holds windows.
    /// Default `1m`.
    pub size: Duration,
}

/// How far event time is known to have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WatermarkSpec {
    /// How far the watermark stays behind the event times seen: the disorder that is expected. A larger delay makes
    /// windows final later. Rolling. Default `10s`.
    pub delay: Duration,
    /// How long a partition at the end of its log may be silent before it stops holding finality back. It decides no
    /// event's verdict. Rolling. Default `30s`.
    pub idle_timeout: Duration,
    /// How far an event may be dated after its record; beyond it the event is rejected. Rolling. Default `5m`.
    pub max_future_skew: Duration,
}

/// What happens to events that come after their window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LateEventsSpec {
    /// How long after its end, in event time, a window still takes events. More makes windows final later. Rolling.
    /// Default `10m`.
    pub allowed_lateness: Duration,
    /// What happens to events later than that. Rolling. Default `Divert`.
    pub policy: LatePolicy,
}

/// The processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProcessorSpec {
    /// Number of processors per target; more than there are partitions are spares. Live. Default 2.
    pub replicas: u32,
    /// Records behind the end of the log from which on the pipeline counts as lagging. Live. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_target: Option<u64>,
    /// Memory of the filter that recognises surely new events, per processor. More keeps long histories fast; it
    /// never changes a result. Rolling. Default `32Mi`.
    pub filter_memory: Bytes,
    /// Longer records are rejected. Rolling. Default `65536`.
    pub max_event_bytes: Bytes,
    /// When a transaction is full.
    pub flush: FlushSpec,
}

/// When a transaction is full. Transactions follow each other without a timer; these only bound them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FlushSpec {
    /// Most records in a transaction. Rolling. Default 60000.
    pub max_rows: u32,
    /// Most payload bytes in a transaction. Rolling. Default `16Mi`.
    pub max_bytes: Bytes,
}

/// The built-in producer of synthetic clicks, for trials and load tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProducerSpec {
    /// Whether it runs. Default `false`.
    pub enabled: bool,
    /// Events per second. Default 83, five thousand a minute.
    pub rate: u32,
    /// Number of different users. Default 10000.
    pub users: u64,
    /// Seed of everything random; the same seed writes the same events. Default 42.
    pub seed: u64,
    /// How far events are out of order, at most. Default `5s`.
    pub disorder: Duration,
    /// Share of events that are sent twice, 0 to 1. Default 0.02.
    pub duplicates: f64,
    /// Share of events that come too late, 0 to 1. Default 0.001.
    pub late: f64,
    /// Share of records that are no valid event, 0 to 1. Default 0.01.
    pub malformed: f64,
}

/// What happens to things outside Kubernetes when the pipeline is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeletionPolicySpec {
    /// The topics the pipeline created; adopted and external ones always stay. Default `Retain`.
    pub topics: DeletionPolicy,
    /// The tables and the rows in them. Default `Retain`.
    pub tables: DeletionPolicy,
}

/// What happens to a thing when the pipeline is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// It stays, and a pipeline of the same name continues with it.
    #[default]
    Retain,
    /// It is deleted, with everything in it.
    Delete,
}

impl Default for WindowSpec {
    fn default() -> Self {
        Self {
            size: Duration::from_secs(60),
        }
    }
}

impl Default for WatermarkSpec {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            max_future_skew: Duration::from_secs(300),
        }
    }
}

impl Default for LateEventsSpec {
    fn default() -> Self {
        Self {
            allowed_lateness: Duration::from_secs(600),
            policy: LatePolicy::Divert,
        }
    }
}

impl Default for ProcessorSpec {
    fn default() -> Self {
        Self {
            replicas: 2,
            lag_target: None,
            filter_memory: Bytes::from_mebi(32),
            max_event_bytes: Bytes::new(65_536),
            flush: FlushSpec::default(),
        }
    }
}

impl Default for FlushSpec {
    fn default() -> Self {
        Self {
            max_rows: 60_000,
            max_bytes: Bytes::from_mebi(16),
        }
    }
}

impl Default for ProducerSpec {
    fn default() -> Self {
        Self {
            enabled: false,
            rate: 83,
            users: 10_000,
            seed: 42,
            disorder: Duration::from_secs(5),
            duplicates: 0.02,
            late: 0.001,
            malformed: 0.01,
        }
    }
}

impl WindowSpec {
    pub(super) fn check(&self, at: &mut At<'_>) {
        let day = Duration::from_hours(24);
        let mut at = at.field("size");
        if self.size < Duration::from_secs(1) || self.size > day {
            at.within(self.size, Duration::from_secs(1)..=day);
        } else if day.micros() % self.size.micros() != 0 {
            at.problem("a day must be a whole number of windows: choose a divisor of 24h, such as 1m, 5m or 1h");
        }
    }
}

impl WatermarkSpec {
    pub(super) fn check(&self, at: &mut At<'_>) {
        let day = Duration::from_hours(24);
        at.field("delay").within(self.delay, Duration::ZERO..=day);
        at.field("idleTimeout")
            .within(self.idle_timeout, Duration::from_secs(1)..=day);
        at.field("maxFutureSkew")
            .within(self.max_future_skew, Duration::ZERO..=day);
    }
}

impl LateEventsSpec {
    pub(super) fn check(&self, at: &mut At<'_>) {
        // a month: open windows are held in memory for as long
        at.field("allowedLateness").within(
            self.allowed_lateness,
            Duration::ZERO..=Duration::from_hours(744),
        );
    }
}

impl ProcessorSpec {
    pub(super) fn check(&self, at: &mut At<'_>) {
        check_replicas(self.replicas, &mut at.field("replicas"));
        if let Some(lag) = self.lag_target {
            at.field("lagTarget").within(lag, 1..=1_000_000_000_000);
        }
        at.field("filterMemory").within(
            self.filter_memory,
            Bytes::from_mebi(1)..=Bytes::from_mebi(16_384),
        );
        at.field("maxEventBytes").within(
            self.max_event_bytes,
            Bytes::new(1024)..=Bytes::from_mebi(16),
        );
        let mut at = at.field("flush");
        at.field("maxRows")
            .within(self.flush.max_rows, 1..=1_000_000);
        at.field("maxBytes").within(
            self.flush.max_bytes,
            Bytes::new(65_536)..=Bytes::from_mebi(512),
        );
        if self.flush.max_bytes < self.max_event_bytes {
            at.field("maxBytes")
                .problem("smaller than one event may be: raise it, or lower maxEventBytes");
        }
    }
}

impl ProducerSpec {
    pub(super) fn check(&self, at: &mut At<'_>) {
        at.field("rate").within(self.rate, 1..=1_000_000);
        at.field("users").within(self.users, 1..=1_000_000_000);
        at.field("disorder")
            .within(self.disorder, Duration::ZERO..=Duration::from_hours(1));
        for (field, share) in [
            ("duplicates", self.duplicates),
            ("late", self.late),
            ("malformed", self.malformed),
        ] {
            // written so that NaN is outside
            at.field(field).within(share, 0.0..=1.0);
        }
    }
}

/// The bound protects the cluster from a slip of the hand.
pub(super) fn check_replicas(replicas: u32, at: &mut At<'_>) {
    at.within(replicas, 1..=1000);
}
