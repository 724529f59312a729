set local lock_timeout = '10s';
lock table clickstream_checkpoints in access exclusive mode;

-- lateEvents.policy Merge: a late event is counted in its own window, however old that is. Hits add up whenever they come, in
-- the transaction that moves the offset, so it is counted exactly once like any other.

alter table clickstream_checkpoints add column merged bigint not null default 0;
alter table clickstream_anchors add column merged bigint not null default 0;
alter table clickstream_traffic_parts add column revised bigint not null default 0;
comment on column clickstream_checkpoints.accepted is 'Events stored and counted: rows of clickstream_events that are not late, plus merged, plus expired.';
comment on column clickstream_checkpoints.merged is 'Accepted events that came after their window''s grace and were counted in it all the same (lateEvents.policy Merge).';
comment on column clickstream_checkpoints.late is 'Events that came after their window''s grace and were not counted (Divert, Store, Drop).';
comment on column clickstream_anchors.merged is 'See clickstream_checkpoints.';
comment on column clickstream_traffic_parts.revised is 'Hits that came after the window had been reported final.';
comment on column clickstream_events.is_late is 'Came after its window''s grace. With lateEvents.policy Merge it is counted in its window all the same, with Store it is not.';

create or replace view clickstream_traffic_minute as
select
    parts.window_start,
    parts.window_end,
    sum(parts.hits)::bigint as hits,
    sum(parts.visitors)::bigint as visitors,
    sum(parts.sessions)::bigint as sessions,
    (
        select count(distinct lanes.url_hash)
        from clickstream_agg_lanes as lanes
        where lanes.window_start = parts.window_start and lanes.window_end = parts.window_end
    ) as urls,
    coalesce(parts.window_end <= (select final_until from clickstream_finality), false) as final,
    sum(parts.revised)::bigint as revised
from clickstream_traffic_parts as parts
group by parts.window_start, parts.window_end;
comment on column clickstream_traffic_minute.revised is 'Those of the hits that came after the window had been reported final.';
