//! The status: decided from what was applied and what the processors say, and written when it
//! differs.

pub mod conditions;
mod findings;
mod loss;
mod numbers;
pub mod observed;
mod paused;
mod transactions;

use std::time::Duration;

use clickstream_pipeline::spec::{ClickstreamPipeline as Document, PipelineSpec, Problem};
use clickstream_protocol::annotations::{OPERATOR, WRITTEN_BY};
use clickstream_protocol::conditions::{ConditionType, Reason};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::error_boundary::InvalidObject,
};
use serde_json::json;
use tracing::{info, warn};

use self::{
    conditions::{Finding, Findings, conditions},
    observed::Observed,
};
use super::{
    apply::migration::State,
    asked::Asked,
    context::{Context, Error},
    record::{latest, patch},
    workload::Workload,
};
use crate::{
    crd::{ClickstreamPipeline, ClickstreamPipelineStatus},
    events::Happening,
};

/// Numbers alone are written no more often than this.
const NUMBERS: Duration = Duration::from_secs(30);
/// What each pipeline adds to that: with more than three hundred, all of them together write ten
/// times a second at most.
const NUMBERS_EACH: Duration = Duration::from_millis(100);
/// When nothing but heartbeats came, that something was committed is written no more often than
/// this.
const AT_REST: Duration = Duration::from_mins(10);
/// The longest text of an accepted spec that is kept, in bytes: etcd takes objects of 1.5 MiB, and
/// beside it stand the spec itself and, where kubectl has applied it, the annotation with all of
/// it.
const LONGEST_ACCEPTED: usize = 256 << 10;

/// What came of it.
pub struct Written {
    /// Whether something is still to come.
    pub waiting: bool,
    /// Whether another value in a Secret may be what is missing.
    pub by_secret: bool,
}

/// Decides the status and writes it if it differs: conditions at once, numbers alone every 30 s, or
/// less often where there are many pipelines.
///
/// # Errors
/// What the API server says.
pub async fn write(
    pipeline: &ClickstreamPipeline,
    observed: &Observed<'_>,
    context: &Context,
) -> Result<Written, Error> {
    let now = Timestamp::now();
    let previous = latest(pipeline, context);
    let generation = pipeline.metadata.generation.unwrap_or_default();
    let uid = pipeline.uid().unwrap_or_default();
    let acknowledged = loss::acknowledged(pipeline);
    let mut status = numbers::status(observed, &previous, &acknowledged, now);
    let findings = findings::of(observed, &status);
    status.observed_generation = Some(generation);
    status.held_by = context.settings.installation.clone();
    status.last_handled_reconcile_at = observed.valid.asked.reconcile_at.clone();
    // a pin that could not be noted yet is known by this: see the gate
    let is_seen = previous.accepted.is_none() && previous.observed_generation == Some(generation);
    let mut all = observed.targets.all();
    let is_noted = !all.any(|pod| pod.pinned && (pod.paused || pod.refused.is_some()));
    status.accepted = match observed.refused {
        None if is_noted || !is_seen => Some(accepts(pipeline, context)),
        _ => previous.accepted.clone(),
    };
    status.conditions = conditions(&findings, &previous.conditions, generation, now);
    let rolled = has_rolled(observed);
    let pinned = observed.targets.all().any(|workload| workload.pinned);
    status.release = if rolled && !pinned {
        Some(context.upgrades.release().to_owned())
    } else {
        previous.release.clone()
    };
    let is_over = rolled
        && is_complete(observed)
        && (holds(&status, ConditionType::Ready) || findings.suspended);
    status.upgrade = previous.upgrade.clone().filter(|_| !is_over);
    let at_once = numbers::without_numbers(&status) != numbers::without_numbers(&previous);
    let pause = if numbers::without_commits(&status) != numbers::without_commits(&previous) {
        let of_all = NUMBERS_EACH.saturating_mul(context.memories.count());
        Some(NUMBERS.max(of_all))
    } else if numbers::without_times(&status) != numbers::without_times(&previous) {
        Some(AT_REST)
    } else {
        None
    };
    let are_due = pause.is_some_and(|pause| context.memories.numbers_due(&uid, pause));
    show(pipeline, &status, context);
    show_targets(pipeline, observed, context);
    if at_once || are_due {
        patch(pipeline, &status, context).await?;
        context.memories.numbers_written(&uid);
        announce(pipeline, &previous, &status, context).await;
    }
    if is_over {
        context.upgrades.done(&uid);
    }
    Ok(Written {
        waiting: findings.in_progress.is_some(),
        by_secret: findings.may_lack_a_secret(),
    })
}

/// Whether all pods were sent as the operator's release makes them, but for those that are pinned
/// to another one.
fn has_rolled(observed: &Observed<'_>) -> bool {
    let sent = |workload: &Workload| {
        workload.held_back.is_none() && !workload.paused && workload.refused.is_none()
    };
    !observed.gate.is_closed()
        && observed.migrations.states().all(State::is_done)
        && observed.targets.all().all(sent)
}

/// Whether all pods that are wanted are there.
fn is_complete(observed: &Observed<'_>) -> bool {
    observed.targets.all().all(Workload::is_complete)
}

/// Says that the spec cannot be followed, where nothing that was accepted before is known: nothing
/// is looked at then. Whether that is news.
///
/// # Errors
/// What the API server says.
pub async fn write_refused(
    pipeline: &ClickstreamPipeline,
    refused: Finding,
    context: &Context,
) -> Result<bool, Error> {
    let previous = latest(pipeline, context);
    let generation = pipeline.metadata.generation.unwrap_or_default();
    let unknown = || Finding::unknown(Reason::NotChecked, "the spec is refused");
    let mut status = previous.clone();
    let asked = Asked::of(pipeline.annotations());
    status.last_handled_reconcile_at = asked.reconcile_at.clone();
    loss::acknowledge(&mut status, &loss::acknowledged(pipeline));
    let findings = Findings {
        topics: unknown(),
        database: unknown(),
        processors: unknown(),
        producer: None,
        lag: unknown(),
        data_loss: loss::finding(&status),
        suspended: previous.suspended == Some(true),
        paused: paused::finding(&asked),
        refused: Some(refused),
        in_progress: None,
    };
    // what a person has changed meanwhile is not what an older release has looked at: see the gate
    if status.accepted.is_none() && status.observed_generation != Some(generation) {
        status.accepted = Some(String::new());
    }
    status.observed_generation = Some(generation);
    status.conditions = conditions(
        &findings,
        &previous.conditions,
        generation,
        Timestamp::now(),
    );
    show(pipeline, &status, context);
    if status == previous {
        return Ok(false);
    }
    patch(pipeline, &status, context).await?;
    Ok(true)
}

/// The same for a resource that cannot be read at all: only its name is known.
///
/// # Errors
/// What the API server says.
pub async fn write_unreadable(invalid: &InvalidObject, context: &Context) -> Result<(), Error> {
    let (Some(namespace), Some(name)) = (&invalid.metadata.namespace, &invalid.metadata.name)
    else {
        return Ok(());
    };
    let generation = invalid.metadata.generation.unwrap_or_default();
    let message = format!("the resource cannot be read: {}", invalid.error);
    let refused = Finding::no(Reason::Unreadable, message);
    let fine = || Finding::unknown(Reason::NotChecked, "the resource cannot be read");
    let findings = Findings {
        topics: fine(),
        database: fine(),
        processors: fine(),
        producer: None,
        lag: fine(),
        data_loss: fine(),
        suspended: false,
        paused: None,
        refused: Some(refused),
        in_progress: None,
    };
    let now = Timestamp::now();
    let found = conditions(&findings, &[], generation, now);
    context
        .metrics
        .pipelines
        .conditions(namespace, name, &found);
    let status = json!({ "observedGeneration": generation, "conditions": found });
    // the typed API would fail to read the answer
    let resource = ApiResource::erase::<ClickstreamPipeline>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), namespace, &resource);
    let body = json!({ "status": status });
    match api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&body))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Shows in the metrics what was decided, whether it is written now or with the next numbers.
fn show(pipeline: &ClickstreamPipeline, status: &ClickstreamPipelineStatus, context: &Context) {
    let namespace = pipeline.namespace().unwrap_or_default();
    let name = pipeline.name_any();
    context.metrics.pipelines.status(&namespace, &name, status);
}

/// The same of what the status has no field for.
fn show_targets(pipeline: &ClickstreamPipeline, observed: &Observed<'_>, context: &Context) {
    let namespace = pipeline.namespace().unwrap_or_default();
    let spec = &observed.valid.document.spec;
    let targets = spec.targets.iter().enumerate().map(|(index, target)| {
        let reports = &observed.reports[index];
        // where none answers, the operator's way to the pods is cut, or there are none
        let is_told = !reports.is_empty() && !spec.suspend;
        let missing = numbers::unreported(&observed.topics.topics, reports).filter(|_| is_told);
        let unowned = missing.and_then(|missing| i64::try_from(missing.len()).ok());
        (
            target.name.as_str(),
            unowned,
            observed.migrations.state_name(index),
        )
    });
    let metrics = &context.metrics.pipelines;
    metrics.targets(&namespace, &pipeline.name_any(), targets);
}

/// What the status says about a spec that is followed: all of it, so that it can be followed on
/// when a newer one is refused, also by an operator that has never seen it.
fn accepts(pipeline: &ClickstreamPipeline, context: &Context) -> String {
    let uid = pipeline.uid().unwrap_or_default();
    let mut document = pipeline.document();
    let annotations = &mut document.metadata.annotations;
    annotations.insert(WRITTEN_BY.to_owned(), OPERATOR.to_owned());
    let text = context.memories.texts(&uid).of(&document);
    bounded(&text.whole).to_owned()
}

/// The text, or none of it where it is too long to be kept. An empty one still says that a spec was
/// accepted.
fn bounded(text: &str) -> &str {
    if text.len() <= LONGEST_ACCEPTED {
        text
    } else {
        ""
    }
}

/// The spec that was accepted last, if it can still be read. A later operator may have said more in
/// it than this one knows.
pub fn accepted(pipeline: &ClickstreamPipeline, context: &Context) -> Option<PipelineSpec> {
    let text = latest(pipeline, context).accepted?;
    if text.is_empty() {
        return None;
    }
    match Document::from_document(&text) {
        Ok((document, _)) => Some(document.spec),
        Err(error) => {
            warn!(
                namespace = pipeline.namespace().unwrap_or_default(),
                pipeline = pipeline.name_any(),
                %error,
                "the spec that was accepted last cannot be read"
            );
            None
        }
    }
}

/// A window size that differs from the one that the tables hold windows of.
pub fn window_change(pipeline: &ClickstreamPipeline) -> Option<Problem> {
    let status = pipeline.status.as_ref()?;
    let held = status.window.as_ref()?;
    let wanted = pipeline.spec.window.size.to_string();
    let is_empty = status
        .targets
        .iter()
        .all(|target| target.accepted == Some(0));
    (*held != wanted && !is_empty).then(|| Problem {
        path: "spec.window.size".to_owned(),
        message: format!(
            "the tables hold windows of {held}, and windows of two lengths cannot be counted together: set it back to {held}, or let a new pipeline with another schema read the topics from their beginning"
        ),
    })
}

fn holds(status: &ClickstreamPipelineStatus, kind: ConditionType) -> bool {
    status
        .conditions
        .iter()
        .any(|condition| condition.type_ == kind && condition.status == "True")
}

/// An Event for each condition that changed and that a person watches for.
async fn announce(
    pipeline: &ClickstreamPipeline,
    previous: &ClickstreamPipelineStatus,
    status: &ClickstreamPipelineStatus,
    context: &Context,
) {
    // (condition, the status that is a warning)
    const TOLD: [(ConditionType, &str); 7] = [
        (ConditionType::Ready, "False"),
        (ConditionType::TopicsReady, "False"),
        (ConditionType::DatabaseReady, "False"),
        (ConditionType::LagWithinTarget, "False"),
        (ConditionType::DataLossDetected, "True"),
        (ConditionType::Suspended, ""),
        (ConditionType::Paused, ""),
    ];
    if let Some(before) = &previous.held_by
        && previous.held_by != status.held_by
    {
        let now = match &status.held_by {
            Some(namespace) => format!("the one in namespace {namespace}"),
            None => "one without a Lease".to_owned(),
        };
        info!(
            namespace = pipeline.namespace().unwrap_or_default(),
            pipeline = pipeline.name_any(),
            before,
            "pipeline taken over"
        );
        let happening = Happening {
            warning: false,
            reason: Reason::TakenOver.into(),
            action: "TakeOver",
            note: format!(
                "the operator in namespace {before}, which looked after this pipeline, has ended; {now} does from now on"
            ),
        };
        context.events.publish(pipeline, happening).await;
    }
    for (kind, warning) in TOLD {
        let find = |status: &ClickstreamPipelineStatus| {
            status
                .conditions
                .iter()
                .find(|condition| condition.type_ == kind)
                .cloned()
        };
        let before = find(previous);
        let Some(now) = find(status) else {
            if kind == ConditionType::Paused && before.is_some_and(|before| before.status == "True")
            {
                let happening = Happening {
                    warning: false,
                    reason: Reason::Resumed.into(),
                    action: "Observe",
                    note: "the operator follows the spec again".to_owned(),
                };
                context.events.publish(pipeline, happening).await;
            }
            continue;
        };
        if before
            .as_ref()
            .is_some_and(|before| before.status == now.status && before.reason == now.reason)
        {
            continue;
        }
        // while nobody answers there is nothing to tell but that
        if kind != ConditionType::Ready && now.status == "Unknown" {
            continue;
        }
        // that nothing is lost is news after a loss
        if kind == ConditionType::DataLossDetected
            && now.status != warning
            && before
                .as_ref()
                .is_none_or(|before| before.status != warning)
        {
            continue;
        }
        // the first look finds everything pending: no news
        if before.is_none() && (now.status != "True" || kind == ConditionType::Suspended) {
            continue;
        }
        let happening = Happening {
            warning: now.status == warning && !is_waiting(&now.reason),
            reason: now.reason.clone().into(),
            action: "Observe",
            note: format!("{kind} is {}: {}", now.status, now.message),
        };
        context.events.publish(pipeline, happening).await;
    }
}

/// Reasons that say that something is on its way.
fn is_waiting(reason: &str) -> bool {
    let on_its_way = [
        Reason::Migrating,
        Reason::RollingOut,
        Reason::WaitingForDatabase,
        Reason::Suspended,
        Reason::Paused,
        Reason::Queued,
    ];
    on_its_way.iter().any(|waiting| reason == waiting.as_str())
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_ACCEPTED, bounded};

    #[test]
    fn a_spec_that_is_too_long_to_be_kept_still_counts_as_accepted() {
        let longest = "s".repeat(LONGEST_ACCEPTED);
        assert_eq!(bounded(&longest), longest);
        assert_eq!(bounded(&format!("{longest}s")), "");
    }
}
