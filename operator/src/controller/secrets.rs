//! When Secrets are read. The operator may `get` those that specs name, and neither list nor watch them: so it asks for their
//! versions now and then, more often while something waits that another value may mend, and wakes the pipelines whose Secrets
//! have changed. A Secret that several pipelines name is asked for once.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::join, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Resource as _, ResourceExt as _, api::ObjectMeta};
use parking_lot::Mutex;
use rand::RngExt as _;
use tokio::sync::{Notify, mpsc};
use tracing::debug;

use super::memory::is_older;
use crate::{crd::ClickstreamPipeline, stores::PipelineRef};

/// How often a Secret is asked for while a pipeline waits for something that it may mend.
const WAITED_FOR: Duration = Duration::from_secs(5);
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(500);
/// How many of those that are waited for are asked for in a tick: when Kafka is away, it is so for everybody.
const WAITED_FOR_AT_ONCE: usize = 4;
/// How many of all others.
const OTHERS_AT_ONCE: usize = 10;
/// Pipelines that are woken at a time.
const WAKING: usize = 32;
/// How long an answer is waited for: one that does not come must not keep everybody else's from being asked for.
const ANSWER: Duration = Duration::from_secs(10);
/// A Secret that is not waited for is asked for at some time in this part of the interval, so that a thousand do not come together.
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

    /// A pipeline names these Secrets, and no others. Their versions, in this order, if all of them were seen.
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

    /// A pipeline has read a Secret just now. The others that name it hear of it if it was known with another version.
    pub fn read(&self, uid: &str, namespace: &str, name: &str, version: Version) {
        if self.seen(namespace, name, version) {
            self.tell(&(namespace.to_owned(), name.to_owned()), Some(uid));
        }
    }

    /// There is this version of a Secret. Whether it was known with another one. Answers come in any order: one that is older than
    /// what is known was overtaken, and tells nothing.
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

    /// Which Secrets are to be asked for now. Until they are seen, they are not due again for a while.
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

    /// A Secret has changed: the pipelines that name it are to be woken, but the one that has read it.
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

    /// Wakes the pipelines that are to be woken.
    async fn wake(&self) {
        let mut woken = Vec::new();
        for user in self.state.lock().users.values_mut() {
            if std::mem::take(&mut user.to_wake) {
                woken.push(user.reference.clone());
            }
        }
        for pipeline in woken {
            // nobody listens: the term is over
            let _ = self.changed.send(pipeline).await;
        }
    }

    /// Asks for what is due and wakes whom it concerns, for ever. Only metadata is asked for: values are read by the reconcile that
    /// needs them.
    pub async fn follow(&self, client: &Client) {
        join(self.ask_on(client), self.wake_on()).await;
    }

    async fn wake_on(&self) {
        loop {
            self.told.notified().await;
            self.wake().await;
        }
    }

    async fn ask_on(&self, client: &Client) {
        loop {
            tokio::time::sleep(TICK).await;
            let due = stream::iter(self.due(Instant::now()));
            due.for_each_concurrent(
                4,
                |place| async move { self.ask(client, &place, ANSWER).await },
            )
            .await;
        }
    }

    async fn ask(&self, client: &Client, place: &Place, patience: Duration) {
        let (namespace, name) = place;
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        match tokio::time::timeout(patience, api.get_metadata_opt(name)).await {
            Ok(Ok(found)) => {
                let version = found.and_then(|found| version(found.meta()));
                if self.seen(namespace, name, version) {
                    debug!(namespace, name, "a Secret has changed");
                    self.tell(place, None);
                }
            }
            // whatever it is, the next one will tell
            Ok(Err(error)) => debug!(namespace, name, %error, "a Secret cannot be read"),
            Err(_) => debug!(namespace, name, "no answer to who asks for a Secret"),
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use std::{convert::Infallible, future::Pending, task};

    use kube::client::Body;
    use serde_json::json;
    use tower::Service;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn pipeline(name: &str) -> ClickstreamPipeline {
        serde_json::from_value(json!({
            "apiVersion": "clickstream.dev/v1alpha1", "kind": "ClickstreamPipeline",
            "metadata": { "name": name, "namespace": "web" },
            "spec": {
                "kafka": { "bootstrapServers": "kafka:9092" },
                "targets": [{ "connection": { "secret": { "name": "postgres" } } }],
            },
        }))
        .unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn due(secrets: &Secrets, after: Duration) -> Vec<String> {
        let mut due: Vec<_> = secrets
            .due(Instant::now() + after)
            .into_iter()
            .map(|(_, name)| name)
            .collect();
        due.sort();
        due
    }

    #[test]
    fn what_is_at_rest_is_asked_for_within_the_interval_and_what_is_waited_for_at_once() {
        let (secrets, _) = Secrets::new(DAY);
        secrets.named("a", &pipeline("a"), &names(&["postgres", "kafka"]));
        secrets.named("b", &pipeline("b"), &names(&["other"]));
        assert_eq!(
            due(&secrets, DAY),
            names(&[]),
            "never read: a reconcile does"
        );
        for name in ["postgres", "kafka", "other"] {
            // the second time it is no longer the first look
            assert!(!secrets.seen("web", name, Some("1".to_owned())));
            assert!(!secrets.seen("web", name, Some("1".to_owned())));
        }
        assert_eq!(due(&secrets, WAITED_FOR * 2), names(&[]));
        secrets.waits("a", true);
        assert_eq!(due(&secrets, WAITED_FOR), names(&["kafka", "postgres"]));
        assert_eq!(
            due(&secrets, WAITED_FOR),
            names(&[]),
            "it was asked for just now"
        );
        secrets.waits("a", false);
        assert_eq!(due(&secrets, DAY), names(&["kafka", "other", "postgres"]));
    }

    #[tokio::test]
    async fn a_secret_of_many_is_asked_for_once_and_wakes_them_all() {
        let (secrets, mut woken) = Secrets::new(DAY);
        for name in ["a", "b"] {
            let versions = secrets.named(name, &pipeline(name), &names(&["postgres"]));
            assert_eq!(versions, None);
        }
        secrets.seen("web", "postgres", None);
        assert_eq!(
            secrets.named("b", &pipeline("b"), &names(&["postgres"])),
            Some(vec![None])
        );
        assert_eq!(due(&secrets, DAY), names(&["postgres"]));
        assert!(secrets.seen("web", "postgres", Some("1".to_owned())));
        let place = ("web".to_owned(), "postgres".to_owned());
        secrets.tell(&place, None);
        secrets.wake().await;
        let mut told = vec![
            woken.try_recv().unwrap().name,
            woken.try_recv().unwrap().name,
        ];
        told.sort();
        assert_eq!(told, ["a", "b"]);
    }

    #[tokio::test]
    async fn what_a_reconcile_reads_wakes_the_others_that_name_it() {
        let (secrets, mut woken) = Secrets::new(DAY);
        for name in ["a", "b", "c"] {
            let named = if name == "c" { "other" } else { "postgres" };
            secrets.named(name, &pipeline(name), &names(&[named]));
        }
        secrets.read("a", "web", "postgres", Some("u/1".to_owned()));
        secrets.wake().await;
        assert!(woken.try_recv().is_err(), "it was not known before");
        secrets.read("a", "web", "postgres", Some("u/2".to_owned()));
        let client = Client::new(Silent, "web");
        tokio::select! {
            () = secrets.follow(&client) => {}
            told = woken.recv() => assert_eq!(told.unwrap().name, "b"),
            () = tokio::time::sleep(Duration::from_secs(5)) => panic!("nobody is woken"),
        }
        secrets.read("b", "web", "postgres", Some("u/2".to_owned()));
        secrets.wake().await;
        assert!(woken.try_recv().is_err(), "it is known by now");
    }

    #[tokio::test]
    async fn what_was_read_earlier_and_is_told_later_does_not_stand_for_what_is_newer() {
        let (secrets, mut woken) = Secrets::new(DAY);
        let known = || secrets.named("a", &pipeline("a"), &names(&["postgres"]));
        let version = |version: &str| Some(version.to_owned());
        known();
        secrets.named("b", &pipeline("b"), &names(&["postgres"]));
        secrets.seen("web", "postgres", version("u/9"));
        assert!(secrets.seen("web", "postgres", version("u/10")));
        secrets.read("b", "web", "postgres", version("u/9"));
        assert_eq!(known(), Some(vec![version("u/10")]));
        secrets.wake().await;
        assert!(woken.try_recv().is_err(), "nothing has changed");
        // another Secret of this name, none, or versions that are no numbers: the last word counts
        for other in [version("v/3"), None, version("v/x"), version("v/a")] {
            assert!(secrets.seen("web", "postgres", other.clone()));
            assert_eq!(known(), Some(vec![other]));
        }
    }

    /// Takes requests and answers none.
    struct Silent;

    impl Service<hyper::Request<Body>> for Silent {
        type Response = hyper::Response<Body>;
        type Error = Infallible;
        type Future = Pending<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
            task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: hyper::Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_not_waited_for_for_ever() {
        let (secrets, _) = Secrets::new(DAY);
        let client = Client::new(Silent, "web");
        let place = ("web".to_owned(), "postgres".to_owned());
        let asked = secrets.ask(&client, &place, Duration::from_millis(1));
        let ended = tokio::time::timeout(Duration::from_secs(5), asked).await;
        assert!(ended.is_ok());
    }

    #[test]
    fn what_nobody_names_any_more_is_not_asked_for() {
        let (secrets, _) = Secrets::new(DAY);
        for name in ["a", "b"] {
            secrets.named(name, &pipeline(name), &names(&["shared", name]));
        }
        for name in ["shared", "a", "b"] {
            secrets.seen("web", name, None);
        }
        secrets.named("a", &pipeline("a"), &names(&["shared"]));
        secrets.forget("b");
        assert_eq!(due(&secrets, DAY), names(&["shared"]));
        secrets.forget("a");
        assert_eq!(due(&secrets, DAY), names(&[]));
    }

    #[test]
    fn when_kafka_is_away_for_everybody_secrets_are_not_all_asked_for_at_a_time() {
        let (secrets, _) = Secrets::new(DAY);
        for number in 0..100 {
            let uid = number.to_string();
            secrets.named(&uid, &pipeline(&uid), std::slice::from_ref(&uid));
            secrets.seen("web", &uid, None);
            secrets.seen("web", &uid, None);
            secrets.waits(&uid, true);
        }
        let first = due(&secrets, WAITED_FOR);
        assert_eq!(first.len(), WAITED_FOR_AT_ONCE);
        let second = due(&secrets, WAITED_FOR);
        assert!(
            second.iter().all(|name| !first.contains(name)),
            "it is the turn of others"
        );
    }
}
