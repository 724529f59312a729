//! Tables against what was recomputed: rows, ledgers, aggregates, finality.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use anyhow::bail;
use clickstream_pipeline::{
    checkpoint::Counters, event::EventTime, offset::TopicId, window::Window,
};

use super::{
    aggregates::{self, WindowSum},
    census::{self, Census, Scope},
    ledgers::Below,
    partition::Recomputed,
    proof::Proof,
    recount::{self, Counted, Recount},
    report::{Difference, Kind},
    snapshot, strays,
};

/// Windows whose pages are named; the rest is told as sums.
const NAMED_WINDOWS: usize = 20;

impl Proof {
    /// Every stored row must belong to a record, and be counted.
    pub(super) async fn count_rows(
        &mut self,
        recomputed: &[Recomputed],
        below: &[Below],
    ) -> anyhow::Result<Census> {
        let snapshot = &self.snapshot;
        let scopes: Vec<Scope> = snapshot
            .progress
            .iter()
            .zip(&self.starts)
            .zip(recomputed.iter().zip(below))
            .map(|((progress, start), (recomputed, below))| Scope {
                tp: progress.tp,
                buckets: recomputed.matched.clone(),
                end: start.offsets.end,
                next: progress.next,
                late_from: below.late_from(),
            })
            .collect();
        let census = census::take(&self.client, &scopes).await?;
        for (at, (progress, scope)) in snapshot.progress.iter().zip(&scopes).enumerate() {
            let (tp, start) = (progress.tp, &self.starts[at]);
            let rows = census.get(&tp).cloned().unwrap_or_default();
            strays::compare(
                &self.client,
                &self.consumer,
                progress,
                start,
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
            let Counters {
                accepted,
                merged,
                revised,
                ..
            } = progress.state.counters;
            if !(0..=accepted).contains(&revised) {
                differ(
                    Kind::CounterDiffers,
                    format!("checkpoint: revised {revised} of {accepted} accepted"),
                );
            }
            if rows.on_time + progress.expired + merged != accepted {
                differ(
                    Kind::CounterDiffers,
                    format!(
                        "checkpoint: accepted {accepted}, merged {merged}, but {} rows on time are stored and {} have expired",
                        rows.on_time, progress.expired
                    ),
                );
            }
            let windows = self.slices.totals.get(&tp).copied().unwrap_or_default();
            // each window was read between the first slice and the snapshot; those that expired or
            // that an earlier version wrote may have had more
            let least = if self.retained.keeps_aggregates() && !windows.older {
                self.slices.revised_before(tp)
            } else {
                0
            };
            if (0..=accepted).contains(&revised) && !(least..=revised).contains(&windows.revised) {
                differ(
                    Kind::RevisedDiffers,
                    format!(
                        "checkpoint: revised {revised}, but {} in all windows",
                        windows.revised
                    ),
                );
            }
            // windows were read before, some of them some records earlier than others: those that
            // came since are known where the log was read from there on
            let hits = windows.hits;
            let least = self.slices.reach(tp).least();
            let known = least == progress.next.get()
                || (start.offsets.start <= least && start.offsets.end == progress.next.get());
            if self.retained.keeps_aggregates()
                && known
                && let Some(after) = recomputed[at].hits_after
                && hits + after != accepted
            {
                differ(
                    Kind::TrafficHitsDiffer,
                    format!(
                        "{hits} hits in all windows, but accepted is {}",
                        accepted - after
                    ),
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
                // a partition that was claimed after the snapshot has rows below its checkpoint
                // only
                if total > 0 {
                    self.differences.add(None, found);
                }
            }
        }
        Ok(census)
    }

    /// Rows of the ledgers at or above their partition's checkpoint, which no slice of the log has
    /// met.
    pub(super) async fn compare_ledgers(&mut self) -> anyhow::Result<()> {
        for (table, kind) in [
            ("clickstream_dead_letters", Kind::StrayDeadLetter),
            ("clickstream_late_events", Kind::StrayLateEvent),
            ("clickstream_admitted_pages", Kind::AdmittedPagesDiffer),
        ] {
            if kind == Kind::AdmittedPagesDiffer && !self.sees_admitted {
                continue;
            }
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

    /// Hits and traffic of every window against the log; the pages and partitions of windows that
    /// differ are named from the rows.
    pub(super) async fn compare_sums(
        &mut self,
        recomputed: &HashMap<EventTime, WindowSum>,
    ) -> anyhow::Result<usize> {
        let retained = self.retained.clone();
        let kept = |window: &Window| !retained.window_is_gone(*window);
        let differing: Vec<Window> =
            aggregates::differing(&self.slices.windows, recomputed, &self.reopened)
                .into_iter()
                .filter(kept)
                .collect();
        for (at, window) in differing.iter().enumerate() {
            let before = self.differences.total();
            if at < NAMED_WINDOWS {
                self.recount(window.start..window.end, &mut Counted::default())
                    .await?;
            }
            // the rows themselves contradict the log: the sum stands for pages and partitions
            if self.differences.total() == before {
                let sum = |sums: &HashMap<EventTime, WindowSum>| {
                    sums.get(&window.start)
                        .copied()
                        .unwrap_or_else(|| WindowSum::ending(window.end))
                };
                let (stored, log) = (sum(&self.slices.windows), sum(recomputed));
                let (kind, detail) = if !stored.same_pages(&log) {
                    (
                        Kind::HitsDiffer,
                        format!(
                            "pages: stored {} hits in all, recomputed {}",
                            stored.hits, log.hits
                        ),
                    )
                } else if stored.traffic_hits != log.traffic_hits {
                    (
                        Kind::TrafficHitsDiffer,
                        format!(
                            "partitions: stored {} hits in all, recomputed {}",
                            stored.traffic_hits, log.traffic_hits
                        ),
                    )
                } else {
                    (
                        Kind::SketchDiffers,
                        "users or visits of some partition".to_owned(),
                    )
                };
                self.differences
                    .add(None, Difference::new(kind, detail).in_window(window.start));
            }
        }
        let reopened: HashMap<EventTime, WindowSum> = self
            .slices
            .windows
            .iter()
            .filter(|(start, _)| self.reopened.contains(*start))
            .map(|(&start, &sum)| (start, sum))
            .collect();
        for stretch in recount::neighbours(&reopened) {
            self.recount(stretch, &mut Counted::default()).await?;
        }
        let all = self.slices.windows.iter().map(|(&start, sum)| Window {
            start,
            end: sum.end,
        });
        Ok(all.filter(kept).count())
    }

    /// Aggregates against rows, for want of a log that goes back to the beginning.
    pub(super) async fn recount_all(&mut self) -> anyhow::Result<Counted> {
        self.notes.push("aggregates were compared with the stored rows, since the log does not go back to the beginning".to_owned());
        let mut counted = Counted::default();
        for stretch in recount::stretches(&self.slices.windows) {
            self.recount(stretch, &mut counted).await?;
        }
        if counted.undecided > 0 {
            self.not_proven.push(format!(
                "pages of {} windows: no anchor tells any more by which maxPerWindow their hits were counted as (other)",
                counted.undecided
            ));
        }
        Ok(counted)
    }

    async fn recount(
        &mut self,
        stretch: Range<EventTime>,
        counted: &mut Counted,
    ) -> anyhow::Result<()> {
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
            fingerprints: &self.fingerprints,
            admitted: self.sees_admitted,
        };
        recount
            .run(&mut self.client, stretch, counted, &mut self.differences)
            .await
    }

    /// While events come, nothing behind the window of the newest T is final; after a long silence
    /// everything is that was counted.
    pub(super) fn compare_finality(&mut self) {
        let Some(until) = self.snapshot.final_until else {
            return;
        };
        let newest = self
            .snapshot
            .progress
            .iter()
            .filter_map(|progress| progress.state.t)
            .max();
        let window = |time| self.windows.containing(time).end;
        let counted = self.snapshot.newest_window.map(window);
        // of windows that expired nothing is known, but that they were over
        let expired = (!self.retained.keeps_aggregates()).then_some(self.snapshot.taken_at);
        let limit = newest.map(window).max(counted).max(expired);
        if limit.is_none_or(|limit| until > limit) {
            let found = Difference::new(
                Kind::FinalTooFar,
                format!("final until {until}, beyond every event time and every window"),
            );
            self.differences.add(None, found);
        }
    }

    /// Rows of a day that was dropped while they were compared look like differences.
    pub(super) async fn check_days(&mut self) -> anyhow::Result<()> {
        let tx = self.client.transaction().await?;
        let now = snapshot::days(&tx).await?;
        let expiry = snapshot::expiry(&tx).await?;
        tx.commit().await?;
        if let Some(day) = self.snapshot.days.difference(&now).next() {
            bail!("retention dropped {day} during the audit; run it again");
        }
        if expiry != self.snapshot.expiry {
            bail!("retention dropped events during the audit; run it again");
        }
        Ok(())
    }
}
