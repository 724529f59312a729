//! Anchors: states of partitions from which an audit can start, and the rules that are in force
//! from there on.

use clickstream_pipeline::spec::SemanticSpec;
use serde_json::{Value, json};
use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::{SinkFault, transaction::answered};

/// Notes where partitions stand, of those that are still held by these claims. An anchor says by
/// which rules the log is judged from its place on: that is for the owner to say, and nothing from
/// there on is committed yet.
const WRITE: &str = "
    insert into clickstream_anchors (topic, partition, next_offset, reason, spec, clock_t, clock_times, consumed, accepted,
        merged, duplicate, rejected, late, skipped)
    select points.topic, points.partition, points.next_offset, $5, mine.spec, points.clock_t, points.clock_times,
        points.consumed, points.accepted, points.merged, points.duplicate, points.rejected, points.late, points.skipped
    from clickstream_checkpoints as points
    join unnest($1::text[], $2::int[], $3::uuid[], $4::jsonb[]) as mine (topic, partition, token, spec)
      on points.topic = mine.topic and points.partition = mine.partition and points.claim_token = mine.token
    for no key update of points
    on conflict (topic, partition, next_offset) do update set spec = excluded.spec";

const PRUNE: &str = "
    delete from clickstream_anchors as anchors
    using unnest($1::text[], $2::int[], $3::bigint[]) as logs (topic, partition, log_start)
    where anchors.topic = logs.topic and anchors.partition = logs.partition
      and anchors.next_offset < (
          select max(kept.next_offset) from clickstream_anchors as kept
          where kept.topic = logs.topic and kept.partition = logs.partition and kept.next_offset <= logs.log_start)";

/// Why anchors are written.
#[derive(Copy, Clone, Debug)]
pub(super) enum Why {
    /// The partition was claimed.
    Claim,
    /// The rules have changed.
    Rules,
    /// An hour has passed.
    Hour,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Rules => "spec",
            Self::Hour => "hourly",
        }
    }
}

/// Anchors to write, at the places where the checkpoints stand.
#[derive(Default)]
pub(super) struct Anchors<'a> {
    topics: Vec<&'a str>,
    partitions: Vec<i32>,
    tokens: Vec<Uuid>,
    rules: Vec<Value>,
}

impl<'a> Anchors<'a> {
    /// Adds a partition that is held by the claim with this token: from where it stands on these
    /// rules are in force.
    pub(super) fn add(
        &mut self,
        topic: &'a str,
        partition: i32,
        token: Uuid,
        rules: &SemanticSpec,
    ) {
        self.topics.push(topic);
        self.partitions.push(partition);
        self.tokens.push(token);
        self.rules.push(json!(rules));
    }

    /// Writes them; how many there are now, which is fewer where a partition is another owner's.
    ///
    /// # Errors
    /// [`SinkFault`].
    pub(super) async fn write(
        &self,
        client: &impl GenericClient,
        why: Why,
    ) -> Result<u64, SinkFault> {
        answered(client.execute(
            WRITE,
            &[
                &self.topics,
                &self.partitions,
                &self.tokens,
                &self.rules,
                &why.as_str(),
            ],
        ))
        .await
    }

    /// Deletes what logs that begin at `starts`, in the order of the partitions, have left behind,
    /// but for the newest anchor at or below a start.
    ///
    /// # Errors
    /// [`SinkFault`].
    pub(super) async fn prune(
        &self,
        client: &impl GenericClient,
        starts: &[Option<i64>],
    ) -> Result<(), SinkFault> {
        answered(client.execute(PRUNE, &[&self.topics, &self.partitions, &starts])).await?;
        Ok(())
    }
}
