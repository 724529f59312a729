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
