//! Migrations: one Job for each image and target, which gates the processors, and whose success is remembered in the status.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use clickstream_pipeline::spec::TargetSpec;
use clickstream_protocol::{
    annotations::MIGRATION_INPUTS,
    labels::{COMPONENT, MIGRATION_ATTEMPT, MIGRATION_HASH, PROCESSOR},
    migration::MigrationReport,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;

use crate::{
    controller::{
        applier::{Applied, Owner, refused::Refused},
        build::{self, Child, TARGET_LABEL},
        context::{Context, Error},
        gate::Gate,
        jobs::ended,
        refusals,
        validate::ValidatedPipeline,
    },
    crd::{ClickstreamPipeline, MigrationStatus},
    kind::Kind,
    settings::Settings,
    stores::{Live, Stores},
};

/// Pause before a failed migration is repeated, doubled each time.
const RETRY: SignedDuration = SignedDuration::from_secs(10);
const RETRY_MAX: SignedDuration = SignedDuration::from_secs(300);
/// How often a migration looks for readers that were missing: it takes a moment and changes nothing else.
pub const LOOK_FOR_READERS: SignedDuration = SignedDuration::from_mins(5);
/// The watch of pods may tell so much later than that of Jobs: what a migration reports is waited for as long.
const REPORT_LAG: SignedDuration = SignedDuration::from_secs(10);

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
    /// The image of before, for whose tables and spec nothing is to be migrated: what ran goes on with it.
    runs_on: Option<String>,
    /// A processor has found no tables, or older ones: what was remembered does not hold.
    refuted: bool,
    /// An attempt of it has ended without tables.
    repeated: bool,
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

    /// The Jobs to start now with what they need, by target: none where nothing is to be started. Pure.
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

fn look(
    pipeline: &ClickstreamPipeline,
    valid: &ValidatedPipeline,
    target: &TargetSpec,
    waits_its_turn: bool,
    context: &Context,
) -> Entry {
    let image = valid.processor_image(&context.settings).to_owned();
    let hash = build::migration_hash(valid, target, &context.settings);
    let known = pipeline
        .status
        .iter()
        .flat_map(|status| &status.targets)
        .find(|known| known.name == target.name);
    let recorded = known.and_then(|known| known.migration.as_ref());
    let record = MigrationStatus {
        image: image.clone(),
        hash: hash.clone(),
    };
    let runs_on = recorded.and_then(|recorded| before(recorded, valid, target, &context.settings));
    let entry = |state, start| Entry {
        record: record.clone(),
        state,
        start,
        podless: None,
        runs_on: runs_on.clone(),
        refuted: false,
        repeated: false,
    };
    if waits_its_turn {
        return entry(State::Queued, None);
    }
    let keys = target.migration_secret_keys();
    let missing = valid.secrets.missing(&keys);
    let jobs = || jobs(pipeline, target, &hash, &context.stores);
    let found = refutation(valid, target, &context.stores);
    if recorded.is_some_and(|recorded| recorded.hash == hash) {
        let looks = known.is_some_and(|known| !known.missing_readers.is_empty());
        if found.is_none() && (!looks || !missing.is_empty()) {
            return entry(State::Recorded, None);
        }
        let jobs = jobs();
        if !holds(found.as_ref(), &jobs) {
            if !looks || !missing.is_empty() {
                return entry(State::Recorded, None);
            }
            let (state, start) = look_for_readers(&jobs, valid, &context.stores);
            return entry(state, start);
        }
    }
    if !missing.is_empty() {
        return entry(State::NoSecret(missing.join(", ")), None);
    }
    let jobs = jobs();
    let found = found.filter(|found| holds(Some(found), &jobs));
    let again = found.as_ref().map(|(_, said)| said.clone());
    let mut entry = attempts(&jobs, again, valid, target, context, &entry);
    entry.refuted = found.is_some();
    entry
}

/// What the Jobs of a migration have come to. `again`: what a processor has found since one of them has succeeded.
fn attempts(
    jobs: &BTreeMap<u32, Live>,
    again: Option<String>,
    valid: &ValidatedPipeline,
    target: &TargetSpec,
    context: &Context,
    entry: &dyn Fn(State, Option<u32>) -> Entry,
) -> Entry {
    let running = |obstacle: Option<String>| match (&again, obstacle) {
        (Some(said), None) => State::Repeated(said.clone()),
        (_, obstacle) => State::Running(obstacle),
    };
    let Some((attempt, job)) = jobs.last_key_value() else {
        return entry(running(None), Some(0));
    };
    let pod = pod_of(job, valid, &context.stores);
    let podless = pod.is_none().then(|| job.clone());
    let later = |at: Timestamp| at.saturating_add(pause(*attempt)).unwrap_or(at);
    let mut entry = match ended(&job.status) {
        None => entry(running(waits_for(pod.as_ref())), None),
        Some((true, at)) if let Some(said) = &again => {
            let due = later(at);
            if Timestamp::now() >= due {
                entry(State::Repeated(said.clone()), Some(attempt + 1))
            } else {
                let why = format!("it has succeeded, and a processor has found since: {said}");
                entry(State::Failed { why, again: due }, None)
            }
        }
        Some((true, at)) => match report(job, valid, &context.stores) {
            Some(Ok(report)) => entry(State::Done(report), None),
            // which topics are ours would be guessed: as with one that failed, another may say it
            Some(Err(error)) => {
                let again = later(at);
                let start = (Timestamp::now() >= again).then_some(attempt + 1);
                let why =
                    format!("the migration has succeeded, and its report cannot be read: {error}");
                entry(State::Failed { why, again }, start)
            }
            None if Timestamp::now().duration_since(at).abs() < REPORT_LAG => {
                entry(State::Running(None), None)
            }
            // its pod is gone
            None => entry(State::Done(MigrationReport::default()), None),
        },
        Some((false, at)) => {
            let again = later(at);
            let changed = job.annotations.get(MIGRATION_INPUTS)
                != Some(&build::migration_inputs(valid, target));
            let why = last_words(job, valid, &context.stores);
            let start = (changed || Timestamp::now() >= again).then_some(attempt + 1);
            entry(State::Failed { why, again }, start)
        }
    };
    entry.podless = podless.filter(|_| !entry.state.is_done());
    entry.repeated = *attempt > 0;
    entry
}

/// The image that migrated the tables last, where only the operator's release wants another one. The status has it, which others may
/// be allowed to write: it is held to what the platform allows.
fn before(
    recorded: &MigrationStatus,
    valid: &ValidatedPipeline,
    target: &TargetSpec,
    settings: &Settings,
) -> Option<String> {
    let own = &settings.processor_image;
    if valid.document.spec.image.is_some()
        || recorded.image == *own
        || !settings
            .allowed
            .allows_image_of_before(&recorded.image, own)
    {
        return None;
    }
    let before = Settings {
        processor_image: recorded.image.clone(),
        ..settings.clone()
    };
    let is_all = build::migration_hash(valid, target, &before) == recorded.hash;
    is_all.then(|| recorded.image.clone())
}

/// When a processor of the target was last seen to end because the tables are not there or too old, and what it said.
fn refutation(
    valid: &ValidatedPipeline,
    target: &TargetSpec,
    stores: &Stores,
) -> Option<(Timestamp, String)> {
    let labels = [
        (build::PIPELINE_LABEL, valid.name.as_str()),
        (TARGET_LABEL, target.name.as_str()),
        (COMPONENT, PROCESSOR),
    ];
    stores
        .pods(&valid.namespace, &labels)
        .iter()
        .filter_map(|pod| crate::observe::pods::wants_migration(pod))
        .max()
}

/// Whether what a processor has found is newer than the newest migration that succeeded.
fn holds(found: Option<&(Timestamp, String)>, jobs: &BTreeMap<u32, Live>) -> bool {
    let succeeded = jobs.values().filter_map(|job| match ended(&job.status) {
        Some((true, at)) => Some(at),
        _ => None,
    });
    let newest = succeeded.max();
    found.is_some_and(|(at, _)| newest.is_none_or(|newest| *at > newest))
}

/// The tables are there, and readers were missing: what the last look for them has found, and whether it is time for another.
fn look_for_readers(
    jobs: &BTreeMap<u32, Live>,
    valid: &ValidatedPipeline,
    stores: &Stores,
) -> (State, Option<u32>) {
    let Some((attempt, job)) = jobs.last_key_value() else {
        return (State::Recorded, Some(0));
    };
    let Some((succeeded, at)) = ended(&job.status) else {
        return (State::Recorded, None);
    };
    let state = match report(job, valid, stores).filter(|_| succeeded) {
        Some(Ok(report)) => State::Done(report),
        _ => State::Recorded,
    };
    let due = Timestamp::now().duration_since(at) >= LOOK_FOR_READERS;
    (state, due.then_some(attempt + 1))
}

fn pause(attempt: u32) -> SignedDuration {
    RETRY
        .checked_mul(1 << attempt.min(5))
        .unwrap_or(RETRY_MAX)
        .min(RETRY_MAX)
}

/// The Jobs of this migration, by attempt.
fn jobs(
    pipeline: &ClickstreamPipeline,
    target: &TargetSpec,
    hash: &str,
    stores: &Stores,
) -> BTreeMap<u32, Live> {
    let namespace = pipeline.namespace().unwrap_or_default();
    stores
        .children_of(Kind::Job, &namespace, &pipeline.uid().unwrap_or_default())
        .into_iter()
        .filter(|job| {
            job.labels.get(TARGET_LABEL) == Some(&target.name)
                && job.labels.get(MIGRATION_HASH).is_some_and(|of| of == hash)
                && !job.deleting
        })
        .filter_map(|job| {
            let attempt = job.labels.get(MIGRATION_ATTEMPT)?.parse().ok()?;
            Some((attempt, job))
        })
        .collect()
}

type Pod = std::sync::Arc<k8s_openapi::api::core::v1::Pod>;

/// The newest pod of a Job.
fn pod_of(job: &Live, valid: &ValidatedPipeline, stores: &Stores) -> Option<Pod> {
    stores
        .pods(
            &valid.namespace,
            &[("batch.kubernetes.io/job-name", &job.name)],
        )
        .into_iter()
        .max_by_key(|pod| pod.creation_timestamp().map(|time| time.0))
}

/// What a migration that succeeded has said; `None` while its pod is not known to have ended.
fn report(
    job: &Live,
    valid: &ValidatedPipeline,
    stores: &Stores,
) -> Option<Result<MigrationReport, serde_json::Error>> {
    let pod = pod_of(job, valid, stores)?;
    Some(MigrationReport::parse(&crate::observe::pods::left_behind(
        &pod,
    )?))
}

fn last_words(job: &Live, valid: &ValidatedPipeline, stores: &Stores) -> String {
    pod_of(job, valid, stores)
        .and_then(|pod| crate::observe::pods::last_line(&pod))
        .unwrap_or_else(|| {
            let reason = job.status["conditions"].as_array().and_then(|conditions| {
                let failed = conditions
                    .iter()
                    .find(|found| found["type"] == json!("Failed"));
                failed?["reason"]
                    .as_str()
                    .filter(|reason| !reason.is_empty())
            });
            format!(
                "Job {} failed{}; its pod is gone, and with it the reason",
                job.name,
                reason
                    .map(|reason| format!(" ({reason})"))
                    .unwrap_or_default()
            )
        })
}

fn waits_for(pod: Option<&Pod>) -> Option<String> {
    crate::observe::pods::obstacle(pod?)
}
