//! `status`: what a pipeline was last seen to be, for people and for programs.
//!
//! ```text
//! get, list, watch ──> report ──> screen   one pipeline
//!                           └───> list     a line each
//! ```

mod events;
mod list;
mod report;
mod screen;
mod watch;

use anyhow::Context as _;
use jiff::Timestamp;
use kube::{Api, ResourceExt, api::DynamicObject};

use crate::{
    access::{Access, explained},
    args::{Output, StatusArgs},
    paint::{self, Colours},
};
use events::Events;
use report::Report;

/// Shows one pipeline or several, once or until it is interrupted.
///
/// # Errors
/// They are not there, or may not be seen.
pub async fn run(access: Access, args: &StatusArgs, colours: Colours) -> anyhow::Result<()> {
    if args.watch {
        return watch::run(&access, args, colours).await;
    }
    let text = match &args.name {
        Some(name) => {
            let pipeline = access.pipeline(name).await?;
            let events = events::of(&access, &pipeline).await;
            one(
                &Report::new(&pipeline, events),
                args.output,
                Timestamp::now(),
            )?
        }
        None => {
            let pipelines = scope(&access, args).list(&Default::default()).await;
            let mut reports: Vec<Report> = pipelines
                .map_err(explained)?
                .iter()
                .map(|pipeline| Report::new(pipeline, Events::NotAsked))
                .collect();
            reports.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
            several(
                &reports,
                access_place(&access, args),
                args.output,
                Timestamp::now(),
            )?
        }
    };
    paint::print(colours, &text).context("standard output")
}

/// Where the pipelines are looked for.
fn scope(access: &Access, args: &StatusArgs) -> Api<DynamicObject> {
    if args.all_namespaces {
        access.all_pipelines()
    } else {
        access.pipelines()
    }
}

/// The one namespace that is shown, if it is one.
fn access_place<'a>(access: &'a Access, args: &StatusArgs) -> Option<&'a str> {
    (!args.all_namespaces).then_some(access.namespace.as_str())
}

fn one(report: &Report, output: Output, now: Timestamp) -> anyhow::Result<String> {
    Ok(match output {
        Output::Table => screen::screen(report, false, now),
        Output::Wide => screen::screen(report, true, now),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(report)?),
        Output::Yaml => serde_yaml::to_string(report)?,
    })
}

fn several(
    reports: &[Report],
    namespace: Option<&str>,
    output: Output,
    now: Timestamp,
) -> anyhow::Result<String> {
    Ok(match output {
        Output::Table => list::list(reports, namespace, false, now),
        Output::Wide => list::list(reports, namespace, true, now),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(reports)?),
        Output::Yaml => serde_yaml::to_string(reports)?,
    })
}

/// Name and namespace, as a key.
fn key(pipeline: &DynamicObject) -> (String, String) {
    (
        pipeline.namespace().unwrap_or_default(),
        pipeline.name_any(),
    )
}
