//! What is remembered of a pipeline between reconciles. All of it may be lost: it saves requests, and decides nothing that the
//! API or Kafka would not tell again.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use clickstream_pipeline::spec::PipelineSpec;
use parking_lot::Mutex;

use super::apply::is_older;
use crate::{
    crd::ClickstreamPipelineStatus,
    topics::{TopicAdmin, plan::TopicFacts},
};

/// What Kafka said about a topic is taken for true for this long, unless the spec changes.
const TOPICS_FRESH: Duration = Duration::from_secs(25);

/// A topic as it was found: absent, or with its facts.
pub type Found = Option<TopicFacts>;

#[derive(Default)]
struct Memory {
    failures: u32,
    admin: Option<Arc<TopicAdmin>>,
    topics: Option<(Instant, i64, HashMap<String, Found>)>,
    numbers_written: Option<Instant>,
    status: Option<(String, ClickstreamPipelineStatus)>,
    accepted: Option<PipelineSpec>,
    waits: u32,
}

/// The memories of all pipelines, by uid.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<String, Memory>>);

impl Memories {
    /// Counts a failure in a row.
    pub fn failed(&self, uid: &str) -> u32 {
        let mut memories = self.0.lock();
        let memory = memories.entry(uid.to_owned()).or_default();
        memory.failures += 1;
        memory.failures
    }

    /// Ends a row of failures.
    pub fn succeeded(&self, uid: &str) {
        if let Some(memory) = self.0.lock().get_mut(uid) {
            memory.failures = 0;
        }
    }

    /// Keeps a connection to Kafka open for as long as its pipeline lives.
    pub fn keep_admin(&self, uid: &str, admin: &Arc<TopicAdmin>) {
        self.0.lock().entry(uid.to_owned()).or_default().admin = Some(Arc::clone(admin));
    }

    /// What Kafka said a moment ago about the topics of this generation.
    pub fn topics(&self, uid: &str, generation: i64) -> Option<HashMap<String, Found>> {
        let memories = self.0.lock();
        let (at, of, topics) = memories.get(uid)?.topics.as_ref()?;
        (*of == generation && at.elapsed() < TOPICS_FRESH).then(|| topics.clone())
    }

    /// Keeps what Kafka said; `None`: what it said no longer holds.
    pub fn keep_topics(&self, uid: &str, generation: i64, topics: Option<HashMap<String, Found>>) {
        self.0.lock().entry(uid.to_owned()).or_default().topics =
            topics.map(|topics| (Instant::now(), generation, topics));
    }

    /// Whether numbers were not written for this long; then they are, now.
    pub fn numbers_due(&self, uid: &str, pause: Duration) -> bool {
        self.0
            .lock()
            .get(uid)
            .and_then(|memory| memory.numbers_written)
            .is_none_or(|at| at.elapsed() >= pause)
    }

    /// Numbers were written now.
    pub fn numbers_written(&self, uid: &str) {
        self.0
            .lock()
            .entry(uid.to_owned())
            .or_default()
            .numbers_written = Some(Instant::now());
    }

    /// Keeps the status that was written, and the version of the resource that it made.
    pub fn keep_status(&self, uid: &str, version: String, status: ClickstreamPipelineStatus) {
        self.0.lock().entry(uid.to_owned()).or_default().status = Some((version, status));
    }

    /// The status that was written last and the version that it made, unless the watch has told of it: a reconcile that
    /// follows at once would otherwise not know what the one before has found out.
    pub fn newer_status(
        &self,
        uid: &str,
        version: &str,
    ) -> Option<(String, ClickstreamPipelineStatus)> {
        let memories = self.0.lock();
        let known = memories.get(uid)?.status.as_ref()?;
        is_older(version, &known.0).then(|| known.clone())
    }

    /// The watch has told of what was written.
    pub fn forget_status(&self, uid: &str) {
        if let Some(memory) = self.0.lock().get_mut(uid) {
            memory.status = None;
        }
    }

    /// Somebody wants to know how it is now: Kafka is asked again, and numbers are written at once.
    pub fn look_anew(&self, uid: &str) {
        if let Some(memory) = self.0.lock().get_mut(uid) {
            memory.topics = None;
            memory.numbers_written = None;
            memory.waits = 0;
        }
    }

    /// Keeps the spec that is followed now, for the time when another one is refused.
    pub fn keep_accepted(&self, uid: &str, spec: &PipelineSpec) {
        let mut memories = self.0.lock();
        let memory = memories.entry(uid.to_owned()).or_default();
        if memory.accepted.as_ref() != Some(spec) {
            memory.accepted = Some(spec.clone());
        }
    }

    /// The spec that was followed last.
    pub fn accepted(&self, uid: &str) -> Option<PipelineSpec> {
        self.0.lock().get(uid)?.accepted.clone()
    }

    /// Counts reconciles in a row that have ended waiting.
    pub fn waited(&self, uid: &str, waiting: bool) -> u32 {
        let mut memories = self.0.lock();
        let memory = memories.entry(uid.to_owned()).or_default();
        memory.waits = if waiting { memory.waits + 1 } else { 0 };
        memory.waits
    }

    /// The pipeline is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}
