set local lock_timeout = '10s';
lock table clickstream_checkpoints in access exclusive mode;

-- Days come and go beside readers that never rest. A session that asks for a table in access exclusive mode makes all later
-- readers wait behind it, whether it gets the table or not. So all that such a function may wait for together takes a tenth
-- of a second, and what takes longer than a moment is done before it asks.

create or replace function clickstream_add_day(day date, most_rows int) returns text
language plpgsql security definer
set search_path from current
set lock_timeout = '100ms'
as $$
-- people name columns of clickstream_events: "day" could be one
#variable_conflict use_variable
declare
    table_name text := 'clickstream_events_' || to_char(day, 'YYYYMMDD');
    -- what is generated cannot be moved: the day makes it itself
    columns text := (
        select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
        where attrelid = 'clickstream_events'::regclass and attnum > 0 and not attisdropped and attgenerated = '');
    moving constant text := format(
        'with moved as (delete from clickstream_events_default where event_date = %L returning *) insert into %I (%s) select %s from moved',
        day, table_name, columns, columns);
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
    -- moving them would hold up the stream
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
    if outliers > 1000 then
        -- is the lock to be had now? While a long query has it, the rows would be moved for nothing
        begin
            lock table clickstream_events_default in access exclusive mode;
            raise exception using errcode = 'CS001', message = 'it is';
        exception when sqlstate 'CS001' then
            -- and is free again
            null;
        end;
        -- while everybody reads and writes
        execute moving;
    end if;
    if outliers > 0 then
        lock table clickstream_events_default in access exclusive mode;
        -- what has come since
        execute moving;
    end if;
    execute format('alter table clickstream_events attach partition %I for values from (%L) to (%L)', table_name, day, day + 1);
    return 'created';
end
$$;

create or replace function clickstream_detach_day(day date) returns boolean
language plpgsql security definer
set search_path from current
set lock_timeout = '100ms'
as $$
declare
    table_name text := 'clickstream_events_' || to_char(day, 'YYYYMMDD');
    until timestamptz;
    needed text;
begin
    perform pg_advisory_xact_lock(hashtext('clickstream maintenance'), hashtext(current_schema()));
    if to_regclass(format('%I', table_name)) is null then
        return false;
    end if;
    -- in the order in which readers take them: they wait from the first of these to the last
    until := clock_timestamp() + interval '100 ms';
    foreach needed in array array['clickstream_events', table_name, 'clickstream_events_default'] loop
        perform set_config(
            'lock_timeout', greatest(ceil(extract(epoch from until - clock_timestamp()) * 1000), 1) || 'ms', true);
        execute format('lock table only %I in access exclusive mode', needed);
    end loop;
    execute format('alter table clickstream_events detach partition %I', table_name);
    execute format('alter table %I rename to %I', table_name, 'clickstream_leaving_' || to_char(day, 'YYYYMMDD'));
    return true;
end
$$;
