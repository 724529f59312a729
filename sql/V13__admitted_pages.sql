set local lock_timeout = '10s';
lock table clickstream_checkpoints in access exclusive mode;

-- spec.events.page.maxPerWindow: which pages of a window and a Kafka partition have rows of their own. Written in the transaction of
-- the flush that brings them, since whether a later page has its row follows from it; only added to, so that nothing is rewritten.

create table clickstream_admitted_pages (
    window_start  timestamptz not null,
    topic         text        not null,
    partition     int         not null,
    source_offset bigint      not null,
    url_hashes    bytea       not null check (octet_length(url_hashes) > 0 and octet_length(url_hashes) % 16 = 0),
    primary key (window_start, topic, partition, source_offset)
);
comment on table clickstream_admitted_pages is 'Pages of a window and a Kafka partition that have rows of their own, where spec.events.page.maxPerWindow bounds them. All others of the partition are counted as (other).';
comment on column clickstream_admitted_pages.window_start is 'First instant of the window.';
comment on column clickstream_admitted_pages.topic is 'Kafka topic.';
comment on column clickstream_admitted_pages.partition is 'Kafka partition.';
comment on column clickstream_admitted_pages.source_offset is 'Where the flush began that brought them: its first Kafka offset.';
comment on column clickstream_admitted_pages.url_hashes is 'clickstream_agg_lanes.url_hash of each of them, one behind the other, in the order of the log.';
