//! What is remembered of a pipeline between reconciles. All of it may be lost: it saves requests, and decides nothing that the
//! API or Kafka would not tell again.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{secrets::Version, validate::SecretFacts};
use crate::{
    crd::ClickstreamPipelineStatus,
    topics::{
        TopicAdmin,
        plan::{Step, TopicFacts},
    },
};

/// What Kafka said about a topic is taken for true for this long, unless the spec changes.
const TOPICS_FRESH: Duration = Duration::from_secs(25);

/// A connection to Kafka that its pipeline has not used for this long is closed.
const ADMIN_IDLE: Duration = Duration::from_secs(60);

/// A topic as it was found: absent, or with its facts.
pub type Found = Option<TopicFacts>;

/// What was read of Secrets: for which part of the spec, their versions, and what came of it.
pub type SecretsKept = ([u8; 32], Vec<Version>, Arc<SecretFacts>);

struct Admin {
    /// A digest of what it was made from.
    of: String,
    connection: Arc<TopicAdmin>,
    used: Instant,
}

#[derive(Default)]
struct Memory {
    failures: u32,
    admin: Option<Admin>,
    secrets: Option<SecretsKept>,
    topics: Option<(Instant, i64, HashMap<String, Found>)>,
    sent: HashMap<String, BTreeMap<String, String>>,
    numbers_written: Option<Instant>,
    status: Option<(String, ClickstreamPipelineStatus)>,
    accepted: Option<([u8; 32], String)>,
    waits: u32,
    unreadable: Option<Instant>,
}

/// The memories of all pipelines, by uid: from the moment the watch tells of one until it tells of its end. What is noted of any
/// other is lost, as by a reconcile that ends after its pipeline.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<String, Memory>>);

impl Memories {
    /// The pipeline is there.
    pub fn seen(&self, uid: &str) {
        let mut memories = self.0.lock();
        if !memories.contains_key(uid) {
            memories.insert(uid.to_owned(), Memory::default());
        }
    }

    /// Whether the pipeline is there.
    pub fn knows(&self, uid: &str) -> bool {
        self.0.lock().contains_key(uid)
    }

    /// How many pipelines there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.0.lock().len()).unwrap_or(u32::MAX)
    }

    /// All that are remembered and are not among these.
    pub fn others(&self, there: &HashSet<String>) -> Vec<String> {
        let memories = self.0.lock();
        let others = memories.keys().filter(|uid| !there.contains(*uid));
        others.cloned().collect()
    }

    fn note<R>(&self, uid: &str, note: impl FnOnce(&mut Memory) -> R) -> Option<R> {
        self.0.lock().get_mut(uid).map(note)
    }

    /// Counts a failure in a row.
    pub fn failed(&self, uid: &str) -> u32 {
        let failures = self.note(uid, |memory| {
            memory.failures += 1;
            memory.failures
        });
        failures.unwrap_or(1)
    }

    /// Ends a row of failures.
    pub fn succeeded(&self, uid: &str) {
        self.note(uid, |memory| memory.failures = 0);
    }

    /// Keeps a connection to Kafka open for as long as its pipeline lives and uses it. `of` says what it was made from. One that could
    /// not be made is not kept: what it lacked may be there the next time.
    pub fn keep_admin(&self, uid: &str, of: String, connection: &Arc<TopicAdmin>) {
        let kept = Admin {
            of,
            connection: Arc::clone(connection),
            used: Instant::now(),
        };
        // one with other credentials ends outside of the lock
        drop(self.note(uid, |memory| memory.admin.replace(kept)));
    }

    /// The connection that was made from this, if it is still there.
    pub fn admin(&self, uid: &str, of: &str) -> Option<Arc<TopicAdmin>> {
        let known = self.note(uid, |memory| {
            let known = memory.admin.as_mut().filter(|known| known.of == of)?;
            known.used = Instant::now();
            Some(Arc::clone(&known.connection))
        });
        known.flatten()
    }

    /// What was read of Secrets for this part of the spec, if they are still of these versions.
    pub fn secrets(
        &self,
        uid: &str,
        of: &[u8; 32],
        versions: &[Version],
    ) -> Option<Arc<SecretFacts>> {
        let memories = self.0.lock();
        let (before, read, facts) = memories.get(uid)?.secrets.as_ref()?;
        (before == of && read == versions).then(|| Arc::clone(facts))
    }

    /// Keeps what was read of Secrets just now. What was waited for may have come with it.
    pub fn keep_secrets(&self, uid: &str, kept: SecretsKept) {
        self.note(uid, |memory| {
            memory.secrets = Some(kept);
            memory.waits = 0;
        });
    }

    /// Closes connections that were not used for a while, as those of pipelines whose spec is refused.
    pub fn close_idle(&self) {
        let mut idle = Vec::new();
        for memory in self.0.lock().values_mut() {
            let is_idle = |admin: &mut Admin| admin.used.elapsed() > ADMIN_IDLE;
            idle.extend(memory.admin.take_if(is_idle));
        }
    }

    /// What Kafka said a moment ago about the topics of this generation.
    pub fn topics(&self, uid: &str, generation: i64) -> Option<HashMap<String, Found>> {
        let memories = self.0.lock();
        let (at, of, topics) = memories.get(uid)?.topics.as_ref()?;
        (*of == generation && at.elapsed() < TOPICS_FRESH).then(|| topics.clone())
    }

    /// Keeps what Kafka said; `None`: what it said no longer holds.
    pub fn keep_topics(&self, uid: &str, generation: i64, topics: Option<HashMap<String, Found>>) {
        let topics = topics.map(|topics| (Instant::now(), generation, topics));
        self.note(uid, |memory| memory.topics = topics);
    }

    /// Keeps what was sent as settings of a topic.
    pub fn keep_sent(&self, uid: &str, topic: &str, step: &Step) {
        self.note(uid, |memory| {
            let sent = memory.sent.entry(topic.to_owned()).or_default();
            match step {
                Step::Create { config, .. } => sent.clone_from(config),
                Step::AddPartitions { .. } => {}
                Step::ChangeConfig(changes) => {
                    for change in changes {
                        match &change.value {
                            Some(value) => sent.insert(change.key.clone(), value.clone()),
                            None => sent.remove(&change.key),
                        };
                    }
                }
            }
        });
    }

    /// What was sent last as settings of a topic.
    pub fn sent(&self, uid: &str, topic: &str) -> BTreeMap<String, String> {
        let memories = self.0.lock();
        let sent = memories
            .get(uid)
            .and_then(|memory| memory.sent.get(topic).cloned());
        sent.unwrap_or_default()
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
        self.note(uid, |memory| memory.numbers_written = Some(Instant::now()));
    }

    /// Keeps the status that was written, and the version of the resource that it made.
    pub fn keep_status(&self, uid: &str, version: String, status: ClickstreamPipelineStatus) {
        self.note(uid, |memory| memory.status = Some((version, status)));
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
        self.note(uid, |memory| memory.status = None);
    }

    /// Somebody wants to know how it is now: Kafka is asked again, by another connection, Secrets are read, and numbers are written
    /// at once.
    pub fn look_anew(&self, uid: &str) {
        let before = self.note(uid, |memory| {
            memory.topics = None;
            memory.secrets = None;
            memory.numbers_written = None;
            memory.waits = 0;
            memory.admin.take()
        });
        // it ends outside of the lock
        drop(before);
    }

    /// What the status says about the spec with this digest, once that was made.
    pub fn accepted(&self, uid: &str, spec: [u8; 32], make: impl FnOnce() -> String) -> String {
        let known = self.note(uid, |memory| memory.accepted.clone()).flatten();
        match known {
            Some((of, text)) if of == spec => text,
            _ => {
                let text = make();
                self.note(uid, |memory| memory.accepted = Some((spec, text.clone())));
                text
            }
        }
    }

    /// Counts reconciles in a row that have ended waiting.
    pub fn waited(&self, uid: &str, waiting: bool) -> u32 {
        let waits = self.note(uid, |memory| {
            memory.waits = if waiting { memory.waits + 1 } else { 0 };
            memory.waits
        });
        waits.unwrap_or_else(|| u32::from(waiting))
    }

    /// For how long the resource has been found on its way out and unreadable.
    pub fn unreadable_for(&self, uid: &str) -> Duration {
        let since = self.note(uid, |memory| {
            *memory.unreadable.get_or_insert_with(Instant::now)
        });
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The pipeline is gone.
    pub fn forget(&self, uid: &str) {
        let gone = self.0.lock().remove(uid);
        // with its connection, outside of the lock
        drop(gone);
    }
}

/// Whether a version is older than another. Versions are opaque, but every API server counts, and a wrong guess costs one
/// request.
pub fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn admin() -> Arc<TopicAdmin> {
        let servers = ("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned());
        Arc::new(TopicAdmin::new(&[servers]).unwrap())
    }

    #[test]
    fn nothing_is_kept_of_a_pipeline_that_is_gone_or_was_never_there() {
        let memories = Memories::default();
        let admin = admin();
        memories.seen("a");
        memories.keep_admin("a", "1".to_owned(), &admin);
        assert_eq!(Arc::strong_count(&admin), 2);
        memories.forget("a");
        // a reconcile that ends after its pipeline
        memories.keep_admin("a", "1".to_owned(), &admin);
        memories.keep_status("a", "7".to_owned(), ClickstreamPipelineStatus::default());
        assert_eq!((memories.failed("a"), memories.waited("a", true)), (1, 1));
        assert!(!memories.knows("a") && memories.newer_status("a", "1").is_none());
        assert_eq!(Arc::strong_count(&admin), 1);
    }

    #[test]
    fn whoever_wants_to_know_how_it_is_now_gets_another_connection() {
        let memories = Memories::default();
        let admin = admin();
        memories.seen("a");
        memories.keep_admin("a", "1".to_owned(), &admin);
        assert!(memories.admin("a", "1").is_some() && memories.admin("a", "2").is_none());
        memories.look_anew("a");
        assert!(memories.admin("a", "1").is_none());
        assert_eq!(Arc::strong_count(&admin), 1);
    }

    #[test]
    fn those_that_a_list_no_longer_has_are_told() {
        let memories = Memories::default();
        memories.seen("a");
        memories.seen("b");
        assert_eq!(memories.others(&HashSet::from(["b".to_owned()])), ["a"]);
    }

    #[test]
    fn a_connection_that_is_used_is_not_idle() {
        let memories = Memories::default();
        let admin = admin();
        memories.seen("a");
        memories.keep_admin("a", "1".to_owned(), &admin);
        memories.close_idle();
        assert_eq!(Arc::strong_count(&admin), 2);
        memories.note("a", |memory| {
            memory.admin.as_mut().unwrap().used -= ADMIN_IDLE + Duration::from_secs(1);
        });
        memories.close_idle();
        assert_eq!(Arc::strong_count(&admin), 1);
    }
}
