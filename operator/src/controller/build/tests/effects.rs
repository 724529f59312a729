//! Every field of the spec, changed and changed back: what the reference says of it is what becomes
//! of the pods.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    super::*,
    fields::{Field, changes, fields, set, spec_of},
    settings,
};
use crate::{controller::validate::validate, crd::ClickstreamPipeline};

/// What the producer reads besides `producer`; a change of anything else leaves its pod alone.
const READ_BY_THE_PRODUCER: [&str; 8] = [
    "kafka.bootstrapServers",
    "kafka.sasl",
    "kafka.tls",
    "lateEvents.allowedLateness",
    "podTemplate",
    "processor.maxEventBytes",
    "topics[].name",
    "watermark.delay",
];

/// What processors follow while they run, and the producer reads at its start.
const RULES_OF_THE_PRODUCER: [&str; 4] = [
    "lateEvents",
    "lateEvents.allowedLateness",
    "processor.maxEventBytes",
    "watermark.delay",
];

/// What the built-in producer does not run beside, since its events could not be read.
const HIDES_PRODUCER: [&str; 3] = ["events.envelope", "events.fields", "events.preset"];

/// Leaves out what the producer does not run beside.
fn show_producer(spec: &mut Value) {
    for path in HIDES_PRODUCER {
        set(spec, path, &Value::Null);
    }
}

/// What decides whether tables are migrated again.
const MIGRATES: [&str; 8] = [
    "events.columns",
    "events.columns[]",
    "image",
    "targets[].connection",
    "targets[].migration",
    "targets[].rawReaders",
    "targets[].readers",
    "targets[].schema",
];

/// Everything that is made of a spec.
#[derive(PartialEq)]
struct Built {
    document: Value,
    children: Vec<Child>,
    /// The pods of the target in the table, and those of the target beside it.
    processors: [Value; 2],
    producer: Option<Value>,
    /// The pods of both, were their image pinned.
    pinned: [Value; 2],
    /// What is noted of all three, were their images pinned.
    inputs: [Option<String>; 3],
    migration: String,
}

fn build(spec: &Value) -> Result<Built, String> {
    let mut spec = spec.clone();
    let beside = json!({
        "name": "beside", "schema": "beside",
        "connection": { "host": "pg", "database": "d", "user": "u" },
    });
    spec["targets"].as_array_mut().unwrap().push(beside);
    let resource: ClickstreamPipeline = serde_json::from_value(json!({
        "apiVersion": "clickstream.dev/v1alpha1",
        "kind": "ClickstreamPipeline",
        "metadata": { "name": "shop", "namespace": "web" },
        "spec": spec,
    }))
    .map_err(|error| error.to_string())?;
    let valid = validate(&resource).map_err(|all| format!("{all:?}"))?;
    let settings = settings();
    let mut children = Vec::new();
    let mut processors = Vec::new();
    for target in &valid.document.spec.targets {
        let made = super::super::target(&valid, target, &settings, &["clicks".to_owned()]);
        processors.push(made.deployment.body["spec"]["template"].clone());
        children.extend(made.all());
    }
    let producer = super::super::producer(&valid, &settings).into_iter();
    let producer: Vec<Child> = producer.flat_map(Deployed::all).collect();
    let template = |child: &Child| child.body["spec"]["template"].clone();
    let migration = migration(&valid, &valid.document.spec.targets[0], &settings, 0);
    let mut pinned = ValidatedPipeline::plain(valid.document.clone());
    let spec = &mut pinned.document.spec;
    spec.image.get_or_insert_with(|| "pinned".to_owned());
    let image = &mut spec.producer.image;
    image.get_or_insert_with(|| "pinned".to_owned());
    let [one, other] = &pinned.document.spec.targets[..] else {
        panic!("two targets");
    };
    let pinned_pods = [one, other].map(|target| {
        let made = super::super::target(&pinned, target, &settings, &["clicks".to_owned()]);
        made.deployment.body["spec"]["template"].clone()
    });
    Ok(Built {
        pinned: pinned_pods,
        inputs: [
            inputs::about_processors(&pinned, one, &settings),
            inputs::about_processors(&pinned, other, &settings),
            inputs::about_producer(&pinned, &settings),
        ],
        document: json!(valid.document),
        processors: processors.try_into().unwrap(),
        producer: producer.last().map(template),
        migration: migration_hash(&valid, &valid.document.spec.targets[0], &settings),
        children: [children, producer, migration].concat(),
    })
}

fn all_fields() -> Vec<Field> {
    let definition = json!(crate::crd::crd());
    let root = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    fields(&root["properties"]["spec"])
}

fn is_below(path: &str, parents: &[&str]) -> bool {
    parents.iter().any(|parent| {
        path.strip_prefix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// What a change from one spec to another does that the reference does not say.
fn wrong(field: &Field, before: &Built, after: &Built) -> Vec<String> {
    let path = field.path.as_str();
    let is_of_producer = path == "producer" || path.starts_with("producer.");
    let is_of_target = path.starts_with("targets[]");
    let rolls = |index: usize| before.processors[index] != after.processors[index];
    let mut wrong = Vec::new();
    let mut check = |what: &str, found: bool, wanted: bool| {
        if found != wanted {
            let verb = if found { "are" } else { "are not" };
            wrong.push(format!("{path}: {what} {verb} replaced"));
        }
    };
    // of what is refused alone nothing is ever built
    if field.is_live || field.is_rolling {
        check("processors", rolls(0), field.is_rolling && !is_of_producer);
        let others = field.is_rolling && !is_of_producer && !is_of_target;
        check("another target's processors", rolls(1), others);
        if let (Some(one), Some(another)) = (&before.producer, &after.producer) {
            let holds_read = READ_BY_THE_PRODUCER
                .iter()
                .any(|read| is_below(read, &[path]));
            let reads = is_of_producer || holds_read || is_below(path, &READ_BY_THE_PRODUCER);
            // it reads its document once, rules too
            let rolls = field.is_rolling || is_below(path, &RULES_OF_THE_PRODUCER);
            check("producers", one != another, rolls && reads);
        }
    }
    let noted = |index: usize| before.inputs[index] != after.inputs[index];
    for index in 0..2 {
        let rolls = before.pinned[index] != after.pinned[index];
        check("pinned processors", noted(index), rolls);
    }
    if let (Some(one), Some(another)) = (&before.producer, &after.producer) {
        check("pinned producers", noted(2), one != another);
    }
    let migrates = before.migration != after.migration;
    // how long it may take, and in what pod, is no part of what is migrated
    let how = [
        "targets[].migration.podTemplate",
        "targets[].migration.timeout",
    ];
    let holds_columns = path == "events";
    let what = holds_columns || is_below(path, &MIGRATES) && !is_below(path, &how);
    check("tables", migrates, what);
    if before.document == after.document {
        wrong.push(format!("{path}: the change changes nothing"));
    }
    wrong
}

#[test]
fn every_field_has_a_change_and_every_change_a_field() {
    let fields = all_fields();
    let leaves: BTreeSet<&str> = fields
        .iter()
        .filter(|field| field.is_leaf)
        .map(|field| field.path.as_str())
        .collect();
    let changes = changes();
    let changed: BTreeSet<&str> = changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(changed.len(), changes.len(), "a field is listed twice");
    let without: Vec<_> = leaves.difference(&changed).collect();
    assert!(without.is_empty(), "fields without a change: {without:#?}");
    let unknown: Vec<_> = changed.difference(&leaves).collect();
    assert!(unknown.is_empty(), "changes of no field: {unknown:#?}");
    for field in &fields {
        let Field {
            path,
            is_live,
            is_rolling,
            is_refused,
            ..
        } = field;
        assert!(
            is_live | is_rolling | is_refused,
            "{path} does not say what a change does"
        );
        assert!(!(is_live & is_rolling), "{path} says two things");
        let refused = changes
            .iter()
            .any(|change| change.path == *path && change.refused.is_some());
        assert!(!field.is_leaf || *is_refused == refused, "{path}: refused?");
    }
}

#[test]
fn a_change_of_a_field_replaces_the_pods_that_the_reference_says_and_no_others() {
    let changes = changes();
    let base = spec_of(&changes);
    let mut found = Vec::new();
    for field in all_fields().iter().filter(|field| field.is_leaf) {
        let change = changes
            .iter()
            .find(|change| change.path == field.path)
            .unwrap();
        let mut spec = base.clone();
        for path in &change.without {
            set(&mut spec, path, &Value::Null);
        }
        if is_below(&field.path, &HIDES_PRODUCER) {
            set(&mut spec, "producer.enabled", &json!(false));
        } else {
            show_producer(&mut spec);
        }
        let before = build(&spec).unwrap_or_else(|error| panic!("{}: {error}", field.path));
        set(&mut spec, &change.path, &change.another);
        let after = build(&spec).unwrap_or_else(|error| panic!("{}: {error}", field.path));
        found.extend(wrong(field, &before, &after));
        set(&mut spec, &change.path, &change.one);
        if build(&spec).ok().as_ref() != Some(&before) {
            found.push(format!("{}: back is another place", field.path));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_part_that_is_left_out_replaces_the_pods_that_the_reference_says_and_no_others() {
    let mut base = spec_of(&changes());
    show_producer(&mut base);
    let before = build(&base).unwrap();
    let mut found = Vec::new();
    let parts = all_fields();
    let parts = parts
        .iter()
        .filter(|field| !field.is_leaf && !field.is_required && !field.is_refused);
    for field in parts {
        let mut spec = base.clone();
        let own_image;
        let before = if field.is_live {
            // rules act on pods that run where the image is the operator's own
            set(&mut spec, "image", &Value::Null);
            own_image = build(&spec).unwrap();
            &own_image
        } else {
            &before
        };
        set(&mut spec, &field.path, &Value::Null);
        match build(&spec) {
            Ok(after) => found.extend(wrong(field, before, &after)),
            Err(error) => found.push(format!("{} left out: {error}", field.path)),
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
