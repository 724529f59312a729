use super::problems::text;
use super::*;
use crate::bots::BotList;
use crate::decode::columns::{ColumnType, PromotedColumn};
use crate::decode::properties::PropertyLimits;
use crate::derived::DerivedRules;
use crate::page::{Fragment, PageRules, TrailingSlash};

#[test]
fn the_full_resource_is_valid_and_reads_back_what_it_wrote() {
    let pipeline = full();
    assert_eq!(pipeline.validate(), Ok(()));
    let written = serde_yaml::to_string(&pipeline).unwrap();
    assert_eq!(ClickstreamPipeline::from_yaml(&written), Ok(pipeline));
}

#[test]
fn json_is_read_as_well() {
    let written = serde_json::to_string(&full()).unwrap();
    assert_eq!(ClickstreamPipeline::from_yaml(&written), Ok(full()));
}

#[test]
fn the_minimal_resource_has_the_documented_defaults() {
    let pipeline = minimal();
    assert_eq!(pipeline.validate(), Ok(()));
    assert_eq!(pipeline.metadata.namespace, "default");
    let spec = &pipeline.spec;
    assert_eq!(spec.topics, [TopicSpec::default()]);
    assert_eq!(spec.topics[0].initial_partitions(), 4);
    let target = &spec.targets[0];
    assert_eq!(
        (target.name.as_str(), target.schema.as_str()),
        ("default", "clickstream")
    );
    assert_eq!(target.durability, Durability::Strict);
    assert_eq!(target.retention, RetentionSpec::default());
    assert_eq!(spec.replicas_of(target), 2);
    assert_eq!(spec.watermark.idle_timeout.to_string(), "30s");
    assert_eq!(spec.processor.filter_memory.to_string(), "32Mi");
    assert_eq!(
        (
            spec.processor.flush.max_rows,
            spec.processor.flush.max_bytes.get()
        ),
        (60_000, 16 << 20)
    );
    assert_eq!((spec.producer.enabled, spec.producer.rate), (false, 83));
    assert_eq!(spec.deletion_policy.topics, DeletionPolicy::Retain);
    assert!(!spec.suspend);
}

#[test]
fn a_resource_without_topics_reads_the_default_one() {
    let text = MINIMAL.replace("  topics: [{ name: clickstream }]\n", "");
    assert_ne!(text, MINIMAL);
    assert_eq!(ClickstreamPipeline::from_yaml(&text), Ok(minimal()));
}

#[test]
fn a_given_part_leaves_its_other_parts_at_their_defaults() {
    let text = format!(
        "{MINIMAL}  processor: {{ flush: {{ maxRows: 5 }} }}\n  watermark: {{ delay: 1s }}\n"
    );
    let spec = ClickstreamPipeline::from_yaml(&text).unwrap().spec;
    assert_eq!(
        (spec.processor.flush.max_rows, spec.processor.replicas),
        (5, 2)
    );
    assert_eq!(spec.processor.flush.max_bytes, Bytes::from_mebi(16));
    assert_eq!(spec.watermark.max_future_skew, Duration::from_secs(300));
}

#[test]
fn the_semantic_part_of_a_minimal_spec_is_the_semantic_default() {
    assert_eq!(minimal().semantic(), SemanticSpec::default());
}

#[test]
fn the_semantic_part_holds_what_decides_verdicts_in_microseconds() {
    let semantic = full().semantic();
    let expected = SemanticSpec {
        window_micros: 300_000_000,
        delay_micros: 20_000_000,
        max_future_skew_micros: 90_000_000,
        allowed_lateness_micros: 3_600_000_000,
        late_policy: LatePolicy::Store,
        max_event_bytes: 32_768,
        events: EventRules {
            version: RulesVersion::Second,
            optional_fields: OptionalFields::Reject,
            id: EventIds::FromFields,
            trusted_proxies: ["10.0.0.0/8", "2001:db8::/32"]
                .map(|range| range.parse().unwrap())
                .to_vec(),
            mapping: full().spec.events.rules().mapping,
            properties: Some(PropertyLimits {
                bytes: 4096,
                keys: 32,
                depth: 4,
            }),
            columns: vec![PromotedColumn {
                name: text("plan"),
                pointer: text("/properties/plan"),
                r#type: ColumnType::Text,
            }],
            derived: DerivedRules {
                page: Some(PageRules {
                    trailing_slash: TrailingSlash::Keep,
                    fragment: Fragment::Keep,
                    query: vec![text("id"), text("lang")],
                    templates: ["/product/:id", "/docs/*rest"]
                        .map(|template| template.parse().unwrap())
                        .to_vec(),
                    max_per_window: Some(500),
                }),
                acquisition: true,
                bots: Some(BotList::NEWEST),
            },
        },
    };
    assert_eq!(semantic, expected);
    let stored = serde_json::to_string(&semantic).unwrap();
    assert_eq!(
        serde_json::from_str::<SemanticSpec>(&stored).unwrap(),
        semantic
    );
}

/// The full resource with one piece of its text replaced.
fn changed(old: &str, new: &str) -> String {
    let text = FULL.replacen(old, new, 1);
    assert_ne!(text, FULL, "{old} is not in the fixture");
    text
}

#[test]
fn what_does_not_fit_is_named_with_its_path_and_line() {
    // replaced, by what, where the error points to, and what it says
    for (old, new, place, message) in [
        (
            "size:",
            "siez:",
            "siez:",
            "spec.window.siez: unknown field, expected one of size",
        ),
        (
            "delay:",
            "delai:",
            "delai:",
            "spec.watermark.delai: unknown field, expected one of delay, idleTimeout, maxFutureSkew",
        ),
        (
            "  name: demo\n",
            "",
            "namespace: shop",
            "metadata.name: required, but missing",
        ),
        (
            "kind: ClickstreamPipeline\n",
            "",
            "apiVersion:",
            "kind: required, but missing",
        ),
        (
            "bootstrapServers: kafka-0.kafka:9093,[::1]:9094",
            "",
            "tls:",
            "spec.kafka.bootstrapServers: required, but missing",
        ),
        (
            "name: warehouse",
            "name: []",
            "name: []",
            "spec.targets[0].name: invalid type: sequence, expected a string",
        ),
        (
            "port: 6432",
            "port: 65536",
            "port: 65536",
            "spec.targets[0].connection.port: invalid value: integer `65536`, expected a whole number from 1 to 65535 (in `warehouse`)",
        ),
        (
            "rate: 10",
            "rate: many",
            "rate: many",
            "spec.producer.rate: invalid type: string \"many\", expected a whole number from 1 to 1000000",
        ),
        (
            "policy: Store",
            "policy: Keep",
            "policy: Keep",
            "spec.lateEvents.policy: unknown variant `Keep`, expected one of `Merge`, `Divert`, `Store`, `Drop`",
        ),
        (
            "{ size: 5m }",
            "5m",
            "window:",
            "spec.window: invalid type: string \"5m\", expected a mapping",
        ),
        (
            "idleTimeout: 1m",
            "idleTimeout: 60",
            "idleTimeout:",
            "spec.watermark.idleTimeout: `60` has no unit; write ms, s, m or h behind each number, such as 10s",
        ),
        (
            "events: 2160h",
            "events: 90d",
            "events: 90d",
            "spec.targets[0].retention.events: `d` is no unit of time; use us, ms, s, m or h (a day is 24h) (in `warehouse`)",
        ),
        (
            "filterMemory: 64Mi",
            "filterMemory: 64MB",
            // YAML gives a scalar that is refused only after it was read the place of its mapping
            "replicas: 4",
            "spec.processor.filterMemory: `MB` is no unit of bytes; use Ki, Mi, Gi, Ti, k, M, G or T, or none",
        ),
    ] {
        let text = changed(old, new);
        let line = text.lines().position(|line| line.contains(place)).unwrap() + 1;
        let error = ClickstreamPipeline::from_yaml(&text).unwrap_err();
        assert_eq!(error.to_string(), format!("{message} (line {line})"));
    }
}

#[test]
fn whatever_a_field_with_a_number_holds_instead_its_bounds_are_told() {
    let whole = "a whole number from";
    for (path, expected) in [
        ("events.page.maxPerWindow", format!("{whole} 1 to 10000")),
        (
            "events.propertyLimits.maxKeys",
            format!("{whole} 1 to 1024"),
        ),
        ("events.propertyLimits.maxDepth", format!("{whole} 1 to 16")),
        ("producer.seed", format!("{whole} 0 to 9007199254740991")),
        ("producer.users", format!("{whole} 1 to 1000000000")),
        ("producer.late", text("a number from 0 to 1")),
        ("processor.lagTarget", format!("{whole} 1 to 1000000000000")),
        ("processor.replicas", format!("{whole} 1 to 1000")),
        ("processor.flush.maxRows", format!("{whole} 1 to 1000000")),
    ] {
        for wrong in [
            serde_yaml::Value::from("many"),
            serde_yaml::Value::from(true),
            serde_yaml::Value::from(vec![1]),
            serde_yaml::Value::from(-1),
        ] {
            let mut document = serde_yaml::to_value(full()).unwrap();
            let field = path
                .split('.')
                .fold(&mut document["spec"], |at, key| &mut at[key]);
            assert!(!field.is_null(), "{path}");
            *field = wrong.clone();
            if wrong.is_i64() && path == "producer.late" {
                continue;
            }
            let written = serde_yaml::to_string(&document).unwrap();
            let SpecError::Field {
                path: found,
                message,
                ..
            } = ClickstreamPipeline::from_yaml(&written).unwrap_err()
            else {
                panic!("{path} is a field");
            };
            assert_eq!(found, format!("spec.{path}"));
            assert!(
                message.ends_with(&format!(", expected {expected}")),
                "{message}"
            );
        }
    }
}

#[test]
fn the_type_alone_bounds_a_number_beside_something_else_that_cannot_be_read() {
    let broken = changed("rate: 10", "rate: many").replacen("suspend: true", "suspend: 1", 1);
    let error = ClickstreamPipeline::from_yaml(&broken).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("expected a whole number from 0 to 4294967295"),
        "{said}"
    );
}

#[test]
fn an_entry_of_a_list_is_named_beside_its_position() {
    let unread = |old: &str, new: &str| {
        let error = ClickstreamPipeline::from_yaml(&changed(old, new)).unwrap_err();
        error.to_string()
    };
    let columns = unread("type: Text", "type: Word");
    assert!(
        columns.starts_with("spec.events.columns[0].type: unknown variant `Word`")
            && columns.contains(" (in `plan`) (line "),
        "{columns}"
    );
    let mut pipeline = full();
    pipeline.spec.events.columns[0].pointer = text("plan");
    pipeline.spec.targets[1].schema = text("Bad");
    pipeline.spec.topics[0].partitions = Some(0);
    let topic = pipeline.spec.topics[0].name.clone();
    let target = pipeline.spec.targets[1].name.clone();
    let said = pipeline.validate().unwrap_err();
    let ends = [
        format!(" (in `{topic}`)"),
        text(" (in `plan`)"),
        format!(" (in `{target}`)"),
    ];
    assert_eq!(said.len(), ends.len(), "{said:?}");
    for (problem, end) in said.iter().zip(ends) {
        assert!(problem.message.ends_with(&end), "{problem}");
    }
}

#[test]
fn a_name_that_is_long_or_has_control_characters_spoils_no_message() {
    let message = |name: &str| {
        let mut pipeline = full();
        pipeline.spec.events.columns[0].name = text(name);
        pipeline.validate().unwrap_err()[0].message.clone()
    };
    assert!(message("a\nb").ends_with(" (in `a\\nb`)"));
    assert!(!message(&"a".repeat(64)).contains("(in"));
}

#[test]
fn a_document_that_is_no_mapping_says_so() {
    let error = ClickstreamPipeline::from_yaml("- 1")
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "document: invalid type: sequence, expected a mapping (line 1)"
    );
    let error = ClickstreamPipeline::from_yaml("").unwrap_err().to_string();
    assert_eq!(error, "apiVersion: required, but missing (line 1)");
}

#[test]
fn broken_syntax_and_repeated_keys_are_told_with_their_line() {
    for (old, new, place, part) in [
        (
            "{ size: 5m }",
            "{ size: 5m",
            "watermark:",
            "expected ',' or '}'",
        ),
        (
            "  suspend: true",
            "  suspend: true\n  suspend: false",
            "kafka:",
            "duplicate entry with key \"suspend\"",
        ),
    ] {
        let text = changed(old, new);
        let line = text.lines().position(|line| line.contains(place)).unwrap() + 1;
        let error = ClickstreamPipeline::from_yaml(&text)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("the YAML cannot be read: "), "{error}");
        assert!(
            error.contains(part) && error.contains(&format!("line {line} ")),
            "{error}"
        );
    }
    let error =
        ClickstreamPipeline::from_yaml(&changed("\nspec:\n", "\n---\nspec:\n")).unwrap_err();
    assert!(
        matches!(&error, SpecError::Syntax { message } if message.contains("more than one document")),
        "{error}"
    );
}

#[test]
fn an_error_does_not_repeat_the_value_of_an_unknown_field() {
    let text = changed("user: writer", "user: writer\n      password: hunter2");
    let error = ClickstreamPipeline::from_yaml(&text)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("spec.targets[0].connection.password: unknown field"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_policy_for_late_events_that_is_the_default_is_not_written_to_processors_that_may_have_another()
{
    let mut pipeline = minimal();
    let written = serde_yaml::to_string(&pipeline).unwrap();
    assert!(!written.contains("policy:"), "{written}");
    pipeline.spec.late_events.policy = LatePolicy::Divert;
    let written = serde_yaml::to_string(&pipeline).unwrap();
    assert!(written.contains("policy: Divert"), "{written}");
    assert_eq!(ClickstreamPipeline::from_yaml(&written), Ok(pipeline));
}
