//! How many pods of a Deployment do what they should.

use serde_json::Value;

use super::{
    applier::refused::Refused,
    refusals::{self, Stuck},
};
use crate::stores::Live;

/// How many pods of a Deployment do what they should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Wanted by the spec.
    pub wanted: i32,
    /// Ready, of whatever version.
    pub ready: i32,
    /// Ready for long enough to count.
    pub available: i32,
    /// Of the newest version.
    pub updated: i32,
    /// Of whatever version, ready or not.
    pub total: i32,
    /// Whether the numbers are about the newest version.
    pub observed: bool,
    /// What keeps a pod from running.
    pub obstacle: Option<String>,
    /// What keeps pods from being there at all.
    pub stuck: Option<Stuck>,
    /// Why there is no newest version yet.
    pub held_back: Option<&'static str>,
    /// It runs as it did before, and other pipelines roll first.
    pub queued: bool,
    /// It runs as the release before made it, since its image is pinned.
    pub pinned: bool,
    /// It runs as it did before, and the operator is paused.
    pub paused: bool,
    /// It runs as it did before, and the API server refuses it as it should be, or something that
    /// its pods need.
    pub refused: Option<Refused>,
}

impl Workload {
    /// Whether everything wanted is there, and is the newest version. As long as a pod of an older
    /// version is left, a newer one has not become available: of one replica both are there.
    pub const fn is_complete(&self) -> bool {
        let is_there = self.observed
            && self.available >= self.wanted
            && self.updated >= self.wanted
            && self.total <= self.updated;
        is_there
            && !self.paused
            && self.refused.is_none()
            && (self.held_back.is_none() || self.queued)
    }

    /// Whether pods of an older version may be there, which read their own document when they
    /// restart.
    pub const fn may_be_older(&self) -> bool {
        let is_newest = self.observed && self.updated == self.total;
        let goes_on = self.paused || self.pinned || self.held_back.is_some();
        !is_newest || goes_on || self.refused.is_some()
    }
}

/// A Deployment as its status has it; what is wanted, and why it waits, is not there.
pub fn workload(live: &Live) -> Workload {
    let number = |field: &str| {
        let number = live.status.get(field).and_then(Value::as_i64).unwrap_or(0);
        i32::try_from(number).unwrap_or(i32::MAX)
    };
    let observed = live
        .status
        .get("observedGeneration")
        .and_then(Value::as_i64);
    Workload {
        wanted: 0,
        ready: number("readyReplicas"),
        available: number("availableReplicas"),
        updated: number("updatedReplicas"),
        total: number("replicas"),
        observed: observed.is_some() && observed >= live.generation,
        obstacle: None,
        stuck: refusals::of_deployment(&live.status),
        held_back: None,
        queued: false,
        pinned: false,
        paused: false,
        refused: None,
    }
}
