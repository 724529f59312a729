//! `status --watch`: the same, drawn anew after each change.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use anyhow::bail;
use futures_util::{StreamExt as _, future::Either, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, ResourceExt,
    api::DynamicObject,
    runtime::{WatchStreamExt as _, watcher},
};

use super::{
    access_place,
    events::{self, Events},
    key, one,
    report::Report,
    scope, several,
};
use crate::{
    access::{Access, explained},
    args::{Output, StatusArgs},
    paint::{self, Colours},
};

/// What belongs together comes together: a status and its Event.
const SETTLE: Duration = Duration::from_millis(150);
/// Ages on a screen grow without a change.
const AGES: Duration = Duration::from_secs(5);
/// Clears the screen and goes to its top.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// What is known so far.
struct Known {
    pipelines: BTreeMap<(String, String), DynamicObject>,
    listed: bool,
    /// Events that nobody asks for count as listed.
    events_listed: bool,
    events: Result<BTreeMap<String, Event>, Events>,
    trouble: Option<String>,
}

/// Shows it until it is interrupted.
///
/// # Errors
/// The first look fails; later trouble is shown and waited out.
pub async fn run(access: &Access, args: &StatusArgs, colours: Colours) -> anyhow::Result<()> {
    let named = |name: &String| watcher::Config::default().fields(&format!("metadata.name={name}"));
    let config = args.name.as_ref().map(named).unwrap_or_default();
    let pipelines = watcher(scope(access, args), config)
        .default_backoff()
        .map(Either::Left);
    let about = match &args.name {
        Some(name) => {
            let api: Api<Event> = Api::namespaced(access.client.clone(), &access.namespace);
            let config = watcher::Config::default().fields(&events::selector(name));
            watcher(api, config)
                .default_backoff()
                .map(Either::Right)
                .boxed()
        }
        None => stream::pending().boxed(),
    };
    let mut changes = stream::select(pipelines.boxed(), about);
    let mut known = Known::new(args.name.is_none());
    let on_screen =
        std::io::stdout().is_terminal() && matches!(args.output, Output::Table | Output::Wide);
    let mut shown = String::new();
    loop {
        let ages = if on_screen && known.listed {
            AGES
        } else {
            Duration::MAX
        };
        match tokio::time::timeout(ages, changes.next()).await {
            Ok(Some(change)) => known.take(change)?,
            Ok(None) => return Ok(()),
            Err(_) => {}
        }
        let settled = tokio::time::Instant::now() + SETTLE;
        while let Ok(Some(change)) = tokio::time::timeout_at(settled, changes.next()).await {
            known.take(change)?;
        }
        if !(known.listed && known.events_listed) {
            continue;
        }
        let text = known.draw(access, args)?;
        // a change of what is not shown is none to a reader of lines
        if on_screen {
            paint::print(colours, &format!("{CLEAR}{text}"))?;
        } else if text != shown {
            paint::print(colours, &text)?;
            shown = text;
        }
    }
}

type Change = Either<
    Result<watcher::Event<DynamicObject>, watcher::Error>,
    Result<watcher::Event<Event>, watcher::Error>,
>;

impl Known {
    fn new(without_events: bool) -> Self {
        Self {
            pipelines: BTreeMap::new(),
            listed: false,
            events_listed: without_events,
            events: Ok(BTreeMap::new()),
            trouble: None,
        }
    }

    fn take(&mut self, change: Change) -> anyhow::Result<()> {
        match change {
            Either::Left(Ok(change)) => {
                self.trouble = None;
                match change {
                    watcher::Event::Init => self.pipelines.clear(),
                    watcher::Event::InitDone => self.listed = true,
                    watcher::Event::Apply(found) | watcher::Event::InitApply(found) => {
                        self.pipelines.insert(key(&found), found);
                    }
                    watcher::Event::Delete(gone) => {
                        self.pipelines.remove(&key(&gone));
                    }
                }
            }
            Either::Left(Err(error)) => {
                let (refused, error) = cause(error);
                if refused || !self.listed {
                    return Err(error);
                }
                self.trouble = Some(format!("{error:#}; trying again"));
            }
            Either::Right(Ok(change)) => {
                let mut known =
                    std::mem::replace(&mut self.events, Ok(BTreeMap::new())).unwrap_or_default();
                match change {
                    watcher::Event::Init => known.clear(),
                    watcher::Event::InitDone => self.events_listed = true,
                    watcher::Event::Apply(found) | watcher::Event::InitApply(found) => {
                        known.insert(found.name_any(), found);
                    }
                    watcher::Event::Delete(gone) => {
                        known.remove(&gone.name_any());
                    }
                }
                self.events = Ok(known);
            }
            Either::Right(Err(error)) => {
                let (refused, error) = cause(error);
                self.events_listed = true;
                // what has been seen stays; what may not be seen is said
                if refused {
                    self.events = Err(Events::Hidden(format!("not shown: {error}")));
                }
            }
        }
        Ok(())
    }

    fn draw(&self, access: &Access, args: &StatusArgs) -> anyhow::Result<String> {
        let now = Timestamp::now();
        let report = |pipeline: &DynamicObject| {
            let events = match (&self.events, &args.name) {
                (_, None) => Events::NotAsked,
                (Err(hidden), _) => hidden.clone(),
                (Ok(known), _) => Events::about(pipeline.metadata.uid.as_deref(), known.values()),
            };
            Report::new(pipeline, events)
        };
        let reports: Vec<Report> = self.pipelines.values().map(report).collect();
        let mut text = match (&args.name, args.output, reports.first()) {
            (Some(_), Output::Json, Some(report)) => {
                format!("{}\n", serde_json::to_string(report)?)
            }
            (None, Output::Json, _) => format!("{}\n", serde_json::to_string(&reports)?),
            (Some(_), output, Some(report)) => one(report, output, now)?,
            (Some(name), _, None) => bail!(
                "there is no pipeline {}/{name} any more, or not yet",
                access.namespace
            ),
            (None, output, _) => several(&reports, access_place(access, args), output, now)?,
        };
        match args.output {
            Output::Yaml => text.insert_str(0, "---\n"),
            Output::Json => {}
            Output::Table | Output::Wide => {
                if let Some(trouble) = &self.trouble {
                    text.push_str(&format!(
                        "\n{}\n",
                        paint::cell(trouble, paint::BAD).painted()
                    ));
                }
            }
        }
        Ok(text)
    }
}

/// Whether the API refuses, and what it says; everything else may pass.
fn cause(error: watcher::Error) -> (bool, anyhow::Error) {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => {
            let refused = matches!(&error, kube::Error::Api(status) if matches!(status.code, 401 | 403 | 404));
            (refused, explained(error))
        }
        watcher::Error::WatchError(status) => (false, anyhow::anyhow!("{}", status.message)),
        error => (false, anyhow::Error::new(error)),
    }
}
