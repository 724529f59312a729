//! Rules that change while the process runs: its document is read again once a second, and where
//! nothing but its rules is new they are followed from the next flush on.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use clickstream_pipeline::spec::{ClickstreamPipeline, SemanticSpec};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    document::Document,
    metrics::RulesMetrics,
    shared::{ColumnLook, Shared},
};

/// How often. A kubelet brings a ConfigMap that has changed within about a minute.
const EVERY: Duration = Duration::from_secs(1);

/// Follows the rules of a document.
pub struct Follower {
    /// As it is in force.
    document: Document,
    shared: Arc<Shared>,
    metrics: RulesMetrics,
    /// Another text that was read a moment ago: perhaps it is only half written.
    candidate: Option<String>,
    /// A text that cannot be followed, and the reason that was given.
    refused: Option<(String, String)>,
    /// Whether it may be followed once the target's tables have its columns.
    waits: bool,
}

/// Why a document is not followed.
enum Unfollowed {
    /// For as long as it says what it says.
    Refused(String),
    /// Its columns are not there yet.
    Waits(String),
    /// It is not known yet whether its columns are there.
    Looked,
}

impl Follower {
    /// A follower of a document whose rules are in force.
    pub fn new(document: Document, shared: Arc<Shared>, metrics: RulesMetrics) -> Self {
        Self {
            document,
            shared,
            metrics,
            candidate: None,
            refused: None,
            waits: false,
        }
    }

    /// Looks at the document until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let path = self.document.path.clone();
            // a file may be on a volume that hangs
            let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path));
            let read = tokio::select! {
                () = stop.cancelled() => return,
                read = read => read,
            };
            match read {
                Ok(read) => self.look(read),
                Err(error) => warn!(%error, "the document was not read"),
            }
        }
    }

    /// What follows from a look at the file.
    fn look(&mut self, read: std::io::Result<String>) {
        let text = match read {
            Ok(text) => text,
            Err(error) => {
                let said = format!("cannot be read: {error}");
                return self.refuse(said.clone(), &said);
            }
        };
        if text == self.document.text {
            self.candidate = None;
            if self.refused.take().is_some() {
                info!("the document is the one again that is followed");
                self.metrics.not_followed.set(0);
            }
            return;
        }
        let is_refused = self.refused.as_ref().is_some_and(|(of, _)| *of == text);
        if is_refused && !self.waits {
            return;
        }
        // a text is followed when two looks have found it: the beginning of one that is being
        // written is a document, too
        if !is_refused && self.candidate.as_ref() != Some(&text) {
            self.candidate = Some(text);
            return;
        }
        match self.follow(&text) {
            Ok(()) => {
                self.candidate = None;
                self.refused = None;
                self.metrics.not_followed.set(0);
            }
            // it stays the candidate: the next look finds more
            Err(Unfollowed::Looked) => {}
            Err(Unfollowed::Waits(why)) => {
                self.refuse(text, &why);
                self.waits = true;
            }
            Err(Unfollowed::Refused(why)) => self.refuse(text, &why),
        }
    }

    fn refuse(&mut self, what: String, why: &str) {
        self.candidate = None;
        self.waits = false;
        self.metrics.not_followed.set(1);
        let refused = Some((what, why.to_owned()));
        if self.refused != refused {
            warn!(
                document = %self.document.path.display(),
                reason = why,
                "the document has changed and is not followed; the rules stay as they are"
            );
            self.refused = refused;
        }
    }

    /// Whether the target's tables have the columns of these rules. The writer looks, on the
    /// session that would write them.
    fn find_columns(&self, rules: &SemanticSpec) -> Result<(), Unfollowed> {
        let wanted = &rules.events.columns;
        let now = self.document.pipeline.semantic().events.columns;
        if wanted.iter().all(|column| now.contains(column)) {
            return Ok(());
        }
        let found = self.shared.with(|state| {
            let look = state.columns.as_ref();
            if let Some(look) = look.filter(|look| look.wanted == *wanted) {
                return look.found.clone();
            }
            state.columns = Some(ColumnLook {
                wanted: wanted.clone(),
                found: None,
            });
            None
        });
        match found {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => Err(Unfollowed::Waits(why)),
            None => Err(Unfollowed::Looked),
        }
    }

    fn follow(&mut self, text: &str) -> Result<(), Unfollowed> {
        let document = Document::parse(&self.document.path, text.to_owned())
            .map_err(|error| Unfollowed::Refused(format!("{error:#}")))?;
        let (before, now) = (&self.document.pipeline, &document.pipeline);
        let beside = differing(&before.without_rules(), &now.without_rules());
        if !beside.is_empty() {
            let fields = beside.join(", ");
            return Err(Unfollowed::Refused(format!(
                "{fields}: takes effect with the next start"
            )));
        }
        let fields = differing(before, now).join(", ");
        let rules = now.semantic();
        self.find_columns(&rules)?;
        let changed = self
            .shared
            .with(|state| state.engine.change_rules(&rules))
            .map_err(|error| Unfollowed::Refused(error.to_string()))?;
        self.shared.with(|state| state.columns = None);
        if changed {
            self.metrics.changes.inc();
            let rules = rules.short_hash();
            info!(
                fields,
                rules, "the rules have changed; they are followed from the next flush on"
            );
        }
        self.document = document;
        Ok(())
    }
}

/// The fields in which two documents differ.
fn differing(one: &ClickstreamPipeline, other: &ClickstreamPipeline) -> Vec<String> {
    let mut fields = Vec::new();
    if one != other {
        compare(&json!(one), &json!(other), "", &mut fields);
    }
    fields
}

fn compare(one: &Value, other: &Value, path: &str, fields: &mut Vec<String>) {
    let (Value::Object(left), Value::Object(right)) = (one, other) else {
        if one != other {
            fields.push(path.to_owned());
        }
        return;
    };
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    for name in names {
        let below = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        compare(&one[name], &other[name], &below, fields);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use clickstream_pipeline::{engine::Engine, spec::LatePolicy};

    use super::*;
    use crate::shared::BufferLimits;

    const MINIMAL: &str = "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: { name: shop }
spec:
  kafka: { bootstrapServers: 'kafka:9092' }
  targets: [{ connection: { host: pg, database: d, user: u } }]
";

    fn follower() -> Follower {
        let document = Document::parse("pipeline.yaml".as_ref(), MINIMAL.to_owned()).unwrap();
        let engine = Engine::new(&document.pipeline.semantic(), 0, 1);
        let limits = BufferLimits { rows: 1, bytes: 1 };
        let shared = Arc::new(Shared::new(engine, limits));
        Follower::new(document, shared, RulesMetrics::new().unwrap())
    }

    impl Follower {
        /// Finds this text in two looks.
        fn finds(&mut self, text: &str) {
            self.look(Ok(text.to_owned()));
            self.look(Ok(text.to_owned()));
        }

        /// Why this text is not followed.
        fn why(&mut self, text: &str) -> String {
            match self.follow(text) {
                Err(Unfollowed::Refused(why) | Unfollowed::Waits(why)) => why,
                Err(Unfollowed::Looked) => "looked".to_owned(),
                Ok(()) => "followed".to_owned(),
            }
        }

        /// What the writer finds of the columns that are asked for.
        fn found(&self, found: Result<(), String>) {
            let look = |state: &mut crate::shared::State| {
                state.columns.as_mut().unwrap().found = Some(found)
            };
            self.shared.with(look);
        }

        fn columns(&self) -> usize {
            self.shared
                .with(|state| state.engine.rules().events.columns.len())
        }

        fn policy(&self) -> LatePolicy {
            self.shared.with(|state| state.engine.rules().late_policy)
        }

        fn counts(&self) -> (u64, i64) {
            (self.metrics.changes.get(), self.metrics.not_followed.get())
        }
    }

    #[test]
    fn rules_are_followed_once_two_looks_have_found_them() {
        let mut follower = follower();
        let drop = format!("{MINIMAL}  lateEvents: {{ policy: Drop }}\n");
        follower.look(Ok(drop.clone()));
        assert_eq!(follower.policy(), LatePolicy::Merge);
        follower.look(Ok(drop.clone()));
        assert_eq!(follower.policy(), LatePolicy::Drop);
        follower.finds(&drop);
        assert_eq!(follower.counts(), (1, 0));
    }

    #[test]
    fn a_text_that_says_the_same_in_other_words_changes_nothing() {
        let mut follower = follower();
        follower.finds(&format!("{MINIMAL}  watermark: {{ delay: 10s }}\n"));
        assert_eq!(follower.counts(), (0, 0));
    }

    #[test]
    fn what_takes_a_restart_is_said_and_no_half_of_the_document_is_followed() {
        let mut follower = follower();
        let more = "  lateEvents: { policy: Drop }\n  window: { size: 5m }\n";
        follower.finds(&format!("{MINIMAL}{more}"));
        assert_eq!(follower.policy(), LatePolicy::Merge);
        assert_eq!(follower.counts(), (0, 1));
        let other = follower.why(&format!("{MINIMAL}{more}"));
        assert_eq!(other, "spec.window.size: takes effect with the next start");
        follower.look(Ok(MINIMAL.to_owned()));
        assert_eq!(follower.counts(), (0, 0));
    }

    #[test]
    fn a_document_that_is_gone_or_not_valid_leaves_the_rules_as_they_are() {
        let mut follower = follower();
        follower.look(Err(std::io::ErrorKind::NotFound.into()));
        assert_eq!(follower.counts(), (0, 1));
        let invalid = format!("{MINIMAL}  watermark: {{ delay: 100h }}\n");
        follower.finds(&invalid);
        assert_eq!(follower.counts(), (0, 1));
        let why = follower.why(&invalid);
        assert!(why.contains("spec.watermark.delay"), "{why}");
        follower.finds(&format!("{MINIMAL}  watermark: {{ delay: 1s }}\n"));
        assert_eq!(follower.counts(), (1, 0));
    }

    const PROMOTING: &str = "  events: { columns: [{ name: plan, pointer: /plan, type: Text }] }\n";

    #[test]
    fn rules_with_columns_wait_until_the_tables_have_them() {
        let mut follower = follower();
        let text = format!("{MINIMAL}{PROMOTING}");
        follower.finds(&text);
        // the writer has not looked yet: nothing is said so far
        assert_eq!((follower.columns(), follower.counts()), (0, (0, 0)));
        follower.found(Err("there is no column".to_owned()));
        follower.look(Ok(text.clone()));
        assert_eq!((follower.columns(), follower.counts()), (0, (0, 1)));
        follower.look(Ok(text.clone()));
        assert_eq!((follower.columns(), follower.counts()), (0, (0, 1)));
        follower.found(Ok(()));
        follower.look(Ok(text.clone()));
        assert_eq!((follower.columns(), follower.counts()), (1, (1, 0)));
        // fewer columns need none
        follower.finds(MINIMAL);
        assert_eq!((follower.columns(), follower.counts()), (0, (2, 0)));
    }

    #[test]
    fn a_document_without_the_columns_that_are_waited_for_is_followed_at_once() {
        let mut follower = follower();
        follower.finds(&format!("{MINIMAL}{PROMOTING}"));
        follower.found(Err("there is no column".to_owned()));
        follower.look(Ok(format!("{MINIMAL}{PROMOTING}")));
        assert_eq!(follower.counts(), (0, 1));
        follower.finds(&format!("{MINIMAL}  lateEvents: {{ policy: Drop }}\n"));
        assert_eq!(follower.counts(), (1, 0));
        assert_eq!(follower.policy(), LatePolicy::Drop);
    }
}
