//! `spec.targets`: the PostgreSQL schemas that the events end up in.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::connection::{self, ConnectionSpec};
use super::pod::PodTemplateSpec;
use super::processing::check_replicas;
use super::quantity::Duration;
use super::secret::is_dns_label;
use super::validate::At;

#[cfg(feature = "schema")]
use super::schema;

#[cfg(feature = "schema")]
const TARGET_RULES: [schema::Rule; 3] = [
    schema::Rule {
        rule: "(has(self.schema) ? self.schema : 'clickstream') == (has(oldSelf.schema) ? oldSelf.schema : 'clickstream')",
        message: "a target keeps its schema: add a target with another name for the new schema, then remove this one",
        field: ".schema",
    },
    schema::Rule {
        rule: "!has(self.readers) || !has(self.rawReaders) || !self.rawReaders.exists(role, role in self.readers)",
        message: "a role is listed under readers as well; remove it there",
        field: ".rawReaders",
    },
    schema::Rule {
        rule: "!has(self.rawReaders) || !has(self.connection.user) || !(self.connection.user in self.rawReaders)",
        message: "the role that the processors sign in as has its rights already; remove it",
        field: ".rawReaders",
    },
];

#[cfg(feature = "schema")]
const SCHEMA_RULES: [schema::Rule; 1] = [schema::Rule {
    rule: "!self.startsWith('pg_') && self != 'information_schema'",
    message: "reserved by PostgreSQL; choose another name",
    field: "",
}];

/// One PostgreSQL schema. Each target has its own processors and its own progress, so a slow one holds no other back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("x-kubernetes-validations" = schema::rules(&TARGET_RULES)))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetSpec {
    /// Name of the target, part of the names of its Deployment and consumer group. Another name is another target:
    /// the old one's processors go, and its tables stay. Rolling. Default `default`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 20), regex(pattern = schema::DNS_LABEL)))]
    #[serde(default = "default_name")]
    pub name: String,
    /// How the processors reach PostgreSQL. Rolling.
    pub connection: ConnectionSpec,
    /// How migrations are run. A change runs them again: Live. Default: as the processors connect.
    #[serde(default)]
    pub migration: MigrationSpec,
    /// The schema that holds all tables; one pipeline owns it. Refused: add a target with another name for another
    /// schema. Default `clickstream`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 63), regex(pattern = schema::UNQUOTED), extend("x-kubernetes-validations" = schema::rules(&SCHEMA_RULES))))]
    #[serde(default = "default_schema")]
    pub schema: String,
    /// What a crash of PostgreSQL may cost. Rolling. Default `Strict`.
    #[serde(default)]
    pub durability: Durability,
    /// How long rows are kept. Rolling. Default: for ever.
    #[serde(default)]
    pub retention: RetentionSpec,
    /// Roles that may read the views and no table, at most 32; one that does not exist is waited for, and one that is taken off
    /// the list may not any more. Live. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 32), inner(length(min = 1, max = 63), regex(pattern = schema::PRINTABLE)), extend("x-kubernetes-list-type" = "set")))]
    pub readers: Vec<String>,
    /// Roles that may read the tables as well: who clicked, from which address, and refused records byte for byte. At most
    /// 32, none of `readers`; one that is taken off the list may not any more. Live. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 32), inner(length(min = 1, max = 63), regex(pattern = schema::PRINTABLE)), extend("x-kubernetes-list-type" = "set")))]
    pub raw_readers: Vec<String>,
    /// Number of processors for this target; the scale subresource leaves it alone then. Live. 1 to 1000. Default:
    /// `spec.processor.replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000)))]
    pub replicas: Option<u32>,
}

/// How migrations are run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MigrationSpec {
    /// Connection of the role that owns the tables. Rolling. Default: the target's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionSpec>,
    /// How long one attempt may take, from the creation of its Job on: 1m to 7 days. Longer than the longest wait for a node and an
    /// image, and than an index on the largest table takes. Live. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::lasting("1m", "168h"))))]
    pub timeout: Option<Duration>,
    /// The pods of the Jobs that migrate and drop tables, beyond what `spec.processor.podTemplate` and `spec.podTemplate` say. The next
    /// Job has it; none is started for it. Live. Default: nothing.
    #[serde(default, skip_serializing_if = "PodTemplateSpec::is_default")]
    pub pod_template: PodTemplateSpec,
}

/// What a crash of PostgreSQL may cost. Neither choice ever loses or doubles an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Durability {
    /// Every commit is on disk before the next flush begins.
    #[default]
    Strict,
    /// Commits reach the disk a moment later; what a crash takes is read from Kafka again. Faster on slow disks.
    Replayable,
}

/// How long rows are kept; what is absent is kept for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetentionSpec {
    /// Raw events, dropped by whole days; duplicates are recognised for as long. At least 24h. Rolling.
    /// Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::lasting("24h", "876000h"))))]
    pub events: Option<Duration>,
    /// Minute metrics. At least 24h. Rolling. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::lasting("24h", "876000h"))))]
    pub aggregates: Option<Duration>,
    /// Rejected records. At least 1h. Rolling. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::lasting("1h", "876000h"))))]
    pub dead_letters: Option<Duration>,
    /// Late events; duplicates among them are recognised for as long. At least 24h. Rolling. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::lasting("24h", "876000h"))))]
    pub late_events: Option<Duration>,
}

impl TargetSpec {
    /// The connection that runs migrations.
    #[must_use]
    pub fn migration_connection(&self) -> &ConnectionSpec {
        self.migration
            .connection
            .as_ref()
            .unwrap_or(&self.connection)
    }

    fn check(&self, at: &mut At<'_>) {
        if !is_dns_label(&self.name, 20) {
            at.field("name")
                .problem("use 1 to 20 lowercase letters, digits and inner `-`");
        }
        self.connection.check(&mut at.field("connection"));
        if let Some(migration) = &self.migration.connection {
            migration.check(&mut at.field("migration").field("connection"));
        }
        if let Some(timeout) = self.migration.timeout {
            let week = Duration::from_hours(168);
            at.field("migration")
                .field("timeout")
                .within(timeout, Duration::from_secs(60)..=week);
        }
        check_schema(&self.schema, &mut at.field("schema"));
        self.retention.check(&mut at.field("retention"));
        check_roles(&self.readers, &mut at.field("readers"));
        self.check_raw_readers(&mut at.field("rawReaders"));
        if let Some(replicas) = self.replicas {
            check_replicas(replicas, &mut at.field("replicas"));
        }
    }

    fn check_raw_readers(&self, at: &mut At<'_>) {
        check_roles(&self.raw_readers, at);
        for (index, role) in self.raw_readers.iter().enumerate() {
            if self.readers.contains(role) {
                at.index(index)
                    .problem("listed under readers as well; remove it there");
            }
            if self.connection.user.as_ref() == Some(role) {
                at.index(index).problem(
                    "the role that the processors sign in as has its rights already; remove it",
                );
            }
        }
    }
}

fn check_roles(roles: &[String], at: &mut At<'_>) {
    if roles.len() > 32 {
        at.problem("list at most 32 roles; grant a group role to more");
    }
    let mut seen = BTreeSet::new();
    for (index, role) in roles.iter().enumerate() {
        if !connection::is_name(role) {
            at.index(index).problem(connection::NAME_RULE);
        }
        if !seen.insert(role) {
            at.index(index).problem("listed twice; remove one");
        }
    }
}

impl RetentionSpec {
    fn check(&self, at: &mut At<'_>) {
        let day = Duration::from_hours(24);
        // a century: beyond it `absent` says the same
        let longest = Duration::from_hours(876_000);
        for (field, kept, shortest) in [
            ("events", self.events, day),
            ("aggregates", self.aggregates, day),
            ("deadLetters", self.dead_letters, Duration::from_hours(1)),
            ("lateEvents", self.late_events, day),
        ] {
            if let Some(kept) = kept {
                at.field(field).within(kept, shortest..=longest);
            }
        }
    }
}

/// Checks the list as a whole and every target in it.
pub(super) fn check_targets(targets: &[TargetSpec], at: &mut At<'_>) {
    if targets.is_empty() || targets.len() > 8 {
        at.problem("list 1 to 8 targets");
    }
    for (index, target) in targets.iter().enumerate() {
        let mut at = at.index(index);
        let earlier = &targets[..index];
        if earlier.iter().any(|other| other.name == target.name) {
            at.field("name")
                .problem("another target has this name; give each its own");
        }
        if earlier.iter().any(|other| {
            other.schema == target.schema && other.connection.same_database(&target.connection)
        }) {
            at.field("schema").problem(
                "another target writes this schema of the same database; give each its own",
            );
        }
        target.check(&mut at);
    }
}

/// The pattern keeps the name free of quoting; PostgreSQL keeps two kinds of names to itself.
fn check_schema(schema: &str, at: &mut At<'_>) {
    let mut bytes = schema.bytes();
    let first = bytes
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !first || !rest || schema.len() > 63 {
        at.problem("use 1 to 63 lowercase letters, digits and `_`, not beginning with a digit");
    } else if schema.starts_with("pg_") || schema == "information_schema" {
        at.problem("reserved by PostgreSQL; choose another name");
    }
}

fn default_name() -> String {
    "default".to_owned()
}

fn default_schema() -> String {
    "clickstream".to_owned()
}
