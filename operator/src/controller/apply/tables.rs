//! The end of a target's tables, where the spec says so: a Job, as for migrations.

use kube::ResourceExt;

use super::{Owner, refusals};
use crate::{
    controller::{
        Context, Error,
        build::{self, Kind},
        dereference, validate,
    },
    crd::ClickstreamPipeline,
    observe::pods,
};

/// Drops the tables of all targets. What is left, with the reason; empty when all Jobs have succeeded.
///
/// # Errors
/// What the API server says.
pub async fn drop_tables(
    pipeline: &ClickstreamPipeline,
    context: &Context,
) -> Result<Vec<String>, Error> {
    let owner = Owner::of(pipeline);
    let secrets = dereference::secrets(&context.client, &owner.namespace, &pipeline.spec).await?;
    let valid = match validate::validate(pipeline, secrets) {
        Ok(valid) => valid,
        Err(problems) => {
            let problem = problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            return Ok(vec![format!("tables: {problem}")]);
        }
    };
    let pods_of = |job: &str| {
        let of = [("batch.kubernetes.io/job-name", job)];
        context.stores.pods(&owner.namespace, &of)
    };
    let mut left = Vec::new();
    for target in &valid.document.spec.targets {
        let removal = build::removal(&valid, target, &context.settings);
        let mut ended = None;
        let mut running = None;
        for child in &removal {
            match context
                .stores
                .child(child.kind, &owner.namespace, &child.name)
            {
                Some(live) => {
                    ended = super::migration::ended(&live.status).or(ended);
                    running = (child.kind == Kind::Job).then_some(live).or(running);
                }
                None => {
                    context
                        .applier
                        .apply(&context.stores, &owner, child)
                        .await?;
                }
            }
        }
        match ended {
            Some((true, _)) => {}
            Some((false, _)) => {
                let job = removal
                    .last()
                    .map(|job| job.name.clone())
                    .unwrap_or_default();
                let why = pods_of(&job).iter().find_map(|pod| pods::last_line(pod));
                left.push(format!(
                    "tables of target {}: {}",
                    target.name,
                    why.unwrap_or_else(|| "the Job failed".to_owned())
                ));
            }
            None => {
                let refusal = match &running {
                    Some(job) if pods_of(&job.name).is_empty() => {
                        refusals::of_job(job, &owner.namespace, &context.client).await
                    }
                    _ => None,
                };
                left.push(format!(
                    "tables of target {}: the Job has not ended{}",
                    target.name,
                    refusal
                        .map(|why| format!("; it has no pod: {why}"))
                        .unwrap_or_default()
                ));
            }
        }
    }
    tracing::debug!(pipeline = pipeline.name_any(), left = left.len(), "tables");
    Ok(left)
}
