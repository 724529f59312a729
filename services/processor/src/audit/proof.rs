//! The course of an audit: snapshot, log, tables, report.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clickstream_pipeline::{
    checkpoint::Counters,
    event::EventTime,
    offset::TopicPartition,
    spec::{ClickstreamPipeline, PostgresSettings, TargetSpec},
    window::TumblingWindow,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio_postgres::Client;

use super::{
    aggregates::{Fingerprints, TrafficAudit, WindowSum},
    census::Census,
    judge::Start,
    partition::{PartitionAudit, Recomputed, Shared},
    progress::Progress as Done,
    report::{AuditReport, Difference, Differences, Kind, PartitionReport},
    retained::Retained,
    snapshot::{Anchor, Snapshot},
    stored::{APPLICATION, Lookup},
    tally::Verdict,
};
use crate::sink::connect;

/// Sessions that look slices up at the same time: while one answers, the next slice is on its way.
const SESSIONS: usize = 3;
/// How long a broker's answer may take.
const BROKER_ANSWER: Duration = Duration::from_secs(15);

/// An audit whose snapshot is taken.
pub struct Proof {
    pub(super) client: Client,
    settings: PostgresSettings,
    schema: String,
    pub(super) consumer: Arc<BaseConsumer>,
    fingerprints: Fingerprints,
    pub(super) snapshot: Snapshot,
    pub(super) retained: Retained,
    pub(super) windows: TumblingWindow,
    pub(super) starts: Vec<Start>,
    pub(super) differences: Differences,
    pub(super) notes: Vec<String>,
}

impl Proof {
    /// Connects, takes the snapshot and finds out where each partition can be read from.
    ///
    /// # Errors
    /// A server cannot be reached or read, or another Kafka cluster than the target's is named.
    pub async fn begin(
        pipeline: &ClickstreamPipeline,
        target: &TargetSpec,
        settings: PostgresSettings,
        consumer: Arc<BaseConsumer>,
    ) -> anyhow::Result<Self> {
        let mut client = connect(&settings, &target.schema, APPLICATION)
            .await?
            .client;
        client
            .batch_execute(
                "set default_transaction_read_only = on; set jit = off; set lock_timeout = '30s'",
            )
            .await?;
        let fingerprints = Fingerprints::default();
        let snapshot = Snapshot::take(&mut client, &fingerprints)
            .await
            .with_context(|| format!("reading schema \"{}\": was it migrated?", target.schema))?;
        let dropped = snapshot
            .progress
            .iter()
            .any(|progress| progress.expired > 0);
        let retained = Retained::new(
            snapshot.taken_at,
            snapshot.days.clone(),
            dropped,
            &target.retention,
        );
        let window_micros = snapshot
            .window_micros
            .unwrap_or(pipeline.semantic().window_micros);
        let mut proof = Self {
            client,
            settings,
            schema: target.schema.clone(),
            consumer,
            fingerprints,
            snapshot,
            retained,
            windows: TumblingWindow::new(window_micros),
            starts: Vec::new(),
            differences: Differences::default(),
            notes: Vec::new(),
        };
        for progress in &proof.snapshot.progress {
            if let Some(anchor) = progress
                .anchors
                .iter()
                .find(|anchor| anchor.spec.window_micros != window_micros)
            {
                bail!(
                    "{}[{}]: the rules at offset {} have windows of {} µs, the schema has {window_micros} µs",
                    progress.topic,
                    progress.tp.partition,
                    anchor.next,
                    anchor.spec.window_micros
                );
            }
        }
        proof.find_starts().await?;
        Ok(proof)
    }

    /// Where each partition can be read from.
    async fn find_starts(&mut self) -> anyhow::Result<()> {
        let consumer = Arc::clone(&self.consumer);
        let places: Vec<_> = self
            .snapshot
            .progress
            .iter()
            .map(|p| (p.topic.clone(), p.tp.partition))
            .collect();
        let (cluster, bounds) = tokio::task::spawn_blocking(move || {
            let bounds: anyhow::Result<Vec<(i64, i64)>> = places
                .iter()
                .map(|(topic, partition)| {
                    consumer
                        .fetch_watermarks(topic, *partition, BROKER_ANSWER)
                        .with_context(|| {
                            format!("asking Kafka for the bounds of {topic}[{partition}]")
                        })
                })
                .collect();
            (consumer.client().fetch_cluster_id(BROKER_ANSWER), bounds)
        })
        .await?;
        let bounds = bounds?;
        if let Some(found) = cluster
            && let Some(known) = self
                .snapshot
                .kafka_clusters
                .iter()
                .find(|known| **known != found)
        {
            bail!(
                "Kafka cluster is {found}, but the target was filled from {known}: check spec.kafka.bootstrapServers"
            );
        }
        for (progress, (log_start, log_end)) in self.snapshot.progress.iter().zip(bounds) {
            let next = progress.next.get();
            let (topic, partition) = (&progress.topic, progress.tp.partition);
            if log_end < next {
                let detail = format!(
                    "the log ends at {log_end}, but {next} was reached: truncated, or another topic"
                );
                let found = Difference::new(Kind::LogEndsEarly, detail).of(topic, partition);
                self.differences.add(Some(progress.tp), found.at(log_end));
            }
            let start = Start::of(progress, log_start, next.min(log_end));
            match start.anchor {
                None if next > 0 => self.notes.push(format!(
                    "{topic}[{partition}]: no anchor lies in the log any more (it begins at {log_start}): its records were not compared"
                )),
                Some(at) if progress.anchors[at].state.counters != Counters::default() => self.notes.push(format!(
                    "{topic}[{partition}]: the log begins at {log_start}; compared from the anchor at {} on",
                    start.offsets.start
                )),
                _ => {}
            }
            for gap in &progress.gaps {
                self.notes.push(format!(
                    "{topic}[{partition}]: Kafka had dropped offsets {} to {} before they were read",
                    gap.start, gap.end
                ));
            }
            self.starts.push(start);
        }
        Ok(())
    }

    /// Whether everything that the partition's tables hold comes from records that the log still has.
    fn is_whole(&self, at: usize) -> bool {
        let anchors = &self.snapshot.progress[at].anchors;
        self.starts[at]
            .anchor
            .is_some_and(|anchor| anchors[anchor].state.counters == Counters::default())
    }

    /// Reads the log and compares everything.
    ///
    /// # Errors
    /// A server cannot be read, or a day was dropped meanwhile.
    pub async fn finish(mut self, show: bool) -> anyhow::Result<AuditReport> {
        let total: i64 = self
            .starts
            .iter()
            .map(|start| start.offsets.end - start.offsets.start)
            .sum();
        let done = if show {
            Done::show(u64::try_from(total).unwrap_or(0))
        } else {
            Done::silent()
        };
        let mut lookups = Vec::with_capacity(SESSIONS);
        for _ in 0..SESSIONS {
            lookups.push(Lookup::open(&self.settings, &self.schema).await?);
        }
        let mut windows = HashMap::new();
        let recomputed = self.read_partitions(&lookups, &done, &mut windows).await?;
        drop(lookups);
        let census = self.count_rows(&recomputed).await?;
        self.compare_ledgers().await?;
        let whole = (0..self.starts.len()).all(|at| self.is_whole(at));
        let compared = if whole {
            self.compare_sums(&windows).await?
        } else {
            self.recount_all().await?
        };
        self.compare_finality();
        self.check_days().await?;
        drop(done);
        Ok(self.report(&recomputed, &census, compared))
    }

    async fn read_partitions(
        &mut self,
        lookups: &[Lookup],
        done: &Done,
        windows: &mut HashMap<EventTime, WindowSum>,
    ) -> anyhow::Result<Vec<Recomputed>> {
        let positions = self.snapshot.positions();
        let shared = Shared {
            consumer: &self.consumer,
            lookups,
            positions: &positions,
            retained: &self.retained,
            fingerprints: &self.fingerprints,
            done,
        };
        let whole = (0..self.starts.len()).all(|at| self.is_whole(at));
        let mut recomputed = Vec::new();
        for (progress, start) in self.snapshot.progress.iter().zip(&self.starts) {
            // a window cannot change any more once it is closed by every rule that was or comes in force
            let grace =
                |anchor: &Anchor| anchor.spec.allowed_lateness_micros + anchor.spec.delay_micros;
            let grace = progress.anchors.iter().map(grace).max().unwrap_or(0);
            let parts = self
                .snapshot
                .parts
                .get(&progress.tp)
                .map_or(&[][..], Vec::as_slice);
            let traffic =
                whole.then(|| TrafficAudit::new(progress.tp, &progress.topic, parts, grace));
            let audit = PartitionAudit::new(
                &shared,
                progress,
                start,
                windows,
                traffic,
                &mut self.differences,
            );
            recomputed.push(audit.run(start).await?);
        }
        Ok(recomputed)
    }

    fn report(mut self, recomputed: &[Recomputed], census: &Census, windows: usize) -> AuditReport {
        let progress = std::mem::take(&mut self.snapshot.progress);
        if self.retained.days_were_dropped() {
            let expired: i64 = progress.iter().map(|progress| progress.expired).sum();
            self.notes.push(format!(
                "{expired} events of days that retention has dropped were not compared"
            ));
        }
        if self.retained.expires() {
            self.notes
                .push("what retention may have expired by now was not missed".to_owned());
        }
        let partitions: Vec<PartitionReport> = progress
            .iter()
            .zip(&self.starts)
            .zip(recomputed)
            .map(
                |((progress, start), Recomputed { tally, .. })| PartitionReport {
                    topic: progress.topic.clone(),
                    partition: progress.tp.partition,
                    from_offset: start.offsets.start,
                    to_offset: start.offsets.end,
                    consumed: tally.consumed,
                    accepted: tally.certain(Verdict::Accepted),
                    duplicate: tally.certain(Verdict::Duplicate),
                    rejected: tally.certain(Verdict::Rejected),
                    late: tally.certain(Verdict::Late),
                    skipped: tally.skipped,
                    undecided: tally.undecided,
                    differences: self.differences.of(progress.tp),
                },
            )
            .collect();
        let known = |tp: &TopicPartition| progress.iter().any(|progress| progress.tp == *tp);
        AuditReport {
            clean: self.differences.total() == 0,
            snapshot_at: self.snapshot.taken_at.to_string(),
            final_until: self.snapshot.final_until.map(|until| until.to_string()),
            records: partitions
                .iter()
                .map(|partition| partition.consumed + partition.skipped)
                .sum(),
            rows: census
                .iter()
                .filter(|(tp, _)| known(tp))
                .map(|(_, rows)| rows.on_time + rows.late)
                .sum(),
            windows,
            partitions,
            differences_total: self.differences.total(),
            differences: self.differences.into_listed(),
            notes: self.notes,
        }
    }
}
