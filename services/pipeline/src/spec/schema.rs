//! What a schema says that a Rust type does not: forms, bounds and the rules between fields, in the vocabulary of
//! Kubernetes' CustomResourceDefinitions. `validate` holds the same rules; a test of the operator compares the two.

pub(super) mod pods;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::ip_range::IpRange;
use super::quantity::{Bytes, Duration};

/// RFC 1123 label.
pub(super) const DNS_LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// RFC 1123 labels joined by points.
pub(super) const DNS_SUBDOMAIN: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A key of a Secret that is no path.
pub(super) const SECRET_KEY: &str = r"^\.?[-_A-Za-z0-9][-._A-Za-z0-9]*$";
/// A host name, an IPv4 or an IPv6 address; two colons tell the last from a host with a port.
pub(super) const HOST: &str =
    r"^([_A-Za-z0-9][-._A-Za-z0-9]*|[.0-9A-Fa-f]*:[.0-9A-Fa-f]*:[.:0-9A-Fa-f]*)$";
/// Hosts with ports, separated by commas.
pub(super) const BROKERS: &str = r"^([_A-Za-z0-9][-._A-Za-z0-9]*|\[[.:0-9A-Fa-f]+\]):[0-9]{1,5}(,([_A-Za-z0-9][-._A-Za-z0-9]*|\[[.:0-9A-Fa-f]+\]):[0-9]{1,5})*$";
/// Text without control characters.
pub(super) const PRINTABLE: &str = r"^\P{Cc}*$";
/// A reference of a container image.
pub(super) const IMAGE: &str = r"^[A-Za-z0-9][-./:@_A-Za-z0-9]*$";
/// A topic's name: neither `.` nor `..`.
pub(super) const TOPIC: &str =
    r"^([-_A-Za-z0-9]|\.[-_A-Za-z0-9]|\.\.[-._A-Za-z0-9])[-._A-Za-z0-9]*$";
/// A name that PostgreSQL takes without quotes.
pub(super) const UNQUOTED: &str = r"^[_a-z][_a-z0-9]*$";
/// The value of a label; it may be empty.
pub(super) const LABEL_VALUE: &str = r"^([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?$";
/// A duration in whole microseconds: so many decimals and no more are left of each unit.
const DURATION: &str =
    r"^(0|([0-9]+(us|µs)|[0-9]+(\.[0-9]{1,3})?ms|[0-9]+(\.[0-9]{1,6})?(s|m|h))+)$";
/// An IPv4 address, or what may be an IPv6 address; with the number of bits that count, or without.
const IP_RANGE: &str = r"^((25[0-5]|(2[0-4]|1[0-9]|[1-9])?[0-9])(\.(25[0-5]|(2[0-4]|1[0-9]|[1-9])?[0-9])){3}(/(3[0-2]|[12]?[0-9]))?|[.0-9A-Fa-f]*:[.0-9A-Fa-f]*:[.:0-9A-Fa-f]*(/(12[0-8]|(1[01]|[1-9])?[0-9]))?)$";
/// An IPv4 address, or what may be an IPv6 address.
pub(super) const ADDRESS: &str = r"^((25[0-5]|(2[0-4]|1[0-9]|[1-9])?[0-9])([.](25[0-5]|(2[0-4]|1[0-9]|[1-9])?[0-9])){3}|[.0-9A-Fa-f]*:[.0-9A-Fa-f]*:[.:0-9A-Fa-f]*)$";
/// A byte quantity.
const BYTES: &str = r"^[0-9]+(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?$";
/// Kubernetes' own quantity, as far as requests and limits go: never negative.
const QUANTITY: &str =
    r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|m|k|M|G|T|P|E|[eE][-+]?[0-9]+)?$";

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": DURATION, "maxLength": 32 })
    }
}

impl JsonSchema for IpRange {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "IpRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": IP_RANGE, "maxLength": 64 })
    }
}

impl JsonSchema for Bytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true, "pattern": BYTES, "maxLength": 32 })
    }
}

/// One rule between fields, in CEL.
pub(super) struct Rule {
    /// What has to hold.
    pub(super) rule: &'static str,
    /// What to do where it does not.
    pub(super) message: &'static str,
    /// The field that the message is about, below the one with the rule; empty for that one itself.
    pub(super) field: &'static str,
}

/// The rules as Kubernetes writes them.
pub(super) fn rules(rules: &[Rule]) -> Value {
    let written = rules.iter().map(|rule| {
        let mut written = json!({ "rule": rule.rule, "message": rule.message });
        if !rule.field.is_empty() {
            written["fieldPath"] = json!(rule.field);
        }
        written
    });
    written.collect()
}

/// A duration between two others, both of which are allowed.
pub(super) fn lasting(shortest: &str, longest: &str) -> Value {
    json!([{
        "rule": format!("duration(self) >= duration('{shortest}') && duration(self) <= duration('{longest}')"),
        "message": format!("outside {shortest} to {longest}"),
    }])
}

/// A byte quantity between two others, both of which are allowed.
pub(super) fn holding(least: &str, most: &str) -> Value {
    json!([{
        "rule": format!(
            "quantity(string(self)).compareTo(quantity('{least}')) >= 0 && quantity(string(self)).compareTo(quantity('{most}')) <= 0"
        ),
        "message": format!("outside {least} to {most}"),
    }])
}

/// A window's length: a divisor of the day. Fractions of a millisecond are left to `validate`.
pub(super) fn window() -> Value {
    let mut rules = lasting("1s", "24h");
    if let Value::Array(rules) = &mut rules {
        rules.push(json!({
            "rule": "duration(self) < duration('1s') || duration(self) > duration('24h') || 86400000 % duration(self).getMilliseconds() == 0",
            "message": "a day must be a whole number of windows: choose a divisor of 24h, such as 1m, 5m or 1h",
        }));
    }
    rules
}

/// A map of texts, at most `most` of them and none longer than `longest`.
fn texts(most: u32, longest: u32, pattern: Option<&str>, rules: Value) -> Schema {
    let mut values = json!({ "type": "string", "maxLength": longest });
    if let Some(pattern) = pattern {
        values["pattern"] = json!(pattern);
    }
    let mut schema =
        json_schema!({ "type": "object", "maxProperties": most, "additionalProperties": values });
    if let Some(rules) = rules.as_array().filter(|rules| !rules.is_empty()) {
        schema.insert("x-kubernetes-validations".to_owned(), json!(rules));
    }
    schema
}

/// No key that the operator sets by itself.
const NOT_OURS: Rule = Rule {
    rule: "self.all(key, !key.startsWith('app.kubernetes.io/') && !key.startsWith('clickstream.dev/'))",
    message: "the operator sets app.kubernetes.io/ and clickstream.dev/ itself: choose another key",
    field: "",
};

/// Labels of a pod.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    texts(32, 63, Some(LABEL_VALUE), rules(&[NOT_OURS]))
}

/// Annotations of a pod.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    texts(32, 8192, None, rules(&[NOT_OURS]))
}

/// Annotations of a pod, none of which is a security context by another name. Fields of before do
/// without the rule in the schema: an object that has such an annotation already could not even be
/// given a status.
pub(super) fn annotations_of_template(_: &mut SchemaGenerator) -> Schema {
    const NOT_LOOSE: Rule = Rule {
        rule: "self.all(key, !key.matches('^(container[.])?(apparmor[.]security[.]beta|seccomp[.]security[.]alpha)[.]kubernetes[.]io/'))",
        message: "pods stay restricted: write seccompProfile or appArmorProfile of containerSecurityContext instead",
        field: "",
    };
    texts(32, 8192, None, rules(&[NOT_OURS, NOT_LOOSE]))
}

/// Labels of a node.
pub(super) fn node_labels(_: &mut SchemaGenerator) -> Schema {
    texts(32, 63, Some(LABEL_VALUE), json!([]))
}

/// Settings of a topic, without those that the pipeline relies on.
pub(super) fn topic_config(_: &mut SchemaGenerator) -> Schema {
    let refused = [
        Rule {
            rule: "!('retention.ms' in self)",
            message: "set `retention` of the topic instead of retention.ms",
            field: "",
        },
        Rule {
            rule: "!('message.timestamp.type' in self) || self['message.timestamp.type'] == 'LogAppendTime'",
            message: "remove message.timestamp.type, or set it to LogAppendTime, which lateness and replays rely on",
            field: "",
        },
        Rule {
            rule: "!('cleanup.policy' in self)",
            message: "remove cleanup.policy: compaction would delete events of the same key",
            field: "",
        },
    ];
    texts(64, 4096, None, rules(&refused))
}

/// Amounts of resources by name.
pub(super) fn amounts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "pattern": QUANTITY,
            "minimum": 0,
            "maxLength": 32,
        },
    })
}
