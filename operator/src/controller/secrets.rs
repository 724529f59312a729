//! When Secrets are read. The operator may `get` those that specs name, and neither list nor watch
//! them: so it asks for their versions now and then, more often while something waits that another
//! value may mend, and wakes the pipelines whose Secrets have changed. A Secret that several
//! pipelines name is asked for once.

mod follow;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kube::{ResourceExt as _, api::ObjectMeta};
use parking_lot::Mutex;
use rand::RngExt as _;
use tokio::sync::{Notify, mpsc};

use crate::{
    crd::ClickstreamPipeline,
    stores::{PipelineRef, is_older},
};

/// How often a Secret is asked for while a pipeline waits for something that it may mend.
const WAITED_FOR: Duration = Duration::from_secs(5);
/// How many of those that are waited for are asked for in a tick: when Kafka is away, it is so for
/// everybody.
const WAITED_FOR_AT_ONCE: usize = 4;
/// How many of all others.
const OTHERS_AT_ONCE: usize = 10;
/// Pipelines that are woken at a time.
const WAKING: usize = 32;
/// A Secret that is not waited for is asked for at some time in this part of the interval, so that
/// a thousand do not come together.
const PART: std::ops::Range<f64> = 0.75..0.95;

/// Which version of a Secret there is; `None`: there is no such Secret.
pub type Version = Option<String>;

/// The versions of all Secrets that the pipelines of a scope name. No values.
pub struct Secrets {
    interval: Duration,
    state: Mutex<State>,
    changed: mpsc::Sender<PipelineRef>,
    /// Some pipeline is to be woken.
    told: Notify,
}

#[derive(Default)]
struct State {
    known: HashMap<Place, Known>,
    users: HashMap<String, User>,
}

/// Namespace and name.
type Place = (String, String);

/// A pipeline, by its uid.
struct User {
    reference: PipelineRef,
    places: Vec<Place>,
    waits: bool,
    /// A Secret of it has changed, and it has not heard of that.
    to_wake: bool,
}

#[derive(Default)]
struct Known {
    /// When it was asked for last, and which version there was; `None`: not yet.
    seen: Option<(Instant, Version)>,
    /// When it is asked for whoever waits.
    due: Option<Instant>,
    users: Vec<String>,
}

impl Secrets {
    /// Nothing is known yet. What is sent are pipelines whose Secrets have changed.
    pub fn new(interval: Duration) -> (Self, mpsc::Receiver<PipelineRef>) {
        let (changed, woken) = mpsc::channel(WAKING);
        let secrets = Self {
            interval,
            state: Mutex::default(),
            changed,
            told: Notify::new(),
        };
        (secrets, woken)
    }

    /// A pipeline names these Secrets, and no others. Their versions, in this order, if all of them
    /// were seen.
    pub fn named(
        &self,
        uid: &str,
        pipeline: &ClickstreamPipeline,
        names: &[String],
    ) -> Option<Vec<Version>> {
        let namespace = pipeline.namespace().unwrap_or_default();
        let places: Vec<Place> = names
            .iter()
            .map(|name| (namespace.clone(), name.clone()))
            .collect();
        let mut state = self.state.lock();
        if state
            .users
            .get(uid)
            .is_none_or(|user| user.places != places)
        {
            state.forget(uid);
            for place in &places {
                let known = state.known.entry(place.clone()).or_default();
                known.users.push(uid.to_owned());
            }
            let user = User {
                reference: PipelineRef::new(&pipeline.name_any()).within(&namespace),
                places: places.clone(),
                waits: false,
                to_wake: false,
            };
            state.users.insert(uid.to_owned(), user);
        }
        let seen = places.iter().map(|place| {
            let (_, version) = state.known.get(place)?.seen.as_ref()?;
            Some(version.clone())
        });
        seen.collect()
    }

    /// A pipeline has read a Secret just now. The others that name it hear of it if it was known
    /// with another version.
    pub fn read(&self, uid: &str, namespace: &str, name: &str, version: Version) {
        if self.seen(namespace, name, version) {
            self.tell(&(namespace.to_owned(), name.to_owned()), Some(uid));
        }
    }

    /// There is this version of a Secret. Whether it was known with another one. Answers come in
    /// any order: one that is older than what is known was overtaken, and tells nothing.
    fn seen(&self, namespace: &str, name: &str, version: Version) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        let place = (namespace.to_owned(), name.to_owned());
        let Some(known) = state.known.get_mut(&place) else {
            return false;
        };
        let now = Instant::now();
        let is_first = known.seen.is_none();
        let before = known.seen.take().map(|(_, before)| before);
        let overtaken = before
            .as_ref()
            .is_some_and(|known| is_before(&version, known));
        let version = if overtaken {
            before.clone().flatten()
        } else {
            version
        };
        let is_other = before.is_some_and(|before| before != version);
        known.seen = Some((now, version));
        // after a start all are read at once: from then on they are spread
        let part = if is_first { 0.05..PART.end } else { PART };
        known.due = Some(now + self.interval.mul_f64(rand::rng().random_range(part)));
        is_other
    }

    /// Whether a pipeline waits for something that a Secret may mend.
    pub fn waits(&self, uid: &str, waits: bool) {
        if let Some(user) = self.state.lock().users.get_mut(uid) {
            user.waits = waits;
        }
    }

    /// A pipeline names no Secrets any more.
    pub fn forget(&self, uid: &str) {
        self.state.lock().forget(uid);
    }

    /// Which Secrets are to be asked for now. Until they are seen, they are not due again for a
    /// while.
    fn due(&self, now: Instant) -> Vec<Place> {
        let mut state = self.state.lock();
        let State { known, users } = &mut *state;
        let (mut others, mut waited_for) = (Vec::new(), Vec::new());
        for (place, known) in known.iter_mut() {
            // one that was never read is read by the reconcile that needs it
            let Some((at, _)) = &known.seen else { continue };
            let waits = || {
                known
                    .users
                    .iter()
                    .any(|uid| users.get(uid).is_some_and(|user| user.waits))
            };
            match known.due {
                Some(due) if due <= now => others.push((due, place.clone())),
                _ if now.duration_since(*at) >= WAITED_FOR && waits() => {
                    waited_for.push((*at, place.clone()));
                }
                _ => {}
            }
        }
        let mut all = Vec::new();
        for (mut due, at_once) in [(others, OTHERS_AT_ONCE), (waited_for, WAITED_FOR_AT_ONCE)] {
            due.sort();
            due.truncate(at_once);
            all.extend(due.into_iter().map(|(_, place)| place));
        }
        for place in &all {
            if let Some(known) = known.get_mut(place) {
                if let Some((at, _)) = &mut known.seen {
                    *at = now;
                }
                known.due = Some(now + WAITED_FOR);
            }
        }
        all
    }

    /// A Secret has changed: the pipelines that name it are to be woken, but the one that has read
    /// it.
    fn tell(&self, place: &Place, but: Option<&str>) {
        let mut state = self.state.lock();
        let State { known, users } = &mut *state;
        let named = known.get(place).map(|known| known.users.iter());
        for uid in named.into_iter().flatten() {
            if Some(uid.as_str()) != but
                && let Some(user) = users.get_mut(uid)
            {
                user.to_wake = true;
            }
        }
        self.told.notify_one();
    }
}

impl State {
    fn forget(&mut self, uid: &str) {
        let Some(user) = self.users.remove(uid) else {
            return;
        };
        for place in user.places {
            if let Some(known) = self.known.get_mut(&place) {
                known.users.retain(|user| user != uid);
                if known.users.is_empty() {
                    self.known.remove(&place);
                }
            }
        }
    }
}

/// Whether a version is an earlier one of the same Secret, as far as versions can be compared.
fn is_before<'v>(version: &'v Version, known: &'v Version) -> bool {
    let parts = |version: &'v Version| version.as_ref()?.split_once('/');
    match (parts(version), parts(known)) {
        (Some((uid, version)), Some((of, known))) => uid == of && is_older(version, known),
        _ => false,
    }
}

/// The version of a Secret that was read.
pub fn version(metadata: &ObjectMeta) -> Version {
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let version = metadata.resource_version.as_deref().unwrap_or_default();
    Some(format!("{uid}/{version}"))
}
