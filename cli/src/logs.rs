//! `logs`: what all pods of a pipeline have written, as one text.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clickstream_protocol::labels;
use futures_util::{AsyncBufReadExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};
use tokio::sync::mpsc;

use crate::{
    access::{Access, explained},
    args::incidents::{Component, LogsArgs},
    audit::timed,
    paint::{self, Colours, FAINT, cell},
};

/// Our containers; what a mesh or somebody else puts beside them writes what it likes.
pub const CONTAINERS: [&str; 5] = ["processor", "producer", "migrate", "drop", "audit"];
/// How often pods are looked for that have come since.
const LOOK: Duration = Duration::from_secs(2);
/// Lines that may wait to be printed.
const WAITING: usize = 1024;

/// Prints the logs, once or until it is interrupted.
///
/// # Errors
/// There are no pods, or their logs may not be read.
pub async fn run(access: &Access, args: &LogsArgs, colours: Colours) -> anyhow::Result<ExitCode> {
    if args.follow {
        return follow(access, args, colours).await;
    }
    let sources = sources(access, args).await?;
    if sources.is_empty() {
        access.pipeline(&args.name).await?;
        bail!(
            "{}/{} has no such pods: see kubectl clickstream status {} --namespace {}",
            access.namespace,
            args.name,
            args.name,
            access.namespace
        );
    }
    let (mut lines, mut failures) = (Vec::new(), Vec::new());
    for (source, _) in &sources {
        match source.read(access, &params(args, None)).await {
            Ok(text) => lines.extend(text.lines().map(|line| {
                let (time, text) = timed(line);
                (time, format!("{} {text}", source.prefix()))
            })),
            Err(error) => failures.push(format!("{}: {error:#}", source.pod)),
        }
    }
    if failures.len() == sources.len() {
        bail!("{}", failures.join("; "));
    }
    // a line without a time stays behind the one before it, which the sort keeps
    let mut last = None;
    for (time, _) in &mut lines {
        last = time.or(last);
        *time = last;
    }
    lines.sort_by_key(|(time, _)| *time);
    let text: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    paint::print(colours, &text)?;
    for failure in failures {
        eprintln!("warning: {failure}");
    }
    Ok(ExitCode::SUCCESS)
}

/// A container whose log is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Its pod.
    pub pod: String,
    /// Its name in the pod.
    pub container: String,
}

impl Source {
    fn prefix(&self) -> String {
        cell(format!("[{}]", self.pod), FAINT).painted()
    }

    /// The whole of it.
    ///
    /// # Errors
    /// It may not be read, or is not there.
    pub async fn read(&self, access: &Access, params: &LogParams) -> anyhow::Result<String> {
        let pods: Api<Pod> = Api::namespaced(access.client.clone(), &access.namespace);
        let params = LogParams {
            container: Some(self.container.clone()),
            ..params.clone()
        };
        pods.logs(&self.pod, &params).await.map_err(explained)
    }
}

/// The containers of ours that have begun, of these pods, and whether each runs.
pub fn of(pods: &[Pod]) -> Vec<(Source, bool)> {
    let mut sources: Vec<(Source, bool)> = pods
        .iter()
        .flat_map(|pod| {
            let statuses = pod.status.iter();
            let statuses = statuses.flat_map(|status| status.container_statuses.iter().flatten());
            let begun = statuses.filter(|status| {
                let state = status.state.as_ref();
                let runs = state
                    .is_some_and(|state| state.running.is_some() || state.terminated.is_some());
                CONTAINERS.contains(&status.name.as_str()) && (runs || status.restart_count > 0)
            });
            begun.map(|status| {
                let source = Source {
                    pod: pod.name_any(),
                    container: status.name.clone(),
                };
                let state = status.state.as_ref();
                (source, state.is_some_and(|state| state.running.is_some()))
            })
        })
        .collect();
    sources.sort();
    sources
}

async fn sources(access: &Access, args: &LogsArgs) -> anyhow::Result<Vec<(Source, bool)>> {
    let pods = pods(access, &args.name, args.target.as_deref(), args.component).await?;
    Ok(of(&pods))
}

/// Pods of a pipeline.
///
/// # Errors
/// They may not be listed.
pub async fn pods(
    access: &Access,
    pipeline: &str,
    target: Option<&str>,
    component: Option<Component>,
) -> anyhow::Result<Vec<Pod>> {
    let mut ours = format!("{}={pipeline}", labels::PIPELINE);
    if let Some(target) = target {
        ours.push_str(&format!(",{}={target}", labels::TARGET));
    }
    if let Some(component) = component {
        ours.push_str(&format!(",{}={}", labels::COMPONENT, component.as_str()));
    }
    let pods: Api<Pod> = Api::namespaced(access.client.clone(), &access.namespace);
    let found = pods.list(&ListParams::default().labels(&ours)).await;
    Ok(found
        .map_err(explained)
        .context("pods cannot be listed")?
        .items)
}

fn params(args: &LogsArgs, after: Option<Timestamp>) -> LogParams {
    LogParams {
        follow: args.follow,
        previous: args.previous,
        timestamps: true,
        // one or the other: after a break it goes on where it was
        since_seconds: args.since.filter(|_| after.is_none()),
        since_time: after,
        tail_lines: (args.tail >= 0 && after.is_none()).then_some(args.tail),
        ..LogParams::default()
    }
}

/// What a log that is followed tells.
enum Told {
    Line(Source, Timestamp, String),
    /// It has ended, for now or for good.
    Ended(Source, Option<String>),
}

async fn follow(access: &Access, args: &LogsArgs, colours: Colours) -> anyhow::Result<ExitCode> {
    // says so at once if there is no such pipeline, or nothing may be seen
    access.pipeline(&args.name).await?;
    let (sender, mut told) = mpsc::channel(WAITING);
    // where each log was last, while it is read or to be read on
    let mut reading: BTreeMap<Source, bool> = BTreeMap::new();
    let mut last: BTreeMap<Source, Timestamp> = BTreeMap::new();
    let mut said = BTreeMap::new();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = look.tick() => {
                let found = match sources(access, args).await {
                    Ok(found) => found,
                    // an API server that is away for a moment comes back
                    Err(error) if reading.is_empty() => return Err(error),
                    Err(_) => continue,
                };
                for (source, runs) in found {
                    // one that has ended is read once
                    if reading.get(&source).is_some_and(|reads| *reads || !runs) {
                        continue;
                    }
                    reading.insert(source.clone(), true);
                    let params = params(args, last.get(&source).copied());
                    tokio::spawn(tell(access.client.clone(), access.namespace.clone(), source, params, sender.clone()));
                }
            }
            line = told.recv() => match line.context("nobody tells any more")? {
                Told::Line(source, time, text) => {
                    // the server counts from whole seconds on
                    if last.get(&source).is_some_and(|last| time <= *last) {
                        continue;
                    }
                    paint::print(colours, &format!("{} {text}\n", source.prefix()))?;
                    last.insert(source, time);
                }
                Told::Ended(source, trouble) => {
                    reading.insert(source.clone(), false);
                    if let Some(trouble) = trouble
                        && said.insert(source.clone(), trouble.clone()) != Some(trouble.clone())
                    {
                        eprintln!("warning: {}: {trouble}", source.pod);
                    }
                }
            }
        }
    }
}

async fn tell(
    client: kube::Client,
    namespace: String,
    source: Source,
    params: LogParams,
    sender: mpsc::Sender<Told>,
) {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let params = LogParams {
        container: Some(source.container.clone()),
        ..params
    };
    let read = async {
        let stream = pods
            .log_stream(&source.pod, &params)
            .await
            .map_err(explained)?;
        let mut lines = stream.lines();
        while let Some(line) = lines.try_next().await? {
            let (time, text) = timed(&line);
            let time = time.unwrap_or_else(Timestamp::now);
            let told = Told::Line(source.clone(), time, text.to_owned());
            if sender.send(told).await.is_err() {
                break;
            }
        }
        anyhow::Ok(())
    };
    let trouble = read.await.err().map(|error| format!("{error:#}"));
    // whoever has stopped listening wants nothing more
    let _ = sender.send(Told::Ended(source, trouble)).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::json;

    use super::*;

    #[test]
    fn only_our_containers_that_have_begun_have_a_log() {
        let status = |name: &str, state: serde_json::Value| json!({ "name": name, "ready": false, "restartCount": 0, "image": "i", "imageID": "", "state": state });
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p" },
            "status": { "containerStatuses": [
                status("processor", json!({ "running": {} })),
                status("istio-proxy", json!({ "running": {} })),
                status("migrate", json!({ "waiting": {} })),
            ] },
        }))
        .unwrap();
        let found = of(&[pod]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].0.container.as_str(), found[0].1),
            ("processor", true)
        );
    }
}
