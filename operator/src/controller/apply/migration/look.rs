//! How far a target's migration is, and whether an attempt is to start: from the status, the Jobs
//! and their pods.

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

use super::{Entry, LOOK_FOR_READERS, State};
use crate::{
    controller::{
        build::{self, TARGET_LABEL},
        context::Context,
        jobs::ended,
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
/// The watch of pods may tell so much later than that of Jobs: what a migration reports is waited
/// for as long.
const REPORT_LAG: SignedDuration = SignedDuration::from_secs(10);

/// Decides about one target.
pub(super) fn look(
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
        columns: !valid.document.spec.events.columns.is_empty(),
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

/// What the Jobs of a migration have come to. `again`: what a processor has found since one of them
/// has succeeded.
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

/// The image that migrated the tables last, where only the operator's release wants another one.
/// The status has it, which others may be allowed to write: it is held to what the platform allows.
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

/// When a processor of the target was last seen to end because the tables are not there or too old,
/// and what it said.
fn refutation(
    valid: &ValidatedPipeline,
    target: &TargetSpec,
    stores: &Stores,
) -> Option<(Timestamp, String)> {
    let labels = [(TARGET_LABEL, target.name.as_str()), (COMPONENT, PROCESSOR)];
    stores
        .pods(&valid.namespace, &valid.name, &labels)
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

/// The tables are there, and readers were missing: what the last look for them has found, and
/// whether it is time for another.
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
            &valid.name,
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
