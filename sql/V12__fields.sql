set local lock_timeout = '10s';
lock table clickstream_checkpoints in access exclusive mode;

-- What events say besides the fields of the first releases, and which event of a record they are. A column with a constant
-- default rewrites nothing. Processors of earlier versions name the columns that they write, so their rows have the defaults.
--
-- "If not exists", here and at the indexes below: where there are days or long ledgers already, the migration has added columns
-- and built indexes before this transaction, each in a moment of its own (services/processor/src/migrate/ahead.rs). All at once
-- would hold up flushes for 3 ms a day, and the indexes for as long as they take.

alter table clickstream_events
    -- the numbers first: behind a number they need no padding
    add column if not exists source_index smallint not null default 0,
    add column if not exists bot int not null default 0,
    add column if not exists event_name text not null default 'page_view',
    add column if not exists site text,
    add column if not exists page text,
    add column if not exists referrer_host text,
    add column if not exists utm_source text,
    add column if not exists utm_medium text,
    add column if not exists utm_campaign text,
    add column if not exists utm_term text,
    add column if not exists utm_content text,
    add column if not exists properties jsonb;
comment on column clickstream_events.source_index is 'Which event of the record: its place in a batch that one record holds, otherwise 0.';
comment on column clickstream_events.bot is 'What speaks for a program instead of a visitor, as a set of bits; 0: nothing.';
comment on column clickstream_events.event_name is 'What happened: page_view, unless the event says otherwise.';
comment on column clickstream_events.site is 'The site, where it is known.';
comment on column clickstream_events.page is 'The page that is counted, by the rules for pages. Null: the url as it is.';
comment on column clickstream_events.referrer_host is 'Host of the referrer; null if not known.';
comment on column clickstream_events.utm_source is 'utm_source of the url: who sent the visitor.';
comment on column clickstream_events.utm_medium is 'utm_medium of the url: by which kind of link.';
comment on column clickstream_events.utm_campaign is 'utm_campaign of the url: for which campaign.';
comment on column clickstream_events.utm_term is 'utm_term of the url: for which words of a search.';
comment on column clickstream_events.utm_content is 'utm_content of the url: by which of several links.';
comment on column clickstream_events.properties is 'What the event had besides its fields, where spec.events.properties keeps that.';

alter table clickstream_late_events
    add column if not exists source_index smallint not null default 0,
    add column if not exists bot int not null default 0,
    add column if not exists event_name text not null default 'page_view',
    add column if not exists site text,
    add column if not exists page text,
    add column if not exists referrer_host text,
    add column if not exists utm_source text,
    add column if not exists utm_medium text,
    add column if not exists utm_campaign text,
    add column if not exists utm_term text,
    add column if not exists utm_content text,
    add column if not exists properties jsonb;
comment on column clickstream_late_events.source_index is 'Which event of the record: its place in a batch that one record holds, otherwise 0.';
comment on column clickstream_late_events.bot is 'What speaks for a program instead of a visitor, as a set of bits; 0: nothing.';
comment on column clickstream_late_events.event_name is 'What happened: page_view, unless the event says otherwise.';
comment on column clickstream_late_events.site is 'The site, where it is known.';
comment on column clickstream_late_events.page is 'The page that is counted, by the rules for pages. Null: the url as it is.';
comment on column clickstream_late_events.referrer_host is 'Host of the referrer; null if not known.';
comment on column clickstream_late_events.utm_source is 'utm_source of the url: who sent the visitor.';
comment on column clickstream_late_events.utm_medium is 'utm_medium of the url: by which kind of link.';
comment on column clickstream_late_events.utm_campaign is 'utm_campaign of the url: for which campaign.';
comment on column clickstream_late_events.utm_term is 'utm_term of the url: for which words of a search.';
comment on column clickstream_late_events.utm_content is 'utm_content of the url: by which of several links.';
comment on column clickstream_late_events.properties is 'What the event had besides its fields, where spec.events.properties keeps that.';

alter table clickstream_dead_letters add column if not exists source_index smallint not null default 0;
comment on column clickstream_dead_letters.source_index is 'Which event of the record: its place in a batch that one record holds, otherwise 0.';
comment on column clickstream_dead_letters.payload is 'The record''s value as it came; of a batch, the part that is no valid event.';

-- a record may hold several events: each of them has a place of its own in the ledgers
create unique index if not exists clickstream_late_events_place
    on clickstream_late_events (topic, partition, source_offset, source_index);
alter table clickstream_late_events
    drop constraint clickstream_late_events_pkey,
    add constraint clickstream_late_events_pkey primary key using index clickstream_late_events_place;
create unique index if not exists clickstream_dead_letters_place
    on clickstream_dead_letters (topic, partition, source_offset, source_index);
alter table clickstream_dead_letters
    drop constraint clickstream_dead_letters_pkey,
    add constraint clickstream_dead_letters_pkey primary key using index clickstream_dead_letters_place;

create or replace view clickstream_refused as
select topic, partition, source_offset, reason, detail, received_at, stored_at, source_index from clickstream_dead_letters;
comment on column clickstream_refused.source_index is 'Which event of the record: its place in a batch that one record holds, otherwise 0.';

alter table clickstream_agg_lanes
    add column if not exists event_name text not null default 'page_view',
    add column if not exists site text,
    add column if not exists bot_hits bigint not null default 0;
comment on column clickstream_agg_lanes.url is 'The page: clickstream_events.page, or the url where that is null.';
comment on column clickstream_agg_lanes.event_name is 'What happened: clickstream_events.event_name.';
comment on column clickstream_agg_lanes.site is 'The site, where it is known.';
comment on column clickstream_agg_lanes.bot_hits is 'Those of the hits whose clickstream_events.bot is not 0.';
comment on column clickstream_agg_lanes.url_hash is 'First 16 bytes of the SHA-256 (UTF-8) of the page, where event_name is page_view and site null; otherwise of page, event_name and site (empty for null), joined by zero bytes.';

create or replace view clickstream_agg_minute as
select
    lanes.window_start,
    lanes.window_end,
    min(lanes.url) as url,
    sum(lanes.hits)::bigint as hits,
    coalesce(lanes.window_end <= (select final_until from clickstream_finality), false) as final,
    -- one in each group: the hash is of all three
    min(lanes.event_name) as event_name,
    min(lanes.site) as site,
    sum(lanes.bot_hits)::bigint as bot_hits
from clickstream_agg_lanes as lanes
group by lanes.window_start, lanes.window_end, lanes.url_hash;
comment on view clickstream_agg_minute is 'Hits per window, page, name of the event and site.';
comment on column clickstream_agg_minute.event_name is 'What happened: page_view, unless the events said otherwise.';
comment on column clickstream_agg_minute.site is 'The site, where it is known.';
comment on column clickstream_agg_minute.bot_hits is 'Those of the hits that something speaks for being a program''s.';

alter table clickstream_traffic_parts add column if not exists bot_hits bigint not null default 0;
comment on column clickstream_traffic_parts.bot_hits is 'Those of the hits whose clickstream_events.bot is not 0.';

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
        -- the same page by several names of events or on several sites is one
        select count(distinct lanes.url collate "C")
        from clickstream_agg_lanes as lanes
        where lanes.window_start = parts.window_start and lanes.window_end = parts.window_end
    ) as urls,
    coalesce(parts.window_end <= (select final_until from clickstream_finality), false) as final,
    sum(parts.revised)::bigint as revised,
    case when bool_and(parts.sketch_format = 2) then bit_or(parts.visitors_bits) end as visitors_bits,
    case when bool_and(parts.sketch_format = 2) then bit_or(parts.sessions_bits) end as sessions_bits,
    sum(parts.bot_hits)::bigint as bot_hits
from clickstream_traffic_parts as parts
group by parts.window_start, parts.window_end;
comment on column clickstream_traffic_minute.bot_hits is 'Those of the hits that something speaks for being a program''s.';
