//! After an upgrade of the operator pipelines want new pods. They get them a few at a time, so that a bad release stops at the
//! first pipelines that it breaks. Who rolls stands in the status of the pipelines: nothing is forgotten by a restart, and a
//! pipeline that is gone holds nobody up.

pub mod queue;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use kube::{ResourceExt, core::DeserializeGuard, runtime::reflector::Store};
use parking_lot::Mutex;

use self::queue::{Health, Member, Rules};
use super::{
    Context, Settings,
    build::{self, Child, Kind, inputs, names},
    status::latest,
    validate::ValidatedPipeline,
};
use crate::{
    crd::{ClickstreamPipeline, ClickstreamPipelineStatus, UpgradeStatus},
    health::Scope,
    stores::Live,
};

/// Label of a Deployment: the operator's release that made its pod template.
pub const RELEASE: &str = "clickstream.dev/release";
/// Label of a Deployment: a hash of its pod template as it was sent.
pub const TEMPLATE: &str = "clickstream.dev/template-hash";
/// Label of a Deployment with a pinned image: a hash of what people say about its pods.
pub const INPUTS: &str = "clickstream.dev/inputs-hash";
/// Every pipeline is looked at within this time, at the start and later on.
const LOOKED_AT: Duration = Duration::from_secs(60);

type Pipelines = Store<DeserializeGuard<ClickstreamPipeline>>;

/// The queue of all pipelines that this process looks after.
pub struct Upgrades {
    rules: Rules,
    installation: Option<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: Option<Instant>,
    scopes: usize,
    fleets: BTreeMap<Scope, Pipelines>,
    /// Given a moment ago: the watch has not told of it yet.
    given: HashMap<String, UpgradeStatus>,
    /// When pipelines that wait have asked last.
    asked: HashMap<String, Instant>,
}

impl Upgrades {
    /// The queue before any pipeline is known.
    pub fn new(rules: Rules, installation: Option<String>) -> Self {
        Self {
            rules,
            installation,
            state: Mutex::default(),
        }
    }

    /// The operator's release.
    pub fn release(&self) -> &str {
        &self.rules.release
    }

    /// This process leads from now on, and watches this many scopes.
    pub fn term_begins(&self, scopes: usize) {
        *self.state.lock() = State {
            begun: Some(Instant::now()),
            scopes,
            ..State::default()
        };
    }

    /// The pipelines of a scope.
    pub fn watches(&self, scope: Scope, pipelines: Pipelines) {
        self.state.lock().fleets.insert(scope, pipelines);
    }

    /// The pipeline does not roll any more: it is Ready with its new pods, or gone.
    pub fn done(&self, uid: &str) {
        let mut state = self.state.lock();
        state.given.remove(uid);
        state.asked.remove(uid);
    }

    /// What to note in the status before this pipeline rolls; `None`: others go first.
    fn ask(&self, uid: &str, status: &ClickstreamPipelineStatus) -> Option<UpgradeStatus> {
        let mut state = self.state.lock();
        let age = state.begun.map(|begun| begun.elapsed());
        let is_young = age.is_none_or(|age| age < LOOKED_AT);
        let listed = state
            .fleets
            .values()
            .filter(|fleet| matches!(fleet.wait_until_ready().now_or_never(), Some(Ok(()))))
            .count();
        // who rolls in a namespace that is not listed is not known. One that may not be listed keeps the others waiting no longer
        if listed < state.scopes && is_young && status.upgrade.is_none() {
            return None;
        }
        let others = state.others(uid, self.installation.as_ref(), is_young);
        let mut me = member(status, true);
        me.upgrade = me.upgrade.or_else(|| state.given.get(uid).cloned());
        let turn = self.rules.turn(&me, &others, Timestamp::now());
        match &turn {
            Some(noted) => {
                state.asked.remove(uid);
                state.given.insert(uid.to_owned(), noted.clone());
            }
            None => {
                state.asked.insert(uid.to_owned(), Instant::now());
            }
        }
        turn
    }
}

impl State {
    /// All other pipelines of this installation that are not on their way out.
    fn others(&mut self, me: &str, installation: Option<&String>, is_young: bool) -> Vec<Member> {
        let mut others = Vec::new();
        let mut given = HashMap::new();
        let unknown = ClickstreamPipelineStatus::default();
        for object in self.fleets.values().flat_map(Store::state) {
            let Ok(pipeline) = &object.0 else { continue };
            let uid = pipeline.metadata.uid.as_deref().unwrap_or_default();
            let noted = self.given.get(uid);
            // over all pipelines, for each that waits: nothing large is copied
            let status = pipeline.status.as_ref().unwrap_or(&unknown);
            let elsewhere = status.held_by.is_some() && status.held_by.as_ref() != installation;
            if pipeline.metadata.deletion_timestamp.is_some() || elsewhere {
                continue;
            }
            if status.upgrade.is_none()
                && let Some(noted) = noted
            {
                given.insert(uid.to_owned(), noted.clone());
            }
            if uid == me {
                continue;
            }
            let asked = self.asked.get(uid).map(Instant::elapsed);
            let asks = is_young || asked.is_some_and(|ago| ago < LOOKED_AT);
            let mut other = member(status, asks);
            other.upgrade = other.upgrade.or_else(|| noted.cloned());
            others.push(other);
        }
        // what the watch has told of, and what is gone
        self.given = given;
        others
    }
}

fn member(status: &ClickstreamPipelineStatus, asks: bool) -> Member {
    let mut conditions = status.conditions.iter();
    let ready = conditions.find(|condition| condition.type_ == "Ready");
    let health = match ready {
        Some(ready) if ready.status == "True" && ready.reason == "Outage" => Health::Outage,
        Some(ready) if ready.status == "True" => Health::Ready,
        _ => Health::Sick,
    };
    Member {
        health,
        release: status.release.clone(),
        upgrade: status.upgrade.clone(),
        asks,
    }
}

/// What the operator's release changes about pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Change {
    /// Nothing.
    #[default]
    None,
    /// Their template; they wait for the pipeline's turn.
    Due,
    /// Their template, and nothing else: their image is pinned, so they stay as the release before made them.
    Pinned,
}

/// What of a pipeline has to wait, because the operator's release would change it and it is not its turn.
#[derive(Debug, Default)]
pub struct Gate {
    targets: Vec<Change>,
    producer: Change,
    /// What the status has to say before anything rolls.
    pub upgrade: Option<UpgradeStatus>,
}

impl Gate {
    /// Finds out what the release would change, and asks for the pipeline's turn if it would change anything.
    pub fn look(
        pipeline: &ClickstreamPipeline,
        valid: &ValidatedPipeline,
        context: &Context,
    ) -> Self {
        let status = latest(pipeline, context);
        let due = due(pipeline, valid, &status, context);
        // while it is paused nothing is changed anyhow
        if !due.is_closed() || valid.asked.paused {
            return Self {
                upgrade: status.upgrade,
                ..due.opened()
            };
        }
        match context
            .upgrades
            .ask(&pipeline.uid().unwrap_or_default(), &status)
        {
            Some(noted) => Self {
                upgrade: Some(noted),
                ..due.opened()
            },
            None => due,
        }
    }

    /// The same when it is the pipeline's turn.
    fn opened(mut self) -> Self {
        for change in self.targets.iter_mut().chain([&mut self.producer]) {
            if *change == Change::Due {
                *change = Change::None;
            }
        }
        self
    }

    /// Whether something waits.
    pub fn is_closed(&self) -> bool {
        self.producer == Change::Due || self.targets.contains(&Change::Due)
    }

    /// Whether a target's migration and processors wait.
    pub fn holds_target(&self, index: usize) -> bool {
        self.targets.get(index) == Some(&Change::Due)
    }

    /// Whether a target's processors stay as the release before made them.
    pub fn pins_target(&self, index: usize) -> bool {
        self.targets.get(index) == Some(&Change::Pinned)
    }

    /// Whether the producer waits.
    pub fn holds_producer(&self) -> bool {
        self.producer == Change::Due
    }

    /// Whether the producer stays as the release before made it.
    pub fn pins_producer(&self) -> bool {
        self.producer == Change::Pinned
    }
}

/// What the release would change: pods whose template would be another one, and was made by another release.
fn due(
    pipeline: &ClickstreamPipeline,
    valid: &ValidatedPipeline,
    status: &ClickstreamPipelineStatus,
    context: &Context,
) -> Gate {
    let uid = pipeline.uid().unwrap_or_default();
    let live = |parts: &[&str]| {
        let name = names::child(&valid.name, parts);
        context
            .stores
            .child(Kind::Deployment, &valid.namespace, &name)
            .filter(|live| live.controller.as_ref() == Some(&uid))
    };
    // the release before noted nothing about a pinned image: its last look was at the spec of now
    let is_seen = status.observed_generation == pipeline.metadata.generation;
    type Wanted<'w> = &'w dyn Fn() -> Option<Child>;
    type Inputs<'i> = &'i dyn Fn() -> Option<String>;
    let change = |live: &Live, wanted: Wanted<'_>, inputs: Inputs<'_>| {
        let of = |key: &str| live.labels.get(key);
        if of(RELEASE).map(String::as_str) == Some(context.upgrades.release())
            || wanted().is_none_or(|wanted| of(TEMPLATE) == Some(&build::template_hash(&wanted)))
        {
            return Change::None;
        }
        match inputs() {
            Some(inputs) if of(INPUTS).map_or(is_seen, |noted| *noted == inputs) => Change::Pinned,
            _ => Change::Due,
        }
    };
    let created: Vec<String> = status
        .topics
        .iter()
        .filter(|topic| topic.created == Some(true))
        .map(|topic| topic.name.clone())
        .collect();
    let settings = &context.settings;
    let targets = &valid.document.spec.targets;
    let of_target = targets.iter().map(|target| match live(&[&target.name]) {
        Some(live) => change(
            &live,
            &|| Some(build::target(valid, target, settings, &created).deployment),
            &|| inputs::of_processors(valid, target, settings),
        ),
        // somebody deleted it: it comes back as it was
        None => {
            let mut known = status.targets.iter();
            let known = known.find(|known| known.name == target.name);
            let recorded = known.and_then(|known| known.migration.as_ref());
            let is_due = valid.document.spec.image.is_none()
                && recorded
                    .is_some_and(|recorded| recorded.image != valid.processor_image(settings));
            if is_due { Change::Due } else { Change::None }
        }
    });
    Gate {
        targets: of_target.collect(),
        producer: live(&["producer"]).map_or(Change::None, |live| {
            change(&live, &|| build::producer(valid, settings).pop(), &|| {
                inputs::of_producer(valid, settings)
            })
        }),
        upgrade: None,
    }
}

/// The operator's release: its version, and whatever of its code and its settings stands on pods.
pub fn release(settings: &Settings) -> String {
    format!(
        "{}-{}",
        // a label has no place for what is behind a plus sign
        env!("CARGO_PKG_VERSION").replace('+', "-"),
        build::form_of_pods(settings)
    )
}
