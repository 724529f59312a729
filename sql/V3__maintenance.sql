-- What only the owner of the tables may do, as functions with fixed arguments that a writer may execute. They run with the
-- owner's rights and with the search_path of this migration. Every one gives up after a second on a lock that somebody
-- else holds (SQLSTATE 55P03) and is tried again later: maintenance never makes the stream wait.

create function clickstream_create_day(day date) returns boolean
language plpgsql security definer
set search_path from current
set lock_timeout = '1s'
as $$
declare
    table_name text := 'clickstream_events_' || to_char(day, 'YYYYMMDD');
begin
    perform pg_advisory_xact_lock(hashtext('clickstream maintenance'), hashtext(current_schema()));
    if to_regclass(format('%I', table_name)) is not null then
        return false;
    end if;
    -- made beside the parent and attached when it is complete: attaching takes a weaker lock on the parent than
    -- "create table .. partition of", so that readers and writers of other days go on
    execute format('create table %I (like clickstream_events including defaults including constraints including indexes)', table_name);
    execute format(
        'alter table %I add constraint %I check (event_date = %L and event_ts >= %L and event_ts < %L)',
        table_name, table_name || '_day', day,
        (day::timestamp at time zone 'UTC'), ((day + 1)::timestamp at time zone 'UTC'));
    if exists (select from clickstream_events_default where event_date = day) then
        lock table clickstream_events_default in access exclusive mode;
        execute format(
            'with moved as (delete from clickstream_events_default where event_date = %L returning *) insert into %I select * from moved',
            day, table_name);
    end if;
    execute format('alter table clickstream_events attach partition %I for values from (%L) to (%L)', table_name, day, day + 1);
    execute format('comment on table %I is %L', table_name, 'Events of ' || day || ' (UTC).');
    return true;
end
$$;
comment on function clickstream_create_day(date) is 'Creates the partition of one UTC day if it is missing and moves that day''s rows out of the default partition. True if it was created.';

create function clickstream_drop_day(day date) returns bigint
language plpgsql security definer
set search_path from current
set lock_timeout = '1s'
as $$
declare
    table_name text := 'clickstream_events_' || to_char(day, 'YYYYMMDD');
    dropped bigint := 0;
    part record;
begin
    perform pg_advisory_xact_lock(hashtext('clickstream maintenance'), hashtext(current_schema()));
    if to_regclass(format('%I', table_name)) is null then
        return 0;
    end if;
    execute format('lock table %I in access exclusive mode', table_name);
    for part in execute format(
        'select topics.topic, events.source_partition as partition, count(*) as rows
         from %I as events join clickstream_topics as topics on topics.topic_id = events.source_topic_id
         where not events.is_late group by 1, 2 order by 1, 2', table_name)
    loop
        update clickstream_checkpoints
        set expired = expired + part.rows
        where topic = part.topic and clickstream_checkpoints.partition = part.partition;
        dropped := dropped + part.rows;
    end loop;
    execute format('drop table %I', table_name);
    return dropped;
end
$$;
comment on function clickstream_drop_day(date) is 'Drops the partition of one UTC day, counts its rows as expired, and returns how many they were.';

create function clickstream_days() returns table (day date)
language sql stable security definer
set search_path from current
as $$
    select to_date(right(child.relname, 8), 'YYYYMMDD')
    from pg_inherits
    join pg_class as child on child.oid = inhrelid
    where inhparent = 'clickstream_events'::regclass and child.relname ~ '^clickstream_events_[0-9]{8}$'
    order by 1
$$;
comment on function clickstream_days() is 'The UTC days that have a partition of their own.';

create function clickstream_advance_final(delay_micros bigint, lateness_micros bigint, window_micros bigint, idle_timeout_micros bigint)
returns timestamptz
language sql security definer
set search_path from current
as $$
    with expected as (
        select topic, generate_series(0, partitions - 1) as partition from clickstream_topics where partitions is not null
    ), state as (
        select
            points.clock_t,
            -- idle: at the end of the log, silent for long enough, and somebody is there who would notice more
            coalesce(
                points.idle_since + idle_timeout_micros * interval '1 microsecond' <= now()
                and exists (
                    select from pg_stat_activity as backends
                    where backends.pid = points.backend_pid and backends.backend_start = points.backend_start
                ), false) as idle
        from expected left join clickstream_checkpoints as points using (topic, partition)
    ), bounds as (
        select
            count(*) > 0 and bool_and(idle) as all_idle,
            bool_or(not idle and clock_t is null) as held_back,
            min(floor(extract(epoch from clock_t) * 1000000 - delay_micros - lateness_micros)) filter (where not idle) as grace_over,
            max(extract(epoch from clock_t) * 1000000) as newest
        from state
    ), candidate as (
        select case
            when all_idle then (floor(newest / window_micros) + 1) * window_micros
            when not held_back then floor(grace_over / window_micros) * window_micros
        end as until_micros
        from bounds
    ), moved as (
        update clickstream_finality
        set final_until = 'epoch'::timestamptz + (candidate.until_micros / 1000000) * interval '1 second', updated_at = now()
        from candidate
        where candidate.until_micros is not null
          and (final_until is null
               or final_until < 'epoch'::timestamptz + (candidate.until_micros / 1000000) * interval '1 second')
        returning final_until
    )
    select coalesce((select final_until from moved), (select final_until from clickstream_finality))
$$;
comment on function clickstream_advance_final(bigint, bigint, bigint, bigint) is 'Moves final_until as far as the partitions'' watermarks and idleness allow, never back, and returns it. Arguments in microseconds.';

create function clickstream_expire(aggregates_before timestamptz, dead_letters_before timestamptz, late_before timestamptz)
returns void
language sql security definer
set search_path from current
set lock_timeout = '1s'
as $$
    delete from clickstream_agg_lanes where window_end < aggregates_before;
    delete from clickstream_traffic_parts where window_end < aggregates_before;
    delete from clickstream_dead_letters where stored_at < dead_letters_before;
    delete from clickstream_late_events where stored_at < late_before;
$$;
comment on function clickstream_expire(timestamptz, timestamptz, timestamptz) is 'Deletes aggregates, dead letters and late events older than the given instants; null keeps all.';

revoke execute on function clickstream_create_day(date) from public;
revoke execute on function clickstream_drop_day(date) from public;
revoke execute on function clickstream_days() from public;
revoke execute on function clickstream_advance_final(bigint, bigint, bigint, bigint) from public;
revoke execute on function clickstream_expire(timestamptz, timestamptz, timestamptz) from public;
