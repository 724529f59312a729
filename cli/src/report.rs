//! `report`: one archive for whoever is to help.
//!
//! ```text
//! get, list, logs, /status, /metrics ──> redact (pure) ──> archive
//! ```
//!
//! Of Secrets only the token of guarded metrics is read, to ask with; what else may hold one is
//! left out by [`redact`].

mod archive;
mod redact;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use clickstream_protocol::{ADMIN_PORT_NAME, exit::INCOMPLETE, labels};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, LogParams},
};
use serde_json::{Value, json};

use self::archive::Archive;
use crate::{
    access::{Access, explained},
    args::incidents::ReportArgs,
    logs,
    paint::{self, Colours},
    top,
};

/// Of one container's log, the newest lines.
const LINES: i64 = 20_000;
/// And so many bytes at most.
const BYTES: i64 = 8 << 20;

/// What belongs to a pipeline, as group, version, kind and plural. There are no Secrets among them.
const CHILDREN: [(&str, &str, &str, &str); 10] = [
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("batch", "v1", "Job", "jobs"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Service", "services"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    (
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
    ),
    (
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
    ),
    ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
];
/// Kinds that a cluster need not have.
const OPTIONAL: &str = "podmonitors";

/// Writes the archive, and says where it is and what is missing.
///
/// # Errors
/// The pipeline may not be seen, or the archive cannot be written.
pub async fn run(access: &Access, args: &ReportArgs, colours: Colours) -> anyhow::Result<ExitCode> {
    let pipeline = access.pipeline(&args.name).await?;
    let now = Timestamp::now();
    let title = format!(
        "clickstream-report-{}-{}-{}",
        access.namespace,
        args.name,
        now.strftime("%Y%m%dT%H%M%SZ")
    );
    let file = args
        .file
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{title}.tar.gz")));
    let mut report = Collected {
        archive: Archive::create(&file, &title, now)?,
        index: Vec::new(),
        missing: Vec::new(),
    };
    let collected = collect(access, args, &pipeline, &mut report).await;
    let missing = match collected.and_then(|()| report.finish(&args.name, now)) {
        Ok(missing) => missing,
        Err(error) => {
            // half of one could be taken for a whole one
            std::fs::remove_file(&file).ok();
            return Err(error.context(file.display().to_string()));
        }
    };
    let text = format!(
        "{}\nNo value of a Secret is in it, and what looks like a password, a token or an event is left out; read it before you send it.\n",
        file.display()
    );
    paint::print(colours, &text)?;
    for part in &missing {
        eprintln!("warning: not in it: {part}");
    }
    Ok(if missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(INCOMPLETE)
    })
}

/// The archive, and what is in it and what is not.
struct Collected {
    archive: Archive,
    index: Vec<String>,
    missing: Vec<String>,
}

impl Collected {
    fn add(&mut self, path: &str, text: &str) -> anyhow::Result<()> {
        self.archive.add(path, text)?;
        self.index.push(path.to_owned());
        Ok(())
    }

    fn object(&mut self, path: &str, mut object: Value) -> anyhow::Result<()> {
        redact::object(&mut object);
        self.add(path, &serde_yaml::to_string(&object)?)
    }

    /// A part that may be had or not.
    fn part(&mut self, path: &str, part: anyhow::Result<String>) -> anyhow::Result<()> {
        match part {
            Ok(text) => self.add(path, &text),
            Err(error) => {
                self.missing
                    .push(format!("{path}: {}", redact::text(&format!("{error:#}"))));
                Ok(())
            }
        }
    }

    fn finish(mut self, name: &str, now: Timestamp) -> anyhow::Result<Vec<String>> {
        let mut text = format!(
            "{name}, {now:.0}, by kubectl-clickstream {}\n\nNo value of a Secret is in here. [removed] stands where something may have been a secret or an event.\n\n",
            env!("CARGO_PKG_VERSION")
        );
        for path in &self.index {
            text.push_str(&format!("{path}\n"));
        }
        for missing in &self.missing {
            text.push_str(&format!("missing: {missing}\n"));
        }
        self.archive.add("index.txt", &text)?;
        self.archive.finish()?;
        Ok(self.missing)
    }
}

async fn collect(
    access: &Access,
    args: &ReportArgs,
    pipeline: &DynamicObject,
    report: &mut Collected,
) -> anyhow::Result<()> {
    report.object("resource.yaml", json!(pipeline))?;
    let mut names = BTreeSet::from([args.name.clone()]);
    let mut pods: Vec<Pod> = Vec::new();
    for kind in CHILDREN {
        let plural = kind.3;
        let found = match children(access, kind, &args.name).await {
            Ok(found) => found,
            Err(error) if plural == OPTIONAL && is_unknown(&error) => continue,
            Err(error) => {
                report
                    .missing
                    .push(format!("{plural}: {:#}", explained(error)));
                continue;
            }
        };
        for object in found {
            let name = object.name_any();
            let mut document = json!(object);
            // a list does not say of its items what they are
            document["kind"] = json!(kind.2);
            if plural == "pods"
                && let Ok(pod) = serde_json::from_value(document.clone())
            {
                pods.push(pod);
            }
            report.object(&format!("{plural}/{name}.yaml"), document)?;
            names.insert(name);
        }
    }
    let events = events(access, &names).await;
    report.part("events.txt", events)?;
    report.part("versions.yaml", versions(access, pipeline, &pods).await)?;
    logs_of(access, args, &pods, report).await?;
    for pod in &pods {
        let runs = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            == Some("Running");
        let serves = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .any(|container| {
                let mut ports = container.ports.iter().flatten();
                ports.any(|port| port.name.as_deref() == Some(ADMIN_PORT_NAME))
            });
        if !runs || !serves {
            continue;
        }
        let name = pod.name_any();
        for (path, end) in [("status", "json"), ("metrics", "txt")] {
            let told = top::ask(access, pod, path)
                .await
                .map(|text| redact::lines(&text));
            report.part(&format!("{path}/{name}.{end}"), told)?;
        }
    }
    Ok(())
}

fn is_unknown(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

async fn children(
    access: &Access,
    (group, version, kind, plural): (&str, &str, &str, &str),
    pipeline: &str,
) -> Result<Vec<DynamicObject>, kube::Error> {
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        },
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    let api: Api<DynamicObject> =
        Api::namespaced_with(access.client.clone(), &access.namespace, &resource);
    let ours = ListParams::default().labels(&format!("{}={pipeline}", labels::PIPELINE));
    Ok(api.list(&ours).await?.items)
}

/// A line for each Event about the pipeline or a child of it, newest last.
async fn events(access: &Access, names: &BTreeSet<String>) -> anyhow::Result<String> {
    use k8s_openapi::api::core::v1::Event;
    let api: Api<Event> = Api::namespaced(access.client.clone(), &access.namespace);
    let found = api.list(&ListParams::default()).await.map_err(explained)?;
    let mut lines: Vec<(Option<Timestamp>, String)> = found
        .iter()
        .filter(|event| {
            let about = event.involved_object.name.as_ref();
            about.is_some_and(|name| names.contains(name))
        })
        .map(|event| {
            let times = [
                event
                    .series
                    .as_ref()
                    .and_then(|series| series.last_observed_time.as_ref().map(|time| time.0)),
                event.last_timestamp.as_ref().map(|time| time.0),
                event.event_time.as_ref().map(|time| time.0),
            ];
            let time = times.into_iter().flatten().max();
            let shown = time.map_or_else(|| "-".to_owned(), |time| format!("{time:.0}"));
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let about = &event.involved_object;
            let line = format!(
                "{shown} {} {} {}/{}: {}\n",
                text(&event.type_),
                text(&event.reason),
                text(&about.kind),
                text(&about.name),
                redact::text(&text(&event.message))
            );
            (time, line)
        })
        .collect();
    lines.sort();
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

/// Of everything that has a version.
async fn versions(
    access: &Access,
    pipeline: &DynamicObject,
    pods: &[Pod],
) -> anyhow::Result<String> {
    let server = access.client.apiserver_version().await.map_err(explained)?;
    let images: BTreeSet<String> = pods
        .iter()
        .flat_map(|pod| pod.status.iter())
        .flat_map(|status| status.container_statuses.iter().flatten())
        .map(|status| redact::text(&format!("{} {}", status.image, status.image_id)))
        .collect();
    let versions = json!({
        "plugin": env!("CARGO_PKG_VERSION"),
        "kubernetes": server.git_version,
        "platform": server.platform,
        "operator": pipeline.data["status"]["heldBy"],
        "images": images,
    });
    Ok(serde_yaml::to_string(&versions)?)
}

async fn logs_of(
    access: &Access,
    args: &ReportArgs,
    pods: &[Pod],
    report: &mut Collected,
) -> anyhow::Result<()> {
    for (source, _) in logs::of(pods) {
        let params = LogParams {
            timestamps: true,
            since_seconds: Some(args.since),
            tail_lines: Some(LINES),
            limit_bytes: Some(BYTES),
            ..LogParams::default()
        };
        let path = format!("logs/{}/{}.log", source.pod, source.container);
        let text = source.read(access, &params).await;
        report.part(&path, text.map(|text| redact::log(&text)))?;
        let restarted = pods.iter().any(|pod| {
            let statuses = pod.status.iter();
            let mut statuses =
                statuses.flat_map(|status| status.container_statuses.iter().flatten());
            pod.name_any() == source.pod
                && statuses
                    .any(|status| status.name == source.container && status.restart_count > 0)
        });
        if restarted {
            let previous = LogParams {
                previous: true,
                since_seconds: None,
                ..params
            };
            let path = format!("logs/{}/{}.previous.log", source.pod, source.container);
            let text = source.read(access, &previous).await;
            report.part(&path, text.map(|text| redact::log(&text)))?;
        }
    }
    Ok(())
}
