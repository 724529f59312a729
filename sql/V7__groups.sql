set local lock_timeout = '10s';
lock table clickstream_checkpoints in access exclusive mode;

-- A consumer group belongs to one target of one cluster: with the same name in two clusters (staging beside production, a
-- cluster that was restored) two databases would share the partitions of a topic, and each would get a part of the events.
-- Targets that read already keep the name they have: processors of the version before are in that group until they are
-- replaced, and two groups at once would take each partition from each other.
alter table clickstream_schema add column plain_group_of text;
comment on column clickstream_schema.plain_group_of is 'The cluster whose consumer group has no part of the cluster''s identity in its name, since it is older than that; null: none.';
update clickstream_schema set plain_group_of = cluster where exists (select from clickstream_checkpoints);
