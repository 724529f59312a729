//! The Jobs of migrations.

use super::*;

#[test]
fn a_migration_belongs_to_image_and_target_and_to_nothing_that_changes_often() {
    let of = |pipeline: &ValidatedPipeline| {
        migration_hash(pipeline, &pipeline.document.spec.targets[0], &settings())
    };
    let before = of(&pipeline(|_| {}));
    assert_eq!(
        before,
        of(&with_password("another", |document| {
            document["spec"]["processor"] = json!({ "replicas": 9, "labels": { "team": "web" } });
        }))
    );
    assert_ne!(
        before,
        of(&pipeline(
            |document| document["spec"]["image"] = json!("processor:2")
        ))
    );
    assert_ne!(
        before,
        of(&pipeline(
            |document| document["spec"]["targets"][0]["schema"] = json!("other")
        ))
    );
    let promoting = |name: &str| {
        of(&pipeline(|document| {
            let column = json!({ "name": name, "pointer": "/plan", "type": "Text" });
            document["spec"]["events"] = json!({ "columns": [column] });
        }))
    };
    assert_ne!(before, promoting("plan"));
    assert_ne!(promoting("tariff"), promoting("plan"));
    let again = pipeline(|_| {});
    let target = &again.document.spec.targets[0];
    let names = |attempt| {
        let job = migration(&again, target, &settings(), attempt).pop();
        job.unwrap().name
    };
    assert_ne!(names(0), names(1), "a new attempt is a new Job");
}

#[test]
fn the_time_that_a_migration_may_take_is_the_jobs_and_makes_no_other_migration() {
    let timed = |timeout: Value| {
        pipeline(|document| {
            document["spec"]["targets"][0]["migration"] = json!({ "timeout": timeout });
        })
    };
    let seconds = |pipeline: &ValidatedPipeline| {
        let target = &pipeline.document.spec.targets[0];
        let job = migration(pipeline, target, &settings(), 0).pop().unwrap();
        job.body["spec"]["activeDeadlineSeconds"].as_u64().unwrap()
    };
    let of = |pipeline: &ValidatedPipeline| {
        migration_hash(pipeline, &pipeline.document.spec.targets[0], &settings())
    };
    let (plain, long) = (pipeline(|_| {}), timed(json!("2h")));
    assert_eq!((seconds(&plain), seconds(&long)), (600, 7200));
    assert_eq!(of(&plain), of(&long));
    let inputs = |pipeline: &ValidatedPipeline| {
        migration_inputs(pipeline, &pipeline.document.spec.targets[0])
    };
    assert_ne!(
        inputs(&plain),
        inputs(&long),
        "one that failed is tried again at once"
    );
    // an older image does not know the field
    let target = &long.document.spec.targets[0];
    let text = format!("{:?}", migration(&long, target, &settings(), 0));
    assert!(!text.contains("timeout"), "{text}");
}

#[test]
fn no_proxy_of_a_mesh_keeps_a_job_from_its_end() {
    let pipeline = pipeline(|_| {});
    let target_spec = &pipeline.document.spec.targets[0];
    let jobs = [
        migration(&pipeline, target_spec, &settings(), 0),
        removal(&pipeline, target_spec, &settings()),
    ];
    for job in jobs.map(|mut children| children.pop().unwrap()) {
        let meta = &job.body["spec"]["template"]["metadata"];
        assert_eq!(meta["labels"]["sidecar.istio.io/inject"], "false");
        assert_eq!(meta["annotations"]["linkerd.io/inject"], "disabled");
    }
    // processors may have one
    let template = &target(&pipeline, target_spec, &settings(), &[])
        .deployment
        .body["spec"];
    assert!(!template.to_string().contains("inject"));
}
