//! The statements of a flush, prepared once a connection.

use clickstream_pipeline::decode::columns::PromotedColumn;
use tokio_postgres::{Client, Error, GenericClient, Statement};

use super::columns::Table;

/// Prepared statements.
pub struct Statements {
    pub fence: Statement,
    pub insert_events: Statement,
    pub insert_late: Statement,
    pub remove_late: Statement,
    pub insert_dead_letters: Statement,
    pub admitted_pages: Statement,
    pub admit_pages: Statement,
    pub add_hits: Statement,
    pub write_parts: Statement,
    pub advance: Statement,
}

const FENCE: &str = "
    select points.topic, points.partition
    from clickstream_checkpoints as points
    join unnest($1::text[], $2::int[], $3::uuid[], $4::bigint[]) as mine (topic, partition, token, expected)
      on points.topic = mine.topic and points.partition = mine.partition
    where points.claim_token = mine.token and points.next_offset = mine.expected
    order by points.topic, points.partition
    for no key update of points";

const REMOVE_LATE: &str = "
    delete from clickstream_late_events as late
    using unnest($1::uuid[], $2::date[]) as twins (event_id, event_date)
    where late.event_id = twins.event_id and late.event_date = twins.event_date";

const INSERT_DEAD_LETTERS: &str = "
    insert into clickstream_dead_letters (topic, partition, source_offset, reason, detail, payload, received_at,
        source_index)
    select * from unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::timestamptz[],
        $8::smallint[])
    on conflict do nothing";

const ADMITTED_PAGES: &str = "
    select wanted.place, pages.url_hashes
    from unnest($1::timestamptz[], $2::text[], $3::int[]) with ordinality as wanted (window_start, topic, partition, place)
    join clickstream_admitted_pages as pages using (window_start, topic, partition)";

// a flush that begins where another one began exists only where somebody has set the checkpoint
// back
const ADMIT_PAGES: &str = "
    insert into clickstream_admitted_pages as stored (window_start, topic, partition, source_offset, url_hashes)
    select * from unnest($1::timestamptz[], $2::text[], $3::int[], $4::bigint[], $5::bytea[])
    on conflict (window_start, topic, partition, source_offset)
    do update set url_hashes = stored.url_hashes || excluded.url_hashes";

const ADD_HITS: &str = "
    insert into clickstream_agg_lanes (window_start, window_end, url_hash, lane, hits, url, event_name, site,
        bot_hits)
    select added.window_start, added.window_end, added.url_hash, $6::smallint, added.hits, added.url, added.event_name,
        added.site, added.bot_hits
    from unnest($1::timestamptz[], $2::timestamptz[], $3::bytea[], $4::bigint[], $5::text[], $7::text[], $8::text[],
        $9::bigint[])
      as added (window_start, window_end, url_hash, hits, url, event_name, site, bot_hits)
    on conflict (window_start, window_end, url_hash, lane)
    do update set hits = clickstream_agg_lanes.hits + excluded.hits,
        bot_hits = clickstream_agg_lanes.bot_hits + excluded.bot_hits";

// Bits come without the empty columns at their end; the cast fills them up. A row that a processor
// of an earlier version began keeps its `sketch_format`: not all of its values are among these
// bits.
const WRITE_PARTS: &str = "
    insert into clickstream_traffic_parts as stored (window_start, window_end, topic, partition, hits, revised, visitors_bits,
        sessions_bits, sketch_format, bot_hits)
    select added.window_start, added.window_end, added.topic, added.partition, added.hits, added.revised,
        added.visitors::bit(24576), added.sessions::bit(24576), $9::smallint, added.bot_hits
    from unnest($1::timestamptz[], $2::timestamptz[], $3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::varbit[],
        $8::varbit[], $10::bigint[])
      as added (window_start, window_end, topic, partition, hits, revised, visitors, sessions, bot_hits)
    on conflict (window_start, window_end, topic, partition)
    do update set hits = stored.hits + excluded.hits, revised = stored.revised + excluded.revised,
        bot_hits = stored.bot_hits + excluded.bot_hits,
        visitors_bits = coalesce(stored.visitors_bits | excluded.visitors_bits, excluded.visitors_bits),
        sessions_bits = coalesce(stored.sessions_bits | excluded.sessions_bits, excluded.sessions_bits)";

// the 31 times of all partitions come as one array, and every partition takes its slice of it
const ADVANCE: &str = "
    update clickstream_checkpoints as points
    set next_offset = moved.next_offset,
        clock_t = moved.clock_t,
        clock_times = coalesce(($8::timestamptz[])[moved.times_from:moved.times_to], '{}'),
        consumed = consumed + moved.consumed_by,
        accepted = accepted + moved.accepted_by,
        merged = merged + moved.merged_by,
        duplicate = duplicate + moved.duplicate_by,
        rejected = rejected + moved.rejected_by,
        late = late + moved.late_by,
        skipped = skipped + moved.skipped_by,
        revised = revised + moved.revised_by,
        idle_since = case when moved.at_end then coalesce(points.idle_since, clock_timestamp()) end,
        updated_at = clock_timestamp()
    from unnest($1::text[], $2::int[], $3::uuid[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::bool[], $9::int[],
        $10::int[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[],
        $18::bigint[])
      as moved (topic, partition, token, expected, next_offset, clock_t, at_end, times_from, times_to, consumed_by,
        accepted_by, duplicate_by, rejected_by, late_by, skipped_by, revised_by, merged_by)
    where points.topic = moved.topic and points.partition = moved.partition
      and points.claim_token = moved.token and points.next_offset = moved.expected";

/// Inserts events of a table, and returns the keys of those that it did not hold.
fn insert(table: Table, promoted: &[PromotedColumn]) -> String {
    let target = match table {
        Table::Events => "(event_id, event_date) ",
        Table::Late => "",
    };
    let insert = table.insert_statement(promoted);
    format!("{insert} on conflict {target}do nothing returning event_id, event_date")
}

/// The inserts of batches with promoted columns, prepared when the first of them comes.
#[derive(Default)]
pub struct PromotedInserts {
    columns: Vec<PromotedColumn>,
    events: Option<Statement>,
    late: Option<Statement>,
}

impl PromotedInserts {
    /// The insert of a table with these columns. Rules change rarely, so that those of the last
    /// ones are enough.
    pub async fn of(
        &mut self,
        client: &impl GenericClient,
        table: Table,
        columns: &[PromotedColumn],
    ) -> Result<Statement, Error> {
        if self.columns != columns {
            *self = Self {
                columns: columns.to_vec(),
                ..Self::default()
            };
        }
        let prepared = match table {
            Table::Events => &mut self.events,
            Table::Late => &mut self.late,
        };
        if let Some(statement) = prepared {
            return Ok(statement.clone());
        }
        let statement = client.prepare(&insert(table, columns)).await?;
        Ok(prepared.insert(statement).clone())
    }
}

impl Statements {
    pub async fn prepare(client: &Client) -> Result<Self, Error> {
        let insert_events = insert(Table::Events, &[]);
        let insert_late = insert(Table::Late, &[]);
        Ok(Self {
            fence: client.prepare(FENCE).await?,
            insert_events: client.prepare(&insert_events).await?,
            insert_late: client.prepare(&insert_late).await?,
            remove_late: client.prepare(REMOVE_LATE).await?,
            insert_dead_letters: client.prepare(INSERT_DEAD_LETTERS).await?,
            admitted_pages: client.prepare(ADMITTED_PAGES).await?,
            admit_pages: client.prepare(ADMIT_PAGES).await?,
            add_hits: client.prepare(ADD_HITS).await?,
            write_parts: client.prepare(WRITE_PARTS).await?,
            advance: client.prepare(ADVANCE).await?,
        })
    }
}
