set local lock_timeout = '10s';
lock table clickstream_checkpoints in access exclusive mode;

-- A window is not final before it is over by the clock of the database, whatever its events say: a silence of minutes within an
-- hour, or a clock that runs ahead, makes nothing final that is still to come.

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
    ), reached as (
        select case
            -- everything that was counted
            when all_quiet then (select extract(epoch from max(window_start)) * 1000000 + window_micros from clickstream_traffic_parts)
            when all_idle then (floor(newest / window_micros) + 1) * window_micros
            when not held_back then floor(grace_over / window_micros) * window_micros
        end as until_micros
        from bounds
    ), candidate as (
        -- more of a window that is not over yet may come on time, however silent it is at the moment
        select least(until_micros, floor(extract(epoch from now()) * 1000000 / window_micros) * window_micros) as until_micros
        from reached where until_micros is not null
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
