//! The transaction of a flush: each step of the commit protocol as SQL.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, NaiveDate};
use clickstream_pipeline::{
    admission::{Admission, PageHash},
    batch::Batch,
    commit::{Advance, Position, StoredTwin, Transaction},
    decode::properties::UnlistedKeys,
    event::{Day, PAGE_VIEW},
    offset::{TopicId, TopicPartition},
    settle::{HitDelta, PartDelta, PartKey},
    sketch::SKETCH_FORMAT,
    spec::{Durability, SemanticSpec},
    window::Window,
};
use futures_util::{SinkExt, pin_mut};
use tokio_postgres::{
    CopyInSink, IsolationLevel, Row,
    types::{ToSql, Type},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, Span, debug_span};
use uuid::Uuid;

use super::{
    PostgresSink, SinkFault, Topics,
    anchors::{Anchors, Why},
    columns::{self, Entry, Table, Width},
    copy::{self, Prepared},
    keys::{self, Keys},
    promoted,
    rows::{Bits, KeyColumns, Timestamptz},
    statements::{PromotedInserts, Statements},
};
use crate::failpoints::{crash_point, tuned};

/// A step that takes longer is given up together with the connection. Longer than any lock_timeout
/// or statement_timeout that the server enforces itself, so it fires only when the server is not
/// heard from.
const STEP_DEADLINE: Duration = Duration::from_secs(90);

/// Bytes of a COPY that are sent at a time.
const COPY_SLICE: usize = 256 << 10;

/// In force for one transaction, so that a pooled session keeps nothing of it. A flush waits for a
/// lock at most 10 s, and its session is ended by the server if the client falls silent within it.
///
/// Every statement of a flush finds its rows by their keys, whatever the statistics of a young or a
/// large table say: one plan that reads a table from end to end is one that does not end in time.
const SETTINGS: &str = "set local lock_timeout = '10s'; set local statement_timeout = '60s'; \
     set local idle_in_transaction_session_timeout = '30s'; set local plan_cache_mode = force_generic_plan; \
     set local enable_hashjoin = off; set local enable_mergejoin = off; set local enable_seqscan = off";

/// An open transaction; dropping it rolls back.
pub struct FlushTransaction<'a> {
    tx: tokio_postgres::Transaction<'a>,
    statements: &'a Statements,
    topics: &'a Topics,
    lane: i16,
    settings: String,
    prepared: &'a mut Option<Prepared>,
    promoted: &'a mut PromotedInserts,
    keys: &'a mut Keys,
    /// Keys of properties that are listed with this transaction.
    unlisted: UnlistedKeys,
}

impl<'a> FlushTransaction<'a> {
    pub(super) async fn begin(sink: &'a mut PostgresSink) -> Result<Self, SinkFault> {
        let settings = match sink.durability {
            Durability::Strict => SETTINGS.to_owned(),
            Durability::Replayable => format!("{SETTINGS}; set local synchronous_commit = off"),
        };
        let build = sink.connection.client.build_transaction();
        // the protocol is one for READ COMMITTED, whatever the session's default has become
        let tx = answered(build.isolation_level(IsolationLevel::ReadCommitted).start())
            .instrument(step("begin"))
            .await?;
        crash_point("after_begin");
        Ok(Self {
            tx,
            statements: &sink.statements,
            topics: &sink.topics,
            lane: sink.lane,
            settings,
            prepared: &mut sink.prepared,
            promoted: &mut sink.promoted,
            keys: &mut sink.keys,
            unlisted: UnlistedKeys::default(),
        })
    }

    fn topic(&self, id: TopicId) -> &str {
        self.topics.get(&id).map_or("", String::as_str)
    }

    fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.topics
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(id, _)| *id)
    }

    /// Inserts rows into the table and returns those that it did not hold.
    async fn insert(
        &mut self,
        table: Table,
        batch: &Batch,
        rows: &[u32],
    ) -> Result<Vec<u32>, SinkFault> {
        self.keys.look(batch, rows, &mut self.unlisted);
        let promoted = batch.promoted();
        let statement = match (table, promoted.is_empty()) {
            (Table::Events, true) => self.statements.insert_events.clone(),
            (Table::Late, true) => self.statements.insert_late.clone(),
            (_, false) => answered(self.promoted.of(&self.tx, table, promoted)).await?,
        };
        let entries: Vec<Entry<'_>> = rows
            .iter()
            .map(|&at| Entry::of(batch, at, self.topics))
            .collect();
        let mut arrays = columns::arrays(table, &entries);
        arrays.extend(promoted::arrays(promoted, &entries));
        let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| &**array as _).collect();
        let returned = answered(self.tx.query(&statement, &params)).await?;
        let by_key: HashMap<(Uuid, NaiveDate), u32> = rows
            .iter()
            .map(|&at| {
                let row = &batch.rows[at as usize];
                ((row.event_id, row.day().date()), at)
            })
            .collect();
        let mut kept: Vec<u32> = returned
            .iter()
            .filter_map(|row| by_key.get(&(row.get(0), row.get(1))).copied())
            .collect();
        kept.sort_unstable_by_key(|&at| batch.rows[at as usize].key());
        Ok(kept)
    }
}

impl Transaction for FlushTransaction<'_> {
    type Error = SinkFault;

    async fn fence(&mut self, positions: &[Position]) -> Result<Vec<TopicPartition>, SinkFault> {
        if cfg!(feature = "unsafe-baseline") {
            answered(self.tx.batch_execute(&self.settings)).await?;
            return Ok(positions.iter().map(|p| p.partition).collect());
        }
        let topics: Vec<&str> = positions
            .iter()
            .map(|p| self.topic(p.partition.topic))
            .collect();
        let partitions: Vec<i32> = positions.iter().map(|p| p.partition.partition).collect();
        let tokens: Vec<Uuid> = positions.iter().map(|p| p.claim.token).collect();
        let expected: Vec<i64> = positions.iter().map(|p| p.expected.get()).collect();
        let (settings, held) = answered(async {
            let params: [&(dyn ToSql + Sync); 4] = [&topics, &partitions, &tokens, &expected];
            Ok(tokio::join!(
                self.tx.batch_execute(&self.settings),
                self.tx.query(&self.statements.fence, &params)
            ))
        })
        .instrument(step("fence"))
        .await?;
        settings?;
        Ok(held?
            .iter()
            .filter_map(|row| {
                Some(TopicPartition {
                    topic: self.topic_id(row.get(0))?,
                    partition: row.get(1),
                })
            })
            .collect())
    }

    async fn copy_new(
        &mut self,
        batch: &Batch,
        rows: &[u32],
        meanwhile: impl FnOnce(),
    ) -> Result<(), SinkFault> {
        let prepared = self.prepared.take();
        let stream = prepared
            .and_then(|prepared| prepared.stream_of(batch, rows))
            .unwrap_or_else(|| copy::encode(batch, rows));
        answered(async {
            let copy = Table::Events.copy_statement(Width::of(batch), batch.promoted());
            let sink = self.tx.copy_in(&copy).await?;
            // by another thread, since the work below leaves this one no time to send
            let sending = AbortOnDropHandle::new(tokio::spawn(send(sink, stream)));
            meanwhile();
            self.keys.look(batch, rows, &mut self.unlisted);
            let mut sink = sending.await.expect("sending does not panic")?;
            sink.as_mut().finish().await
        })
        .instrument(step("copy"))
        .await?;
        crash_point("after_copy");
        Ok(())
    }

    async fn insert_suspects(
        &mut self,
        batch: &Batch,
        rows: &[u32],
    ) -> Result<Vec<u32>, SinkFault> {
        let inserted = self
            .insert(Table::Events, batch, rows)
            .instrument(step("insert"))
            .await?;
        crash_point("after_upsert");
        Ok(inserted)
    }

    async fn insert_late(&mut self, batch: &Batch, rows: &[u32]) -> Result<Vec<u32>, SinkFault> {
        self.insert(Table::Late, batch, rows)
            .instrument(step("late events"))
            .await
    }

    async fn find_twins(
        &mut self,
        batch: &Batch,
        rows: &[u32],
    ) -> Result<Vec<StoredTwin>, SinkFault> {
        let days = by_day(batch, rows);
        let params: Vec<(&(dyn ToSql + Sync), Type)> = days
            .values()
            .map(|ids| (ids as &(dyn ToSql + Sync), Type::UUID_ARRAY))
            .collect();
        let found = answered(self.tx.query_typed(&twins_of(days.keys()), &params))
            .instrument(step("find twins"))
            .await?;
        let by_key: HashMap<(Uuid, Day), u32> = rows
            .iter()
            .map(|&at| {
                (
                    (
                        batch.rows[at as usize].event_id,
                        batch.rows[at as usize].day(),
                    ),
                    at,
                )
            })
            .collect();
        let twin = |row: &Row| {
            let date: NaiveDate = row.get(1);
            let epoch = DateTime::UNIX_EPOCH.date_naive();
            let days = i32::try_from(date.signed_duration_since(epoch).num_days()).ok()?;
            Some(StoredTwin {
                row: *by_key.get(&(row.get(0), Day::from_days(days)))?,
                source: TopicPartition {
                    topic: TopicId(row.get(2)),
                    partition: row.get(3),
                },
                offset: row.get(4),
                index: row.get(5),
            })
        };
        Ok(found.iter().filter_map(twin).collect())
    }

    async fn remove_late(&mut self, batch: &Batch, rows: &[u32]) -> Result<(), SinkFault> {
        let keys = KeyColumns::of(batch, rows);
        answered(self.tx.execute(
            &self.statements.remove_late,
            &[&keys.event_id, &keys.event_date],
        ))
        .await?;
        Ok(())
    }

    async fn insert_dead_letters(&mut self, batch: &Batch) -> Result<(), SinkFault> {
        let letters = &batch.dead_letters;
        let topics: Vec<&str> = letters.iter().map(|l| self.topic(l.source.topic)).collect();
        let partitions: Vec<i32> = letters.iter().map(|l| l.source.partition).collect();
        let offsets: Vec<i64> = letters.iter().map(|l| l.offset).collect();
        let reasons: Vec<&str> = letters.iter().map(|l| l.reason.as_str()).collect();
        let details: Vec<&str> = letters.iter().map(|l| l.detail.as_str()).collect();
        let payloads: Vec<&[u8]> = letters.iter().map(|l| batch.payload(l)).collect();
        let received: Vec<Timestamptz> =
            letters.iter().map(|l| Timestamptz(l.received_at)).collect();
        let indexes: Vec<i16> = letters.iter().map(|l| l.index).collect();
        let params: [&(dyn ToSql + Sync); 8] = [
            &topics,
            &partitions,
            &offsets,
            &reasons,
            &details,
            &payloads,
            &received,
            &indexes,
        ];
        answered(
            self.tx
                .execute(&self.statements.insert_dead_letters, &params),
        )
        .instrument(step("dead letters"))
        .await?;
        Ok(())
    }

    async fn admitted_pages(
        &mut self,
        parts: &[PartKey],
    ) -> Result<Vec<(PartKey, Vec<PageHash>)>, SinkFault> {
        let starts: Vec<Timestamptz> = parts.iter().map(|part| Timestamptz(part.1)).collect();
        let topics: Vec<&str> = parts.iter().map(|(tp, _)| self.topic(tp.topic)).collect();
        let partitions: Vec<i32> = parts.iter().map(|(tp, _)| tp.partition).collect();
        let params: [&(dyn ToSql + Sync); 3] = [&starts, &topics, &partitions];
        let rows = answered(self.tx.query(&self.statements.admitted_pages, &params))
            .instrument(step("admitted pages"))
            .await?;
        let of = |row: &Row| {
            // PostgreSQL counts from 1
            let place = usize::try_from(row.get::<_, i64>(0)).ok()?.checked_sub(1)?;
            let hashes: &[u8] = row.get(1);
            let (hashes, _) = hashes.as_chunks::<16>();
            Some((*parts.get(place)?, hashes.to_vec()))
        };
        Ok(rows.iter().filter_map(of).collect())
    }

    async fn admit_pages(&mut self, admissions: &[Admission]) -> Result<(), SinkFault> {
        let parts = || admissions.iter().map(|admission| admission.part);
        let starts: Vec<Timestamptz> = parts().map(|(_, start)| Timestamptz(start)).collect();
        let topics: Vec<&str> = parts().map(|(tp, _)| self.topic(tp.topic)).collect();
        let partitions: Vec<i32> = parts().map(|(tp, _)| tp.partition).collect();
        let offsets: Vec<i64> = admissions.iter().map(|some| some.from.get()).collect();
        let hashes: Vec<&[u8]> = admissions
            .iter()
            .map(|some| some.pages.as_flattened())
            .collect();
        let params: [&(dyn ToSql + Sync); 5] = [&starts, &topics, &partitions, &offsets, &hashes];
        answered(self.tx.execute(&self.statements.admit_pages, &params))
            .instrument(step("admission"))
            .await?;
        Ok(())
    }

    async fn add_hits(&mut self, hits: &[HitDelta]) -> Result<(), SinkFault> {
        let starts: Vec<Timestamptz> = hits.iter().map(|h| Timestamptz(h.window.start)).collect();
        let ends: Vec<Timestamptz> = hits.iter().map(|h| Timestamptz(h.window.end)).collect();
        let hashes: Vec<&[u8]> = hits.iter().map(|h| &h.url_hash[..]).collect();
        let counts: Vec<i64> = hits.iter().map(|h| h.hits).collect();
        let urls: Vec<&str> = hits.iter().map(|h| h.url.as_str()).collect();
        let names: Vec<&str> = hits
            .iter()
            .map(|h| h.event_name.as_deref().unwrap_or(PAGE_VIEW))
            .collect();
        let sites: Vec<Option<&str>> = hits.iter().map(|h| h.site.as_deref()).collect();
        let bots: Vec<i64> = hits.iter().map(|h| h.bot_hits).collect();
        let params: [&(dyn ToSql + Sync); 9] = [
            &starts, &ends, &hashes, &counts, &urls, &self.lane, &names, &sites, &bots,
        ];
        answered(self.tx.execute(&self.statements.add_hits, &params))
            .instrument(step("aggregates"))
            .await?;
        Ok(())
    }

    async fn write_parts(
        &mut self,
        parts: &[(PartKey, Window, &PartDelta)],
    ) -> Result<(), SinkFault> {
        let starts: Vec<Timestamptz> = parts.iter().map(|(_, w, _)| Timestamptz(w.start)).collect();
        let ends: Vec<Timestamptz> = parts.iter().map(|(_, w, _)| Timestamptz(w.end)).collect();
        let topics: Vec<&str> = parts
            .iter()
            .map(|((tp, _), _, _)| self.topic(tp.topic))
            .collect();
        let partitions: Vec<i32> = parts.iter().map(|((tp, _), _, _)| tp.partition).collect();
        let hits: Vec<i64> = parts.iter().map(|(_, _, p)| p.hits).collect();
        let revised: Vec<i64> = parts.iter().map(|(_, _, p)| p.revised).collect();
        let bots: Vec<i64> = parts.iter().map(|(_, _, p)| p.bot_hits).collect();
        let visitors: Vec<Bits<'_>> = parts
            .iter()
            .map(|(_, _, p)| Bits(p.visitors.bytes()))
            .collect();
        let sessions: Vec<Bits<'_>> = parts
            .iter()
            .map(|(_, _, p)| Bits(p.sessions.bytes()))
            .collect();
        let params: [&(dyn ToSql + Sync); 10] = [
            &starts,
            &ends,
            &topics,
            &partitions,
            &hits,
            &revised,
            &visitors,
            &sessions,
            &SKETCH_FORMAT,
            &bots,
        ];
        answered(self.tx.execute(&self.statements.write_parts, &params))
            .instrument(step("sketches"))
            .await?;
        Ok(())
    }

    async fn anchor(
        &mut self,
        positions: &[Position],
        rules: &Arc<SemanticSpec>,
    ) -> Result<(), SinkFault> {
        let mut anchors = Anchors::default();
        for position in positions {
            let Position {
                partition, claim, ..
            } = position;
            let topic = self.topics.get(&partition.topic).map_or("", String::as_str);
            anchors.add(topic, partition.partition, claim.token, rules);
        }
        let written = anchors.write(&self.tx, Why::Rules);
        let moved = written.instrument(step("anchors")).await?;
        // the fence holds all of them: records whose rules nothing tells must not be committed
        if moved != positions.len() as u64 {
            return Err(SinkFault::NotAdvanced {
                moved,
                expected: positions.len(),
            });
        }
        crash_point("after_anchor");
        Ok(())
    }

    async fn advance(&mut self, advances: &[Advance]) -> Result<(), SinkFault> {
        let topics: Vec<&str> = advances
            .iter()
            .map(|a| self.topic(a.position.partition.topic))
            .collect();
        let partitions: Vec<i32> = advances
            .iter()
            .map(|a| a.position.partition.partition)
            .collect();
        let tokens: Vec<Uuid> = advances.iter().map(|a| a.position.claim.token).collect();
        let expected: Vec<i64> = advances.iter().map(|a| a.position.expected.get()).collect();
        let next: Vec<i64> = advances.iter().map(|a| a.delta.to.get()).collect();
        let clock_t: Vec<Option<Timestamptz>> = advances
            .iter()
            .map(|a| a.delta.clock.t().map(Timestamptz))
            .collect();
        let at_end: Vec<bool> = advances.iter().map(|a| a.at_end).collect();
        let mut times = Vec::new();
        let (mut times_from, mut times_to) = (Vec::new(), Vec::new());
        for advance in advances {
            // PostgreSQL counts array places from 1
            times_from.push(sql_place(times.len()) + 1);
            times.extend(advance.delta.clock.times().map(Timestamptz));
            times_to.push(sql_place(times.len()));
        }
        let counts = |of: fn(&Advance) -> i64| -> Vec<i64> { advances.iter().map(of).collect() };
        let params: [&(dyn ToSql + Sync); 18] = [
            &topics,
            &partitions,
            &tokens,
            &expected,
            &next,
            &clock_t,
            &at_end,
            &times,
            &times_from,
            &times_to,
            &counts(|a| a.delta.counters.consumed),
            &counts(|a| a.delta.counters.accepted),
            &counts(|a| a.delta.counters.duplicate),
            &counts(|a| a.delta.counters.rejected),
            &counts(|a| a.delta.counters.late),
            &counts(|a| a.delta.counters.skipped),
            &counts(|a| a.delta.counters.revised),
            &counts(|a| a.delta.counters.merged),
        ];
        // the last for which a flush may have to wait for another one, which then has only its own
        // checkpoints to move
        answered(keys::list(&self.tx, &self.unlisted)).await?;
        let moved = answered(self.tx.execute(&self.statements.advance, &params))
            .instrument(step("advance"))
            .await?;
        if moved != advances.len() as u64 {
            return Err(SinkFault::NotAdvanced {
                moved,
                expected: advances.len(),
            });
        }
        crash_point("after_advance");
        Ok(())
    }

    async fn commit(self) -> Result<(), SinkFault> {
        let Self {
            tx, keys, unlisted, ..
        } = self;
        let committed = async {
            let commit = tx.commit();
            pin_mut!(commit);
            if crate::failpoints::ENABLED {
                // one poll sends the COMMIT, the yield lets the connection's task put it on the
                // wire; on another thread that may be quick enough for the first poll to bring the
                // answer, and a future that is done must not be polled again
                let polled = futures_util::poll!(commit.as_mut());
                tokio::task::yield_now().await;
                crash_point("commit_sent");
                if let Poll::Ready(answer) = polled {
                    answer?;
                    crash_point("commit_acknowledged");
                    return Ok(());
                }
            }
            answered(commit).await?;
            crash_point("commit_acknowledged");
            Ok::<_, SinkFault>(())
        };
        committed.instrument(step("commit")).await?;
        keys.committed(&unlisted);
        Ok(())
    }
}

/// Sends the stream in slices: the server stores the first rows while the others are on their way,
/// and neither side keeps a buffer of the size of a flush.
async fn send(
    sink: CopyInSink<Bytes>,
    mut stream: Bytes,
) -> Result<Pin<Box<CopyInSink<Bytes>>>, tokio_postgres::Error> {
    let mut sink = Box::pin(sink);
    while !stream.is_empty() {
        let slice = stream.split_to(COPY_SLICE.min(stream.len()));
        sink.send(slice).await?;
    }
    Ok(sink)
}

fn by_day(batch: &Batch, rows: &[u32]) -> BTreeMap<Day, Vec<Uuid>> {
    let mut days: BTreeMap<Day, Vec<Uuid>> = BTreeMap::new();
    for &at in rows {
        let row = &batch.rows[at as usize];
        days.entry(row.day()).or_default().push(row.event_id);
    }
    days
}

/// Looks the n-th day's ids, which are the n-th parameter, up. Days stand in the text of the
/// statement, so that the planner opens and locks the partitions of these days and no other: years
/// of partitions do not fit the server's lock table.
fn twins_of<'a>(days: impl Iterator<Item = &'a Day>) -> String {
    let of_a_day = (1..).zip(days).map(|(place, day)| {
        format!(
            "select event_id, event_date, source_topic_id, source_partition, source_offset, source_index from clickstream_events \
             where event_date = '{}' and event_id = any (${place})",
            day.date()
        )
    });
    of_a_day.collect::<Vec<_>>().join(" union all ")
}

/// One step as a span: within that of its flush.
fn step(name: &'static str) -> Span {
    debug_span!(
        "step",
        otel.name = name,
        otel.kind = "client",
        db.system.name = "postgresql"
    )
}

fn sql_place(at: usize) -> i32 {
    i32::try_from(at).expect("31 times of at most 10,000 partitions")
}

/// The server's answer, or [`SinkFault::Deadline`] when none comes.
pub(super) async fn answered<T>(
    step: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SinkFault> {
    let deadline = tuned("CLICKSTREAM_TEST_STEP_DEADLINE_MS", STEP_DEADLINE);
    match tokio::time::timeout(deadline, step).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(SinkFault::Deadline(deadline)),
    }
}
