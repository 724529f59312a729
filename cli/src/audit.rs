//! `audit`: the processors' own pod with another verb, as a Job.
//!
//! ```text
//! Deployment of the target ──> job (pure) ──> created ──> its pod followed, its log told ──> exit code
//!                                                └────────── removed, whatever happened ──────────┘
//! ```

mod follow;
mod job;
mod lines;

pub use lines::timed;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clickstream_protocol::exit::{DIFFERENCES, INTERRUPTED, NOT_PROVEN};
use clickstream_protocol::labels;
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    access::{Access, FIELD_MANAGER, explained},
    args::{AuditArgs, ReportForm},
};

/// How long removing the Job may hold up the end.
const REMOVAL: Duration = Duration::from_secs(10);

/// Audits a target, or all one after the other. Answers with 3 if anything differs, or else with 4
/// if any is not proven.
///
/// # Errors
/// An audit could not be done; nothing is known then.
pub async fn run(access: &Access, args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let deployments = deployments(access, args).await?;
    let several = deployments.len() > 1;
    let (mut differs, mut not_proven) = (false, false);
    for deployment in deployments {
        let target = deployment.labels()[labels::TARGET].clone();
        if several && args.output == ReportForm::Table {
            eprintln!("target {target}:");
        }
        match audit(access, args, &deployment).await? {
            Ending::Exit(0) => {}
            Ending::Exit(code) if code == i32::from(DIFFERENCES) => differs = true,
            Ending::Exit(code) if code == i32::from(NOT_PROVEN) => not_proven = true,
            Ending::Exit(code) => {
                bail!("the audit of target {target} failed with exit code {code}")
            }
            Ending::Interrupted => return Ok(ExitCode::from(INTERRUPTED)),
        }
    }
    Ok(match (differs, not_proven) {
        (true, _) => ExitCode::from(DIFFERENCES),
        (false, true) => ExitCode::from(NOT_PROVEN),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// How an audit ended.
enum Ending {
    /// By itself.
    Exit(i32),
    /// By Ctrl-C or SIGTERM.
    Interrupted,
}

async fn audit(
    access: &Access,
    args: &AuditArgs,
    deployment: &Deployment,
) -> anyhow::Result<Ending> {
    let jobs: Api<Job> = Api::namespaced(access.client.clone(), &access.namespace);
    let wanted = job::audit(deployment, &args.name, args.output, args.memory.as_deref())?;
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let created = jobs
        .create(&params, &wanted)
        .await
        .map_err(explained)
        .context("the Job cannot be created")?;
    let name = created.name_any();
    let start_timeout = Duration::from_secs(args.start_timeout);
    let ending = tokio::select! {
        ended = follow::follow(access, &name, start_timeout) => ended.map(Ending::Exit),
        _ = interrupt.recv() => Ok(Ending::Interrupted),
        _ = terminate.recv() => Ok(Ending::Interrupted),
    };
    remove(&jobs, &name, matches!(ending, Ok(Ending::Interrupted))).await;
    ending
}

/// Removes the Job and its pod. What cannot be removed goes by itself an hour after its end, and
/// with the pipeline.
async fn remove(jobs: &Api<Job>, name: &str, interrupted: bool) {
    let params = DeleteParams::background().grace_period(0);
    let removed = tokio::time::timeout(REMOVAL, jobs.delete(name, &params)).await;
    let trouble = match removed {
        Ok(Ok(_)) if interrupted => {
            eprintln!("interrupted; job {name} is removed");
            return;
        }
        Ok(Ok(_)) => return,
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => return,
        Ok(Err(error)) => explained(error).to_string(),
        Err(_) => format!("no answer within {REMOVAL:?}"),
    };
    eprintln!("warning: job {name} is left behind: {trouble}");
}

/// The Deployments of the targets to audit, in the order of their names.
async fn deployments(access: &Access, args: &AuditArgs) -> anyhow::Result<Vec<Deployment>> {
    let api: Api<Deployment> = Api::namespaced(access.client.clone(), &access.namespace);
    let ours = format!(
        "{}={},{}={}",
        labels::COMPONENT,
        labels::PROCESSOR,
        labels::PIPELINE,
        args.name
    );
    let found = api
        .list(&ListParams::default().labels(&ours))
        .await
        .map_err(explained)
        .context("the processors' Deployments cannot be listed")?;
    let mut found: Vec<Deployment> = found
        .items
        .into_iter()
        .filter(|deployment| deployment.labels().contains_key(labels::TARGET))
        .collect();
    let target = |deployment: &Deployment| deployment.labels()[labels::TARGET].clone();
    found.sort_by_key(target);
    let place = format!("{}/{}", access.namespace, args.name);
    if found.is_empty() {
        // says so itself if there is no such pipeline
        access.pipeline(&args.name).await?;
        bail!(
            "{place} has no processors yet, so nothing to audit: see kubectl clickstream status {}",
            args.name
        );
    }
    let Some(wanted) = &args.target else {
        return Ok(found);
    };
    let names: Vec<String> = found.iter().map(target).collect();
    found.retain(|deployment| &target(deployment) == wanted);
    if found.is_empty() {
        bail!("--target {wanted}: {place} has {}", names.join(", "));
    }
    Ok(found)
}
