#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its own fixture should stop there"
)]

mod document;
mod event_problems;
mod event_rules;
mod handed_on;
mod pod_problems;
mod pod_templates;
mod problems;
mod settings;
mod target_problems;

use std::collections::BTreeMap;

use super::*;

/// Every field of the resource, none with its default. The operator's tests read it as well.
const FULL: &str = include_str!("tests/full.yaml");

/// The smallest resource.
const MINIMAL: &str = "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: { name: demo }
spec:
  kafka: { bootstrapServers: '127.0.0.1:9092' }
  topics: [{ name: clickstream }]
  targets:
  - connection: { secret: { name: pg-app } }
";

fn full() -> ClickstreamPipeline {
    ClickstreamPipeline::from_yaml(FULL).unwrap()
}

fn minimal() -> ClickstreamPipeline {
    ClickstreamPipeline::from_yaml(MINIMAL).unwrap()
}

/// Secrets in a table.
#[derive(Default)]
struct Table(BTreeMap<(String, String), String>);

impl Table {
    fn with(mut self, secret: &str, key: &str, value: &str) -> Self {
        self.0
            .insert((secret.to_owned(), key.to_owned()), value.to_owned());
        self
    }
}

impl Secrets for Table {
    fn read(&self, secret: &str, key: &str) -> Result<Option<String>, SecretError> {
        Ok(self.0.get(&(secret.to_owned(), key.to_owned())).cloned())
    }
}
