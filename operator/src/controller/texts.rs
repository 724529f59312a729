//! What pods are given to read, as text, once for each document: a look makes the same few again,
//! and each costs a quarter of a millisecond.

use std::{collections::HashMap, sync::Arc};

use clickstream_pipeline::spec::{ClickstreamPipeline as Document, text_without_rules};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// Texts of one pipeline that are kept: two for each of eight targets, the producer's, and the
/// spec that was accepted.
const MOST: usize = 32;

/// A document's text, and what it is without its rules.
#[derive(Debug)]
pub struct Text {
    /// All of it, in its smallest form.
    pub whole: String,
    /// The same without its rules.
    pub without_rules: String,
}

/// The texts of one pipeline, by digests of their documents. What they hold can be made again at
/// any time.
#[derive(Default, Debug)]
pub struct Texts(Mutex<HashMap<[u8; 32], Arc<Text>>>);

impl Texts {
    /// A document's text.
    pub fn of(&self, document: &Document) -> Arc<Text> {
        let digest = serde_json::to_vec(document).expect("a document that was read can be written");
        let digest: [u8; 32] = Sha256::digest(digest).into();
        if let Some(known) = self.0.lock().get(&digest) {
            return Arc::clone(known);
        }
        let whole = document.minimal();
        let text = Arc::new(Text {
            without_rules: text_without_rules(&whole),
            whole,
        });
        let mut texts = self.0.lock();
        if texts.len() >= MOST {
            // of specs before
            texts.clear();
        }
        texts.insert(digest, Arc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn document(delay: u32) -> Document {
        let text = format!(
            "{{ apiVersion: clickstream.dev/v1alpha1, kind: ClickstreamPipeline, metadata: {{ name: web }}, spec: {{ \
             kafka: {{ bootstrapServers: 'kafka:9092' }}, watermark: {{ delay: {delay}s }}, \
             targets: [{{ connection: {{ host: a, database: b, user: c }} }}] }} }}"
        );
        Document::from_yaml(&text).unwrap()
    }

    #[test]
    fn a_text_is_that_of_its_document_and_made_once() {
        let texts = Texts::default();
        for delay in [1, 2, 1] {
            let text = texts.of(&document(delay));
            assert_eq!(text.whole, document(delay).minimal());
            assert_eq!(text.without_rules, document(1).without_rules().minimal());
        }
        assert!(Arc::ptr_eq(
            &texts.of(&document(1)),
            &texts.of(&document(1))
        ));
    }

    #[test]
    fn texts_of_specs_that_have_been_changed_do_not_pile_up() {
        let texts = Texts::default();
        for delay in 0..200 {
            texts.of(&document(delay));
            assert!(texts.0.lock().len() <= MOST);
        }
    }
}
