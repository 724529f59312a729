//! PostgreSQL as the sink: connection, claims, and the transaction of a flush.

mod anchors;
mod claim;
pub mod columns;
mod connection;
mod copy;
pub mod expiry;
mod housekeeping;
pub mod keys;
mod pooling;
pub mod promoted;
mod release;
mod rows;
mod statements;
pub mod statistics;
mod target;
mod topics;
mod transaction;

use std::collections::BTreeMap;

use clickstream_pipeline::{
    commit::{Failure, Remedy, Sink},
    offset::TopicId,
    spec::Durability,
};
use clickstream_protocol::exit::MIGRATE;
use thiserror::Error;

pub use clickstream_pipeline::ownership::Obstacle;
pub use connection::{ConnectError, Connection, application, connect};
pub use copy::Prepared;
pub use housekeeping::DayMade;
use keys::Keys;
pub use pooling::require_own_session;
use statements::{PromotedInserts, Statements};
pub use target::{LOCAL_CLUSTER, Owner, TargetError, check, consumer_group, take};
pub(crate) use target::{check_owner, check_windows, is_missing};
pub use topics::{Described, KnownTopic, Registered, missing_topics, register_topics};

use crate::retry;

/// Names of the topics by their number in the target's dictionary.
pub type Topics = BTreeMap<TopicId, String>;

/// An open connection that holds claims and writes flushes.
pub struct PostgresSink {
    connection: Connection,
    statements: Statements,
    topics: Topics,
    durability: Durability,
    /// Keeps this writer off the hot rows of others; see `clickstream_agg_lanes.lane`.
    lane: i16,
    /// Advisory lock that shows every role that this session lives.
    session_key: i64,
    /// Name under which claims are made.
    owner: String,
    /// Encoded ahead for the next flush.
    prepared: Option<Prepared>,
    /// Statements of batches with promoted columns.
    promoted: PromotedInserts,
    /// Keys that properties have.
    keys: Keys,
}

/// What can go wrong between begin and commit.
#[derive(Debug, Error)]
pub enum SinkFault {
    /// The server or the connection.
    #[error("{}{}", way_back(.0), retry::explain(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// A checkpoint that the fence had locked did not move: somebody changed it outside the
    /// protocol.
    #[error(
        "{moved} of {expected} checkpoints moved although all were locked: something else writes clickstream_checkpoints"
    )]
    NotAdvanced {
        /// How many moved.
        moved: u64,
        /// How many should have.
        expected: usize,
    },
    /// The server did not answer in time; the connection is given up, since what it did is not
    /// known.
    #[error("no answer from PostgreSQL within {0:?}")]
    Deadline(std::time::Duration),
}

/// What to do about a column that a person has dropped, in front of the server's text, which names
/// it and its table. The next start examines the columns, and asks for the migration by its exit
/// code.
fn way_back(error: &tokio_postgres::Error) -> String {
    if !retry::lacks_column(error) {
        return String::new();
    }
    format!(
        "a column is missing that spec.events.columns may name, {MIGRATE} of the same pipeline: "
    )
}

impl Failure for SinkFault {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Postgres(error) => retry::remedy(error),
            Self::Deadline(_) => Remedy::Reclaim,
            Self::NotAdvanced { .. } => Remedy::Stop,
        }
    }
}

impl Sink for PostgresSink {
    type Transaction<'a> = transaction::FlushTransaction<'a>;
    type Error = SinkFault;

    async fn begin(&mut self) -> Result<Self::Transaction<'_>, SinkFault> {
        transaction::FlushTransaction::begin(self).await
    }
}

impl PostgresSink {
    /// Prepares a connection for writing: statements and a lane of its own.
    ///
    /// # Errors
    /// [`SinkFault`] when the schema is not as this version expects it or the server fails.
    pub async fn new(
        connection: Connection,
        topics: Topics,
        durability: Durability,
        owner: String,
    ) -> Result<Self, SinkFault> {
        let statements = transaction::answered(Statements::prepare(&connection.client)).await?;
        let keys = transaction::answered(Keys::read(&connection.client)).await?;
        let lane = claim::take_lane(&connection.client).await?;
        let session_key = claim::take_session_key(&connection.client).await?;
        Ok(Self {
            connection,
            statements,
            topics,
            durability,
            lane,
            session_key,
            owner,
            prepared: None,
            promoted: PromotedInserts::default(),
            keys,
        })
    }

    /// Hands over the stream that was encoded for the flush that comes next. One that does not fit
    /// is not used.
    pub fn offer(&mut self, prepared: Prepared) {
        self.prepared = Some(prepared);
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.connection.client.is_closed()
    }

    /// The backend's process id, for `/status`.
    pub fn backend_pid(&self) -> i32 {
        self.connection.backend_pid
    }

    /// How often properties had a key that is not to be listed, since this was asked last.
    pub fn take_left_out_keys(&mut self) -> u64 {
        self.keys.take_left_out()
    }

    fn topic(&self, id: TopicId) -> &str {
        self.topics.get(&id).map_or("", String::as_str)
    }
}
