//! What people say about pods with a pinned image.

use super::{
    super::inputs::{self, Inputs},
    *,
};
use crate::guarding::Guarding;

/// What is noted of the pods of `pinned.yaml`, and the text that it is a hash of. They stand on
/// Deployments of all releases: with another value every pinned pod there is would be taken for one
/// whose spec a person has changed, and be replaced with the operator. So nothing here is ever
/// brought in line with the code; the code goes on saying the same of a spec that says the same. A
/// field that is new is left out where nobody has set it. Whoever has to change a value all the
/// same says in the changelog that pinned pods are replaced.
const FIXED: [(&str, &str); 2] = [
    ("709aedc9", include_str!("inputs/processors.json")),
    ("63a3e0a6", include_str!("inputs/producer.json")),
];

fn fixed() -> ValidatedPipeline {
    let resource: ClickstreamPipeline =
        serde_yaml::from_str(include_str!("inputs/pinned.yaml")).unwrap();
    validate(&resource).unwrap()
}

#[test]
fn what_is_noted_of_a_fixed_spec_stays_as_it_is() {
    let pinned = fixed();
    let settings = settings();
    let target = &pinned.document.spec.targets[0];
    let Inputs {
        processors,
        producer,
    } = Inputs::of(&pinned, &settings);
    let said = [
        inputs::about_processors(&pinned, target, &settings),
        inputs::about_producer(&pinned, &settings),
    ];
    let noted = [processors[0].clone(), producer];
    let said = said.map(Option::unwrap);
    assert_eq!(said, FIXED.map(|(_, text)| text.trim_end()));
    assert_eq!(noted.map(Option::unwrap), FIXED.map(|(hash, _)| hash));
}

#[test]
fn inputs_are_worked_out_again_for_whatever_they_are_made_of() {
    let before = fixed();
    let digest = Inputs::digest(&before).unwrap();
    let mut restarted = fixed();
    restarted.asked.restart_at = None;
    let mut scaled = fixed();
    scaled.document.spec.processor.replicas = 9;
    let mut slower = fixed();
    slower.document.spec.producer.rate = 1;
    for changed in [restarted, scaled, slower] {
        assert_ne!(Inputs::digest(&changed).unwrap(), digest);
    }
    assert_eq!(Inputs::digest(&fixed()).unwrap(), digest);
    let plain = pipeline(|_| {});
    assert_eq!(Inputs::digest(&plain), None);
    let nothing = Inputs::of(&plain, &settings());
    assert_eq!((nothing.processors, nothing.producer), (vec![None], None));
}

#[test]
fn a_pinned_image_is_the_only_setting_of_the_operator_that_changes_nothing() {
    let pinned = pipeline(|document| {
        document["spec"]["image"] = json!("processor:pinned");
        document["spec"]["producer"] = json!({ "enabled": true, "image": "producer:pinned" });
    });
    let target = &pinned.document.spec.targets[0];
    let of = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        let template = |child: &Child| child.body["spec"]["template"].clone();
        let templates = [
            template(&super::super::target(&pinned, target, &settings, &[]).deployment),
            template(&producer(&pinned, &settings).unwrap().deployment),
        ];
        let inputs = [
            inputs::about_processors(&pinned, target, &settings),
            inputs::about_producer(&pinned, &settings),
        ];
        (inputs.map(Option::unwrap), templates)
    };
    let (inputs, templates) = of(&|_| {});
    let changes: [&dyn Fn(&mut Settings); 8] = [
        &|settings| settings.processor_image = "processor:2".to_owned(),
        &|settings| settings.producer_image = "producer:2".to_owned(),
        &|settings| settings.network_policy = None,
        &|settings| settings.pod_monitor = None,
        &|settings| settings.image_pull_policy = "Always".to_owned(),
        &|settings| settings.image_pull_secrets.clear(),
        &|settings| settings.guarding = Guarding::new("tls", "scrape", "token").unwrap(),
        &|settings| settings.tracing = vec![("OTEL_SERVICE_NAME".to_owned(), "x".to_owned())],
    ];
    for (index, change) in changes.iter().enumerate() {
        let (changed, made) = of(change);
        for pods in 0..2 {
            assert_eq!(
                changed[pods] != inputs[pods],
                made[pods] != templates[pods],
                "change {index} of pods {pods}"
            );
        }
    }
}

#[test]
fn nothing_is_noted_of_an_image_that_is_the_operators() {
    let plain = pipeline(|document| document["spec"]["producer"] = json!({ "enabled": true }));
    let target = &plain.document.spec.targets[0];
    assert_eq!(inputs::about_processors(&plain, target, &settings()), None);
    assert_eq!(inputs::about_producer(&plain, &settings()), None);
}
