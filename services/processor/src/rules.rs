//! Rules that change while the process runs: its document is read again once a second, and where nothing but its rules is
//! new they are followed from the next flush on.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use clickstream_pipeline::spec::ClickstreamPipeline;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{document::Document, metrics::RulesMetrics, shared::Shared};

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
    /// A text that cannot be followed, for which a reason was given.
    refused: Option<String>,
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
        if self.refused.as_ref() == Some(&text) {
            return;
        }
        // a text is followed when two looks have found it: the beginning of one that is being written is a document, too
        if self.candidate.as_ref() != Some(&text) {
            self.candidate = Some(text);
            return;
        }
        self.candidate = None;
        match self.follow(&text) {
            Ok(()) => {
                self.refused = None;
                self.metrics.not_followed.set(0);
            }
            Err(why) => self.refuse(text, &why),
        }
    }

    fn refuse(&mut self, what: String, why: &str) {
        self.metrics.not_followed.set(1);
        if self.refused.as_ref() != Some(&what) {
            warn!(
                document = %self.document.path.display(),
                reason = why,
                "the document has changed and is not followed; the rules stay as they are"
            );
            self.refused = Some(what);
        }
    }

    fn follow(&mut self, text: &str) -> Result<(), String> {
        let document = Document::parse(&self.document.path, text.to_owned())
            .map_err(|error| format!("{error:#}"))?;
        let (before, now) = (&self.document.pipeline, &document.pipeline);
        let beside = differing(&before.without_rules(), &now.without_rules());
        if !beside.is_empty() {
            let fields = beside.join(", ");
            return Err(format!("{fields}: takes effect with the next start"));
        }
        let fields = differing(before, now).join(", ");
        let rules = now.semantic();
        let changed = self
            .shared
            .with(|state| state.engine.change_rules(&rules))
            .map_err(|error| error.to_string())?;
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
        let other = follower.follow(&format!("{MINIMAL}{more}")).unwrap_err();
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
        let why = follower.follow(&invalid).unwrap_err();
        assert!(why.contains("spec.watermark.delay"), "{why}");
        follower.finds(&format!("{MINIMAL}  watermark: {{ delay: 1s }}\n"));
        assert_eq!(follower.counts(), (1, 0));
    }
}
