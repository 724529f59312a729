//! The CustomResourceDefinition: what is generated from it, what it says to people, and that it
//! refuses what the processors refuse.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its own fixture should stop there"
)]

#[path = "crd/agreement.rs"]
mod agreement;
#[path = "crd/candidates.rs"]
mod candidates;
#[path = "crd/cel.rs"]
mod cel;
#[path = "crd/generated.rs"]
mod generated;
#[path = "crd/objects.rs"]
mod objects;
#[path = "crd/structural.rs"]
mod structural;

use clickstream_operator::crd::crd_yaml;
use clickstream_pipeline::spec;
use serde_json::{Value, json};

/// Every field of the resource, none with its default.
const FULL: &str = include_str!("../../services/pipeline/src/spec/tests/full.yaml");

fn full() -> Value {
    serde_yaml::from_str(FULL).unwrap()
}

fn minimal() -> Value {
    json!({
        "apiVersion": format!("{}/{}", spec::GROUP, spec::VERSION),
        "kind": spec::KIND,
        "metadata": { "name": "demo" },
        "spec": {
            "kafka": { "bootstrapServers": "kafka:9092" },
            "targets": [{ "name": "default", "connection": { "secret": { "name": "pg-app" } } }],
        },
    })
}

/// The schema as it is printed.
fn schema() -> Value {
    let definition: Value = serde_yaml::from_str(&crd_yaml()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// The schema of one field, by its path.
fn field<'s>(schema: &'s Value, path: &str) -> &'s Value {
    path.split('.').fold(schema, |schema, name| {
        let name = name
            .strip_suffix("[]")
            .map_or((name, false), |name| (name, true));
        let field = &schema["properties"][name.0];
        assert!(field.is_object(), "{path} is not in the schema");
        if name.1 { &field["items"] } else { field }
    })
}
