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

-- People name columns of clickstream_events, by spec.events.columns or by themselves. The two functions that read its rows have
-- parameters of which one could be such a name: "day" was ambiguous then, and for "before" the column was taken. A column that is
-- generated is generated in a new day as well, which could not be attached without. Nothing else changes in them.

create or replace function clickstream_add_day(day date, most_rows int) returns text
language plpgsql security definer
set search_path from current
set lock_timeout = '1s'
as $$
#variable_conflict use_variable
declare
    table_name text := 'clickstream_events_' || to_char(day, 'YYYYMMDD');
    -- what is generated cannot be moved: the day makes it itself
    columns text := (
        select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
        where attrelid = 'clickstream_events'::regclass and attnum > 0 and not attisdropped and attgenerated = '');
    outliers bigint;
    brin record;
    granted record;
begin
    perform pg_advisory_xact_lock(hashtext('clickstream maintenance'), hashtext(current_schema()));
    if to_regclass(format('%I', table_name)) is not null then
        return 'there';
    end if;
    select count(*) into outliers
    from (select from clickstream_events_default where event_date = day limit most_rows::bigint + 1) as counted;
    -- moving them would hold up whoever writes outliers
    if outliers > most_rows then
        return 'left';
    end if;
    -- made beside the parent and attached when it is complete: attaching takes a weaker lock on the parent than
    -- "create table .. partition of", so that readers and writers of other days go on
    execute format('create table %I (like clickstream_events including defaults including generated including constraints including indexes)', table_name);
    execute format(
        'alter table %I add constraint %I check (event_date = %L and event_ts >= %L and event_ts < %L)',
        table_name, table_name || '_day', day,
        (day::timestamp at time zone 'UTC'), ((day + 1)::timestamp at time zone 'UTC'));
    -- a day is written for a day and then never again: what freezes and summarises it should not wait until the whole
    -- database is to be frozen
    execute format(
        'alter table %I set (autovacuum_freeze_min_age = 0, autovacuum_vacuum_insert_scale_factor = 0,
             autovacuum_vacuum_insert_threshold = 5000000, autovacuum_analyze_scale_factor = 0.02)', table_name);
    for brin in
        select indexes.oid::regclass as name
        from pg_index join pg_class as indexes on indexes.oid = indexrelid join pg_am as methods on methods.oid = indexes.relam
        where indrelid = to_regclass(format('%I', table_name)) and methods.amname = 'brin'
    loop
        execute format('alter index %s set (autosummarize = on)', brin.name);
    end loop;
    if outliers > 0 then
        lock table clickstream_events_default in access exclusive mode;
        execute format(
            'with moved as (delete from clickstream_events_default where event_date = %L returning *) insert into %I (%s) select %s from moved',
            day, table_name, columns, columns);
    end if;
    execute format('alter table clickstream_events attach partition %I for values from (%L) to (%L)', table_name, day, day + 1);
    execute format('comment on table %I is %L', table_name, 'Events of ' || day || ' (UTC).');
    -- whoever may use the table of all days may use this one by its own name: an audit does
    for granted in
        select case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end as role,
            string_agg(acl.privilege_type, ', ') as privileges
        from pg_class as events, aclexplode(events.relacl) as acl
        where events.oid = 'clickstream_events'::regclass and acl.grantee <> events.relowner
        group by 1
    loop
        execute format('grant %s on %I to %s', granted.privileges, table_name, granted.role);
    end loop;
    return 'created';
end
$$;

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
