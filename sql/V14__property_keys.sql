set local lock_timeout = '10s';
lock table clickstream_checkpoints in access exclusive mode;

-- Which keys the properties of stored events have. A key comes in the transaction that stores the first event with it, so that
-- none is missing; a processor knows those that are listed, and writes nothing here for years. Processors of earlier versions
-- list nothing: what only they have stored is not here.

create table clickstream_listed_keys (
    key        text        not null,
    type       text        not null check (type in ('string', 'number', 'boolean', 'object', 'array', 'null')),
    first_seen timestamptz not null default clock_timestamp(),
    primary key (key, type)
);
comment on table clickstream_listed_keys is 'Keys that properties of stored events have, down to the third level, about 1,000 at most: clickstream_property_keys.';
comment on column clickstream_listed_keys.key is 'JSON pointer to the key, as spec.events.columns takes it.';
comment on column clickstream_listed_keys.type is 'What the key holds, as jsonb_typeof calls it. A key that holds several types has a row for each.';
comment on column clickstream_listed_keys.first_seen is 'When the first event with it was stored.';

create view clickstream_property_keys as
select key, type, first_seen from clickstream_listed_keys;
comment on view clickstream_property_keys is 'Keys that properties of stored events have, down to the third level, about 1,000 at most.';
comment on column clickstream_property_keys.key is 'JSON pointer to the key, as spec.events.columns takes it.';
comment on column clickstream_property_keys.type is 'What the key holds, as jsonb_typeof calls it. A key that holds several types has a row for each.';
comment on column clickstream_property_keys.first_seen is 'When the first event with it was stored.';

-- People name columns of clickstream_events, by spec.events.columns or by themselves. This function reads its rows, and a
-- column called "before" was taken for its parameter: it says $1 now. Nothing else changes.

create or replace function clickstream_expire_outliers(before date, most_rows int) returns bigint
language sql security definer
set search_path from current
set lock_timeout = '1s'
as $$
    with gone as (
        delete from clickstream_events_default
        where ctid = any (array(select ctid from clickstream_events_default where event_date < $1 limit $2))
        returning source_topic_id, source_partition, is_late
    ), counted as (
        select topics.topic, gone.source_partition as partition,
            count(*) filter (where not gone.is_late) as on_time, count(*) filter (where gone.is_late) as late
        from gone join clickstream_topics as topics on topics.topic_id = gone.source_topic_id
        group by 1, 2
    ), noted as (
        update clickstream_checkpoints as points
        set expired = expired + counted.on_time, expired_late = expired_late + counted.late
        from counted
        where points.topic = counted.topic and points.partition = counted.partition
    )
    select count(*) from gone
$$;
