//! What is remembered of a pipeline between reconciles. All of it may be lost: it saves requests,
//! and decides nothing that the API or Kafka would not tell again.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{build::inputs::Inputs, secrets::Version, texts::Texts, validate::SecretFacts};
use crate::{
    crd::ClickstreamPipelineStatus,
    stores::is_older,
    topics::{
        Account,
        plan::{Step, TopicFacts},
    },
};

/// A topic as it was found: absent, or with its facts.
pub type Found = Option<TopicFacts>;

/// What was read of Secrets: for which part of the spec, their versions, and what came of it.
pub type SecretsKept = ([u8; 32], Vec<Version>, Arc<SecretFacts>);

/// What Kafka said about topics.
struct Topics {
    at: Instant,
    /// A digest of what it was asked with: the account.
    of: String,
    generation: i64,
    found: HashMap<String, Found>,
}

#[derive(Default)]
struct Memory {
    failures: u32,
    /// With a digest of what it was made from.
    account: Option<(String, Arc<Account>)>,
    secrets: Option<SecretsKept>,
    topics: Option<Topics>,
    sent: HashMap<String, BTreeMap<String, String>>,
    numbers_written: Option<Instant>,
    status: Option<(String, ClickstreamPipelineStatus)>,
    inputs: Option<([u8; 32], Arc<Inputs>)>,
    texts: Arc<Texts>,
    waits: u32,
    unreadable: Option<Instant>,
}

/// The memories of all pipelines, by uid: from the moment the watch tells of one until it tells of
/// its end. What is noted of any other is lost, as by a reconcile that ends after its pipeline.
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

    /// Keeps the pipeline's account at Kafka. `of` is a digest of what it was made from.
    pub fn keep_account(&self, uid: &str, of: String, account: Arc<Account>) {
        // one with other credentials ends outside of the lock
        drop(self.note(uid, |memory| memory.account.replace((of, account))));
    }

    /// The account that was made from this.
    pub fn account(&self, uid: &str, of: &str) -> Option<Arc<Account>> {
        let memories = self.0.lock();
        let (made_of, account) = memories.get(uid)?.account.as_ref()?;
        (made_of == of).then(|| Arc::clone(account))
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

    /// What Kafka said about the topics of this generation, by this account, if that is not longer
    /// ago than `fresh`.
    pub fn topics(
        &self,
        uid: &str,
        generation: i64,
        of: &str,
        fresh: Duration,
    ) -> Option<HashMap<String, Found>> {
        let memories = self.0.lock();
        let topics = memories.get(uid)?.topics.as_ref()?;
        let is_of_this = topics.generation == generation && topics.of == of;
        (is_of_this && topics.at.elapsed() < fresh).then(|| topics.found.clone())
    }

    /// Keeps what Kafka said just now.
    pub fn keep_topics(
        &self,
        uid: &str,
        generation: i64,
        of: String,
        found: HashMap<String, Found>,
    ) {
        let topics = Topics {
            at: Instant::now(),
            of,
            generation,
            found,
        };
        self.note(uid, |memory| memory.topics = Some(topics));
    }

    /// What Kafka said about the topics no longer holds.
    pub fn forget_topics(&self, uid: &str) {
        self.note(uid, |memory| memory.topics = None);
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

    /// The status that was written last and the version that it made, unless the watch has told of
    /// it: a reconcile that follows at once would otherwise not know what the one before has found
    /// out.
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

    /// Somebody wants to know how it is now: Kafka is asked again, by another connection, Secrets
    /// are read, and numbers are written at once.
    pub fn look_anew(&self, uid: &str) {
        let before = self.note(uid, |memory| {
            memory.topics = None;
            memory.secrets = None;
            memory.numbers_written = None;
            memory.waits = 0;
            memory.account.take()
        });
        // it ends outside of the lock
        drop(before);
    }

    /// What people say about pods, where this is its digest, once that was worked out.
    pub fn inputs(
        &self,
        uid: &str,
        of: [u8; 32],
        work_out: impl FnOnce() -> Inputs,
    ) -> Arc<Inputs> {
        let known = self.note(uid, |memory| memory.inputs.clone()).flatten();
        match known {
            Some((known, inputs)) if known == of => inputs,
            _ => {
                let inputs = Arc::new(work_out());
                self.note(uid, |memory| {
                    memory.inputs = Some((of, Arc::clone(&inputs)));
                });
                inputs
            }
        }
    }

    /// The texts that were made for the pipeline.
    pub fn texts(&self, uid: &str) -> Arc<Texts> {
        let texts = self.note(uid, |memory| Arc::clone(&memory.texts));
        texts.unwrap_or_default()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    #[test]
    fn nothing_is_kept_of_a_pipeline_that_is_gone_or_was_never_there() {
        let memories = Memories::default();
        let account = Arc::new(Account::default());
        memories.seen("a");
        memories.keep_account("a", "1".to_owned(), Arc::clone(&account));
        assert_eq!(Arc::strong_count(&account), 2);
        memories.forget("a");
        // a reconcile that ends after its pipeline
        memories.keep_account("a", "1".to_owned(), Arc::clone(&account));
        memories.keep_status("a", "7".to_owned(), ClickstreamPipelineStatus::default());
        assert_eq!((memories.failed("a"), memories.waited("a", true)), (1, 1));
        assert!(!memories.knows("a") && memories.newer_status("a", "1").is_none());
        assert_eq!(Arc::strong_count(&account), 1);
    }

    #[test]
    fn a_look_at_the_present_state_signs_in_again() {
        let memories = Memories::default();
        let account = Arc::new(Account::default());
        memories.seen("a");
        memories.keep_account("a", "1".to_owned(), Arc::clone(&account));
        assert!(memories.account("a", "1").is_some() && memories.account("a", "2").is_none());
        memories.look_anew("a");
        assert!(memories.account("a", "1").is_none());
        assert_eq!(Arc::strong_count(&account), 1);
    }

    #[test]
    fn what_is_said_of_pods_is_worked_out_once_for_each_spec() {
        let memories = Memories::default();
        memories.seen("a");
        let times = std::cell::Cell::new(0);
        let look = |of: u8| {
            memories.inputs("a", [of; 32], || {
                times.set(times.get() + 1);
                Inputs {
                    processors: Vec::new(),
                    producer: Some(of.to_string()),
                }
            })
        };
        for (of, worked_out) in [(1, 1), (1, 1), (2, 2), (2, 2), (1, 3)] {
            assert_eq!(look(of).producer, Some(of.to_string()));
            assert_eq!(times.get(), worked_out, "{of}");
        }
    }

    #[test]
    fn those_that_a_list_no_longer_has_are_told() {
        let memories = Memories::default();
        memories.seen("a");
        memories.seen("b");
        assert_eq!(memories.others(&HashSet::from(["b".to_owned()])), ["a"]);
    }

    #[test]
    fn what_kafka_said_holds_for_one_generation_and_account_and_for_a_while() {
        let memories = Memories::default();
        memories.seen("a");
        let minute = Duration::from_secs(60);
        memories.keep_topics("a", 7, "1".to_owned(), HashMap::new());
        assert!(memories.topics("a", 7, "1", minute).is_some());
        assert!(memories.topics("a", 8, "1", minute).is_none());
        assert!(memories.topics("a", 7, "2", minute).is_none());
        assert!(memories.topics("a", 7, "1", Duration::ZERO).is_none());
        memories.forget_topics("a");
        assert!(memories.topics("a", 7, "1", minute).is_none());
    }
}
