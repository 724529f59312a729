//! One pipeline, reconciled: the order of the steps is the order of the modules.

pub mod allowed;
pub mod applier;
pub mod apply;
pub mod asked;
pub mod build;
mod cleanup;
mod context;
pub mod dereference;
mod examined;
mod gate;
pub mod gone;
mod jobs;
pub mod memory;
mod record;
mod refusals;
pub mod secrets;
mod status;
mod tenancy;
mod texts;
pub mod upgrades;
mod validate;
mod workload;

use std::{sync::Arc, time::Duration};

use clickstream_protocol::{conditions::Reason, labels, status::ProcessorStatus};
use clickstream_telemetry::tracing as traces;
use kube::{
    Resource as _, ResourceExt,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::controller::Action,
};
use tracing::{Instrument as _, debug_span, info, warn};

pub use self::context::{Context, Error, Outcome};
use self::{
    applier::Owner,
    apply::{
        migration::Migrations,
        targets::{Plan, Targets},
        topics::TopicsSeen,
    },
    asked::Asked,
    build::{
        children::{Children, Made},
        inputs::Inputs,
    },
    context::{LONGEST, LOOK, WAITING, jittered, step},
    gate::Gate,
    status::{conditions::Finding, observed::Observed},
    validate::ValidatedPipeline,
};
use crate::{crd::ClickstreamPipeline, events::Happening, metrics::Ended, observe};

/// How soon again when the watch is behind.
const SOON: Duration = Duration::from_secs(1);
/// Longest pause after errors.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// The same while the API server does not answer at all: once it does, nobody tells.
const AWAY_MAX: Duration = Duration::from_secs(8);

/// Brings one pipeline a step closer to its spec, and says how far it is.
///
/// # Errors
/// [`Error`], after which the pipeline is tried again, each time later.
pub async fn reconcile(
    object: Arc<DeserializeGuard<ClickstreamPipeline>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let metadata = object.meta();
    let span = debug_span!(
        parent: None,
        "reconcile",
        namespace = metadata.namespace.as_deref().unwrap_or_default(),
        name = metadata.name.as_deref().unwrap_or_default(),
        generation = metadata.generation.unwrap_or_default(),
    );
    let done = traced(Arc::clone(&object), context)
        .instrument(span.clone())
        .await;
    if let Err(error) = &done {
        traces::fail(&span, error);
    }
    done
}

async fn traced(
    object: Arc<DeserializeGuard<ClickstreamPipeline>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let metadata = object.meta();
    let (namespace, name) = (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    );
    context.metrics.queue.taken(namespace, name);
    let running = context.metrics.reconcile();
    let work = async {
        match &object.0 {
            // large
            Ok(pipeline) => Box::pin(reconcile_pipeline(pipeline, &context)).await,
            Err(invalid) => report_unreadable(invalid, &context).await,
        }
    };
    let result = tokio::time::timeout(LONGEST, work).await;
    let result = match result.unwrap_or(Err(Error::Stuck)) {
        Err(Error::Outdated) => Ok(Outcome {
            waiting: true,
            again: Some(SOON),
        }),
        result => result,
    };
    running.ended(match &result {
        Ok(outcome) if outcome.waiting => Ended::RequeueAfter,
        Ok(_) => Ended::Success,
        Err(_) => Ended::Error,
    });
    gone::forget_if_gone(metadata.uid.as_deref().unwrap_or_default(), &context);
    let outcome = result?;
    context.metrics.pipelines.succeeded(namespace, name);
    context
        .memories
        .succeeded(object.meta().uid.as_deref().unwrap_or_default());
    Ok(outcome.action())
}

/// Later with every failure in a row, and at once again after a success.
pub fn error_policy(
    object: Arc<DeserializeGuard<ClickstreamPipeline>>,
    error: &Error,
    context: Arc<Context>,
) -> Action {
    let metadata = object.meta();
    let uid = metadata.uid.clone().unwrap_or_default();
    let failures = context.memories.failed(&uid);
    context.metrics.queue.retried();
    context.metrics.pipelines.failed(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
        failures,
    );
    let pause = Duration::from_millis(500)
        .saturating_mul(1 << failures.saturating_sub(1).min(12))
        .min(match error {
            Error::Api(kube::Error::Api(_)) | Error::Outdated => BACKOFF_MAX,
            Error::Api(_) | Error::Stuck => AWAY_MAX,
        });
    warn!(
        namespace = metadata.namespace.as_deref().unwrap_or_default(),
        pipeline = metadata.name.as_deref().unwrap_or_default(),
        %error,
        failures,
        pause_ms = pause.as_millis(),
        "reconcile failed"
    );
    Action::requeue(jittered(pause))
}

async fn reconcile_pipeline(
    pipeline: &ClickstreamPipeline,
    context: &Context,
) -> Result<Outcome, Error> {
    let uid = pipeline.uid().unwrap_or_default();
    let version = pipeline.resource_version().unwrap_or_default();
    let newer = context
        .memories
        .newer_status(&uid, &version)
        .map(|(version, status)| {
            let mut pipeline = pipeline.clone();
            pipeline.metadata.resource_version = Some(version);
            pipeline.status = Some(status);
            pipeline
        });
    if newer.is_none() {
        context.memories.forget_status(&uid);
    }
    let pipeline = newer.as_ref().unwrap_or(pipeline);
    if let Some(holder) = tenancy::held_by_another(pipeline, context).await? {
        return leave_alone(pipeline, &holder, context).await;
    }
    let asked = Asked::of(pipeline.annotations());
    if pipeline.metadata.deletion_timestamp.is_some() {
        if asked.paused && cleanup::is_held(pipeline) {
            return Ok(hold_deletion(pipeline, context).await);
        }
        return cleanup::cleanup(pipeline, context).await;
    }
    let handled = pipeline.status.as_ref();
    let handled = handled.and_then(|status| status.last_handled_reconcile_at.as_ref());
    if asked.reconcile_at.is_some() && asked.reconcile_at.as_ref() != handled {
        context.memories.look_anew(&uid);
        context.applier.forget(&uid);
    }
    // validate (pure)
    let examined = step("validate").in_scope(|| examined::examine(pipeline, context));
    if cleanup::hold_finalizer(pipeline, examined.is_ok(), context).await? {
        // the watch tells of it, and of the version that it made
        return Ok(Outcome {
            waiting: true,
            again: Some(WAITING),
        });
    }

    match accept(pipeline, examined, context).await? {
        Ok(valid) => Box::pin(follow(pipeline, &valid, None, context)).await,
        Err(refused) => Box::pin(follow_before(pipeline, refused, context)).await,
    }
}

/// What runs is kept as it was accepted last: Secrets rotate, and children are deleted, whatever
/// the new spec says.
async fn follow_before(
    pipeline: &ClickstreamPipeline,
    refused: Finding,
    context: &Context,
) -> Result<Outcome, Error> {
    if let Some(before) = examined::before(pipeline, context)
        && let examined = step("validate").in_scope(|| examined::examine(&before, context))
        && let Ok(valid) = accept(&before, examined, context).await?
    {
        return follow(&before, &valid, Some(refused), context).await;
    }
    refuse(pipeline, context, refused).await
}

/// The pipeline as it can be built, or why its spec cannot be followed.
async fn accept(
    pipeline: &ClickstreamPipeline,
    examined: Result<ValidatedPipeline, Finding>,
    context: &Context,
) -> Result<Result<ValidatedPipeline, Finding>, Error> {
    let valid = match examined {
        Ok(valid) => valid,
        Err(refused) => return Ok(Err(refused)),
    };

    // dereference (client required): nothing is asked for that a refused spec names
    let (secrets, values) = dereference::secrets(pipeline, context)
        .instrument(step("dereference"))
        .await?;
    Ok(Ok(valid.with(secrets, values)))
}

/// Brings everything to what an accepted spec says. `refused`: why that is not the spec of now.
async fn follow(
    pipeline: &ClickstreamPipeline,
    valid: &ValidatedPipeline,
    refused: Option<Finding>,
    context: &Context,
) -> Result<Outcome, Error> {
    let uid = pipeline.uid().unwrap_or_default();
    let owner = Owner::of(pipeline);

    // build (pure) as far as the status knows what topics were made
    let inputs = match Inputs::digest(valid) {
        Some(digest) => context
            .memories
            .inputs(&uid, digest, || Inputs::of(valid, &context.settings)),
        None => Arc::default(),
    };
    let made = Made {
        valid,
        settings: &context.settings,
        release: context.upgrades.release(),
        inputs: &inputs,
    };
    let mut children =
        step("build").in_scope(|| Children::of(made, record::created(pipeline, context)));

    // whose turn it is, where the operator's own release would change what runs: noted before
    // anything is changed
    let gate = Gate::look(pipeline, valid, &children, context);
    if let Some(upgrade) = &gate.upgrade {
        record::note_upgrade(pipeline, upgrade, context).await?;
    }

    // build (pure) and apply (client required): tables; topics; then processors and producer, which
    // are told what topics were made
    let mut migrations = Migrations::look(pipeline, valid, &gate, context);
    if valid.asked.paused {
        migrations.hold();
    }
    let jobs = step("build").in_scope(|| migrations.build(valid, &context.settings));
    migrations
        .apply(&owner, &jobs, context)
        .instrument(step("apply tables"))
        .await?;
    let topics = TopicsSeen::ensure(pipeline, valid, &migrations, context)
        .instrument(step("apply topics"))
        .await?;
    step("build").in_scope(|| children.complete(made, topics.created(), &migrations.runs_on()));
    let plan = Plan {
        valid,
        children: &children,
        migrations: &migrations,
        topics: &topics,
        gate: &gate,
    };
    let targets = Targets::apply(&owner, pipeline, &plan, context)
        .instrument(step("apply"))
        .await?;

    // status (pure), from what was applied and what the processors say
    let reports = observe_processors(valid, context)
        .instrument(step("observe"))
        .await;
    let observed = Observed {
        valid,
        gate: &gate,
        migrations: &migrations,
        topics: &topics,
        targets: &targets,
        reports: &reports,
        refused,
    };
    let written = status::write(pipeline, &observed, context)
        .instrument(step("status"))
        .await?;
    context.secrets.waits(&uid, written.by_secret);
    let waits = context.memories.waited(&uid, written.waiting);
    let again = if migrations.await_pods() {
        WAITING
    } else if written.waiting {
        // what has not come for a while is looked for less often
        WAITING
            .mul_f64(1.3_f64.powf(f64::from(waits.saturating_sub(5).min(20))))
            .min(LOOK)
    } else {
        LOOK
    };
    Ok(Outcome {
        waiting: written.waiting,
        again: Some(again),
    })
}

/// Another installation has the pipeline. It is looked at now and then, since that one may end.
async fn leave_alone(
    pipeline: &ClickstreamPipeline,
    holder: &str,
    context: &Context,
) -> Result<Outcome, Error> {
    let uid = pipeline.uid().unwrap_or_default();
    context.secrets.forget(&uid);
    // that one tells of it
    context.metrics.gone(
        &pipeline.namespace().unwrap_or_default(),
        &pipeline.name_any(),
    );
    // said once: the status belongs to the other
    if context.memories.waited(&uid, true) == 1 {
        let happening = Happening {
            warning: true,
            reason: Reason::HeldElsewhere.into(),
            action: "LeaveAlone",
            note: format!(
                "the operator in namespace {holder} looks after this pipeline; this one leaves it alone while that one lives. Let them watch different namespaces"
            ),
        };
        context.events.publish(pipeline, happening).await;
    }
    Ok(Outcome {
        waiting: true,
        again: Some(LOOK),
    })
}

/// Topics and tables are to go, and the operator is paused: both stay, and with them the pods,
/// until it goes on.
async fn hold_deletion(pipeline: &ClickstreamPipeline, context: &Context) -> Outcome {
    let uid = pipeline.uid().unwrap_or_default();
    // it waits for a person
    context.secrets.waits(&uid, false);
    // said once
    if context.memories.waited(&uid, true) == 1 {
        let happening = Happening {
            warning: true,
            reason: Reason::Paused.into(),
            action: "Delete",
            note: format!(
                "deletionPolicy says that topics or tables go with the pipeline, and the annotation {} pauses the operator: remove it, and the deletion goes on",
                clickstream_protocol::annotations::RECONCILE
            ),
        };
        context.events.publish(pipeline, happening).await;
    }
    Outcome {
        waiting: true,
        again: Some(LOOK),
    }
}

/// What the processors of each target say, in the order of the targets.
async fn observe_processors(
    valid: &ValidatedPipeline,
    context: &Context,
) -> Vec<Vec<ProcessorStatus>> {
    let mut reports = Vec::new();
    for target in &valid.document.spec.targets {
        let pods = context.stores.pods(
            &valid.namespace,
            &valid.name,
            &[
                (build::TARGET_LABEL, &target.name),
                (labels::COMPONENT, labels::PROCESSOR),
            ],
        );
        reports.push(observe::ask(&context.asker, &valid.namespace, &pods).await);
    }
    reports
}

/// The spec cannot be followed, and none was before, or that one cannot be followed any more:
/// everything that runs stays as it is, and the conditions say why.
async fn refuse(
    pipeline: &ClickstreamPipeline,
    context: &Context,
    refused: Finding,
) -> Result<Outcome, Error> {
    // nothing is read for it, and no Secret mends it
    context.secrets.forget(&pipeline.uid().unwrap_or_default());
    if status::write_refused(pipeline, refused.clone(), context).await? {
        info!(
            namespace = pipeline.namespace().unwrap_or_default(),
            pipeline = pipeline.name_any(),
            reason = %refused.reason,
            "spec refused"
        );
        let happening = Happening {
            warning: true,
            reason: refused.reason.into(),
            action: "Validate",
            note: refused.message,
        };
        context.events.publish(pipeline, happening).await;
    }
    // a field that is wrong is mended by changing the resource, which wakes us
    Ok(Outcome {
        waiting: false,
        again: None,
    })
}

/// A resource that is not even of the right form: older than the CRD, as a rule.
async fn report_unreadable(invalid: &InvalidObject, context: &Context) -> Result<Outcome, Error> {
    warn!(
        namespace = invalid.metadata.namespace.as_deref().unwrap_or_default(),
        pipeline = invalid.metadata.name.as_deref().unwrap_or_default(),
        error = %invalid.error,
        "resource cannot be read"
    );
    let uid = invalid.metadata.uid.as_deref().unwrap_or_default();
    context.secrets.forget(uid);
    status::write_unreadable(invalid, context).await?;
    if let Some(outcome) = cleanup::release(invalid, context).await? {
        return Ok(outcome);
    }
    Ok(Outcome {
        waiting: false,
        again: None,
    })
}
