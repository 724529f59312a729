//! Rules as the part of a document that may change while processors run, and how a set of them is
//! named.

use std::fmt::Write as _;

use serde_yaml::Value;
use sha2::{Digest, Sha256};

use super::{
    ClickstreamPipeline, EventsSpec, LateEventsSpec, ProcessorSpec, SemanticSpec, WatermarkSpec,
};

/// The fields of a spec that are rules.
const RULES: [&[&str]; 5] = [
    &["watermark", "delay"],
    &["watermark", "maxFutureSkew"],
    &["lateEvents"],
    &["events"],
    &["processor", "maxEventBytes"],
];

/// A document's minimal text as it would be without its rules; costs less than to make it from the
/// document once more.
#[must_use]
pub fn text_without_rules(minimal: &str) -> String {
    let mut document: Value = serde_yaml::from_str(minimal).unwrap_or_default();
    if let Some(spec) = document.get_mut("spec") {
        for path in RULES {
            leave_out(spec, path);
        }
    }
    serde_yaml::to_string(&document).expect("a document that was read can be written")
}

/// Leaves a field out, and what held nothing else.
fn leave_out(value: &mut Value, path: &[&str]) {
    let Some((name, below)) = path.split_first() else {
        return;
    };
    let Some(fields) = value.as_mapping_mut() else {
        return;
    };
    let inner = fields.get_mut(*name).filter(|_| !below.is_empty());
    if let Some(inner) = inner {
        leave_out(inner, below);
        if inner.as_mapping().is_some_and(|left| !left.is_empty()) {
            return;
        }
    } else if !below.is_empty() {
        return;
    }
    fields.shift_remove(*name);
}

impl ClickstreamPipeline {
    /// The document with default rules: two documents that differ in nothing else are the same
    /// without them. The size of the windows decides verdicts as well, and stays: stored hits could
    /// not be counted in windows of another size.
    #[must_use]
    pub fn without_rules(&self) -> Self {
        let mut document = self.clone();
        let spec = &mut document.spec;
        let watermark = WatermarkSpec::default();
        spec.watermark.delay = watermark.delay;
        spec.watermark.max_future_skew = watermark.max_future_skew;
        spec.late_events = LateEventsSpec::default();
        spec.events = EventsSpec::default();
        spec.processor.max_event_bytes = ProcessorSpec::default().max_event_bytes;
        document
    }
}

impl SemanticSpec {
    /// A short name for these rules, the same wherever they are in force: 12 hexadecimal digits of
    /// a hash of them.
    #[must_use]
    pub fn short_hash(&self) -> String {
        let text = serde_json::to_string(self).expect("rules that were read can be written");
        let digest = Sha256::digest(text);
        digest[..6].iter().fold(String::new(), |mut name, byte| {
            let _ = write!(name, "{byte:02x}");
            name
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn without_its_rules_a_document_decides_verdicts_as_one_that_says_nothing_of_them() {
        let full = ClickstreamPipeline::from_yaml(include_str!("tests/full.yaml")).unwrap();
        let unsaid = SemanticSpec {
            window_micros: full.semantic().window_micros,
            ..SemanticSpec::default()
        };
        assert_ne!(full.semantic(), unsaid);
        let without = full.without_rules();
        assert_eq!(without.semantic(), unsaid);
        assert_eq!(without.validate(), Ok(()));
        assert_eq!(without, without.without_rules());
    }

    #[test]
    fn everything_but_the_rules_stays_in_the_document() {
        let full = ClickstreamPipeline::from_yaml(include_str!("tests/full.yaml")).unwrap();
        let mut back = full.without_rules();
        back.spec.watermark.delay = full.spec.watermark.delay;
        back.spec.watermark.max_future_skew = full.spec.watermark.max_future_skew;
        back.spec.late_events = full.spec.late_events.clone();
        back.spec.events = full.spec.events.clone();
        back.spec.processor.max_event_bytes = full.spec.processor.max_event_bytes;
        assert_eq!(back, full);
    }

    #[test]
    fn a_text_without_rules_is_that_of_the_document_without_them() {
        let full = ClickstreamPipeline::from_yaml(include_str!("tests/full.yaml")).unwrap();
        let minimal = full.without_rules();
        let mut some = full.clone();
        some.spec.watermark.idle_timeout = minimal.spec.watermark.idle_timeout;
        some.spec.processor = ProcessorSpec {
            max_event_bytes: full.spec.processor.max_event_bytes,
            ..ProcessorSpec::default()
        };
        some.spec.watermark.idle_timeout = WatermarkSpec::default().idle_timeout;
        for document in [full, minimal, some] {
            let text = document.minimal();
            assert_eq!(
                text_without_rules(&text),
                document.without_rules().minimal()
            );
        }
    }

    #[test]
    fn other_rules_have_another_name() {
        let rules = SemanticSpec::default();
        let other = SemanticSpec {
            delay_micros: 1,
            ..rules.clone()
        };
        assert_eq!(rules.short_hash().len(), 12);
        assert_eq!(rules.short_hash(), rules.clone().short_hash());
        assert_ne!(rules.short_hash(), other.short_hash());
    }
}
