//! `clickstream-processor audit`: proves that a target follows from the Kafka log, or names what does not.
//!
//! ```text
//! snapshot ─▶ per partition, from the first anchor that the log still has:
//!             log ─▶ judge ─▶ stored (rows by key, ledgers by place) ─▶ partition      every record is explained
//!                                                                        │
//!             census ─▶ strays                                           ├─▶ tally      counters, T
//!             every row is explained                                     └─▶ aggregates ─▶ recount
//! ```
//! It reads only: no group is joined, no offset committed, no row locked, and every transaction is short, so it can run
//! beside a live pipeline. Rows above the snapshot's positions are not looked at. What retention has taken away is left out,
//! and said so.

mod aggregates;
mod census;
mod column;
mod judge;
mod log;
mod partition;
mod progress;
mod recount;
mod report;
mod retained;
mod snapshot;
mod stored;
mod strays;
mod tally;

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use clickstream_pipeline::{
    checkpoint::Counters,
    event::EventTime,
    offset::{TopicId, TopicPartition},
    spec::{ClickstreamPipeline, PostgresSettings, Secrets, TargetSpec},
    window::{TumblingWindow, Window},
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio_postgres::Client;

use aggregates::{Fingerprints, TrafficAudit, WindowSum};
use census::{Census, Scope};
use judge::Start;
use partition::{PartitionAudit, Recomputed, Shared};
use progress::Progress as Done;
use recount::Recount;
use report::Differences;
pub use report::{AuditReport, Difference, Kind, PartitionReport};
use retained::Retained;
use snapshot::Snapshot;
use stored::{APPLICATION, Lookup};
use tally::Verdict;

use crate::sink::connect;

/// Sessions that look slices up at the same time: while one answers, the next slice is on its way.
const SESSIONS: usize = 3;
/// How long a broker's answer may take.
const BROKER_ANSWER: Duration = Duration::from_secs(15);
/// Windows whose pages are named; the rest is told as sums.
const NAMED_WINDOWS: usize = 20;
/// Exit code for differences, beside 0 for none and 1 for an audit that could not be done.
const DIFFERENCES: u8 = 3;

/// Form of the report on standard output.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Audits a target, prints the report, and answers with the process's exit code: 0 when nothing differs, 3 otherwise.
///
/// # Errors
/// The audit could not be done; nothing is known then.
pub async fn run(
    pipeline: &ClickstreamPipeline,
    target: &TargetSpec,
    secrets: &dyn Secrets,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let report = audit(pipeline, target, secrets, true).await?;
    let text = match output {
        Output::Table => report.to_string(),
        Output::Json => serde_json::to_string_pretty(&report)?,
    };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(if report.clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERENCES)
    })
}

/// Audits a target. With `show`, standard error tells how far it is.
///
/// # Errors
/// Kafka or PostgreSQL cannot be reached or read, another log than the target's is named, or a day was dropped meanwhile.
pub async fn audit(
    pipeline: &ClickstreamPipeline,
    target: &TargetSpec,
    secrets: &dyn Secrets,
    show: bool,
) -> anyhow::Result<AuditReport> {
    let settings = target.connection_settings(secrets)?;
    let consumer = Arc::new(log::consumer(pipeline, target, secrets)?);
    Audit::begin(pipeline, target, settings, consumer)
        .await?
        .finish(show)
        .await
}

/// An audit whose snapshot is taken.
struct Audit {
    client: Client,
    settings: PostgresSettings,
    schema: String,
    consumer: Arc<BaseConsumer>,
    fingerprints: Fingerprints,
    snapshot: Snapshot,
    retained: Retained,
    windows: TumblingWindow,
    starts: Vec<Start>,
    differences: Differences,
    notes: Vec<String>,
}

impl Audit {
    async fn begin(
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
        let mut audit = Self {
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
        for progress in &audit.snapshot.progress {
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
        audit.find_starts().await?;
        Ok(audit)
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
                None if next > log_start.min(next) || next > 0 => self.notes.push(format!(
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

    async fn finish(mut self, show: bool) -> anyhow::Result<AuditReport> {
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
            let grace = |anchor: &snapshot::Anchor| {
                anchor.spec.allowed_lateness_micros + anchor.spec.delay_micros
            };
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

    /// Every stored row must belong to a record, and be counted.
    async fn count_rows(&mut self, recomputed: &[Recomputed]) -> anyhow::Result<Census> {
        let snapshot = &self.snapshot;
        let scopes: Vec<Scope> = snapshot
            .progress
            .iter()
            .zip(&self.starts)
            .zip(recomputed)
            .map(|((progress, start), recomputed)| Scope {
                tp: progress.tp,
                buckets: recomputed.matched.clone(),
                end: start.offsets.end,
                next: progress.next,
            })
            .collect();
        let census = census::take(&self.client, &scopes).await?;
        for (progress, scope) in snapshot.progress.iter().zip(&scopes) {
            let tp = progress.tp;
            let rows = census.get(&tp).cloned().unwrap_or_default();
            strays::compare(
                &self.client,
                &self.consumer,
                progress,
                scope,
                &rows,
                &mut self.differences,
            )
            .await?;
            let mut differ = |kind, detail: String| {
                let found = Difference::new(kind, detail).of(&progress.topic, tp.partition);
                self.differences.add(Some(tp), found);
            };
            if rows.ahead > 0 {
                differ(
                    Kind::RowAheadOfCheckpoint,
                    format!("{} rows at or above the checkpoint", rows.ahead),
                );
            }
            let accepted = progress.state.counters.accepted;
            if rows.on_time + progress.expired != accepted {
                differ(
                    Kind::CounterDiffers,
                    format!(
                        "checkpoint: accepted {accepted}, but {} rows are stored and {} have expired",
                        rows.on_time, progress.expired
                    ),
                );
            }
            let hits: i64 = snapshot
                .parts
                .get(&tp)
                .map_or(0, |parts| parts.iter().map(|part| part.hits).sum());
            if self.retained.keeps_aggregates() && hits != accepted {
                differ(
                    Kind::TrafficHitsDiffer,
                    format!("{hits} hits in all windows, but accepted is {accepted}"),
                );
            }
        }
        for (tp, rows) in &census {
            if !scopes.iter().any(|scope| scope.tp == *tp) {
                let total = rows.ahead;
                let found = Difference::new(
                    Kind::UnknownPartition,
                    format!("{total} rows of {tp}, which has no checkpoint"),
                );
                // a partition that was claimed after the snapshot has rows below its checkpoint only
                if total > 0 {
                    self.differences.add(None, found);
                }
            }
        }
        Ok(census)
    }

    /// Rows of the ledgers at or above their partition's checkpoint, which no slice of the log has met.
    async fn compare_ledgers(&mut self) -> anyhow::Result<()> {
        for (table, kind) in [
            ("clickstream_dead_letters", Kind::StrayDeadLetter),
            ("clickstream_late_events", Kind::StrayLateEvent),
        ] {
            let rows = self
                .client
                .query(
                    &format!(
                        "select ledger.topic, ledger.partition, ledger.source_offset from {table} as ledger
                         left join clickstream_checkpoints as points using (topic, partition)
                         where points.topic is null or ledger.source_offset >= points.next_offset
                         order by 1, 2, 3 limit 1000"
                    ),
                    &[],
                )
                .await?;
            for row in rows {
                let (topic, partition): (&str, i32) = (row.try_get(0)?, row.try_get(1)?);
                let found = Difference::new(kind, "at or above the partition's checkpoint")
                    .of(topic, partition);
                self.differences.add(None, found.at(row.try_get(2)?));
            }
        }
        Ok(())
    }

    /// Hits of every window against the log; the pages of windows that differ are named from the rows.
    async fn compare_sums(
        &mut self,
        recomputed: &HashMap<EventTime, WindowSum>,
    ) -> anyhow::Result<usize> {
        self.compare_forms();
        let retained = self.retained.clone();
        let kept = |window: &Window| !retained.window_is_gone(*window);
        let differing: Vec<Window> = aggregates::differing(&self.snapshot.windows, recomputed)
            .into_iter()
            .filter(kept)
            .collect();
        for (at, window) in differing.iter().enumerate() {
            let before = self.differences.total();
            if at < NAMED_WINDOWS {
                self.recount(false, window.start..window.end).await?;
            }
            // the rows themselves contradict the log: the sum stands for the pages
            if self.differences.total() == before {
                let hits = |sums: &HashMap<EventTime, WindowSum>| {
                    sums.get(&window.start).map_or(0, |sum| sum.hits)
                };
                let (stored, log) = (hits(&self.snapshot.windows), hits(recomputed));
                let detail = format!("pages: stored {stored} hits in all, recomputed {log}");
                self.differences.add(
                    None,
                    Difference::new(Kind::HitsDiffer, detail).in_window(window.start),
                );
            }
        }
        let all = self.snapshot.windows.iter().map(|(&start, sum)| Window {
            start,
            end: sum.end,
        });
        Ok(all.filter(kept).count())
    }

    /// Aggregates against rows, for want of a log that goes back to the beginning.
    async fn recount_all(&mut self) -> anyhow::Result<usize> {
        self.compare_forms();
        self.notes.push("aggregates were compared with the stored rows, since the log does not go back to the beginning".to_owned());
        let mut windows = 0;
        for stretch in recount::stretches(&self.snapshot.windows) {
            windows += self.recount(true, stretch).await?;
        }
        Ok(windows)
    }

    async fn recount(
        &mut self,
        traffic: bool,
        stretch: std::ops::Range<EventTime>,
    ) -> anyhow::Result<usize> {
        let topics: BTreeMap<TopicId, String> = self
            .snapshot
            .progress
            .iter()
            .map(|progress| (progress.tp.topic, progress.topic.clone()))
            .collect();
        let recount = Recount {
            topics: &topics,
            windows: self.windows,
            retained: &self.retained,
            traffic,
        };
        recount
            .run(&mut self.client, stretch, &mut self.differences)
            .await
    }

    /// What aggregate rows say of themselves.
    fn compare_forms(&mut self) {
        for (start, detail) in std::mem::take(&mut self.snapshot.malformed) {
            self.differences.add(
                None,
                Difference::new(Kind::AggregateMalformed, detail).in_window(start),
            );
        }
        let parts = self
            .snapshot
            .parts
            .values()
            .flatten()
            .map(|part| (part.start, part.end));
        let sums = self
            .snapshot
            .windows
            .iter()
            .map(|(&start, sum)| (start, sum.end));
        for (start, end) in parts.chain(sums) {
            if self.windows.containing(start) != (Window { start, end }) {
                let found = Difference::new(
                    Kind::AggregateMalformed,
                    format!("no window of the schema ends at {end}"),
                );
                self.differences.add(None, found.in_window(start));
            }
        }
    }

    /// Nothing behind the window of the newest T can ever be final.
    fn compare_finality(&mut self) {
        let Some(until) = self.snapshot.final_until else {
            return;
        };
        let newest = self
            .snapshot
            .progress
            .iter()
            .filter_map(|progress| progress.state.t)
            .max();
        let limit = newest.map(|t| self.windows.containing(t).end);
        if limit.is_none_or(|limit| until > limit) {
            let found = Difference::new(
                Kind::FinalTooFar,
                format!("final until {until}, beyond every partition's event time"),
            );
            self.differences.add(None, found);
        }
    }

    /// Rows of a day that was dropped while they were compared look like differences.
    async fn check_days(&mut self) -> anyhow::Result<()> {
        let tx = self.client.transaction().await?;
        let now = snapshot::days(&tx).await?;
        tx.commit().await?;
        if let Some(day) = self.snapshot.days.difference(&now).next() {
            bail!("retention dropped {day} during the audit; run it again");
        }
        Ok(())
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
