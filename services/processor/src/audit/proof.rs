//! The course of an audit: snapshot, log, tables, report.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use clickstream_pipeline::{
    event::EventTime,
    offset::TopicPartition,
    spec::{ClickstreamPipeline, PostgresSettings, TargetSpec},
    window::TumblingWindow,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio_postgres::Client;

use super::{
    Options, admissions,
    aggregates::{Fingerprints, Sums, WindowSum},
    anchors::Start,
    census::Census,
    coverage::{Coverage, Outcome},
    partition::{Given, PartitionAudit, Recomputed, Shared},
    progress::Progress as Done,
    promoted,
    recount::Counted,
    report::{AuditReport, Difference, Differences, Kind, PartitionReport},
    retained::Retained,
    slices::Slices,
    snapshot::Snapshot,
    stored::Lookup,
    tally::Verdict,
    unread::Unread,
};
use crate::sink::KnownTopic;

/// Sessions that look slices up at the same time: while one answers, the next slice is on its way.
const SESSIONS: usize = 3;
/// How long a broker's answer may take.
const BROKER_ANSWER: Duration = Duration::from_secs(15);

/// An audit whose snapshots are taken.
pub struct Proof {
    pub(super) client: Client,
    settings: PostgresSettings,
    schema: String,
    pub(super) consumer: Arc<BaseConsumer>,
    pub(super) fingerprints: Fingerprints,
    pub(super) slices: Slices,
    pub(super) snapshot: Snapshot,
    pub(super) retained: Retained,
    pub(super) windows: TumblingWindow,
    window_micros: i64,
    held_windows: usize,
    pub(super) reopened: HashSet<EventTime>,
    pub(super) starts: Vec<Start>,
    unread: Vec<Unread>,
    pub(super) differences: Differences,
    pub(super) notes: Vec<String>,
    pub(super) not_proven: Vec<String>,
    /// Whether the role may read which pages were admitted.
    pub(super) sees_admitted: bool,
}

impl Proof {
    /// Reads the aggregates in slices, takes the snapshot that everything is read up to, and finds
    /// out where each partition can be read from.
    ///
    /// # Errors
    /// A server cannot be reached or read, or another Kafka cluster than the target's is named.
    pub async fn begin(
        pipeline: &ClickstreamPipeline,
        target: &TargetSpec,
        (mut client, settings): (Client, PostgresSettings),
        consumer: Arc<BaseConsumer>,
        topics: Vec<KnownTopic>,
        options: Options,
    ) -> anyhow::Result<Self> {
        let fingerprints = Fingerprints::default();
        let window_micros = client
            .query_opt("select window_micros from clickstream_schema", &[])
            .await?
            .and_then(|row| row.get(0))
            .unwrap_or(pipeline.semantic().window_micros);
        let windows = TumblingWindow::new(window_micros);
        let mut differences = Differences::default();
        // before the positions up to which the log is read, so that every hit that is found is one
        // of a record that is read
        let slices = Slices::read(
            &mut client,
            &fingerprints,
            windows,
            options.slice_rows,
            &mut differences,
        )
        .await?;
        let sees_admitted = admissions::may_read(&client).await?;
        let snapshot = Snapshot::take(&mut client).await?;
        if let Some(day) = &snapshot.expiry.leaving {
            bail!("retention is dropping {day} at this moment; run the audit again in a minute");
        }
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
        let mut proof = Self {
            client,
            settings,
            schema: target.schema.clone(),
            consumer,
            fingerprints,
            slices,
            snapshot,
            retained,
            windows,
            window_micros,
            held_windows: options.held_windows,
            reopened: HashSet::new(),
            starts: Vec::new(),
            unread: Vec::new(),
            differences,
            notes: Vec::new(),
            not_proven: Vec::new(),
            sees_admitted,
        };
        proof.find_starts(topics).await?;
        Ok(proof)
    }

    /// Where each partition can be read from, and which of the topics' partitions were not read at
    /// all.
    async fn find_starts(&mut self, topics: Vec<KnownTopic>) -> anyhow::Result<()> {
        let consumer = Arc::clone(&self.consumer);
        let places: Vec<_> = self
            .snapshot
            .progress
            .iter()
            .map(|p| (p.topic.clone(), p.tp.partition))
            .collect();
        let (cluster, bounds, unread) = tokio::task::spawn_blocking(move || {
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
            let unread = Unread::ask(&consumer, &topics, &places);
            (
                consumer.client().fetch_cluster_id(BROKER_ANSWER),
                bounds,
                unread,
            )
        })
        .await?;
        let bounds = bounds?;
        self.unread = unread;
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
            let start = Start::find(&self.client, progress, log_start..log_end).await?;
            if start.anchor.is_some() && !start.is_whole() {
                self.notes.push(format!(
                    "{topic}[{partition}]: the log begins at {log_start}; compared from the anchor at {} on",
                    start.offsets.start
                ));
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
        let below = self.below().await?;
        let census = self.count_rows(&recomputed, &below).await?;
        self.compare_below(&below, &census).await?;
        self.compare_ledgers().await?;
        let compared = if self.is_whole() {
            let parts = self.snapshot.progress.iter().map(|progress| progress.tp);
            Counted {
                parts: parts
                    .zip(recomputed.iter().map(|done| done.windows))
                    .collect(),
                windows: self.compare_sums(&windows).await?,
                undecided: 0,
            }
        } else {
            self.recount_all().await?
        };
        self.compare_finality();
        self.check_days().await?;
        drop(done);
        Ok(self.report(&recomputed, &census, &compared))
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
            done,
        };
        let whole = self.is_whole();
        let retained = &self.retained;
        let mut recomputed = Vec::new();
        let mut gone = BTreeSet::new();
        for (progress, start) in self.snapshot.progress.iter().zip(&self.starts) {
            let anchors = start.anchors(&self.client, progress).await?;
            if let Some(other) = anchors
                .iter()
                .find(|anchor| anchor.spec.window_micros != self.window_micros)
            {
                bail!(
                    "{}[{}]: the rules at offset {} have windows of {} µs, the schema has {} µs",
                    progress.topic,
                    progress.tp.partition,
                    other.next,
                    other.spec.window_micros,
                    self.window_micros
                );
            }
            let columns = anchors
                .iter()
                .flat_map(|anchor| &anchor.spec.events.columns);
            gone.extend(
                columns
                    .filter(|column| !lookups[0].columns.has(column))
                    .map(|column| (column.name.clone(), column.r#type.sql())),
            );
            let given = Given {
                start,
                anchors: &anchors,
                reach: self.slices.reach(progress.tp),
                windows: whole,
                held: self.held_windows,
                size: self.windows,
                admitted: self.sees_admitted,
            };
            let sums = Sums {
                fingerprints: &self.fingerprints,
                windows,
                reopened: &mut self.reopened,
                excluded: &|window| retained.window_is_gone(window),
                older: &|start| self.slices.forms.is_older(progress.tp, start),
            };
            let audit = PartitionAudit::new(&shared, progress, given, sums, &mut self.differences);
            recomputed.push(audit.run().await?);
        }
        let keys = recomputed.iter().flat_map(|done| &done.unlisted);
        self.notes.extend(promoted::unlisted(&keys.collect()));
        self.notes.extend(gone.into_iter().map(|(name, sql_type)| {
            format!("column \"{name}\" was promoted as {sql_type}, and is not there any more as that: not compared")
        }));
        Ok(recomputed)
    }

    /// Whether everything that the tables hold comes from records that the log still has.
    fn is_whole(&self) -> bool {
        self.starts.iter().all(Start::is_whole)
    }

    fn report(
        mut self,
        recomputed: &[Recomputed],
        census: &Census,
        compared: &Counted,
    ) -> AuditReport {
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
        let (older, windows) = (self.slices.forms.older_windows(), self.slices.windows.len());
        if older > 0 {
            self.notes.push(format!(
                "visitors and sessions of {older} of {windows} windows are of an older form and were not compared"
            ));
        }
        if !self.slices.sees_view {
            self.notes.push(
                "clickstream_traffic_minute was not compared, since the role may not read it"
                    .to_owned(),
            );
        }
        let mut not_proven = self.not_proven;
        let mut partitions = Vec::new();
        for ((progress, start), done) in progress.iter().zip(&self.starts).zip(recomputed) {
            let (tp, tally) = (progress.tp, &done.tally);
            let coverage = Coverage::new(
                &progress.state.counters,
                tally,
                compared.parts.get(&tp).copied().unwrap_or(0),
                self.slices.totals.get(&tp).map_or(0, |total| total.windows),
            );
            not_proven.extend(coverage.doubts(progress, start, tally));
            partitions.push(PartitionReport {
                topic: progress.topic.clone(),
                partition: tp.partition,
                checkpoint: true,
                from_offset: start.offsets.start,
                to_offset: start.offsets.end,
                rules: done.rules.clone(),
                unread: Some(start.unread),
                consumed: tally.consumed,
                accepted: tally.certain(Verdict::Accepted) + tally.certain(Verdict::Merged),
                duplicate: tally.certain(Verdict::Duplicate),
                rejected: tally.certain(Verdict::Rejected),
                late: tally.certain(Verdict::Late),
                skipped: tally.skipped,
                undecided: tally.undecided,
                differences: self.differences.of(tp),
                records_compared: coverage.records_compared,
                records_counted: coverage.records_counted,
                windows_compared: coverage.windows_compared,
                windows_stored: coverage.windows_stored,
            });
        }
        for unread in &self.unread {
            not_proven.push(unread.doubt());
            partitions.push(unread.report());
        }
        partitions.sort_by(|one, other| {
            (&one.topic, one.partition).cmp(&(&other.topic, other.partition))
        });
        let known = |tp: &TopicPartition| progress.iter().any(|progress| progress.tp == *tp);
        let total = |of: fn(&PartitionReport) -> i64| partitions.iter().map(of).sum::<i64>();
        let outcome = Outcome::of(self.differences.total(), &not_proven);
        AuditReport {
            outcome,
            clean: outcome == Outcome::Clean,
            snapshot_at: self.snapshot.taken_at.to_string(),
            final_until: self.snapshot.final_until.map(|until| until.to_string()),
            records: total(|partition| partition.consumed + partition.skipped),
            records_compared: total(|partition| partition.records_compared),
            records_counted: total(|partition| partition.records_counted),
            rows: census
                .iter()
                .filter(|(tp, _)| known(tp))
                .map(|(_, rows)| rows.on_time + rows.late)
                .sum(),
            windows: compared.windows,
            windows_stored: windows,
            windows_of_older_form: older,
            partitions,
            differences_total: self.differences.total(),
            differences_by_kind: self.differences.by_kind().clone(),
            differences: self.differences.into_listed(),
            not_proven,
            notes: self.notes,
        }
    }
}
