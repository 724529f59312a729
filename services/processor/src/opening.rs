//! The target at start: connected, recognised, its topics registered. A server that goes away in
//! the middle of it is waited for, like one that is not there at the beginning.

use std::time::Duration;

use clickstream_pipeline::spec::{PostgresSettings, SemanticSpec, TargetSpec};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    retry,
    sink::{
        self, ConnectError, Connection, Described, Owner, PostgresSink, Registered, SinkFault,
        TargetError,
    },
};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// A server that takes longer to say what is in the schema has frozen; the next try finds it again,
/// or another one.
const ANSWER: Duration = Duration::from_secs(30);

/// What is opened, and for whom.
pub struct Opening<'a> {
    /// Server and role.
    pub postgres: &'a PostgresSettings,
    /// The target.
    pub target: &'a TargetSpec,
    /// Pipeline and cluster that the schema must belong to.
    pub schema_owner: &'a Owner,
    /// The rules that verdicts depend on.
    pub semantic: &'a SemanticSpec,
    /// Name under which claims are made.
    pub owner: &'a str,
    /// What the brokers say of the topics.
    pub described: &'a Described,
    /// Topics that the operator made.
    pub created_topics: &'a [&'a str],
}

/// A target that is ready to be written.
pub struct Opened {
    /// The session of the flushes.
    pub sink: PostgresSink,
    /// The consumer group of the target.
    pub group: String,
    /// Its topics.
    pub topics: Registered,
}

/// Why a target cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// No session.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The schema or its topics.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The session's statements.
    #[error(transparent)]
    Sink(#[from] SinkFault),
    /// No answer.
    #[error(
        "postgresql did not answer within {} s while the schema was opened",
        ANSWER.as_secs()
    )]
    Silent,
}

/// Whether an error says that the target's schema wants a migration.
pub fn wants_migration(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let target = match cause.downcast_ref::<OpenError>() {
            Some(OpenError::Target(target)) => Some(target),
            _ => cause.downcast_ref::<TargetError>(),
        };
        match target {
            Some(TargetError::NotMigrated { .. } | TargetError::TooOld { .. }) => true,
            Some(TargetError::Columns { unfit, .. }) => unfit.is_missing(),
            _ => false,
        }
    })
}

impl OpenError {
    /// Whether another try may find it better.
    fn may_pass(&self) -> bool {
        match self {
            Self::Connect(failure) => failure.may_come_back(),
            Self::Target(TargetError::Postgres(error)) | Self::Sink(SinkFault::Postgres(error)) => {
                retry::may_come_back(error)
            }
            Self::Sink(SinkFault::Deadline(_)) | Self::Silent => true,
            Self::Target(_) | Self::Sink(_) => false,
        }
    }
}

/// Connects, waiting for a server that is away; `None` when told to stop meanwhile.
///
/// # Errors
/// [`ConnectError`], when waiting would not mend it.
pub async fn connect(
    settings: &PostgresSettings,
    schema: &str,
    owner: &str,
    stop: &CancellationToken,
) -> Result<Option<Connection>, ConnectError> {
    loop {
        match sink::connect(settings, schema, &sink::application(owner)).await {
            Ok(connection) => return Ok(Some(connection)),
            Err(failure) if failure.may_come_back() => {
                error!(error = %failure, "waiting for postgresql");
            }
            Err(failure) => return Err(failure),
        }
        if !paused(stop).await {
            return Ok(None);
        }
    }
}

/// Waits until the next try; false when told to stop meanwhile.
async fn paused(stop: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(PAUSE) => true,
        () = stop.cancelled() => false,
    }
}

impl Opening<'_> {
    /// Opens the target in this session, or in another one when it is lost; `None` when told to
    /// stop meanwhile.
    ///
    /// # Errors
    /// [`OpenError`], when waiting would not mend it.
    pub async fn open(
        &self,
        mut connection: Connection,
        stop: &CancellationToken,
    ) -> Result<Option<Opened>, OpenError> {
        loop {
            let tried = tokio::select! {
                tried = self.attempt(connection) => tried,
                () = stop.cancelled() => return Ok(None),
            };
            match tried {
                Ok(opened) => return Ok(Some(opened)),
                Err(failure) if failure.may_pass() => {
                    error!(error = %failure, "waiting for postgresql");
                }
                Err(failure) => return Err(failure),
            }
            if !paused(stop).await {
                return Ok(None);
            }
            let schema = &self.target.schema;
            let Some(next) = connect(self.postgres, schema, self.owner, stop).await? else {
                return Ok(None);
            };
            connection = next;
        }
    }

    async fn attempt(&self, connection: Connection) -> Result<Opened, OpenError> {
        let schema = &self.target.schema;
        let application = sink::application(self.owner);
        sink::require_own_session(&connection, self.postgres, schema, &application).await?;
        let client = &connection.client;
        let opened = async {
            // all that may be refused comes before anything is written
            sink::check(client, self.target, self.schema_owner, self.semantic).await?;
            let missing = sink::missing_topics(client, self.described).await?;
            sink::take(client, self.schema_owner, self.semantic).await?;
            let group = sink::consumer_group(client, self.schema_owner, &self.target.name).await?;
            let topics = sink::register_topics(
                client,
                self.schema_owner,
                self.described,
                self.created_topics,
                missing,
            )
            .await?;
            Ok::<_, TargetError>((group, topics))
        };
        let (group, topics) = tokio::time::timeout(ANSWER, opened)
            .await
            .map_err(|_| OpenError::Silent)??;
        let (numbers, owner) = (topics.numbers.clone(), self.owner.to_owned());
        let sink = PostgresSink::new(connection, numbers, self.target.durability, owner).await?;
        Ok(Opened {
            sink,
            group,
            topics,
        })
    }
}
