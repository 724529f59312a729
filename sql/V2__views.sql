-- What people and BI tools read.

create view clickstream_agg_minute as
select
    lanes.window_start,
    lanes.window_end,
    min(lanes.url) as url,
    sum(lanes.hits)::bigint as hits,
    coalesce(lanes.window_end <= (select final_until from clickstream_finality), false) as final
from clickstream_agg_lanes as lanes
group by lanes.window_start, lanes.window_end, lanes.url_hash;
comment on view clickstream_agg_minute is 'Hits per window and page.';
comment on column clickstream_agg_minute.window_start is 'First instant of the window.';
comment on column clickstream_agg_minute.window_end is 'First instant after the window.';
comment on column clickstream_agg_minute.url is 'The page.';
comment on column clickstream_agg_minute.hits is 'Number of accepted clicks.';
comment on column clickstream_agg_minute.final is 'Whether no more clicks are expected for the window.';

create view clickstream_traffic_minute as
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
    coalesce(parts.window_end <= (select final_until from clickstream_finality), false) as final
from clickstream_traffic_parts as parts
group by parts.window_start, parts.window_end;
comment on view clickstream_traffic_minute is 'Traffic per window, one line each.';
comment on column clickstream_traffic_minute.window_start is 'First instant of the window.';
comment on column clickstream_traffic_minute.window_end is 'First instant after the window.';
comment on column clickstream_traffic_minute.hits is 'Number of accepted clicks.';
comment on column clickstream_traffic_minute.visitors is 'Distinct users, estimated; adds up over partitions because a user stays on one.';
comment on column clickstream_traffic_minute.sessions is 'Distinct visits, estimated.';
comment on column clickstream_traffic_minute.urls is 'Distinct pages.';
comment on column clickstream_traffic_minute.final is 'Whether no more clicks are expected for the window.';
