//! Pods that run on as they are, while their new version waits: for tables, for topics, or for the
//! pipeline's turn. How many there are, and what their Secrets say, does not wait with it.

use clickstream_protocol::{
    annotations::SECRETS_HASH,
    labels::{CONFIG_MAP, INPUTS, RELEASE, SECRETS},
};
use serde_json::{Value, json};

use super::targets::Wait;
use crate::{
    controller::{
        applier::{Changed, Owner},
        build::{
            Child, changes_in_place,
            children::{self, Secrets},
        },
        context::{Context, Error},
        workload::{Workload, workload},
    },
    kind::Kind,
    observe::asker::is_guarded,
    stores::Live,
};

/// Whether a child is kept up while pods run on as they are. What they read is theirs until they
/// roll, but for the rules in a document that they read again, and so is how Prometheus asks them:
/// both are only made again where somebody has deleted them. Pods that are pinned may never roll,
/// and people said the same about them when they were made, so they are scraped as the operator's
/// settings have it; unless they are older than what guards them.
pub fn follows(
    owner: &Owner,
    child: &Child,
    live: &Live,
    wait: &Wait<'_>,
    context: &Context,
) -> bool {
    let stores = &context.stores;
    let is_missing = || {
        stores
            .child(child.kind, &owner.namespace, &child.name)
            .is_none()
    };
    match child.kind {
        Kind::ConfigMap => {
            let is_theirs = live.labels.get(CONFIG_MAP) == Some(&child.name);
            let is_understood = is_of_version(live, context.upgrades.release());
            let may_change = changes_in_place(child) && is_understood && !wait.columns;
            is_theirs && (may_change || is_missing())
        }
        Kind::PodMonitor => wait.pinned && fits(owner, child, context) || is_missing(),
        _ => true,
    }
}

/// Whether pods are of the same version as a release, whatever settings stand on them: one of
/// another version may not know what the rules of today say, and would follow half of them.
fn is_of_version(live: &Live, release: &str) -> bool {
    let theirs = live.labels.get(RELEASE).and_then(|of| version(of));
    theirs.is_some() && theirs == version(release)
}

/// The version in the name of a release, without the hash of how it makes pods.
fn version(release: &str) -> Option<&str> {
    release.rsplit_once('-').map(|(version, _)| version)
}

/// Whether a PodMonitor asks the pods that run as they are to be asked.
fn fits(owner: &Owner, monitor: &Child, context: &Context) -> bool {
    let spec = &monitor.body["spec"];
    let labels = spec["selector"]["matchLabels"].as_object();
    let labels: Vec<_> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    let by_tls = spec["podMetricsEndpoints"][0]["scheme"] == "https";
    let pods = context.stores.pods(&owner.namespace, &owner.name, &labels);
    pods.iter().all(|pod| is_guarded(pod) == by_tls)
}

/// What is to be changed of a Deployment whose pods stay as they are otherwise. `inputs`: what
/// people say about its pods, where that has to be noted.
fn changes(
    live: &Live,
    replicas: i32,
    secrets: &Secrets,
    inputs: Option<&String>,
) -> Option<Value> {
    let mut change = json!({});
    if live.replicas != Some(replicas.into()) {
        change["spec"]["replicas"] = json!(replicas);
    }
    let noted = live.labels.get(SECRETS);
    if noted.is_some_and(|noted| secrets.differ_from(noted)) {
        change["spec"]["template"]["metadata"]["annotations"] =
            json!({ SECRETS_HASH: secrets.values });
        change["metadata"]["labels"] = json!({ SECRETS: secrets.noted() });
    }
    // made by a release that noted nothing: from now on a change is seen
    if noted.is_none() {
        change["metadata"]["labels"] = json!({ SECRETS: secrets.noted() });
    }
    if let Some(inputs) = inputs
        && !live.labels.contains_key(INPUTS)
    {
        change["metadata"]["labels"][INPUTS] = json!(inputs);
    }
    (change != json!({})).then_some(change)
}

/// Keeps a Deployment as it is, but for the number of its pods and for Secrets that have changed.
/// One that is pinned is told by what people say about it, which is noted where nothing was.
///
/// # Errors
/// What the API server says.
pub async fn go_on(
    owner: &Owner,
    live: &Live,
    wanted: &children::Workload,
    pinned: bool,
    context: &Context,
) -> Result<Workload, Error> {
    let inputs = wanted.inputs.as_ref().filter(|_| pinned);
    let Some(change) = changes(live, wanted.replicas, &wanted.secrets, inputs) else {
        return Ok(workload(live));
    };
    if owner.paused {
        return Ok(Workload {
            paused: true,
            ..workload(live)
        });
    }
    let adjusted = context
        .applier
        .adjust(owner, Kind::Deployment, live, change)
        .await;
    match adjusted {
        Ok(Changed::Done(adjusted)) => Ok(workload(&adjusted)),
        Ok(Changed::Refused(refused)) => Ok(Workload {
            refused: Some(refused),
            ..workload(live)
        }),
        // gone, or another one by now: the next look finds it so
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
            Ok(Workload::default())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use std::collections::BTreeMap;

    use super::*;
    use crate::controller::build::children::stamp;

    fn secrets(keys: &str, values: &str) -> Secrets {
        Secrets {
            keys: keys.to_owned(),
            values: values.to_owned(),
        }
    }

    fn live(replicas: i64, noted: Option<&str>) -> Live {
        let noted = noted.map(|noted| (SECRETS.to_owned(), noted.to_owned()));
        Live {
            fingerprint: String::new(),
            resource_version: String::new(),
            uid: String::new(),
            created: None,
            controller: None,
            labels: noted.into_iter().collect(),
            name: String::new(),
            generation: None,
            annotations: BTreeMap::new(),
            replicas: Some(replicas),
            deleting: false,
            status: Value::Null,
        }
    }

    #[test]
    fn rules_reach_pods_that_wait_only_where_they_are_of_the_operators_version() {
        let mut pods = live(1, None);
        assert!(
            !is_of_version(&pods, "0.2.0-a1"),
            "of a release that noted none"
        );
        for (theirs, is_same) in [("0.2.0-a1", true), ("0.2.0-b2", true), ("0.1.0-a1", false)] {
            pods.labels.insert(RELEASE.to_owned(), theirs.to_owned());
            assert_eq!(is_of_version(&pods, "0.2.0-a1"), is_same, "{theirs}");
        }
    }

    #[test]
    fn numbers_and_secrets_do_not_wait_and_everything_else_does() {
        let now = secrets("a", "1");
        assert_eq!(changes(&live(2, Some("a.1")), 2, &now, None), None);
        let scaled = changes(&live(2, Some("a.1")), 5, &now, None).unwrap();
        assert_eq!(scaled, json!({ "spec": { "replicas": 5 } }));
        let rotated = changes(&live(2, Some("a.0")), 2, &now, None).unwrap();
        let on_pods = &rotated["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(on_pods, &json!({ SECRETS_HASH: "1" }));
        assert_eq!(rotated["metadata"]["labels"], json!({ SECRETS: "a.1" }));
    }

    #[test]
    fn other_secrets_are_for_the_pods_that_read_them() {
        let now = secrets("b", "1");
        assert_eq!(changes(&live(2, Some("a.0")), 2, &now, None), None);
    }

    #[test]
    fn pods_of_a_release_that_noted_nothing_are_not_replaced_for_that() {
        let change = changes(&live(2, None), 2, &secrets("a", "1"), None).unwrap();
        assert_eq!(
            change,
            json!({ "metadata": { "labels": { SECRETS: "a.1" } } })
        );
        let inputs = "said".to_owned();
        let change = changes(&live(2, None), 2, &secrets("a", "1"), Some(&inputs)).unwrap();
        let labels = json!({ SECRETS: "a.1", INPUTS: "said" });
        assert_eq!(change, json!({ "metadata": { "labels": labels } }));
    }

    #[test]
    fn what_pods_were_made_from_is_noted_and_changes_nothing_of_them() {
        let mut deployment = Child {
            kind: Kind::Deployment,
            name: String::new(),
            body: json!({ "spec": { "replicas": 1, "template": { "image": "new" } } }),
        };
        let before = deployment.body["spec"].clone();
        let secrets = secrets("a", "1");
        stamp(
            &mut deployment,
            "0.1.0-abc",
            &secrets,
            "shop-main-1234",
            None,
        );
        assert_eq!(deployment.body["spec"], before);
        let noted = &deployment.body["metadata"]["labels"];
        assert_eq!(noted[CONFIG_MAP], "shop-main-1234");
        assert_eq!(noted[RELEASE], "0.1.0-abc");
    }
}
