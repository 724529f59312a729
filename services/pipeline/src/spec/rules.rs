//! Rules as the part of a document that may change while processors run, and how a set of them is named.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::{
    ClickstreamPipeline, EventsSpec, LateEventsSpec, ProcessorSpec, SemanticSpec, WatermarkSpec,
};

impl ClickstreamPipeline {
    /// The document with default rules: two documents that differ in nothing else are the same without them. The size of
    /// the windows decides verdicts as well, and stays: stored hits could not be counted in windows of another size.
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
    /// A short name for these rules, the same wherever they are in force: 12 hexadecimal digits of a hash of them.
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
