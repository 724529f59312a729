//! Every statement that is run, and which index it goes by. All of them read a bounded number of
//! rows, or have a limit of time.

pub(super) const PIPELINE: &str =
    "select owner, coalesce(window_micros, 60000000) / 1000000 from clickstream_schema";

pub(super) const TOTALS: &str = "select coalesce(sum(consumed), 0)::bigint, coalesce(sum(accepted), 0)::bigint, coalesce(sum(duplicate), 0)::bigint,
    coalesce(sum(rejected), 0)::bigint, coalesce(sum(late), 0)::bigint, coalesce(sum(skipped), 0)::bigint,
    coalesce(sum(revised), 0)::bigint, coalesce(sum(expired), 0)::bigint, count(*), max(clock_t)
    from clickstream_checkpoints";

pub(super) const CHECKPOINTS: &str =
    "select topic, partition, next_offset, clock_t, consumed, idle_since, owner, updated_at
    from clickstream_checkpoints order by topic, partition limit $1";

pub(super) const FINAL_UNTIL: &str = "select final_until from clickstream_finality";

// by the primary key of the table behind it, whose first column is window_start
pub(super) const TRAFFIC: &str = "select window_start, hits, visitors, sessions
    from clickstream_traffic_minute where window_start >= $1 and window_start <= $2 order by window_start";

pub(super) const NEWEST_WINDOW: &str = "select max(window_start) from clickstream_traffic_parts";

// by the page: events of several names, or of several sites, may have the same
pub(super) const PAGES: &str = "select left(url, $4), sum(hits)::bigint as hits
    from clickstream_agg_lanes where window_start >= $1 and window_start <= $2
    group by url order by hits desc, 1 limit $3";

// by itself: tables of before version 12 do not tell programs apart
pub(super) const BOTS: &str = "select coalesce(sum(bot_hits), 0)::bigint
    from clickstream_traffic_minute where window_start >= $1 and window_start <= $2";

// the newest of each partition by the primary key, read backwards: the table has no index by time
pub(super) const DEAD_LETTERS: &str = "select letters.topic, letters.partition, letters.source_offset, letters.reason, letters.detail,
        octet_length(letters.payload)::bigint, letters.received_at
    from (select topic, partition from clickstream_checkpoints order by topic, partition limit $2) as points
    cross join lateral (
        select * from clickstream_dead_letters as letters
        where letters.topic = points.topic and letters.partition = points.partition
        order by source_offset desc limit $1
    ) as letters
    order by letters.received_at desc, letters.topic, letters.partition, letters.source_offset desc limit $1";

pub(super) const RULES: &str = "select (anchors.spec ->> 'delay_micros')::bigint, (anchors.spec ->> 'allowed_lateness_micros')::bigint,
        anchors.spec ->> 'late_policy' = 'Merge'
    from clickstream_checkpoints as points
    cross join lateral (
        select spec from clickstream_anchors as anchors
        where anchors.topic = points.topic and anchors.partition = points.partition
        order by next_offset desc limit 1
    ) as anchors
    order by points.updated_at desc limit 1";

pub(super) const GAPS: &str =
    "select count(*), coalesce(sum(next_offset - first_offset), 0)::bigint from clickstream_gaps";

pub(super) const PARTS: &str = "select topic, partition, hits from clickstream_traffic_parts
    where window_start = $1 and window_end = $2 order by topic, partition limit $3";

pub(super) const WINDOW_VISITORS: &str = "select visitors, sessions from clickstream_traffic_minute where window_start = $1 and window_end = $2";

pub(super) const WINDOW_PAGES: &str = "select left(url, $4), sum(hits)::bigint as hits
    from clickstream_agg_lanes where window_start = $1 and window_end = $2
    group by url order by hits desc, 1 limit $3";

pub(super) const WINDOW_URLS: &str = "select count(distinct url collate \"C\") from clickstream_agg_lanes where window_start = $1 and window_end = $2";

// event_date prunes to the day, event_ts goes by BRIN; whether a late row counts is what the last
// parameter says
pub(super) const ROWS: &str = "select topics.topic, events.source_partition, min(events.source_offset), max(events.source_offset),
        count(*) filter (where not events.is_late or $6), count(*) filter (where events.is_late)
    from clickstream_events as events join clickstream_topics as topics on topics.topic_id = events.source_topic_id
    where events.event_date between $3 and $4 and events.event_ts >= $1 and events.event_ts < $2
    group by 1, 2 order by 1, 2 limit $5";

pub(super) const SAMPLE: &str = "select topics.topic, events.source_partition, events.source_offset, events.event_ts, events.received_at, left(events.url, $6)
    from clickstream_events as events join clickstream_topics as topics on topics.topic_id = events.source_topic_id
    where events.event_date between $3 and $4 and events.event_ts >= $1 and events.event_ts < $2 and (not events.is_late or $7)
    limit $5";
