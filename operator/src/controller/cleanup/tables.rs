//! The end of a target's tables, where the spec says so: a Job, as for migrations.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::left_behind::{Left, drop_command};
use crate::{
    controller::{
        applier::{Applied, Owner},
        build,
        context::{Context, Error},
        dereference,
        jobs::ended,
        refusals, validate,
    },
    crd::ClickstreamPipeline,
    kind::Kind,
    observe::pods,
    stores::Live,
};

/// Pause before a Job that failed is made again.
const RETRY: SignedDuration = SignedDuration::from_secs(20);

/// Drops the tables of all targets. What is left, with the reason; empty when all Jobs have
/// succeeded. `again`: Jobs that failed are to be made again.
///
/// # Errors
/// What the API server says.
pub async fn drop_tables(
    pipeline: &ClickstreamPipeline,
    again: bool,
    context: &Context,
) -> Result<Vec<Left>, Error> {
    let owner = Owner::of(pipeline);
    let left = |target: &str, why: String, is_going_on| Left {
        what: format!("tables of target {target}"),
        why,
        command: drop_command(Some(target)),
        is_going_on,
    };
    let allowed = validate::validate(pipeline).and_then(|valid| {
        let problems = context.settings.allowed.problems(&valid.document);
        if problems.is_empty() {
            Ok(valid)
        } else {
            Err(problems)
        }
    });
    let valid = match allowed {
        Ok(valid) => {
            let keys = dereference::keys(&pipeline.spec);
            let values = dereference::values(&context.client, &owner.namespace, &keys).await?;
            valid.with_values(values)
        }
        Err(problems) => {
            let problem = problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            let targets = pipeline.spec.targets.iter();
            return Ok(targets
                .map(|target| left(&target.name, problem.clone(), false))
                .collect());
        }
    };
    let mut all = Vec::new();
    for target in &valid.document.spec.targets {
        let removal = build::removal(&valid, target, &context.settings);
        let mut job = None;
        let mut obstacle = None;
        for child in &removal {
            match context
                .stores
                .child(child.kind, &owner.namespace, &child.name)
            {
                Some(live) => job = (child.kind == Kind::Job).then_some(live).or(job),
                None => {
                    let applied = context.applier.apply(&context.stores, &owner, child);
                    obstacle = match applied.await? {
                        Applied::Taken(by) => Some(by.to_string()),
                        Applied::Refused(by) => Some(by.to_string()),
                        Applied::Done(_) | Applied::Pending(_) | Applied::Held(_) => continue,
                    };
                    break;
                }
            }
        }
        let ended = job.as_ref().and_then(|job| ended(&job.status));
        match (ended, obstacle, &job) {
            (Some((true, _)), ..) => {}
            (_, Some(why), _) => all.push(left(&target.name, why, false)),
            (Some((false, at)), None, Some(job)) => {
                let why = pods_of(job, &owner, context)
                    .iter()
                    .find_map(|pod| pods::last_line(pod));
                let why = why.unwrap_or_else(|| "the Job failed".to_owned());
                all.push(left(&target.name, why, false));
                if again && !job.deleting && Timestamp::now().duration_since(at) >= RETRY {
                    context.applier.delete(&owner, Kind::Job, job).await?;
                }
            }
            (_, None, job) => {
                let refusal = match job {
                    Some(job) if pods_of(job, &owner, context).is_empty() => {
                        refusals::of_job(job, &owner.namespace, &context.client).await
                    }
                    _ => None,
                };
                let why = format!(
                    "the Job has not ended{}",
                    refusal
                        .map(|why| format!("; it has no pod: {why}"))
                        .unwrap_or_default()
                );
                all.push(left(&target.name, why, true));
            }
        }
    }
    tracing::debug!(pipeline = pipeline.name_any(), left = all.len(), "tables");
    Ok(all)
}

fn pods_of(
    job: &Live,
    owner: &Owner,
    context: &Context,
) -> Vec<std::sync::Arc<k8s_openapi::api::core::v1::Pod>> {
    let of = [("batch.kubernetes.io/job-name", job.name.as_str())];
    context.stores.pods(&owner.namespace, &owner.name, &of)
}
