set local lock_timeout = '10s';
lock table clickstream_checkpoints in access exclusive mode;

-- What may be shown to everybody who reads: no user, no address, no bytes of a record, no key of a claim. A role under
-- `readers` is granted the views and nothing else. They run with the rights of their owner, as views do unless
-- security_invoker is set, so whoever reads them needs no right on the tables beneath.

create view clickstream_progress as
select
    topic, partition, next_offset, clock_t, consumed, accepted, duplicate, rejected, late, skipped, merged, revised, expired,
    expired_late, idle_since, owner, updated_at
from clickstream_checkpoints;
comment on view clickstream_progress is 'How far each Kafka partition is, and what became of its records.';
comment on column clickstream_progress.topic is 'Kafka topic.';
comment on column clickstream_progress.partition is 'Kafka partition.';
comment on column clickstream_progress.next_offset is 'Everything below is done.';
comment on column clickstream_progress.clock_t is 'T: running maximum of the median of the last 31 event times. The watermark is T less watermark.delay.';
comment on column clickstream_progress.consumed is 'Records with a value. Always accepted + duplicate + rejected + late.';
comment on column clickstream_progress.accepted is 'Events stored and counted.';
comment on column clickstream_progress.duplicate is 'Events whose id the same UTC day already held.';
comment on column clickstream_progress.rejected is 'Records that are no valid events: clickstream_refused.';
comment on column clickstream_progress.late is 'Events that came after their window''s grace and were not counted (Divert, Store, Drop).';
comment on column clickstream_progress.skipped is 'Records without a value (tombstones, heartbeats): outside consumed.';
comment on column clickstream_progress.merged is 'Accepted events that came after their window''s grace and were counted in it all the same (lateEvents.policy Merge).';
comment on column clickstream_progress.revised is 'Hits that came to a window after it had been reported final.';
comment on column clickstream_progress.expired is 'Events on time that retention has dropped since.';
comment on column clickstream_progress.expired_late is 'Stored events marked late that retention has dropped since.';
comment on column clickstream_progress.idle_since is 'Since when the end of the log is reached and nothing has come; null while something comes.';
comment on column clickstream_progress.owner is 'Name of the processor that claimed the partition.';
comment on column clickstream_progress.updated_at is 'When it last moved.';

create view clickstream_final as
select final_until, updated_at from clickstream_finality;
comment on view clickstream_final is 'One row: up to where windows are reported final. Never moves back.';
comment on column clickstream_final.final_until is 'Windows that end at or before this instant expect no more events.';
comment on column clickstream_final.updated_at is 'When it last moved.';

create view clickstream_lost as
select topic, partition, first_offset, next_offset, next_offset - first_offset as records, detected_at from clickstream_gaps;
comment on view clickstream_lost is 'Stretches of the log that Kafka dropped before they were read: lost data.';
comment on column clickstream_lost.topic is 'Kafka topic.';
comment on column clickstream_lost.partition is 'Kafka partition.';
comment on column clickstream_lost.first_offset is 'First offset that was lost.';
comment on column clickstream_lost.next_offset is 'First offset behind the gap.';
comment on column clickstream_lost.records is 'How many offsets that are.';
comment on column clickstream_lost.detected_at is 'When the gap was met.';

create view clickstream_refused as
select topic, partition, source_offset, reason, detail, received_at, stored_at from clickstream_dead_letters;
comment on view clickstream_refused is 'Records that are no valid events, and why; without their bytes, which are in clickstream_dead_letters.';
comment on column clickstream_refused.topic is 'Kafka topic.';
comment on column clickstream_refused.partition is 'Kafka partition.';
comment on column clickstream_refused.source_offset is 'Kafka offset.';
comment on column clickstream_refused.reason is 'Why: one of a closed list of reasons.';
comment on column clickstream_refused.detail is 'What exactly, naming the field and never its value.';
comment on column clickstream_refused.received_at is 'Time stamp of the Kafka record.';
comment on column clickstream_refused.stored_at is 'When it was stored.';

-- Autovacuum analyses each day and never the table of all days, of which the planner asks how many users and visits there
-- are; without an answer it takes 200. A sample of that table locks every day:
--  * From PostgreSQL 18 on ONLY leaves the days' own statistics alone, so a day takes one lock and the sample is one of
--    30,000 rows, however many days there are.
--  * Before, ANALYZE goes through the days as well: four locks each (the day and its three indexes) and a sample of its
--    own, all in the transaction of this function. Where that would read more than half a million blocks, samples
--    are smaller: a planner is served by the order of magnitude.
-- Either way it happens only while the locks are an eighth of what the server's table is made for: flushes need it too. With
-- the defaults that is 800 days, or 200 before PostgreSQL 18; max_locks_per_transaction raises it.
create function clickstream_analyze_events() returns text
language plpgsql security definer
set search_path from current
set lock_timeout = '1s'
set client_min_messages = error
as $$
declare
    alone constant boolean := current_setting('server_version_num')::int >= 180000;
    target constant int := current_setting('default_statistics_target')::int;
    room constant bigint := current_setting('max_locks_per_transaction')::bigint
        * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) / 8;
    known_rows float8;
    analysed_at timestamptz;
    days bigint;
    rows float8;
    blocks bigint;
begin
    select reltuples, pg_stat_get_last_analyze_time(oid) into known_rows, analysed_at
    from pg_class where oid = 'clickstream_events'::regclass;
    select count(*), coalesce(sum(greatest(child.reltuples, 0)), 0), coalesce(sum(least(child.relpages, 300 * target)), 0)
    into days, rows, blocks
    from pg_inherits join pg_class as child on child.oid = inhrelid
    where inhparent = 'clickstream_events'::regclass;
    -- what a crash of the server forgets is found out again, but not every minute where the server keeps no statistics
    if rows <= 1.5 * greatest(known_rows, 0)
        and not coalesce(analysed_at < now() - interval '7 days', current_setting('track_counts')::boolean)
        or rows = 0
    then
        return 'known';
    end if;
    if days * (case when alone then 1 else 4 end) > room then
        return 'left';
    end if;
    -- a day that autovacuum works on may be left out, the table itself may not
    lock table only clickstream_events in share update exclusive mode;
    if alone then
        execute 'analyze (skip_locked) only clickstream_events';
    else
        if blocks > 500000 then
            perform set_config('default_statistics_target', greatest(10, target * 500000 / blocks)::text, true);
        end if;
        execute 'analyze (skip_locked) clickstream_events';
    end if;
    return 'analysed';
end
$$;
comment on function clickstream_analyze_events() is 'Takes statistics of clickstream_events as a whole, if half as many rows again have come since it last did, or a week has passed. ''analysed'', ''known'', or ''left'': the days are too many for the server''s table of locks.';

create function clickstream_summarise_day(day date) returns bigint
language plpgsql security definer
set search_path from current
set lock_timeout = '1s'
as $$
declare
    brin record;
    ranges bigint := 0;
begin
    for brin in
        select indexrelid as id
        from pg_index join pg_class as indexes on indexes.oid = indexrelid join pg_am as methods on methods.oid = indexes.relam
        where indrelid = to_regclass(format('%I', 'clickstream_events_' || to_char(day, 'YYYYMMDD'))) and methods.amname = 'brin'
    loop
        ranges := ranges + brin_summarize_new_values(brin.id);
    end loop;
    return ranges;
end
$$;
comment on function clickstream_summarise_day(date) is 'Summarises what the BRIN indexes of a day have not, and returns how many ranges that were: a query reads a range that is not summarised whatever it looks for.';

revoke execute on function clickstream_analyze_events() from public;
revoke execute on function clickstream_summarise_day(date) from public;
