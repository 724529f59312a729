#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use clickstream_pipeline::spec::ClickstreamPipeline as Document;

use super::*;
use crate::controller::allowed::Allowed;

const DOCUMENT: &str = "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: { name: shop, namespace: web }
spec:
  kafka: { bootstrapServers: 'kafka:9092' }
  targets: [{ connection: { secret: { name: postgres } } }]
";

fn settings(image: &str, allowed: &[&str]) -> Settings {
    let allowed: Vec<_> = allowed.iter().map(|&image| image.to_owned()).collect();
    Settings {
        processor_image: image.to_owned(),
        producer_image: "producer:1".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        image_pull_secrets: Vec::new(),
        cluster: "cluster".to_owned(),
        installation: None,
        network_policy: None,
        pod_monitor: None,
        guarding: None,
        tracing: Vec::new(),
        allowed: Allowed::new(&allowed, &[], &[], None).unwrap(),
    }
}

/// Whoever may write the status could otherwise have the operator run any image.
#[test]
fn what_ran_goes_on_with_an_image_of_before_that_is_allowed() {
    let valid = ValidatedPipeline::plain(Document::from_yaml(DOCUMENT).unwrap());
    let target = &valid.document.spec.targets[0];
    let before = |image: &str, allowed: &[&str]| {
        let hash = build::migration_hash(&valid, target, &settings(image, &[]));
        let recorded = MigrationStatus {
            image: image.to_owned(),
            hash,
        };
        super::before(
            &recorded,
            &valid,
            target,
            &settings("r.example.com/processor:2", allowed),
        )
    };
    let own = "r.example.com/processor:1";
    for (image, allowed) in [
        (own, [].as_slice()),
        ("evil:1", &[]),
        (own, &["r.example.com/team"]),
        ("r.example.com/team/a:1", &["r.example.com/team"]),
    ] {
        assert_eq!(before(image, allowed).as_deref(), Some(image));
    }
    assert_eq!(before("evil:1", &["r.example.com/team"]), None);
}
