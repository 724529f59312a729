//! Verbs for incidents: annotations that the operator follows, and how it says that it has.

mod loss;
mod take_over;

use std::{process::ExitCode, time::Duration};

use clickstream_api::ClickstreamPipelineStatus;
use clickstream_protocol::{annotations, exit::UNANSWERED};
use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    access::{Access, FIELD_MANAGER},
    args::incidents::{Incident, ReconcileArgs, VerbArgs},
    logs,
    paint::{self, Colours},
    report, top,
};

/// How often the status is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// Runs one of the commands.
///
/// # Errors
/// Whatever stopped it, for standard error and exit code 1.
pub async fn run(
    access: &Access,
    incident: &Incident,
    colours: Colours,
) -> anyhow::Result<ExitCode> {
    let said = match incident {
        Incident::Reconcile(args) => reconcile(access, args).await?,
        Incident::Restart(args) => restart(access, args).await?,
        Incident::Migrate(args) => migrate(access, args).await?,
        Incident::TakeOver(args) => take_over::run(access, args).await?,
        Incident::AcceptLoss(args) => loss::run(access, args).await?,
        Incident::Logs(args) => return logs::run(access, args, colours).await,
        Incident::Top(args) => return top::run(access, args, colours).await,
        Incident::Report(args) => return report::run(access, args, colours).await,
    };
    paint::print(colours, &said.text)?;
    if let Some(seconds) = said.unanswered {
        eprintln!(
            "error: no operator has answered within {seconds} s; it follows the annotation when it runs. Whether one runs: kubectl get pods --all-namespaces --selector app.kubernetes.io/name=clickstream-operator"
        );
        return Ok(ExitCode::from(UNANSWERED));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is printed of a verb.
struct Said {
    text: String,
    /// How long an answer was waited for that did not come.
    unanswered: Option<u64>,
}

impl Said {
    fn new(text: String) -> Self {
        Self {
            text,
            unanswered: None,
        }
    }

    fn of(text: String, answer: &Answer, args: &VerbArgs) -> Self {
        Self {
            text,
            unanswered: matches!(answer, Answer::None).then_some(args.timeout),
        }
    }
}

/// What came of a wish.
enum Answer {
    /// The operator has followed it; the pipeline afterwards.
    Followed(Box<DynamicObject>),
    /// It has said nothing in time.
    None,
    /// Nobody waited.
    NotAwaited,
}

impl Answer {
    /// What the conditions say now.
    fn conditions(&self, kinds: &[&str]) -> String {
        match self {
            Self::Followed(pipeline) => conditions(pipeline, kinds),
            Self::None | Self::NotAwaited => String::new(),
        }
    }
}

async fn reconcile(access: &Access, args: &ReconcileArgs) -> anyhow::Result<Said> {
    let name = &args.verb.name;
    let place = format!("{}/{name}", access.namespace);
    let changes: &[(&str, Value)] = match (args.pause, args.resume) {
        (true, _) => &[(annotations::RECONCILE, json!(annotations::PAUSED))],
        (_, true) => &[(annotations::RECONCILE, Value::Null)],
        _ => &[],
    };
    let answer = ask(access, &args.verb, changes, None).await?;
    let shown = answer.conditions(&["Ready", "Stalled", "Paused"]);
    let text = match (args.pause, args.resume) {
        (true, _) => format!(
            "{place}: the operator changes nothing from now on; topics, tables and pods stay as they are, events flow, and the status goes on.\n{shown}To go on: kubectl clickstream reconcile {name} --resume --namespace {}\n",
            access.namespace
        ),
        (_, true) => format!("{place}: the operator follows the spec again.\n{shown}"),
        _ if matches!(answer, Answer::Followed(_)) => {
            format!("{place} was looked at anew.\n{shown}")
        }
        _ => format!("{place} is to be looked at anew.\n"),
    };
    Ok(Said::of(text, &answer, &args.verb))
}

async fn restart(access: &Access, args: &VerbArgs) -> anyhow::Result<Said> {
    let pipeline = access.pipeline(&args.name).await?;
    refuse_paused(access, &pipeline)?;
    if pipeline.data["spec"]["suspend"] == json!(true) {
        anyhow::bail!(
            "{} is suspended and has no pods; they start with: kubectl clickstream resume {} --namespace {}",
            args.name,
            args.name,
            access.namespace
        );
    }
    let now = [(annotations::RESTART_AT, json!(now()))];
    let answer = ask(access, args, &now, None).await?;
    let text = format!(
        "{}/{}: all pods are replaced, a new one first; none loses what it has read.\n{}To watch: kubectl clickstream status {} --watch --namespace {}\n",
        access.namespace,
        args.name,
        answer.conditions(&["ProcessorsAvailable", "ProducerAvailable"]),
        args.name,
        access.namespace
    );
    Ok(Said::of(text, &answer, args))
}

async fn migrate(access: &Access, args: &VerbArgs) -> anyhow::Result<Said> {
    let pipeline = access.pipeline(&args.name).await?;
    refuse_paused(access, &pipeline)?;
    let now = [(annotations::MIGRATE_AT, json!(now()))];
    let answer = ask(access, args, &now, None).await?;
    let text = format!(
        "{}/{}: the migrations of all targets run again; processors go on meanwhile.\n{}To watch: kubectl clickstream logs {} --component migration --follow --namespace {}\n",
        access.namespace,
        args.name,
        answer.conditions(&["DatabaseReady"]),
        args.name,
        access.namespace
    );
    Ok(Said::of(text, &answer, args))
}

/// What only happens when the operator goes on would surprise, hours later.
fn refuse_paused(access: &Access, pipeline: &DynamicObject) -> anyhow::Result<()> {
    let found = pipeline.annotations().get(annotations::RECONCILE);
    if found.is_some_and(|value| value == annotations::PAUSED) {
        let name = pipeline.name_any();
        anyhow::bail!(
            "the operator is paused for {name}; first: kubectl clickstream reconcile {name} --resume --namespace {}",
            access.namespace
        );
    }
    Ok(())
}

/// Writes annotations, onto one version of the resource if it is given, and waits until the
/// operator has followed them.
async fn ask(
    access: &Access,
    args: &VerbArgs,
    changes: &[(&str, Value)],
    version: Option<&str>,
) -> anyhow::Result<Answer> {
    let at = now();
    let mut wanted = Map::from_iter([(annotations::RECONCILE_AT.to_owned(), json!(at))]);
    wanted.extend(
        changes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone())),
    );
    let mut metadata = json!({ "annotations": wanted });
    if let Some(version) = version {
        metadata["resourceVersion"] = json!(version);
    }
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let body = json!({ "metadata": metadata });
    access
        .pipelines()
        .patch(&args.name, &params, &Patch::Merge(&body))
        .await
        .map_err(|error| access.explained(error, &args.name))?;
    if args.timeout == 0 {
        return Ok(Answer::NotAwaited);
    }
    let until = Instant::now() + Duration::from_secs(args.timeout);
    while Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        // one look that fails is none: the wish is written
        let Ok(pipeline) = access.pipelines().get(&args.name).await else {
            continue;
        };
        if status(&pipeline).last_handled_reconcile_at.as_ref() == Some(&at) {
            return Ok(Answer::Followed(Box::new(pipeline)));
        }
    }
    Ok(Answer::None)
}

/// The status, as far as this version of the plugin can read it.
fn status(pipeline: &DynamicObject) -> ClickstreamPipelineStatus {
    ClickstreamPipelineStatus::deserialize(&pipeline.data["status"]).unwrap_or_default()
}

/// The conditions of these kinds that there are, a line each; `Stalled` and `Paused` only where
/// they hold.
fn conditions(pipeline: &DynamicObject, kinds: &[&str]) -> String {
    let status = status(pipeline);
    let shown = kinds.iter().filter_map(|kind| {
        let mut all = status.conditions.iter();
        let found = all.find(|found| found.type_ == *kind)?;
        let is_quiet = matches!(*kind, "Stalled" | "Paused") && found.status != "True";
        (!is_quiet).then(|| {
            let message = found
                .message
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            format!("{kind} is {} ({}): {message}\n", found.status, found.reason)
        })
    });
    shown.collect()
}

/// Milliseconds are enough to tell two wishes of one person apart.
fn now() -> String {
    format!("{:.3}", Timestamp::now())
}
