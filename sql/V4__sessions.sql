set local lock_timeout = '10s';
lock table clickstream_checkpoints in access exclusive mode;

-- Whether an owner lives, told to every role. pg_stat_activity shows when a session began only to members of the session's
-- role, so owner and writer of the tables, or the writers before and after a rotation, could not ask each other. A session
-- now holds an advisory lock of its own, and pg_locks shows those to everybody.
alter table clickstream_checkpoints add column session_key bigint;
comment on column clickstream_checkpoints.session_key is 'Advisory lock that the owner''s session holds for as long as it lives; null of one that has given the partition back.';

create function clickstream_live_sessions() returns setof bigint
language sql stable
set search_path from current
as $$
    select (classid::bigint << 32) | objid::bigint
    from pg_locks
    where locktype = 'advisory' and objsubid = 1 and granted
      and database = (select oid from pg_database where datname = current_database())
$$;
comment on function clickstream_live_sessions() is 'Advisory locks with a key of 64 bits that sessions of this database hold; see clickstream_checkpoints.session_key.';

-- Starts of earlier versions used a number up for each topic, known or not.
select setval(pg_get_serial_sequence('clickstream_topics', 'topic_id'), greatest(max(topic_id), 1), max(topic_id) is not null)
from clickstream_topics;

-- As before, and whoever may use the table of all days may use a new day by its own name: an audit does.
create or replace function clickstream_create_day(day date) returns boolean
language plpgsql security definer
set search_path from current
set lock_timeout = '1s'
as $$
declare
    table_name text := 'clickstream_events_' || to_char(day, 'YYYYMMDD');
    granted record;
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
    for granted in
        select case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end as role,
            string_agg(acl.privilege_type, ', ') as privileges
        from pg_class as events, aclexplode(events.relacl) as acl
        where events.oid = 'clickstream_events'::regclass and acl.grantee <> events.relowner
        group by 1
    loop
        execute format('grant %s on %I to %s', granted.privileges, table_name, granted.role);
    end loop;
    return true;
end
$$;

create or replace function clickstream_advance_final(delay_micros bigint, lateness_micros bigint, window_micros bigint, idle_timeout_micros bigint)
returns timestamptz
language sql security definer
set search_path from current
as $$
    with expected as (
        select topic, generate_series(0, partitions - 1) as partition from clickstream_topics where partitions is not null
    ), live as (
        select key from clickstream_live_sessions() as key
    ), state as (
        select
            points.clock_t,
            -- silent since when: at the end of the log, and somebody is there who would notice more. A session of an
            -- earlier version holds no key.
            case when points.session_key in (select key from live) or exists (
                select from pg_stat_activity as backends
                where backends.pid = points.backend_pid and backends.backend_start = points.backend_start
            ) then points.idle_since end as silent_since
        from expected left join clickstream_checkpoints as points using (topic, partition)
    ), judged as (
        select
            clock_t,
            coalesce(silent_since + idle_timeout_micros * interval '1 microsecond' <= now(), false) as idle,
            -- silent for so long that a window could have closed and its grace passed: nothing is awaited
            coalesce(silent_since + (idle_timeout_micros + delay_micros + lateness_micros) * interval '1 microsecond' <= now(), false) as quiet
        from state
    ), bounds as (
        select
            count(*) > 0 and bool_and(quiet) as all_quiet,
            count(*) > 0 and bool_and(idle) as all_idle,
            bool_or(not idle and clock_t is null) as held_back,
            min(floor(extract(epoch from clock_t) * 1000000 - delay_micros - lateness_micros)) filter (where not idle) as grace_over,
            max(extract(epoch from clock_t) * 1000000) as newest
        from judged
    ), candidate as (
        select case
            -- everything that was counted
            when all_quiet then (select extract(epoch from max(window_start)) * 1000000 + window_micros from clickstream_traffic_parts)
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

revoke execute on function clickstream_live_sessions() from public;
