//! What keeps a partition from being read until a person has looked at it.

/// Why a partition is not read on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Obstacle {
    /// The log is shorter than what was read from it.
    #[error(
        "the log ends at {log_end}, but {next} was already reached: the topic was deleted and made anew, or truncated. \
         Restore the old log, or read the new one into a schema of its own: set another targets[].schema"
    )]
    LogShrunk {
        /// End of the log.
        log_end: i64,
        /// Stored position.
        next: i64,
    },
    /// The topic's id is another one.
    #[error(
        "topic id is {found}, but this schema was filled from {stored}: the topic was deleted and made anew. \
         Restore the old one, or read the new one into a schema of its own: set another targets[].schema"
    )]
    TopicReplaced {
        /// Id in the schema.
        stored: String,
        /// Id in Kafka.
        found: String,
    },
    /// The cluster is another one.
    #[error(
        "Kafka cluster is {found}, but this schema was filled from {stored}: check spec.kafka.bootstrapServers"
    )]
    OtherCluster {
        /// Id in the schema.
        stored: String,
        /// Id in Kafka.
        found: String,
    },
    /// A batch of records cannot be read.
    #[error(
        "the batch at offset {offset} cannot be read: {why}. Everything before it is stored. Restore the partition from \
         another replica, or delete its records up to the next batch (kafka-delete-records), which is then told as a gap"
    )]
    Unreadable {
        /// Offset of its first record.
        offset: i64,
        /// What is wrong with it.
        why: String,
    },
}
