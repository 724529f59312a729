//! After an upgrade of the operator pipelines want new pods. They get them a few at a time, so that
//! a bad release stops at the first pipelines that it breaks. Who rolls stands in the status of the
//! pipelines: nothing is forgotten by a restart, and a pipeline that is gone holds nobody up.

pub mod queue;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use clickstream_protocol::conditions::{ConditionType, Reason};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use kube::{ResourceExt as _, core::DeserializeGuard, runtime::reflector::Store};
use parking_lot::Mutex;

use self::queue::{Health, Member, Rules};
use crate::{
    crd::{ClickstreamPipeline, ClickstreamPipelineStatus, UpgradeStatus},
    health::Scope,
};

/// Every pipeline is looked at within this time, at the start and later on.
const LOOKED_AT: Duration = Duration::from_secs(60);

type Pipelines = Store<DeserializeGuard<ClickstreamPipeline>>;

/// The queue of all pipelines that this process looks after.
pub struct Upgrades {
    rules: Rules,
    installation: Option<String>,
    /// Labels of pipelines that go first; none: there are no such pipelines.
    canaries: BTreeMap<String, String>,
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
    pub fn new(
        rules: Rules,
        installation: Option<String>,
        canaries: BTreeMap<String, String>,
    ) -> Self {
        Self {
            rules,
            installation,
            canaries,
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

    /// What to note in the status before this pipeline rolls.
    ///
    /// # Errors
    /// Others go first; the canary among them that all wait for, if that is why.
    pub fn ask(
        &self,
        pipeline: &ClickstreamPipeline,
        status: &ClickstreamPipelineStatus,
        is_whole: bool,
    ) -> Result<UpgradeStatus, Option<String>> {
        let uid = pipeline.metadata.uid.as_deref().unwrap_or_default();
        let mut state = self.state.lock();
        let age = state.begun.map(|begun| begun.elapsed());
        let is_young = age.is_none_or(|age| age < LOOKED_AT);
        let listed = state
            .fleets
            .values()
            .filter(|fleet| matches!(fleet.wait_until_ready().now_or_never(), Some(Ok(()))))
            .count();
        // who rolls in a namespace that is not listed is not known. One that may not be listed
        // keeps the others waiting no longer
        if listed < state.scopes && is_young && status.upgrade.is_none() {
            return Err(None);
        }
        let others = state.others(uid, self, is_young);
        let mut me = member(status, true);
        me.canary = canary(pipeline, &self.canaries);
        if !is_whole {
            me.health = Health::Sick;
        }
        me.upgrade = me.upgrade.or_else(|| state.given.get(uid).cloned());
        let turn = self.rules.turn(&me, &others, Timestamp::now());
        match turn {
            Some(noted) => {
                state.asked.remove(uid);
                state.given.insert(uid.to_owned(), noted.clone());
                Ok(noted)
            }
            None => {
                state.asked.insert(uid.to_owned(), Instant::now());
                Err(self.rules.waits_for(&me, &others).map(str::to_owned))
            }
        }
    }
}

impl State {
    /// All other pipelines of this installation that are not on their way out.
    fn others(&mut self, me: &str, queue: &Upgrades, is_young: bool) -> Vec<Member> {
        let mut others = Vec::new();
        let mut given = HashMap::new();
        let unknown = ClickstreamPipelineStatus::default();
        for object in self.fleets.values().flat_map(Store::state) {
            let Ok(pipeline) = &object.0 else { continue };
            let uid = pipeline.metadata.uid.as_deref().unwrap_or_default();
            let noted = self.given.get(uid);
            // over all pipelines, for each that waits: nothing large is copied
            let status = pipeline.status.as_ref().unwrap_or(&unknown);
            let holder = status.held_by.as_ref();
            let elsewhere = holder.is_some() && holder != queue.installation.as_ref();
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
            other.canary = canary(pipeline, &queue.canaries);
            others.push(other);
        }
        // what the watch has told of, and what is gone
        self.given = given;
        others
    }
}

fn member(status: &ClickstreamPipelineStatus, asks: bool) -> Member {
    let mut conditions = status.conditions.iter();
    let ready = conditions.find(|condition| condition.type_ == ConditionType::Ready);
    let health = match ready {
        Some(ready) if ready.status == "True" && ready.reason == Reason::Outage => Health::Outage,
        Some(ready) if ready.status == "True" => Health::Ready,
        _ => Health::Sick,
    };
    Member {
        health,
        release: status.release.clone(),
        upgrade: status.upgrade.clone(),
        asks,
        canary: None,
    }
}

/// Namespace and name of a pipeline that has all labels of canaries.
fn canary(pipeline: &ClickstreamPipeline, labels: &BTreeMap<String, String>) -> Option<String> {
    let of = pipeline.labels();
    let has_all = labels.iter().all(|(key, value)| of.get(key) == Some(value));
    (!labels.is_empty() && has_all).then(|| {
        let namespace = pipeline.namespace().unwrap_or_default();
        format!("{namespace}/{}", pipeline.name_any())
    })
}
