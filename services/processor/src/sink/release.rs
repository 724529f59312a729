//! Giving partitions back in good order, so that the next owner need not end this session.

use clickstream_pipeline::{engine::Claim, offset::TopicPartition};
use uuid::Uuid;

use super::{PostgresSink, SinkFault, transaction::answered};

impl PostgresSink {
    /// Marks partitions as having no session, where the claim still is ours.
    ///
    /// # Errors
    /// [`SinkFault`]; then the next owner ends this session, which is as safe.
    pub async fn release(&self, claims: &[(TopicPartition, Claim)]) -> Result<(), SinkFault> {
        let topics: Vec<&str> = claims.iter().map(|(tp, _)| self.topic(tp.topic)).collect();
        let partitions: Vec<i32> = claims.iter().map(|(tp, _)| tp.partition).collect();
        let tokens: Vec<Uuid> = claims.iter().map(|(_, claim)| claim.token).collect();
        answered(self.connection.client.execute(
            "update clickstream_checkpoints as points
             set backend_pid = 0, backend_start = 'epoch', session_key = null, owner = '', idle_since = null
             from unnest($1::text[], $2::int[], $3::uuid[]) as mine (topic, partition, token)
             where points.topic = mine.topic and points.partition = mine.partition and points.claim_token = mine.token",
            &[&topics, &partitions, &tokens],
        ))
        .await?;
        Ok(())
    }
}
