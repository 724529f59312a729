-- The relations of one pipeline's schema. The runner pins search_path to that schema before it starts, so names stand
-- unqualified here; functions keep the search_path of their creation ("from current").

create table clickstream_schema (
    singleton     boolean     primary key default true check (singleton),
    owner         text,
    cluster       text,
    window_micros bigint,
    sketch_format smallint    not null,
    writable_from int         not null default 1,
    created_at    timestamptz not null default now()
);
comment on table clickstream_schema is 'One row: which pipeline this schema belongs to and in which form it keeps its data.';
comment on column clickstream_schema.singleton is 'Always true: there is one row.';
comment on column clickstream_schema.owner is 'The pipeline, as namespace/name. Null until the first processor has started.';
comment on column clickstream_schema.cluster is 'Identity of the Kubernetes cluster that the pipeline lives in (uid of kube-system), or "local".';
comment on column clickstream_schema.window_micros is 'Size of the windows in microseconds; it cannot change while the schema holds windows.';
comment on column clickstream_schema.sketch_format is 'Form of the sketches in clickstream_traffic_parts. 1: DataSketches HLL, 4 bits, 2^11 registers, raw UTF-8.';
comment on column clickstream_schema.writable_from is 'Version of the schema that a binary must know at least to write here. Migrations only add, so it rarely moves.';
comment on column clickstream_schema.created_at is 'When the schema was made.';
insert into clickstream_schema (sketch_format) values (1);

create table clickstream_topics (
    topic_id       smallint    generated always as identity primary key,
    topic          text        not null unique,
    kafka_cluster  text,
    kafka_topic_id text,
    partitions     int,
    created_by     text,
    created_at     timestamptz not null default now()
);
comment on table clickstream_topics is 'Dictionary of the Kafka topics that this schema is filled from.';
comment on column clickstream_topics.topic_id is 'Number of the topic in this schema; clickstream_events holds it instead of the name.';
comment on column clickstream_topics.topic is 'Name of the Kafka topic.';
comment on column clickstream_topics.kafka_cluster is 'Id of the Kafka cluster; another one stops the topic.';
comment on column clickstream_topics.kafka_topic_id is 'Id that Kafka gave the topic; another one means that the topic was deleted and made anew.';
comment on column clickstream_topics.partitions is 'Number of partitions last seen.';
comment on column clickstream_topics.created_by is 'Who created the topic in Kafka, where that is known.';
comment on column clickstream_topics.created_at is 'When the topic was first read.';

create table clickstream_events (
    event_id         uuid        not null,
    user_id          text        not null,
    event_ts         timestamptz not null,
    event_date       date        not null,
    url              text        not null,
    referrer         text,
    ip               inet,
    received_at      timestamptz not null,
    session_id       text,
    user_agent       text,
    is_late          boolean     not null default false,
    source_topic_id  smallint    not null,
    source_partition int         not null,
    source_offset    bigint      not null,
    primary key (event_id, event_date)
) partition by range (event_date);
comment on table clickstream_events is 'Every accepted click, exactly once. One partition a UTC day.';
comment on column clickstream_events.event_id is 'Identity of the click, given by its sender.';
comment on column clickstream_events.user_id is 'Who clicked.';
comment on column clickstream_events.event_ts is 'When the click happened, by the sender''s clock.';
comment on column clickstream_events.event_date is 'UTC day of event_ts: the partition key, and with event_id the identity.';
comment on column clickstream_events.url is 'The page.';
comment on column clickstream_events.referrer is 'Where the visitor came from; null if not known.';
comment on column clickstream_events.ip is 'Address of the client; null if not sent.';
comment on column clickstream_events.received_at is 'Time stamp of the Kafka record: when the broker took the click.';
comment on column clickstream_events.session_id is 'The visit, given by the sender; null if not sent.';
comment on column clickstream_events.user_agent is 'Browser; null if not sent.';
comment on column clickstream_events.is_late is 'Came after its window''s grace and was stored by lateEvents.policy Store; not in the aggregates.';
comment on column clickstream_events.source_topic_id is 'Topic, by its number in clickstream_topics.';
comment on column clickstream_events.source_partition is 'Kafka partition.';
comment on column clickstream_events.source_offset is 'Kafka offset.';
create index clickstream_events_event_ts on clickstream_events using brin (event_ts);
create index clickstream_events_source_offset on clickstream_events using brin (source_offset);

create table clickstream_events_default partition of clickstream_events default;
comment on table clickstream_events_default is 'Events of days that have no partition of their own (outliers). Creating a day moves its rows out of here.';

create table clickstream_agg_lanes (
    window_start timestamptz not null,
    window_end   timestamptz not null,
    url_hash     bytea       not null check (octet_length(url_hash) = 16),
    lane         smallint    not null,
    hits         bigint      not null,
    url          text        not null,
    primary key (window_start, window_end, url_hash, lane)
) with (fillfactor = 70);
comment on table clickstream_agg_lanes is 'Hits per window and page, split into lanes so that processors do not wait for each other. Read the view clickstream_agg_minute.';
comment on column clickstream_agg_lanes.window_start is 'First instant of the window.';
comment on column clickstream_agg_lanes.window_end is 'First instant after the window.';
comment on column clickstream_agg_lanes.url_hash is 'substr(sha256(convert_to(url, ''UTF8'')), 1, 16): long pages do not fit a btree.';
comment on column clickstream_agg_lanes.lane is 'Which of the concurrent writers added the hits.';
comment on column clickstream_agg_lanes.hits is 'Number of accepted clicks.';
comment on column clickstream_agg_lanes.url is 'The page.';

create table clickstream_traffic_parts (
    window_start     timestamptz not null,
    window_end       timestamptz not null,
    topic            text        not null,
    partition        int         not null,
    hits             bigint      not null,
    visitors         bigint      not null,
    sessions         bigint      not null,
    sketch_format    smallint    not null,
    visitors_sketch  bytea       not null,
    sessions_sketch  bytea       not null,
    primary key (window_start, window_end, topic, partition)
) with (fillfactor = 70);
comment on table clickstream_traffic_parts is 'Traffic per window and Kafka partition. Read the view clickstream_traffic_minute.';
comment on column clickstream_traffic_parts.window_start is 'First instant of the window.';
comment on column clickstream_traffic_parts.window_end is 'First instant after the window.';
comment on column clickstream_traffic_parts.topic is 'Kafka topic.';
comment on column clickstream_traffic_parts.partition is 'Kafka partition.';
comment on column clickstream_traffic_parts.hits is 'Number of accepted clicks.';
comment on column clickstream_traffic_parts.visitors is 'Distinct users, estimated (standard error 2.3 %, exact when small).';
comment on column clickstream_traffic_parts.sessions is 'Distinct visits, estimated in the same way.';
comment on column clickstream_traffic_parts.sketch_format is 'Form of the two sketches, see clickstream_schema.sketch_format.';
comment on column clickstream_traffic_parts.visitors_sketch is 'Mergeable sketch behind visitors.';
comment on column clickstream_traffic_parts.sessions_sketch is 'Mergeable sketch behind sessions.';

create table clickstream_finality (
    singleton   boolean     primary key default true check (singleton),
    final_until timestamptz,
    updated_at  timestamptz not null default now()
);
comment on table clickstream_finality is 'One row: up to where windows are reported final. Never moves back.';
comment on column clickstream_finality.singleton is 'Always true: there is one row.';
comment on column clickstream_finality.final_until is 'Windows that end at or before this instant expect no more events.';
comment on column clickstream_finality.updated_at is 'When it last moved.';
insert into clickstream_finality default values;

create table clickstream_dead_letters (
    topic         text        not null,
    partition     int         not null,
    source_offset bigint      not null,
    reason        text        not null,
    detail        text        not null,
    payload       bytea       not null,
    received_at   timestamptz not null,
    stored_at     timestamptz not null default now(),
    primary key (topic, partition, source_offset)
);
comment on table clickstream_dead_letters is 'Records that are no valid events, with their original bytes.';
comment on column clickstream_dead_letters.topic is 'Kafka topic.';
comment on column clickstream_dead_letters.partition is 'Kafka partition.';
comment on column clickstream_dead_letters.source_offset is 'Kafka offset.';
comment on column clickstream_dead_letters.reason is 'Why: one of a closed list of reasons.';
comment on column clickstream_dead_letters.detail is 'What exactly, naming the field.';
comment on column clickstream_dead_letters.payload is 'The record''s value as it came.';
comment on column clickstream_dead_letters.received_at is 'Time stamp of the Kafka record.';
comment on column clickstream_dead_letters.stored_at is 'When it was stored here.';

create table clickstream_late_events (
    topic         text        not null,
    partition     int         not null,
    source_offset bigint      not null,
    event_id      uuid        not null,
    user_id       text        not null,
    event_ts      timestamptz not null,
    event_date    date        not null,
    url           text        not null,
    referrer      text,
    ip            inet,
    received_at   timestamptz not null,
    session_id    text,
    user_agent    text,
    stored_at     timestamptz not null default now(),
    primary key (topic, partition, source_offset),
    unique (event_id, event_date)
);
comment on table clickstream_late_events is 'Events that came after their window''s grace (lateEvents.policy Divert): not in the aggregates, not lost.';
comment on column clickstream_late_events.topic is 'Kafka topic.';
comment on column clickstream_late_events.partition is 'Kafka partition.';
comment on column clickstream_late_events.source_offset is 'Kafka offset.';
comment on column clickstream_late_events.event_id is 'Identity of the click, given by its sender.';
comment on column clickstream_late_events.user_id is 'Who clicked.';
comment on column clickstream_late_events.event_ts is 'When the click happened, by the sender''s clock.';
comment on column clickstream_late_events.event_date is 'UTC day of event_ts.';
comment on column clickstream_late_events.url is 'The page.';
comment on column clickstream_late_events.referrer is 'Where the visitor came from; null if not known.';
comment on column clickstream_late_events.ip is 'Address of the client; null if not sent.';
comment on column clickstream_late_events.received_at is 'Time stamp of the Kafka record.';
comment on column clickstream_late_events.session_id is 'The visit; null if not sent.';
comment on column clickstream_late_events.user_agent is 'Browser; null if not sent.';
comment on column clickstream_late_events.stored_at is 'When it was stored here.';

create table clickstream_gaps (
    topic        text        not null,
    partition    int         not null,
    first_offset bigint      not null,
    next_offset  bigint      not null check (next_offset > first_offset),
    detected_at  timestamptz not null default now(),
    primary key (topic, partition, first_offset)
);
comment on table clickstream_gaps is 'Stretches of the log that Kafka dropped before they were read: lost data, never passed over in silence.';
comment on column clickstream_gaps.topic is 'Kafka topic.';
comment on column clickstream_gaps.partition is 'Kafka partition.';
comment on column clickstream_gaps.first_offset is 'First offset that was lost.';
comment on column clickstream_gaps.next_offset is 'First offset behind the gap.';
comment on column clickstream_gaps.detected_at is 'When the gap was met.';

create table clickstream_checkpoints (
    topic         text        not null,
    partition     int         not null,
    epoch         bigint      not null,
    claim_token   uuid        not null,
    next_offset   bigint      not null check (next_offset >= 0),
    clock_t       timestamptz,
    clock_times   timestamptz[] not null,
    consumed      bigint      not null default 0,
    accepted      bigint      not null default 0,
    duplicate     bigint      not null default 0,
    rejected      bigint      not null default 0,
    late          bigint      not null default 0,
    skipped       bigint      not null default 0,
    revised       bigint      not null default 0,
    expired       bigint      not null default 0,
    idle_since    timestamptz,
    owner         text        not null,
    backend_pid   int         not null,
    backend_start timestamptz not null,
    updated_at    timestamptz not null default now(),
    primary key (topic, partition),
    constraint clickstream_checkpoints_conserved check (consumed = accepted + duplicate + rejected + late)
) with (fillfactor = 50);
comment on table clickstream_checkpoints is 'The only truth about progress: one row for each Kafka partition, moved in the transaction that writes its rows.';
comment on column clickstream_checkpoints.topic is 'Kafka topic.';
comment on column clickstream_checkpoints.partition is 'Kafka partition.';
comment on column clickstream_checkpoints.epoch is 'Counts the claims of this partition.';
comment on column clickstream_checkpoints.claim_token is 'Right of the present owner: random, new for every claim.';
comment on column clickstream_checkpoints.next_offset is 'Everything below is done.';
comment on column clickstream_checkpoints.clock_t is 'T: running maximum of the median of the last 31 event times. The watermark is T less watermark.delay.';
comment on column clickstream_checkpoints.clock_times is 'The last 31 event times in log order.';
comment on column clickstream_checkpoints.consumed is 'Records with a value. Always accepted + duplicate + rejected + late.';
comment on column clickstream_checkpoints.accepted is 'Events stored and counted: rows of clickstream_events that are not late, plus expired.';
comment on column clickstream_checkpoints.duplicate is 'Events whose id the same UTC day already held.';
comment on column clickstream_checkpoints.rejected is 'Records in clickstream_dead_letters.';
comment on column clickstream_checkpoints.late is 'Events that came after their window''s grace.';
comment on column clickstream_checkpoints.skipped is 'Records without a value (tombstones, heartbeats): outside consumed.';
comment on column clickstream_checkpoints.revised is 'Hits that came to a window after it had been reported final.';
comment on column clickstream_checkpoints.expired is 'Accepted events that retention has dropped since.';
comment on column clickstream_checkpoints.idle_since is 'Since when the end of the log is reached and nothing has come; null while something comes.';
comment on column clickstream_checkpoints.owner is 'Name of the processor that claimed the partition.';
comment on column clickstream_checkpoints.backend_pid is 'PostgreSQL backend of the owner.';
comment on column clickstream_checkpoints.backend_start is 'When that backend started (pids are used again).';
comment on column clickstream_checkpoints.updated_at is 'When the row last moved.';

create table clickstream_anchors (
    topic       text        not null,
    partition   int         not null,
    next_offset bigint      not null,
    reason      text        not null check (reason in ('claim', 'spec', 'hourly')),
    spec        jsonb       not null,
    clock_t     timestamptz,
    clock_times timestamptz[] not null,
    consumed    bigint      not null,
    accepted    bigint      not null,
    duplicate   bigint      not null,
    rejected    bigint      not null,
    late        bigint      not null,
    skipped     bigint      not null,
    created_at  timestamptz not null default now(),
    primary key (topic, partition, next_offset)
);
comment on table clickstream_anchors is 'States from which an audit or a rewind can start: written at every claim, every change of the rules and hourly.';
comment on column clickstream_anchors.topic is 'Kafka topic.';
comment on column clickstream_anchors.partition is 'Kafka partition.';
comment on column clickstream_anchors.next_offset is 'Everything below was done.';
comment on column clickstream_anchors.reason is 'Why the anchor was written.';
comment on column clickstream_anchors.spec is 'The rules that verdicts depend on, in force from this offset on.';
comment on column clickstream_anchors.clock_t is 'T at this offset.';
comment on column clickstream_anchors.clock_times is 'The last 31 event times at this offset, in log order.';
comment on column clickstream_anchors.consumed is 'Total at this offset; so are the five that follow.';
comment on column clickstream_anchors.accepted is 'See clickstream_checkpoints.';
comment on column clickstream_anchors.duplicate is 'See clickstream_checkpoints.';
comment on column clickstream_anchors.rejected is 'See clickstream_checkpoints.';
comment on column clickstream_anchors.late is 'See clickstream_checkpoints.';
comment on column clickstream_anchors.skipped is 'See clickstream_checkpoints.';
comment on column clickstream_anchors.created_at is 'When the anchor was written.';
