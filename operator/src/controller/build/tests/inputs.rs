//! What people say about pods with a pinned image.

use super::{super::inputs, *};
use crate::guarding::Guarding;

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
            template(producer(&pinned, &settings).last().unwrap()),
        ];
        let inputs = [
            inputs::of_processors(&pinned, target, &settings),
            inputs::of_producer(&pinned, &settings),
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
    assert_eq!(inputs::of_processors(&plain, target, &settings()), None);
    assert_eq!(inputs::of_producer(&plain, &settings()), None);
}
