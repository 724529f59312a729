//! The producer of synthetic clicks.

use serde_json::json;

use super::{
    Child, Deployed, Kind, config_map,
    deployment::rolled_by,
    labels, names,
    pod::{PodParts, service_account, template},
    tracing,
};
use crate::{controller::validate::ValidatedPipeline, settings::Settings};

/// Its Deployment, with ConfigMap and ServiceAccount. There is one producer and never two: each
/// would write the same events.
pub fn children(pipeline: &ValidatedPipeline, settings: &Settings) -> Deployed {
    let spec = &pipeline.document.spec;
    let name = names::child(&pipeline.name, &["producer"]);
    let labels = labels::of(pipeline, "producer", None);
    let document = config_map::for_producer(&pipeline.document);
    let config = config_map::of_pods(pipeline, &["producer"], &labels, &document);
    let secrets = spec.kafka.secret_keys();
    let hash = pipeline.hash_of(&config.body["data"], &secrets);
    let pod = spec.producer_pod();
    let account = service_account(&name, &labels, &pod.template);
    let template = template(
        PodParts {
            container: "producer",
            image: pipeline.producer_image(settings),
            args: vec!["generate".to_owned()],
            env: tracing::env(settings, &labels, &pod.template.env),
            default_resources: json!({
                "requests": { "cpu": "50m", "memory": "64Mi" },
                "limits": { "memory": "256Mi" },
            }),
            served: true,
            service_account: Some(&name),
            config_map: &config.name,
            document: config_map::Read::Once,
            secrets: &secrets,
            settings: pod,
            labels: &labels,
            annotations: rolled_by(pipeline, &hash),
            ends: false,
            extra: json!({ "terminationGracePeriodSeconds": 30 }),
        },
        settings,
    );
    let deployment = Child {
        kind: Kind::Deployment,
        name: name.clone(),
        body: json!({
            "metadata": { "labels": labels },
            "spec": {
                "replicas": u8::from(!spec.suspend),
                "revisionHistoryLimit": 3,
                "selector": { "matchLabels": labels::selector_of(&labels) },
                "strategy": { "type": "Recreate" },
                "template": template,
            },
        }),
    };
    Deployed {
        around: vec![account, config],
        deployment,
    }
}
