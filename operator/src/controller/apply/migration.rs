//! Migrations: one Job for each image and target, which gates the processors, and whose success is
//! remembered in the status.

mod look;

use clickstream_protocol::migration::MigrationReport;
use jiff::{SignedDuration, Timestamp};

use self::look::look;

use crate::{
    controller::{
        applier::{Applied, Owner, refused::Refused},
        build::{self, Child},
        context::{Context, Error},
        gate::Gate,
        refusals,
        validate::ValidatedPipeline,
    },
    crd::{ClickstreamPipeline, MigrationStatus},
    settings::Settings,
    stores::Live,
};

/// How often a migration looks for readers that were missing: it takes a moment and changes nothing
/// else.
pub const LOOK_FOR_READERS: SignedDuration = SignedDuration::from_mins(5);
/// How far a target's migration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The tables are there.
    Done(MigrationReport),
    /// The status says so, and the Job may be long gone.
    Recorded,
    /// It runs, or is about to; what its pod waits for, if it waits.
    Running(Option<String>),
    /// The same, once more: what a processor has found instead of the tables.
    Repeated(String),
    /// It failed, and will be tried again then.
    Failed {
        /// Its last line.
        why: String,
        /// When it is tried again.
        again: Timestamp,
    },
    /// A Secret that it needs is not there.
    NoSecret(String),
    /// Other pipelines roll first.
    Queued,
    /// It is due, and the operator is paused.
    Held,
}

impl State {
    /// Whether processors of this version may run.
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Recorded)
    }
}

/// The migrations of all targets, in their order.
pub struct Migrations {
    targets: Vec<Entry>,
    refused: Vec<Refused>,
}

struct Entry {
    /// What to remember once it is done.
    record: MigrationStatus,
    state: State,
    /// The attempt to start now.
    start: Option<u32>,
    /// Its Job, while that has no pod that could tell anything.
    podless: Option<Live>,
    /// The image of before, for whose tables and spec nothing is to be migrated: what ran goes on
    /// with it.
    runs_on: Option<String>,
    /// A processor has found no tables, or older ones: what was remembered does not hold.
    refuted: bool,
    /// An attempt of it has ended without tables.
    repeated: bool,
    /// The spec promotes keys of events to columns, which it adds.
    columns: bool,
}

impl Migrations {
    /// Decides from the status, the Jobs and their pods.
    pub fn look(
        pipeline: &ClickstreamPipeline,
        valid: &ValidatedPipeline,
        gate: &Gate,
        context: &Context,
    ) -> Self {
        let targets = valid
            .document
            .spec
            .targets
            .iter()
            .enumerate()
            .map(|(index, target)| look(pipeline, valid, target, gate.holds_target(index), context))
            .collect();
        Self {
            targets,
            refused: Vec::new(),
        }
    }

    /// The operator is paused: nothing is started. What runs already goes on, and is told of.
    pub fn hold(&mut self) {
        for entry in &mut self.targets {
            let is_new = matches!(entry.state, State::Running(None) | State::Repeated(_));
            if entry.start.take().is_some() && is_new {
                entry.state = State::Held;
            }
        }
    }

    /// The Jobs to start now with what they need, by target: none where nothing is to be started.
    /// Pure.
    pub fn build(&self, valid: &ValidatedPipeline, settings: &Settings) -> Vec<Vec<Child>> {
        let targets = self.targets.iter().zip(&valid.document.spec.targets);
        let children = targets.map(|(entry, target)| {
            let attempt = entry.start.iter();
            attempt
                .flat_map(|attempt| build::migration(valid, target, settings, *attempt))
                .collect()
        });
        children.collect()
    }

    /// Starts what was built, and asks why a Job has no pod.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn apply(
        &mut self,
        owner: &Owner,
        jobs: &[Vec<Child>],
        context: &Context,
    ) -> Result<(), Error> {
        for (entry, children) in self.targets.iter_mut().zip(jobs) {
            if let Some(job) = &entry.podless
                && let Some(refusal) =
                    refusals::of_job(job, &owner.namespace, &context.client).await
            {
                match &mut entry.state {
                    State::Failed { why, .. } => *why = format!("{why}: {refusal}"),
                    running => *running = State::Running(Some(refusal)),
                }
            }
            for child in children {
                let obstacle = match context.applier.apply(&context.stores, owner, child).await? {
                    Applied::Taken(taken) => taken.to_string(),
                    Applied::Refused(refused) => {
                        let obstacle = refused.to_string();
                        self.refused.push(refused);
                        obstacle
                    }
                    Applied::Done(_) | Applied::Pending(_) | Applied::Held(_) => continue,
                };
                // tables that are there stay so, whatever another look for readers meets
                if !entry.state.is_done() {
                    entry.state = State::Running(Some(obstacle));
                }
                break;
            }
        }
        Ok(())
    }

    /// What of their children the API server refuses.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// How far each target is, in their order.
    pub fn states(&self) -> impl Iterator<Item = &State> {
        self.targets.iter().map(|entry| &entry.state)
    }

    /// Whether a pod is to come any moment: when it does not, nobody tells.
    pub fn await_pods(&self) -> bool {
        self.targets.iter().any(|entry| {
            entry.podless.is_some()
                && matches!(entry.state, State::Running(None) | State::Repeated(_))
        })
    }

    /// The hashes of the migrations that the spec wants.
    pub fn hashes(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|entry| entry.record.hash.as_str())
    }

    /// How far a target is.
    pub fn state(&self, index: usize) -> &State {
        &self.targets[index].state
    }

    /// Whether columns may be missing that rules of the newest spec write. What waits for its turn
    /// is of another version, which follows no rules of this one.
    pub fn adds_columns(&self, index: usize) -> bool {
        let entry = &self.targets[index];
        entry.columns && !entry.state.is_done() && entry.state != State::Queued
    }

    /// How far a target is, as one of the words that metrics have for it.
    pub fn state_name(&self, index: usize) -> &'static str {
        let entry = &self.targets[index];
        match &entry.state {
            State::Done(_) | State::Recorded => "done",
            State::Running(None) if !entry.repeated => "running",
            State::Running(None) | State::Repeated(_) => "retrying",
            State::Running(Some(_)) => "blocked",
            State::Failed { .. } => "failed",
            State::NoSecret(_) => "no_secret",
            State::Queued => "queued",
            State::Held => "paused",
        }
    }

    /// What the status is to remember of a target whose migration is done.
    pub fn record(&self, index: usize) -> Option<&MigrationStatus> {
        let entry = &self.targets[index];
        entry.state.is_done().then_some(&entry.record)
    }

    /// Whether a migration that succeeded is not to be remembered any more.
    pub fn is_refuted(&self, index: usize) -> bool {
        self.targets[index].refuted
    }

    /// The images of before, where a target's pods may go on with one, or come back with it.
    pub fn runs_on(&self) -> Vec<Option<&str>> {
        let targets = self.targets.iter();
        targets.map(|entry| entry.runs_on.as_deref()).collect()
    }

    /// What the migration that ended just now reported.
    pub fn report(&self, index: usize) -> Option<&MigrationReport> {
        match &self.targets[index].state {
            State::Done(report) => Some(report),
            _ => None,
        }
    }

    /// Whether the schemas have told, now or earlier, which topics they know.
    pub fn told(&self) -> bool {
        self.targets.iter().any(|entry| entry.state.is_done())
    }
}
