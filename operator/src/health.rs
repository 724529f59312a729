//! What the probes answer, from the last answer to each watch: an operator that hears nothing of
//! its pipelines looks healthy by everything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use clickstream_telemetry::{Health, Verdict};
use kube::Resource as _;
use parking_lot::Mutex;
use prometheus::{GaugeVec, Opts};
use serde_json::json;

use crate::{crd::ClickstreamPipeline, kind::Kind, stores::api_resource};

/// API servers end every watch after 290 s, and it is asked for again at once: one without any
/// answer for this long has stopped. Operators that stopped watching and went on looking healthy
/// are a known failure (stackabletech/trino-operator#936).
const STOPPED: Duration = Duration::from_mins(10);
/// A watch whose last success is older is not up to date: 290 s, and what an API server needs to
/// come back.
const OUTDATED: Duration = Duration::from_mins(6);
/// Refusals that last no longer are bursts, which pass.
const BURST: Duration = Duration::from_secs(30);

/// The namespace that a watch is about; `None`: all.
pub type Scope = Option<String>;

/// How well this process hears of what it works on; a clone tells the same.
#[derive(Clone)]
pub struct Hearing {
    state: Arc<Mutex<State>>,
    last_success: GaugeVec,
}

#[derive(Default)]
struct State {
    /// Since when this process leads, if it does.
    leads: Option<Instant>,
    /// Whose lists are complete, in this term.
    listed: BTreeSet<Scope>,
    /// By the path that is asked.
    watches: BTreeMap<String, Watch>,
}

struct Watch {
    scope: Scope,
    resource: String,
    answered: Option<Instant>,
    succeeded: Option<Instant>,
    /// The answer that came instead of a success, and since when; without a code there was none.
    failing: Option<(Option<u16>, Instant)>,
}

impl Watch {
    fn name(&self) -> String {
        match &self.scope {
            Some(namespace) => format!("{} in namespace {namespace}", self.resource),
            None => self.resource.clone(),
        }
    }

    /// Why it is not up to date.
    fn pending(&self, now: Instant) -> Option<String> {
        let why = match (self.failing, self.succeeded) {
            (Some((code, since)), succeeded)
                if succeeded.is_none() || now.duration_since(since) > BURST =>
            {
                match code {
                    Some(403) => "the ServiceAccount may not list and watch them (403)".to_owned(),
                    Some(404) => "the API server does not know them (404)".to_owned(),
                    Some(code) => format!("the API server answers {code}"),
                    None => "the API server does not answer".to_owned(),
                }
            }
            (_, None) => "not listed yet".to_owned(),
            (_, Some(succeeded)) => {
                let age = now.duration_since(succeeded);
                (age > OUTDATED).then(|| format!("last heard of {} s ago", age.as_secs()))?
            }
        };
        Some(format!("{}: {why}", self.name()))
    }
}

/// A term of leading. Work that loses the Lease is dropped where it stands, so that the end of a
/// term cannot be a line behind it.
#[must_use]
pub struct Term(Arc<Mutex<State>>);

impl Drop for Term {
    fn drop(&mut self) {
        self.0.lock().leads = None;
    }
}

impl Hearing {
    /// Nothing is expected yet.
    ///
    /// # Errors
    /// A name or a help text that Prometheus does not take.
    pub fn new() -> prometheus::Result<Self> {
        let opts = Opts::new(
            "clickstream_operator_watch_last_success_timestamp_seconds",
            "When the API server last answered a list or a watch, in seconds since 1970, by resource and namespace (empty: all). A watch is asked for anew every five minutes. Alert when it is over ten minutes ago.",
        );
        Ok(Self {
            state: Arc::default(),
            last_success: GaugeVec::new(opts, &["resource", "namespace"])?,
        })
    }

    /// What is registered.
    pub fn collector(&self) -> GaugeVec {
        self.last_success.clone()
    }

    /// The paths that are watched, instead of those before.
    pub fn expect(&self, scopes: &[Scope], kinds: &[Kind]) {
        let mut watches = BTreeMap::new();
        for scope in scopes {
            let namespace = scope.as_deref();
            let mut expected = |path: String, resource: &str| {
                let watch = Watch {
                    scope: scope.clone(),
                    resource: resource.to_owned(),
                    answered: None,
                    succeeded: None,
                    failing: None,
                };
                watches.insert(path, watch);
            };
            expected(
                ClickstreamPipeline::url_path(&(), namespace),
                &ClickstreamPipeline::plural(&()),
            );
            expected(
                k8s_openapi::api::core::v1::Pod::url_path(&(), namespace),
                "pods",
            );
            for &kind in kinds {
                let resource = api_resource(kind);
                let path = kube::api::DynamicObject::url_path(&resource, namespace);
                expected(path, &resource.plural);
            }
        }
        self.state.lock().watches = watches;
        self.last_success.reset();
    }

    /// This process leads for as long as the guard lives: what it heard before counts for nothing.
    pub fn term_begins(&self) -> Term {
        let mut state = self.state.lock();
        state.leads = Some(Instant::now());
        state.listed.clear();
        Term(Arc::clone(&self.state))
    }

    /// Everything of a scope is listed.
    pub fn listed(&self, scope: Scope) {
        self.state.lock().listed.insert(scope);
    }

    /// The paths that are watched.
    pub fn paths(&self) -> Vec<String> {
        self.state.lock().watches.keys().cloned().collect()
    }

    /// Whether every path that is watched was allowed to be listed at least once.
    pub fn all_allowed(&self) -> bool {
        let state = self.state.lock();
        state
            .watches
            .values()
            .all(|watch| watch.succeeded.is_some())
    }

    /// What the API server answered to a GET of this path; `None`: nothing.
    pub fn answered(&self, path: &str, code: Option<u16>) {
        let mut state = self.state.lock();
        let Some(watch) = state.watches.get_mut(path) else {
            return;
        };
        let now = Instant::now();
        if code.is_some() {
            watch.answered = Some(now);
        }
        // 410: the watch begins again with a list, which is answered next
        match code {
            Some(200..300) => {
                watch.succeeded = Some(now);
                watch.failing = None;
                let namespace = watch.scope.as_deref().unwrap_or_default();
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "seconds of this century are exact"
                )]
                self.last_success
                    .with_label_values(&[watch.resource.as_str(), namespace])
                    .set(jiff::Timestamp::now().as_second() as f64);
            }
            code => {
                let since = watch.failing.map_or(now, |(_, since)| since);
                watch.failing = Some((code, since));
            }
        }
    }

    fn live_at(&self, now: Instant) -> Verdict {
        let state = self.state.lock();
        // who does not lead watches nothing
        let Some(leads) = state.leads else {
            return Verdict::Ok;
        };
        let stopped = state.watches.values().filter(|watch| {
            let answered = watch.answered.map_or(leads, |at| at.max(leads));
            now.duration_since(answered) > STOPPED
        });
        let names: Vec<_> = stopped.map(Watch::name).collect();
        Verdict::from_pending((!names.is_empty()).then(|| {
            format!(
                "no answer for {} min to the watches of {}",
                STOPPED.as_secs() / 60,
                names.join(", ")
            )
        }))
    }

    fn ready_at(&self, now: Instant) -> Verdict {
        let state = self.state.lock();
        if state.watches.is_empty() {
            return Verdict::Failing("the API server was not reached yet".to_owned());
        }
        let mut pending: Vec<_> = state
            .watches
            .values()
            // a candidate asks once; from then on the leader's probes tell
            .filter(|watch| state.leads.is_some() || watch.succeeded.is_none())
            .filter_map(|watch| watch.pending(now))
            .collect();
        if state.leads.is_some() && pending.is_empty() {
            let scopes: BTreeSet<_> = state.watches.values().map(|watch| &watch.scope).collect();
            pending.extend(
                scopes
                    .into_iter()
                    .filter(|scope| !state.listed.contains(scope))
                    .map(|scope| match scope {
                        Some(namespace) => {
                            format!(
                                "namespace {namespace}: pipelines and children are not listed yet"
                            )
                        }
                        None => "pipelines and children are not listed yet".to_owned(),
                    }),
            );
        }
        Verdict::from_pending(pending)
    }
}

impl Health for Hearing {
    fn live(&self) -> Verdict {
        self.live_at(Instant::now())
    }

    fn ready(&self) -> Verdict {
        self.ready_at(Instant::now())
    }

    fn status(&self) -> serde_json::Value {
        let state = self.state.lock();
        let now = Instant::now();
        let watches: Vec<_> = state
            .watches
            .values()
            .map(|watch| {
                json!({
                    "resource": watch.resource,
                    "namespace": watch.scope,
                    "secondsSinceSuccess": watch.succeeded.map(|at| now.duration_since(at).as_secs()),
                    "failingWith": watch.failing.map(|(code, _)| code),
                })
            })
            .collect();
        json!({ "leads": state.leads.is_some(), "watches": watches })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    const PODS: &str = "/api/v1/namespaces/a/pods";

    /// Watches of two namespaces, all of which were answered.
    fn hearing() -> Hearing {
        let hearing = Hearing::new().unwrap();
        let scopes = [Some("a".to_owned()), Some("b".to_owned())];
        hearing.expect(&scopes, &Kind::ALL);
        let paths: Vec<_> = hearing.state.lock().watches.keys().cloned().collect();
        for path in paths {
            hearing.answered(&path, Some(200));
        }
        hearing
    }

    fn said(verdict: Verdict) -> String {
        match verdict {
            Verdict::Ok => "ok".to_owned(),
            Verdict::Failing(why) => why,
        }
    }

    fn later(time: Duration) -> Instant {
        Instant::now() + time
    }

    #[test]
    fn a_leader_is_ready_when_every_namespace_is_listed_in_its_own_term() {
        let hearing = hearing();
        let term = hearing.term_begins();
        hearing.listed(Some("a".to_owned()));
        assert_eq!(
            said(hearing.ready()),
            "namespace b: pipelines and children are not listed yet"
        );
        hearing.listed(Some("b".to_owned()));
        assert_eq!(said(hearing.ready()), "ok");
        drop(term);
        let _term = hearing.term_begins();
        assert!(!hearing.ready().is_ok(), "another term, another list");
    }

    #[test]
    fn a_candidate_is_ready_when_it_may_list_everything() {
        let hearing = Hearing::new().unwrap();
        assert!(!hearing.ready().is_ok());
        hearing.expect(&[Some("a".to_owned())], &[]);
        hearing.answered(&ClickstreamPipeline::url_path(&(), Some("a")), Some(200));
        assert_eq!(said(hearing.ready()), "pods in namespace a: not listed yet");
        hearing.answered(PODS, Some(403));
        assert!(!hearing.all_allowed());
        assert_eq!(
            said(hearing.ready()),
            "pods in namespace a: the ServiceAccount may not list and watch them (403)"
        );
        hearing.answered(PODS, Some(200));
        assert!(hearing.all_allowed());
        assert_eq!(said(hearing.ready_at(later(STOPPED * 2))), "ok");
    }

    #[test]
    fn a_watch_that_is_refused_for_longer_than_a_burst_makes_a_leader_unready_until_it_succeeds() {
        let hearing = hearing();
        let _term = hearing.term_begins();
        for scope in ["a", "b"] {
            hearing.listed(Some(scope.to_owned()));
        }
        hearing.answered(PODS, Some(429));
        assert_eq!(said(hearing.ready()), "ok");
        let after_burst = later(BURST + Duration::from_secs(1));
        assert_eq!(
            said(hearing.ready_at(after_burst)),
            "pods in namespace a: the API server answers 429"
        );
        hearing.answered(PODS, None);
        assert_eq!(
            said(hearing.ready_at(after_burst)),
            "pods in namespace a: the API server does not answer"
        );
        hearing.answered(PODS, Some(200));
        assert_eq!(said(hearing.ready_at(after_burst)), "ok");
        assert!(!hearing.ready_at(later(OUTDATED * 2)).is_ok());
    }

    #[test]
    fn a_leader_is_restarted_when_one_watch_has_stopped_and_not_when_it_is_refused() {
        let hearing = hearing();
        let stopped = || later(STOPPED + Duration::from_secs(1));
        assert_eq!(said(hearing.live_at(stopped())), "ok", "it does not lead");
        let term = hearing.term_begins();
        assert_eq!(said(hearing.live()), "ok");
        hearing.state.lock().watches.retain(|path, _| path == PODS);
        assert_eq!(
            said(hearing.live_at(stopped())),
            "no answer for 10 min to the watches of pods in namespace a"
        );
        hearing.state.lock().watches.get_mut(PODS).unwrap().answered =
            Some(later(Duration::from_secs(2)));
        assert_eq!(said(hearing.live_at(stopped())), "ok");
        let long_after = later(STOPPED * 3);
        assert!(!hearing.live_at(long_after).is_ok());
        // another process has taken the Lease
        drop(term);
        assert_eq!(said(hearing.live_at(long_after)), "ok");
    }
}
