set local lock_timeout = '10s';
lock table clickstream_checkpoints in access exclusive mode;

-- Distinct users and visits as sets of bits, which every reader unites over partitions and windows with bit_or. Nobody has to
-- read a set before adding to it, and a user whose clicks lie on several partitions counts once.
--
-- A value sets bit 1024 * column + row: its row is the first ten bits of its SHA-256 (UTF-8), its column the number of
-- leading zeros of the 64 bits from the third byte on, at most 23.

alter table clickstream_traffic_parts
    add column visitors_bits bit(24576),
    add column sessions_bits bit(24576),
    -- what processors of earlier versions write; theirs are the only rows that have them
    alter column visitors set default 0,
    alter column sessions set default 0,
    alter column visitors_sketch set default '\x0201070b030c0000',
    alter column sessions_sketch set default '\x0201070b030c0000',
    -- inline and compressed: out of line each flush would leave a dead chunk and its index entry behind
    alter column visitors_bits set storage main,
    alter column sessions_bits set storage main,
    alter column visitors_bits set statistics 0,
    alter column sessions_bits set statistics 0;
do $$
begin
    -- a fifth of the time of pglz and the same size, where the server was built with it
    alter table clickstream_traffic_parts
        alter column visitors_bits set compression lz4,
        alter column sessions_bits set compression lz4;
exception when feature_not_supported then
    null;
end
$$;
comment on column clickstream_traffic_parts.sketch_format is '2: the bits are complete. 1: a processor of an earlier version wrote the row, too; only visitors and sessions say how many there were.';
comment on column clickstream_traffic_parts.visitors is 'Distinct users as a processor of an earlier version estimated them (sketch_format 1).';
comment on column clickstream_traffic_parts.sessions is 'Distinct visits as a processor of an earlier version estimated them (sketch_format 1).';
comment on column clickstream_traffic_parts.visitors_sketch is 'DataSketches HLL behind visitors (sketch_format 1), empty otherwise.';
comment on column clickstream_traffic_parts.sessions_sketch is 'DataSketches HLL behind sessions (sketch_format 1), empty otherwise.';
comment on column clickstream_traffic_parts.visitors_bits is 'Set of the users: united by bit_or, counted by clickstream_distinct.';
comment on column clickstream_traffic_parts.sessions_bits is 'Set of the visits, in the same way.';
comment on column clickstream_schema.sketch_format is 'Form of the sketches when the schema was made; the form of a row is in clickstream_traffic_parts.sketch_format.';

-- The number of values of a set, by the number of its bits. Of n values, column c has 1024 * (1 - exp(-n * p / 1024)) bits on
-- average, with p = 2^-(c + 1) (the last column: 2^-23). The curve is laid down at 64 small numbers and then at steps of 5 %,
-- between which it is straight to within 0.03 %; the standard error of the estimate is about 2 %.
do $$
declare
    numbers float8[];
    bits float8[];
begin
    select
        array_agg(number order by number),
        -- exp of less than -700 is an underflow
        array_agg((
            select sum(1024 * (1 - exp(greatest(-number * 0.5 ^ least(c + 1, 23) / 1024, -700)))) from generate_series(0, 23) as c
        ) order by number)
    into numbers, bits
    from (
        select number::float8 from generate_series(0, 63) as number
        union all
        select 64 * 1.05 ^ step from generate_series(0, 380) as step
    ) as grid (number);
    execute format($create$
        create function clickstream_distinct(sketch bit) returns bigint
        language plpgsql immutable strict parallel safe
        as $body$
        declare
            numbers constant float8[] := %L::float8[];
            bits constant float8[] := %L::float8[];
            found constant int := bit_count(sketch);
            below constant int := least(width_bucket(found::float8, bits), array_length(bits, 1) - 1);
        begin
            return round(numbers[below]
                + (numbers[below + 1] - numbers[below]) * (found - bits[below]) / (bits[below + 1] - bits[below]));
        end
        $body$
        $create$, numbers, bits);
end
$$;
comment on function clickstream_distinct(bit) is 'How many distinct values a set of bits stands for: standard error about 2 %, of 25 values 24 now and then. Of several sets: clickstream_distinct(bit_or(..)).';
grant execute on function clickstream_distinct(bit) to public;

create or replace view clickstream_traffic_minute as
select
    parts.window_start,
    parts.window_end,
    sum(parts.hits)::bigint as hits,
    (
        coalesce(clickstream_distinct(bit_or(parts.visitors_bits) filter (where parts.sketch_format = 2)), 0)
        + coalesce(sum(greatest(parts.visitors, clickstream_distinct(parts.visitors_bits))) filter (where parts.sketch_format = 1), 0)
    )::bigint as visitors,
    (
        coalesce(clickstream_distinct(bit_or(parts.sessions_bits) filter (where parts.sketch_format = 2)), 0)
        + coalesce(sum(greatest(parts.sessions, clickstream_distinct(parts.sessions_bits))) filter (where parts.sketch_format = 1), 0)
    )::bigint as sessions,
    (
        select count(distinct lanes.url_hash)
        from clickstream_agg_lanes as lanes
        where lanes.window_start = parts.window_start and lanes.window_end = parts.window_end
    ) as urls,
    coalesce(parts.window_end <= (select final_until from clickstream_finality), false) as final,
    sum(parts.revised)::bigint as revised,
    case when bool_and(parts.sketch_format = 2) then bit_or(parts.visitors_bits) end as visitors_bits,
    case when bool_and(parts.sketch_format = 2) then bit_or(parts.sessions_bits) end as sessions_bits
from clickstream_traffic_parts as parts
group by parts.window_start, parts.window_end;
comment on column clickstream_traffic_minute.visitors is 'Distinct users, estimated (standard error 2 %; of 25 now and then 24). Does not add up over windows: see clickstream_visitors.';
comment on column clickstream_traffic_minute.sessions is 'Distinct visits, estimated in the same way.';
comment on column clickstream_traffic_minute.visitors_bits is 'Set of the users: unite windows with bit_or, count with clickstream_distinct. Null: a processor of an earlier version wrote the window, too.';
comment on column clickstream_traffic_minute.sessions_bits is 'Set of the visits, in the same way.';

create function clickstream_visitors(from_time timestamptz, to_time timestamptz, out visitors bigint, out sessions bigint, out older_windows bigint)
language sql stable parallel safe
set search_path from current
as $$
    select
        case when count(*) = count(visitors_bits) then coalesce(clickstream_distinct(bit_or(visitors_bits)), 0) end,
        case when count(*) = count(sessions_bits) then coalesce(clickstream_distinct(bit_or(sessions_bits)), 0) end,
        count(*) - count(visitors_bits)
    from clickstream_traffic_minute
    where window_start >= from_time and window_start < to_time
$$;
comment on function clickstream_visitors(timestamptz, timestamptz) is 'Distinct users and visits of all windows that begin in [from_time, to_time). Null with older_windows above 0: processors of an earlier version wrote so many of them, whose users nothing can unite.';
grant execute on function clickstream_visitors(timestamptz, timestamptz) to public;
