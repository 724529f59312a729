//! What all steps of a reconcile stand on: what they share, how they fail, and how they end.

use std::{sync::Arc, time::Duration};

use kube::{Client, runtime::controller::Action};
use rand::RngExt;
use tracing::{Span, debug_span};

use super::{applier::Applier, memory::Memories, secrets::Secrets, upgrades::Upgrades};
use crate::{
    events::Events, metrics::OperatorMetrics, observe::asker::Asker, settings::Settings,
    stores::Stores, topics::TopicAdmins,
};

/// How often a pipeline at rest is looked at: numbers, and topics behind our back.
pub const LOOK: Duration = Duration::from_secs(30);
/// How soon again while something is waited for that no watch tells of.
pub const WAITING: Duration = Duration::from_secs(3);
/// Longest time for one reconcile, after which it begins anew: it may be ended anywhere, as it may
/// be by a crash.
pub const LONGEST: Duration = Duration::from_secs(60);

/// What reconciles share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Asks processors.
    pub asker: Asker,
    /// What the operator was started with.
    pub settings: Settings,
    /// What is known of children and pods.
    pub stores: Arc<Stores>,
    /// Sends children.
    pub applier: Applier,
    /// Connections to Kafka.
    pub admins: TopicAdmins,
    /// Publishes Events.
    pub events: Events,
    /// Counts.
    pub metrics: OperatorMetrics,
    /// What is remembered of each pipeline between reconciles.
    pub memories: Memories,
    /// Which versions of Secrets there are.
    pub secrets: Secrets,
    /// Who may roll after an upgrade of the operator.
    pub upgrades: Arc<Upgrades>,
    /// How long each step of a deletion is tried.
    pub patience: Duration,
}

/// Why a reconcile failed; waiting is none of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refuses, or does not answer.
    #[error("the kubernetes api: {0}")]
    Api(#[from] kube::Error),
    /// Something that was asked does not answer, such as an API server behind a connection that is
    /// gone.
    #[error("no answer within {} s", LONGEST.as_secs())]
    Stuck,
    /// The resource has changed since the watch told of it; whatever was decided from it is not
    /// written.
    #[error("the resource has changed in the meantime")]
    Outdated,
}

/// A step of a reconcile, as a span within that of the reconcile.
pub fn step(name: &'static str) -> Span {
    debug_span!("step", otel.name = name)
}

/// How a reconcile ended that did not fail.
pub struct Outcome {
    /// Whether something is still to come.
    pub waiting: bool,
    /// When to look again; `None`: when the resource changes.
    pub again: Option<Duration>,
}

impl Outcome {
    /// What the controller is told.
    pub fn action(&self) -> Action {
        self.again.map_or_else(Action::await_change, |pause| {
            Action::requeue(jittered(pause))
        })
    }
}

/// Up to a tenth more, so that a thousand pipelines do not come at once.
pub fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(1.0..=1.1))
}
