set local lock_timeout = '10s';
lock table clickstream_checkpoints in access exclusive mode;

-- Retention and the partitions of days, so that nothing that takes longer with the size of a table runs on the session of a
-- flush or under a lock that a flush waits for. The functions of V3 stay for processors of the version before.

alter table clickstream_checkpoints add column expired_late bigint not null default 0;
comment on column clickstream_checkpoints.expired is 'Events on time that retention has dropped since.';
comment on column clickstream_checkpoints.expired_late is 'Stored events marked late that retention has dropped since.';

-- small rows that are updated all the time: they are vacuumed by their number, not by a share of a table that only grows
alter table clickstream_agg_lanes set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 5000000);
alter table clickstream_traffic_parts set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
-- two sketches fit a page; out of line each flush would leave a dead chunk and its index entry behind
alter table clickstream_traffic_parts alter column visitors_sketch set storage main;
alter table clickstream_traffic_parts alter column sessions_sketch set storage main;

-- An event that comes late is written among those of another hour. Several ranges of time for each range of blocks keep an
-- index useful that one range would make read all; where days are there already, theirs stay as they are.
do $$
begin
    if not exists (select from clickstream_days()) then
        drop index clickstream_events_event_ts;
        create index clickstream_events_event_ts on clickstream_events
            using brin (event_ts timestamptz_minmax_multi_ops (values_per_range = 32)) with (autosummarize = on, pages_per_range = 32);
        drop index clickstream_events_source_offset;
        create index clickstream_events_source_offset on clickstream_events
            using brin (source_offset int8_minmax_multi_ops (values_per_range = 32)) with (autosummarize = on, pages_per_range = 32);
    end if;
end
$$;

create index clickstream_events_default_event_date on clickstream_events_default (event_date);
create index clickstream_dead_letters_stored_at on clickstream_dead_letters (stored_at);
create index clickstream_late_events_stored_at on clickstream_late_events (stored_at);

create function clickstream_add_day(day date, most_rows int) returns text
language plpgsql security definer
set search_path from current
set lock_timeout = '1s'
as $$
declare
    table_name text := 'clickstream_events_' || to_char(day, 'YYYYMMDD');
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
    execute format('create table %I (like clickstream_events including defaults including constraints including indexes)', table_name);
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
            'with moved as (delete from clickstream_events_default where event_date = %L returning *) insert into %I select * from moved',
            day, table_name);
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
comment on function clickstream_add_day(date, int) is 'Creates the partition of one UTC day if it is missing, and moves that day''s rows out of the default partition. ''created'', ''there'', or ''left'': more rows of it than most_rows are in the default partition, and stay there.';

create or replace function clickstream_create_day(day date) returns boolean
language sql security definer
set search_path from current
as $$
    select clickstream_add_day(day, 2147483646) = 'created'
$$;

-- A day leaves in two steps. The first needs the locks and takes no time: the table is detached, and its new name says that
-- it is on its way out. The second takes its time and needs no lock that anybody waits for: nobody writes the table any
-- more, so its rows are counted, noted and dropped in one transaction, whenever that ends.

create function clickstream_detach_day(day date) returns boolean
language plpgsql security definer
set search_path from current
set lock_timeout = '200ms'
as $$
declare
    table_name text := 'clickstream_events_' || to_char(day, 'YYYYMMDD');
begin
    perform pg_advisory_xact_lock(hashtext('clickstream maintenance'), hashtext(current_schema()));
    if to_regclass(format('%I', table_name)) is null then
        return false;
    end if;
    execute format('alter table clickstream_events detach partition %I', table_name);
    execute format('alter table %I rename to %I', table_name, 'clickstream_leaving_' || to_char(day, 'YYYYMMDD'));
    return true;
end
$$;
comment on function clickstream_detach_day(date) is 'Takes the partition of one UTC day out of clickstream_events; clickstream_drop_detached ends it. True if it was there.';

create function clickstream_leaving_days() returns table (day date)
language sql stable security definer
set search_path from current
as $$
    select to_date(right(relname, 8), 'YYYYMMDD')
    from pg_class
    where relnamespace = current_schema()::regnamespace and relkind = 'r' and relname ~ '^clickstream_leaving_[0-9]{8}$'
    order by 1
$$;
comment on function clickstream_leaving_days() is 'The UTC days that were detached and are not dropped yet.';

create function clickstream_drop_detached(day date) returns bigint
language plpgsql security definer
set search_path from current
set lock_timeout = '1s'
as $$
declare
    table_name text := 'clickstream_leaving_' || to_char(day, 'YYYYMMDD');
    counted jsonb;
    part record;
    dropped bigint := 0;
begin
    if to_regclass(format('%I', table_name)) is null then
        return 0;
    end if;
    execute format(
        'select coalesce(jsonb_agg(to_jsonb(parts)), ''[]'')
         from (
             select topics.topic, events.source_partition as partition,
                 count(*) filter (where not events.is_late) as on_time, count(*) filter (where events.is_late) as late
             from %I as events join clickstream_topics as topics on topics.topic_id = events.source_topic_id
             group by 1, 2
         ) as parts', table_name) into counted;
    -- in the order in which a flush locks them
    for part in
        select * from jsonb_to_recordset(counted) as parts (topic text, partition int, on_time bigint, late bigint)
        order by topic, partition
    loop
        update clickstream_checkpoints as points
        set expired = expired + part.on_time, expired_late = expired_late + part.late
        where points.topic = part.topic and points.partition = part.partition;
        dropped := dropped + part.on_time + part.late;
    end loop;
    execute format('drop table %I', table_name);
    return dropped;
end
$$;
comment on function clickstream_drop_detached(date) is 'Drops the table of a detached day, counts its rows as expired, and returns how many they were.';

create function clickstream_expire_outliers(before date, most_rows int) returns bigint
language sql security definer
set search_path from current
set lock_timeout = '1s'
as $$
    with gone as (
        delete from clickstream_events_default
        where ctid = any (array(select ctid from clickstream_events_default where event_date < before limit most_rows))
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
comment on function clickstream_expire_outliers(date, int) is 'Deletes at most most_rows events of earlier days from the default partition, counts them as expired, and returns how many they were.';

create function clickstream_holds_back(delay_micros bigint, idle_timeout_micros bigint)
returns table (topic text, partition int, watermark timestamptz)
language sql stable security definer
set search_path from current
as $$
    select topic, partition, clock_t - delay_micros * interval '1 microsecond'
    from clickstream_silences()
    where coalesce(silent_since + idle_timeout_micros * interval '1 microsecond' > now(), true)
    order by clock_t nulls first
    limit 1
$$;
comment on function clickstream_holds_back(bigint, bigint) is 'The partition with the smallest watermark of those that are not idle; a null watermark: nothing is known of its time yet. No row: all are idle.';

revoke execute on function clickstream_add_day(date, int) from public;
revoke execute on function clickstream_detach_day(date) from public;
revoke execute on function clickstream_leaving_days() from public;
revoke execute on function clickstream_drop_detached(date) from public;
revoke execute on function clickstream_expire_outliers(date, int) from public;
revoke execute on function clickstream_holds_back(bigint, bigint) from public;
