set local lock_timeout = '10s';
lock table clickstream_checkpoints in access exclusive mode;

-- A processor of version 5 or before that comes back once events were merged writes anchors that do not know of them. They hold
-- the totals of the checkpoint as it is in their transaction, so the number is there.
alter table clickstream_anchors alter column merged drop default;

create function clickstream_complete_anchor() returns trigger
language plpgsql
set search_path from current
as $$
begin
    select points.merged into strict new.merged from clickstream_checkpoints as points
    where points.topic = new.topic and points.partition = new.partition;
    return new;
end
$$;
comment on function clickstream_complete_anchor() is 'Adds to an anchor what processors of earlier versions do not write.';
create trigger clickstream_complete_anchor before insert on clickstream_anchors
for each row when (new.merged is null) execute function clickstream_complete_anchor();
