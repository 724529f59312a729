//! Documents as pods are given them, word by word: the smallest pipeline, and one that sets every field.
//!
//! Whatever changes here without a change of the resource gives every pipeline new pods when the operator is upgraded, those too
//! that are pinned to an image so that nothing rolls. A field more, with its default, changes nothing.

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
    let processor = target(pipeline, target_spec, &settings, &created).around;
    vec![
        ("processor", of(processor)),
        (
            "migration",
            of(migration(pipeline, target_spec, &settings, 0)),
        ),
        (
            "producer",
            of(producer(pipeline, &settings).unwrap().around),
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

#[test]
fn a_document_never_changes_under_its_name_and_pods_mount_theirs() {
    let of = |pipeline: &ValidatedPipeline| {
        let mut all = children(pipeline);
        all.retain(|child| matches!(child.kind, Kind::ConfigMap | Kind::Deployment | Kind::Job));
        let mut mounted: Vec<_> = all
            .iter()
            .filter(|child| child.kind != Kind::ConfigMap)
            .map(|child| {
                let volumes = &child.body["spec"]["template"]["spec"]["volumes"];
                volumes[0]["configMap"]["name"].as_str().unwrap().to_owned()
            })
            .collect();
        all.retain(|child| child.kind == Kind::ConfigMap);
        assert!(all.iter().all(|map| map.body["immutable"] == true));
        let mut names: Vec<_> = all.iter().map(|map| map.name.clone()).collect();
        names.sort();
        mounted.sort();
        assert_eq!(names, mounted);
        names
    };
    let before = of(&pipeline(|_| {}));
    assert_eq!(before.len(), 3);
    assert_eq!(before, of(&with_password("another", |_| {})));
    let late = of(&pipeline(|document| {
        document["spec"]["watermark"] = json!({ "idleTimeout": "20s" });
    }));
    let kept: Vec<_> = late.iter().filter(|name| before.contains(name)).collect();
    assert_eq!(kept.len(), 1, "the producer reads nothing of it: {kept:?}");
}
