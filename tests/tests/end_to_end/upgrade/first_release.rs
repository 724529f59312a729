//! What a processor of the first release does to the tables, statement by statement as it did it.
//! Its programs cannot be built here in the time of a test (`cargo xtask bench upgrade` runs them);
//! its SQL can be kept, and meets every later version.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use clickstream_pipeline::{
    event::EventTime, settle::url_hash, watermark::EventClock, window::TumblingWindow,
};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls, types::ToSql};
use uuid::Uuid;

use crate::{records::Click, stack::Stack};

const REGISTER_TOPIC: &str = "
    insert into clickstream_topics as known (topic, kafka_cluster, kafka_topic_id, partitions, created_by) values ($1, $2, $3, $4, $5)
    on conflict (topic) do update
    set kafka_cluster = coalesce(known.kafka_cluster, excluded.kafka_cluster),
        kafka_topic_id = coalesce(known.kafka_topic_id, excluded.kafka_topic_id),
        partitions = greatest(known.partitions, excluded.partitions),
        created_by = coalesce(known.created_by, excluded.created_by)
    returning topic_id, kafka_cluster, kafka_topic_id";

const END_PREVIOUS_OWNERS: &str = "
    select backends.pid, pg_terminate_backend(backends.pid, $3)
    from (
        select distinct points.backend_pid, points.backend_start
        from clickstream_checkpoints as points
        join unnest($1::text[], $2::int[]) as wanted (topic, partition)
          on points.topic = wanted.topic and points.partition = wanted.partition
    ) as owners
    join pg_stat_activity as backends
      on backends.pid = owners.backend_pid and backends.backend_start = owners.backend_start
     and backends.application_name like 'clickstream-processor%'
    where backends.pid <> pg_backend_pid()";

const BEGIN_PARTITIONS: &str = "
    insert into clickstream_checkpoints (topic, partition, epoch, claim_token, next_offset, clock_times, owner, backend_pid, backend_start)
    select topic, partition, 0, gen_random_uuid(), log_start, '{}', '', 0, 'epoch'
    from unnest($1::text[], $2::int[], $3::bigint[]) as new (topic, partition, log_start)
    order by topic, partition
    on conflict (topic, partition) do nothing";

const CLAIM: &str = "
    update clickstream_checkpoints
    set epoch = epoch + 1, claim_token = $3, next_offset = greatest(next_offset, $4), owner = $5,
        backend_pid = $6, backend_start = $7, updated_at = clock_timestamp()
    where topic = $1 and partition = $2
    returning epoch, next_offset, clock_t, clock_times, consumed, accepted, duplicate, rejected, late, skipped,
        revised";

const ANCHOR: &str = "
    insert into clickstream_anchors (topic, partition, next_offset, reason, spec, clock_t, clock_times, consumed, accepted,
        duplicate, rejected, late, skipped)
    select points.topic, points.partition, points.next_offset, $3, $4, points.clock_t, points.clock_times, points.consumed,
        points.accepted, points.duplicate, points.rejected, points.late, points.skipped
    from clickstream_checkpoints as points
    join unnest($1::text[], $2::int[]) as wanted (topic, partition)
      on points.topic = wanted.topic and points.partition = wanted.partition
    on conflict (topic, partition, next_offset) do update set spec = excluded.spec";

const FENCE: &str = "
    select points.topic, points.partition
    from clickstream_checkpoints as points
    join unnest($1::text[], $2::int[], $3::uuid[], $4::bigint[]) as mine (topic, partition, token, expected)
      on points.topic = mine.topic and points.partition = mine.partition
    where points.claim_token = mine.token and points.next_offset = mine.expected
    order by points.topic, points.partition
    for no key update of points";

const LOAD_SKETCHES: &str = "
    select parts.topic, parts.partition, parts.window_start, parts.visitors_sketch, parts.sessions_sketch
    from clickstream_traffic_parts as parts
    join unnest($1::text[], $2::int[], $3::timestamptz[]) as wanted (topic, partition, window_start)
      on parts.topic = wanted.topic and parts.partition = wanted.partition and parts.window_start = wanted.window_start";

const INSERT_EVENTS: &str = "
    insert into clickstream_events (event_id, user_id, event_ts, event_date, url, referrer, ip, received_at, session_id,
        user_agent, is_late, source_topic_id, source_partition, source_offset)
    select * from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::date[], $5::text[], $6::text[], $7::inet[],
        $8::timestamptz[], $9::text[], $10::text[], $11::bool[], $12::smallint[], $13::int[], $14::bigint[])
    on conflict (event_id, event_date) do nothing
    returning event_id, event_date";

const ADD_HITS: &str = "
    insert into clickstream_agg_lanes (window_start, window_end, url_hash, lane, hits, url)
    select added.window_start, added.window_end, added.url_hash, $6::smallint, added.hits, added.url
    from unnest($1::timestamptz[], $2::timestamptz[], $3::bytea[], $4::bigint[], $5::text[])
      as added (window_start, window_end, url_hash, hits, url)
    on conflict (window_start, window_end, url_hash, lane)
    do update set hits = clickstream_agg_lanes.hits + excluded.hits";

const WRITE_PARTS: &str = "
    insert into clickstream_traffic_parts as stored (window_start, window_end, topic, partition, hits, visitors, sessions,
        visitors_sketch, sessions_sketch, sketch_format)
    select *, $10::smallint
    from unnest($1::timestamptz[], $2::timestamptz[], $3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bytea[], $9::bytea[])
    on conflict (window_start, window_end, topic, partition)
    do update set hits = stored.hits + excluded.hits, visitors = excluded.visitors, sessions = excluded.sessions,
        visitors_sketch = excluded.visitors_sketch, sessions_sketch = excluded.sessions_sketch,
        sketch_format = excluded.sketch_format";

const ADVANCE: &str = "
    update clickstream_checkpoints as points
    set next_offset = moved.next_offset,
        clock_t = moved.clock_t,
        clock_times = coalesce(($8::timestamptz[])[moved.times_from:moved.times_to], '{}'),
        consumed = consumed + moved.consumed_by,
        accepted = accepted + moved.accepted_by,
        duplicate = duplicate + moved.duplicate_by,
        rejected = rejected + moved.rejected_by,
        late = late + moved.late_by,
        skipped = skipped + moved.skipped_by,
        revised = revised + moved.revised_by,
        idle_since = case when moved.at_end then coalesce(points.idle_since, clock_timestamp()) end,
        updated_at = clock_timestamp()
    from unnest($1::text[], $2::int[], $3::uuid[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::bool[], $9::int[],
        $10::int[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[])
      as moved (topic, partition, token, expected, next_offset, clock_t, at_end, times_from, times_to, consumed_by,
        accepted_by, duplicate_by, rejected_by, late_by, skipped_by, revised_by)
    where points.topic = moved.topic and points.partition = moved.partition
      and points.claim_token = moved.token and points.next_offset = moved.expected";

/// A DataSketches HLL of nothing: what the first release can read. What it would make of it is of
/// no account here.
const EMPTY_SKETCH: [u8; 8] = [2, 1, 7, 11, 3, 12, 0, 0];
/// A minute, the default size of a window.
const WINDOW_MICROS: i64 = 60_000_000;

/// A processor of the first release that owns every partition.
pub struct FirstRelease {
    client: Client,
    topic: String,
    topic_id: i16,
    partitions: BTreeMap<i32, Owned>,
}

struct Owned {
    token: Uuid,
    next: i64,
    clock: EventClock,
}

impl FirstRelease {
    /// Opens a session in the role of the writer and claims these partitions.
    pub async fn claims(stack: &Stack, partitions: i32) -> anyhow::Result<Self> {
        let client = session(stack).await?;
        let version = "select writable_from from clickstream_schema";
        let writable_from: i32 = client.query_one(version, &[]).await?.get(0);
        ensure!(
            writable_from <= 3,
            "the first release is refused: {writable_from}"
        );
        let pipeline = format!("default/{}", stack.topic.replace('_', "-"));
        client
            .execute(
                "update clickstream_schema set owner = $1, cluster = $2, window_micros = $3
                 where (owner, cluster, window_micros) is distinct from ($1, $2, $3)",
                &[&pipeline, &"local", &WINDOW_MICROS],
            )
            .await?;
        let nothing: Option<String> = None;
        let row = client
            .query_one(
                REGISTER_TOPIC,
                &[&stack.topic, &nothing, &nothing, &partitions, &nothing],
            )
            .await?;
        let mut processor = Self {
            client,
            topic: stack.topic.clone(),
            topic_id: row.get(0),
            partitions: BTreeMap::new(),
        };
        processor
            .claim(&(0..partitions).collect::<Vec<_>>())
            .await?;
        Ok(processor)
    }

    async fn claim(&mut self, partitions: &[i32]) -> anyhow::Result<()> {
        let topics = vec![self.topic.clone(); partitions.len()];
        self.client
            .query(END_PREVIOUS_OWNERS, &[&topics, &partitions, &3_000_i64])
            .await?;
        let own = "select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()";
        let row = self.client.query_one(own, &[]).await?;
        let (pid, start): (i32, SystemTime) = (row.get(0), row.get(1));
        let transaction = self.client.transaction().await?;
        let starts = vec![0_i64; partitions.len()];
        transaction
            .execute(BEGIN_PARTITIONS, &[&topics, &partitions, &starts])
            .await?;
        for partition in partitions {
            let token = Uuid::new_v4();
            let row = transaction
                .query_one(
                    CLAIM,
                    &[
                        &self.topic,
                        partition,
                        &token,
                        &0_i64,
                        &"first release",
                        &pid,
                        &start,
                    ],
                )
                .await?;
            let times: Vec<SystemTime> = row.get(3);
            let times: Vec<EventTime> = times.into_iter().map(event_time).collect();
            let owned = Owned {
                token,
                next: row.get(1),
                clock: EventClock::restore(row.get::<_, Option<_>>(2).map(event_time), &times),
            };
            self.partitions.insert(*partition, owned);
        }
        transaction
            .execute(ANCHOR, &[&topics, &partitions, &"claim", &rules()])
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// A flush of these clicks of one day, which are the next records of the partition and have
    /// this timestamp. How many were accepted.
    pub async fn flushes(
        &mut self,
        partition: i32,
        clicks: &[Click],
        stamp_millis: i64,
    ) -> anyhow::Result<usize> {
        let owned = self.partitions.get_mut(&partition).context("not claimed")?;
        let tx = self.client.transaction().await?;
        tx.batch_execute(
            "set local lock_timeout = '10s'; set local statement_timeout = '60s'; \
             set local idle_in_transaction_session_timeout = '30s'",
        )
        .await?;
        let (topic, place) = (vec![&self.topic], vec![partition]);
        let (token, expected) = (vec![owned.token], vec![owned.next]);
        let held = tx
            .query(FENCE, &[&topic, &place, &token, &expected])
            .await?;
        ensure!(held.len() == 1, "refused by the fence");

        let count = clicks.len();
        let ids: Vec<Uuid> = clicks.iter().map(|click| click.id).collect();
        let users: Vec<&str> = clicks.iter().map(|click| click.user.as_str()).collect();
        let times: Vec<SystemTime> = clicks.iter().map(|click| instant(click.at)).collect();
        let days: Vec<_> = clicks.iter().map(|click| click.at.day().date()).collect();
        let urls: Vec<&str> = clicks.iter().map(|click| click.url.as_str()).collect();
        let texts: Vec<Option<&str>> = vec![None; count];
        let addresses: Vec<Option<IpAddr>> = vec![None; count];
        let received = vec![instant(EventTime::from_micros(stamp_millis * 1_000)); count];
        let late = vec![false; count];
        let topic_ids = vec![self.topic_id; count];
        let places = vec![partition; count];
        let offsets: Vec<i64> = (owned.next..).take(count).collect();
        let event_columns: [&(dyn ToSql + Sync); 14] = [
            &ids, &users, &times, &days, &urls, &texts, &addresses, &received, &texts, &texts,
            &late, &topic_ids, &places, &offsets,
        ];
        let rows = tx.query(INSERT_EVENTS, &event_columns).await?;
        let mut stored: BTreeSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        let accepted = stored.len();

        let windows = TumblingWindow::new(WINDOW_MICROS);
        let (mut hits, mut parts) = (BTreeMap::new(), BTreeMap::new());
        for click in clicks {
            owned.clock.observe(click.at);
            if stored.remove(&click.id) {
                let start = windows.containing(click.at).start;
                *hits.entry((start, click.url.as_str())).or_insert(0_i64) += 1;
                *parts.entry(start).or_insert(0_i64) += 1;
            }
        }
        let (starts, ends) = bounds(hits.keys().map(|(start, _)| *start));
        let hashes: Vec<Vec<u8>> = hits.keys().map(|(_, url)| url_hash(url).to_vec()).collect();
        let pages: Vec<&str> = hits.keys().map(|(_, url)| *url).collect();
        let counts: Vec<i64> = hits.values().copied().collect();
        let hit_columns: [&(dyn ToSql + Sync); 6] =
            [&starts, &ends, &hashes, &counts, &pages, &0_i16];
        tx.execute(ADD_HITS, &hit_columns).await?;

        let (starts, ends) = bounds(parts.keys().copied());
        let (topics, places) = (vec![&self.topic; parts.len()], vec![partition; parts.len()]);
        for row in tx
            .query(LOAD_SKETCHES, &[&topics, &places, &starts])
            .await?
        {
            for sketch in [row.get::<_, &[u8]>(3), row.get(4)] {
                ensure!(
                    sketch == EMPTY_SKETCH,
                    "a sketch that it cannot read: {sketch:?}"
                );
            }
        }
        let counts: Vec<i64> = parts.values().copied().collect();
        let none = vec![0_i64; parts.len()];
        let sketches = vec![&EMPTY_SKETCH[..]; parts.len()];
        let part_columns: [&(dyn ToSql + Sync); 10] = [
            &starts, &ends, &topics, &places, &counts, &counts, &none, &sketches, &sketches, &1_i16,
        ];
        tx.execute(WRITE_PARTS, &part_columns).await?;

        let next = owned.next + i64::try_from(count)?;
        let clock = vec![owned.clock.t().map(instant)];
        let clock_times: Vec<SystemTime> = owned.clock.times().map(instant).collect();
        let (times_from, times_to) = (vec![1_i32], vec![i32::try_from(clock_times.len())?]);
        let (nexts, at_end, zero) = (vec![next], vec![true], vec![0_i64]);
        let consumed = vec![i64::try_from(count)?];
        let accepted_by = vec![i64::try_from(accepted)?];
        let duplicates = vec![i64::try_from(count - accepted)?];
        let advance: [&(dyn ToSql + Sync); 17] = [
            &topic,
            &place,
            &token,
            &expected,
            &nexts,
            &clock,
            &at_end,
            &clock_times,
            &times_from,
            &times_to,
            &consumed,
            &accepted_by,
            &duplicates,
            &zero,
            &zero,
            &zero,
            &zero,
        ];
        let moved = tx.execute(ADVANCE, &advance).await?;
        ensure!(moved == 1, "{moved} checkpoints moved");
        tx.commit().await?;
        owned.next = next;
        Ok(accepted)
    }
}

/// A session with the writer's rights; the tests' roles have settings that the first release took
/// from its role.
async fn session(stack: &Stack) -> anyhow::Result<Client> {
    let writer = stack.owner.replace("owner", "writer");
    let (client, connection) = tokio_postgres::Config::new()
        .host("127.0.0.1")
        .port(stack.postgres.port())
        .user(&writer)
        .dbname(&stack.database)
        .application_name("clickstream-processor first release")
        .options("-c default_transaction_isolation=read\\ committed -c search_path=clickstream,pg_catalog -c timezone=UTC")
        .connect(NoTls)
        .await?;
    tokio::spawn(connection);
    // its lane
    let lane = "select pg_try_advisory_lock(hashtext('clickstream lane ' || current_schema()), 0)";
    client.query_one(lane, &[]).await?;
    Ok(client)
}

/// The rules of a document that says nothing, as the first release wrote them into its anchors.
fn rules() -> Value {
    json!({
        "window_micros": WINDOW_MICROS,
        "delay_micros": 10_000_000,
        "max_future_skew_micros": 3_600_000_000_i64,
        "allowed_lateness_micros": 600_000_000,
        "late_policy": "Divert",
        "max_event_bytes": 65_536,
    })
}

/// Begins and ends of windows.
fn bounds(starts: impl Iterator<Item = EventTime>) -> (Vec<SystemTime>, Vec<SystemTime>) {
    let window = Duration::from_micros(WINDOW_MICROS.unsigned_abs());
    let starts: Vec<SystemTime> = starts.map(instant).collect();
    let ends = starts.iter().map(|start| *start + window).collect();
    (starts, ends)
}

fn instant(time: EventTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(time.micros().unsigned_abs())
}

fn event_time(instant: SystemTime) -> EventTime {
    let since = instant
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    EventTime::from_micros(since.as_micros() as i64)
}
