//! Documents as pods are given them, word by word: the smallest pipeline, and one that sets every
//! field.
//!
//! Whatever changes here without a change of the resource gives every pipeline new pods when the
//! operator is upgraded, those too that are pinned to an image so that nothing rolls. A field more,
//! with its default, changes nothing.

use std::{fs, path::PathBuf};

use super::*;

const FULL: &str = include_str!("../../../../../services/pipeline/src/spec/tests/full.yaml");

fn full() -> ValidatedPipeline {
    let resource: ClickstreamPipeline = serde_yaml::from_str(FULL).unwrap();
    validate(&resource).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The documents of a pipeline's first target and its producer, by whose they are.
fn documents(pipeline: &ValidatedPipeline) -> Vec<(&'static str, Child)> {
    let target_spec = &pipeline.document.spec.targets[0];
    let settings = settings();
    let of = |children: Vec<Child>| {
        let mut maps = children.into_iter().filter(|it| it.kind == Kind::ConfigMap);
        maps.next().unwrap()
    };
    let created = ["clicks".to_owned()];
    // the full pipeline maps its events, beside which no producer runs
    let mut producing = ValidatedPipeline::plain(pipeline.document.clone());
    producing.document.spec.producer.enabled = true;
    let processor = target(pipeline, target_spec, &settings, &created).around;
    vec![
        ("processor", of(processor)),
        (
            "migration",
            of(migration(pipeline, target_spec, &settings, 0)),
        ),
        (
            "producer",
            of(producer(&producing, &settings).unwrap().around),
        ),
    ]
}

#[test]
fn the_documents_of_pods_are_those_that_are_written_down() {
    let dir = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/controller/build/tests/documents"
    ));
    for (size, pipeline) in [("minimal", pipeline(|_| {})), ("full", full())] {
        for (component, map) in documents(&pipeline) {
            let path = dir.join(format!("{size}-{component}.yaml"));
            let text = map.body["data"]["pipeline.yaml"].as_str().unwrap();
            if std::env::var_os("CLICKSTREAM_UPDATE").is_some() {
                fs::write(&path, text).unwrap();
            }
            let known = fs::read_to_string(&path).unwrap();
            assert_eq!(
                known,
                text,
                "{}: pods of every pipeline would be replaced; if they have to be, write it with CLICKSTREAM_UPDATE=1",
                path.display()
            );
        }
    }
}

/// Names of all documents, each of which is mounted by one pod; and how often the pods of
/// processors are replaced.
fn mounted(pipeline: &ValidatedPipeline) -> (Vec<String>, Vec<Child>) {
    let mut all = children(pipeline);
    all.retain(|child| matches!(child.kind, Kind::ConfigMap | Kind::Deployment | Kind::Job));
    let (maps, pods): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|child| child.kind == Kind::ConfigMap);
    let mut mounted: Vec<_> = pods
        .iter()
        .map(|child| {
            let volumes = &child.body["spec"]["template"]["spec"]["volumes"];
            volumes[0]["configMap"]["name"].as_str().unwrap().to_owned()
        })
        .collect();
    let mut names: Vec<_> = maps.iter().map(|map| map.name.clone()).collect();
    names.sort();
    mounted.sort();
    assert_eq!(names, mounted);
    (names, maps)
}

/// A pipeline whose image is named, and may be of a release that reads its document once.
fn pinned(change: Value) -> ValidatedPipeline {
    pipeline(move |document| {
        document["spec"]["image"] = json!("processor:1");
        for (field, value) in change.as_object().unwrap() {
            document["spec"][field] = value.clone();
        }
    })
}

#[test]
fn the_document_of_an_image_that_is_named_never_changes_under_its_name() {
    let of = |pipeline: &ValidatedPipeline| {
        let (names, maps) = mounted(pipeline);
        assert!(maps.iter().all(|map| map.body["immutable"] == true));
        names
    };
    let before = of(&pinned(json!({})));
    assert_eq!(before.len(), 3);
    let late = of(&pinned(json!({ "watermark": { "idleTimeout": "20s" } })));
    let kept: Vec<_> = late.iter().filter(|name| before.contains(name)).collect();
    assert_eq!(kept.len(), 1, "the producer reads nothing of it: {kept:?}");
    let other = of(&pinned(json!({ "lateEvents": { "policy": "Drop" } })));
    let kept: Vec<_> = other.iter().filter(|name| before.contains(name)).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
}

#[test]
fn rules_change_in_the_document_of_the_operators_own_image_and_anything_else_makes_another() {
    let of = |change: Value| {
        let built = pipeline(move |document| {
            for (field, value) in change.as_object().unwrap() {
                document["spec"][field] = value.clone();
            }
        });
        let (_, mut maps) = mounted(&built);
        maps.retain(changes_in_place);
        let processors = maps.pop().unwrap();
        assert_eq!(maps.len(), 0);
        let spec = &built.document.spec.targets[0];
        let pods = target(&built, spec, &settings(), &[]).deployment;
        (processors, pods.body["spec"]["template"].clone())
    };
    let (document, pods) = of(json!({}));
    let rules = json!({ "lateEvents": { "policy": "Drop" }, "watermark": { "delay": "1s" } });
    let (with_rules, same_pods) = of(rules);
    assert_eq!(document.name, with_rules.name);
    assert_ne!(document.body["data"], with_rules.body["data"]);
    assert_eq!(pods, same_pods);
    let (other, other_pods) = of(json!({ "watermark": { "idleTimeout": "20s" } }));
    assert_ne!(document.name, other.name);
    assert_ne!(pods, other_pods);
    // a single file would never be brought up to date
    let mount = &pods["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["subPath"], Value::Null);
    assert_eq!(mount["mountPath"], "/etc/clickstream/pipeline");
}
