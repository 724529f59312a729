//! The Job that migrates a target's schema before processors of a new version start.

use clickstream_pipeline::spec::{MigrationSpec, PodTemplateSpec, TargetSpec};
use clickstream_protocol::{
    annotations::MIGRATION_INPUTS,
    labels::{MIGRATION_ATTEMPT, MIGRATION_HASH},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    Child, Kind, config_map, labels, names, network_policy,
    pod::{PodParts, service_account, template},
};
use crate::{controller::validate::ValidatedPipeline, settings::Settings};

/// How long a migration may take unless the spec says otherwise, in seconds.
const TIMEOUT: u64 = 600;

/// The Job of the migration that a target needs, and before it its ConfigMap. `attempt` makes a new
/// Job after one has failed.
pub fn migration(
    pipeline: &ValidatedPipeline,
    target: &TargetSpec,
    settings: &Settings,
    attempt: u32,
) -> Vec<Child> {
    let hash = migration_hash(pipeline, target, settings);
    let labels = [
        (MIGRATION_HASH.to_owned(), json!(hash)),
        (MIGRATION_ATTEMPT.to_owned(), json!(attempt.to_string())),
    ];
    let parts = ["migrate", &hash, &attempt.to_string()];
    job(pipeline, target, settings, &parts, labels)
}

/// A hash of image and target: a migration of this hash that succeeded is not run again.
pub fn migration_hash(
    pipeline: &ValidatedPipeline,
    target: &TargetSpec,
    settings: &Settings,
) -> String {
    hash(pipeline, target, pipeline.processor_image(settings))
}

/// The Job that drops a target's tables, and its ConfigMap.
pub fn removal(
    pipeline: &ValidatedPipeline,
    target: &TargetSpec,
    settings: &Settings,
) -> Vec<Child> {
    job(pipeline, target, settings, &["drop"], [])
}

/// A Job that runs one command of the processor, named by the first of `parts`, and its ConfigMap.
fn job(
    pipeline: &ValidatedPipeline,
    target: &TargetSpec,
    settings: &Settings,
    parts: &[&str],
    more_labels: impl IntoIterator<Item = (String, Value)>,
) -> Vec<Child> {
    let command = parts[0];
    let mut named = vec![target.name.as_str()];
    named.extend(parts);
    let name = names::child(&pipeline.name, &named);
    let mut labels = labels::of(pipeline, "migration", Some(&target.name));
    labels.extend(more_labels);
    let document = config_map::for_target(&pipeline.document, target);
    let config = config_map::of_pods(pipeline, &named, &labels, &document);
    let secrets = target.migration_secret_keys();
    let pod = pipeline.document.spec.migration_pod(target);
    // an account of its own only where there is something to say of it
    let needs_account = pod.template.service_account_name.is_none()
        && !pod.template.service_account_annotations.is_empty();
    let account = needs_account.then(|| {
        let name = names::child(&pipeline.name, &[&target.name, "migration"]);
        service_account(&name, &labels, &pod.template)
    });
    let template = template(
        PodParts {
            container: "migrate",
            image: pipeline.processor_image(settings),
            args: vec![command.to_owned()],
            env: env(pipeline, target, settings, command),
            default_resources: json!({
                "requests": { "cpu": "50m", "memory": "32Mi" },
                "limits": { "memory": "128Mi" },
            }),
            served: false,
            service_account: account.as_ref().map(|account| account.name.as_str()),
            config_map: &config.name,
            document: config_map::Read::Once,
            secrets: &secrets,
            settings: pod,
            labels: &labels,
            annotations: Map::new(),
            ends: true,
            extra: json!({ "restartPolicy": "Never" }),
        },
        settings,
    );
    let job = Child {
        kind: Kind::Job,
        name,
        body: json!({
            "metadata": {
                "labels": labels,
                "annotations": { MIGRATION_INPUTS: migration_inputs(pipeline, target) },
            },
            "spec": {
                // the operator repeats it, at once when spec or Secret change
                "backoffLimit": 0,
                // a server that does not answer is one failure more, not a Job for ever
                "activeDeadlineSeconds": target.migration.timeout.map_or(TIMEOUT, |timeout| timeout.to_std().as_secs()),
                "template": template,
            },
        }),
    };
    // before the pod that needs it: with tables that are not there yet nothing else is applied
    let policy = network_policy::of_target(pipeline, target, settings);
    let before = policy.into_iter().chain(account);
    before.chain([config, job]).collect()
}

fn env(
    pipeline: &ValidatedPipeline,
    target: &TargetSpec,
    settings: &Settings,
    command: &str,
) -> Vec<Value> {
    let mut env = vec![
        json!({ "name": "CLICKSTREAM_TARGET", "value": target.name }),
        json!({ "name": "CLICKSTREAM_CLUSTER", "value": settings.cluster }),
        json!({ "name": "CLICKSTREAM_MIGRATION_REPORT", "value": "/dev/termination-log" }),
    ];
    let from = pipeline.asked.take_over_from.as_ref();
    // nobody drops the tables of others
    if let Some(from) = from.filter(|_| command == "migrate") {
        env.push(json!({ "name": "CLICKSTREAM_TAKE_OVER_FROM", "value": from }));
    }
    env
}

/// A hash of everything that may have made an attempt fail: the spec and the Secrets.
pub fn migration_inputs(pipeline: &ValidatedPipeline, target: &TargetSpec) -> String {
    let document = config_map::for_target(&pipeline.document, target);
    let document = &pipeline.texts.of(&document).whole;
    let document = match target.migration.timeout {
        Some(timeout) => json!([document, timeout]),
        None => json!(document),
    };
    // a proxy, an account or a volume may be what it lacked
    let pod = pipeline.document.spec.migration_template(target);
    let document = if pod.is_default() {
        document
    } else {
        json!([document, pod])
    };
    // a schema that was refused may be taken over now
    let document = match &pipeline.asked.take_over_from {
        Some(from) => json!([document, from]),
        None => document,
    };
    pipeline.hash_of(&document, &target.migration_secret_keys())
}

/// The migrations belong to the image. They add promoted columns and grant who may read, so both
/// count; how long they may take, what their pods are like, and how long rows are kept, does not.
fn hash(pipeline: &ValidatedPipeline, target: &TargetSpec, image: &str) -> String {
    let mut hash = Sha256::new();
    let how = MigrationSpec {
        timeout: None,
        pod_template: PodTemplateSpec::default(),
        ..target.migration.clone()
    };
    let mut wanted: Value = json!({
        "image": image,
        "connection": target.connection,
        "migration": how,
        "schema": target.schema,
        "readers": target.readers,
        "owner": format!("{}/{}", pipeline.namespace, pipeline.name),
    });
    // where there are none the hash is that of releases before the field: a pipeline that is pinned
    // to one is left alone
    if !target.raw_readers.is_empty() {
        wanted["rawReaders"] = json!(target.raw_readers);
    }
    // they are added before processors write them; a spec that promotes nothing has the hash of
    // before
    let columns = &pipeline.document.spec.events.columns;
    if !columns.is_empty() {
        wanted["columns"] = json!(columns);
    }
    // a person wants it to run once more
    if let Some(at) = &pipeline.asked.migrate_at {
        wanted["migrateAt"] = json!(at);
    }
    hash.update(wanted.to_string());
    crate::hash::short_hash(&hash.finalize())
}
