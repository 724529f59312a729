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

create function clickstream_silences() returns table (topic text, partition int, clock_t timestamptz, silent_since timestamptz)
language sql stable security definer
set search_path from current
as $$
    with expected as (
        select topics.topic, generate_series(0, topics.partitions - 1) as partition
        from clickstream_topics as topics where topics.partitions is not null
    ), live as (
        select key from clickstream_live_sessions() as key
    )
    select
        expected.topic, expected.partition, points.clock_t,
        -- at the end of the log, and somebody is there who would notice more. A session of an earlier version holds no
        -- key.
        case when points.session_key in (select key from live) or exists (
            select from pg_stat_activity as backends
            where backends.pid = points.backend_pid and backends.backend_start = points.backend_start
        ) then points.idle_since end
    from expected left join clickstream_checkpoints as points using (topic, partition)
$$;
comment on function clickstream_silences() is 'Every partition that is expected, its T, and since when it is silent at the end of its log; null: it is not, or nobody would notice more.';

create or replace function clickstream_advance_final(delay_micros bigint, lateness_micros bigint, window_micros bigint, idle_timeout_micros bigint)
returns timestamptz
language sql security definer
set search_path from current
as $$
    with judged as (
        select
            clock_t,
            coalesce(silent_since + idle_timeout_micros * interval '1 microsecond' <= now(), false) as idle,
            -- silent for so long that a window could have closed and its grace passed: nothing is awaited
            coalesce(silent_since + (idle_timeout_micros + delay_micros + lateness_micros) * interval '1 microsecond' <= now(), false) as quiet
        from clickstream_silences()
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
revoke execute on function clickstream_silences() from public;
