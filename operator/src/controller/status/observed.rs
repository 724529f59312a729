//! Everything that the status is made of.

use clickstream_protocol::status::ProcessorStatus;

use super::conditions::Finding;
use crate::controller::{
    apply::{migration::Migrations, targets::Targets, topics::TopicsSeen},
    gate::Gate,
    validate::ValidatedPipeline,
};

/// Everything that the status is made of.
pub struct Observed<'o> {
    /// The spec.
    pub valid: &'o ValidatedPipeline,
    /// What waits for the pipeline's turn.
    pub gate: &'o Gate,
    /// Migrations of all targets.
    pub migrations: &'o Migrations,
    /// Topics.
    pub topics: &'o TopicsSeen,
    /// Processors and producer.
    pub targets: &'o Targets,
    /// What the processors of each target say.
    pub reports: &'o [Vec<ProcessorStatus>],
    /// Why the spec of now is refused, where all of this is about the one that was accepted last.
    pub refused: Option<Finding>,
}
