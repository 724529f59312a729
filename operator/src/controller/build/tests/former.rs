//! What was stored before there was a `podTemplate` is built as it was then, byte for byte: no pod
//! of it is replaced.

use std::{fs, path::PathBuf};

use super::*;

const PIPELINE: &str = include_str!("former/pipeline.yaml");

fn built(pipeline: &ValidatedPipeline) -> Value {
    let mut all = Vec::new();
    for target_spec in &pipeline.document.spec.targets {
        let made = target(pipeline, target_spec, &settings(), &["clicks".to_owned()]);
        all.extend(made.all());
        all.extend(migration(pipeline, target_spec, &settings(), 0));
        all.extend(removal(pipeline, target_spec, &settings()));
    }
    let producer = producer(pipeline, &settings()).into_iter();
    all.extend(producer.flat_map(Deployed::all));
    let written = all.iter().map(|child| {
        let kind = child.kind.names().kind;
        json!({ "kind": kind, "name": child.name, "body": child.body })
    });
    written.collect()
}

#[test]
fn what_was_stored_before_pod_templates_is_built_as_it_was() {
    let path = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/controller/build/tests/former/children.yaml"
    ));
    let former: ClickstreamPipeline = serde_yaml::from_str(PIPELINE).unwrap();
    let former = validate(&former).unwrap_or_else(|p| panic!("{p:?}"));
    // of pods whose image follows the operator's release nothing is promised: they are replaced
    // with it
    let image = settings().processor_image;
    let minimal = pipeline(|document| document["spec"]["image"] = json!(image));
    let both = json!({ "minimal": built(&minimal), "full": built(&former) });
    let text = serde_yaml::to_string(&both).unwrap();
    if std::env::var_os("CLICKSTREAM_FORMER").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap();
    let read: Value = serde_yaml::from_str(&known).unwrap();
    for (size, children) in read.as_object().unwrap() {
        for (index, child) in children.as_array().unwrap().iter().enumerate() {
            assert_eq!(&both[size][index], child, "{size}");
        }
    }
    assert_eq!(known, text);
}
