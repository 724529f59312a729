//! Who may reach the pods of a pipeline, and what they may reach. In a namespace that refuses what
//! no policy allows these are all that is needed; in any other they refuse the rest.

use std::collections::BTreeSet;

use clickstream_pipeline::spec::{ConnectionSpec, KafkaSpec, TargetSpec};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use serde_json::{Map, Value, json};

use super::{
    Child, Kind, PIPELINE_LABEL, TARGET_LABEL, collector, labels, names, pod::ADMIN_PORT_NAME,
    tracing,
};
use crate::{
    controller::validate::ValidatedPipeline,
    settings::{Network, Settings},
};

/// PostgreSQL's own port.
const POSTGRES: u16 = 5432;

/// The policy of a target's pods: processors, migrations, audits.
pub fn of_target(
    pipeline: &ValidatedPipeline,
    target: &TargetSpec,
    settings: &Settings,
) -> Option<Child> {
    let network = settings.network_policy.as_ref()?;
    let databases: BTreeSet<u16> = [&target.connection, target.migration_connection()]
        .map(|connection| postgres_port(connection, pipeline))
        .into();
    let selected = json!({ PIPELINE_LABEL: pipeline.name, TARGET_LABEL: target.name });
    let mut egress = vec![kafka(&pipeline.document.spec.kafka, network)];
    egress.push(rule(databases, &network.postgres));
    let labels = labels::of(pipeline, "processor", Some(&target.name));
    let name = names::child(&pipeline.name, &[&target.name]);
    let pod = pipeline.document.spec.processor_pod();
    let traced = tracing::variables(settings, &pod.template.env);
    egress.extend(collector::rule(&traced, &pipeline.namespace, network));
    Some(policy(name, &labels, selected, egress, network))
}

/// The policy of a producer's pod.
pub fn of_producer(pipeline: &ValidatedPipeline, settings: &Settings) -> Option<Child> {
    let network = settings.network_policy.as_ref()?;
    let labels = labels::of(pipeline, "producer", None);
    let selected = labels::selector_of(&labels);
    let mut egress = vec![kafka(&pipeline.document.spec.kafka, network)];
    let name = names::child(&pipeline.name, &["producer"]);
    let pod = pipeline.document.spec.producer_pod();
    let traced = tracing::variables(settings, &pod.template.env);
    egress.extend(collector::rule(&traced, &pipeline.namespace, network));
    Some(policy(name, &labels, selected, egress, network))
}

fn policy(
    name: String,
    labels: &Map<String, Value>,
    selected: Value,
    egress: Vec<Value>,
    network: &Network,
) -> Child {
    // an empty list of peers would stand for everybody
    let ingress = if network.from.is_empty() {
        json!([])
    } else {
        json!([{
            "from": network.from,
            "ports": [{ "port": ADMIN_PORT_NAME, "protocol": "TCP" }],
        }])
    };
    let mut rules = vec![dns()];
    rules.extend(egress);
    rules.extend(network.egress.iter().map(|more| json!(more)));
    Child {
        kind: Kind::NetworkPolicy,
        name,
        body: json!({
            "metadata": { "labels": labels },
            "spec": {
                "podSelector": { "matchLabels": selected },
                "policyTypes": ["Ingress", "Egress"],
                "ingress": ingress,
                "egress": rules,
            },
        }),
    }
}

/// Policies see the port behind a Service: 5353 is where OpenShift's DNS listens.
fn dns() -> Value {
    let ports: Vec<Value> = [53, 5353]
        .into_iter()
        .flat_map(|port| {
            ["UDP", "TCP"].map(|protocol| json!({ "port": port, "protocol": protocol }))
        })
        .collect();
    json!({ "ports": ports })
}

fn rule(ports: BTreeSet<u16>, peers: &[NetworkPolicyPeer]) -> Value {
    let ports: Vec<Value> = ports
        .into_iter()
        .map(|port| json!({ "port": port, "protocol": "TCP" }))
        .collect();
    let mut rule = json!({ "ports": ports });
    if !peers.is_empty() {
        rule["to"] = json!(peers);
    }
    rule
}

/// The ports of the brokers to begin with; others that brokers advertise are for the operator's own
/// rules. Where brokers are is not read from their names, unlike a Collector's: those that one
/// names tell where the others are.
fn kafka(kafka: &KafkaSpec, network: &Network) -> Value {
    let brokers = kafka.bootstrap_servers.split(',');
    let ports = brokers.filter_map(|broker| broker.rsplit_once(':')?.1.parse().ok());
    rule(ports.collect(), &network.kafka)
}

fn postgres_port(connection: &ConnectionSpec, pipeline: &ValidatedPipeline) -> u16 {
    // what is missing is told where the connection is needed
    let port = connection
        .port
        .or_else(|| pipeline.secrets.port(connection));
    port.unwrap_or(POSTGRES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_let_in_unless_somebody_is_named() {
        let nobody = Network::default().or_operator_in(None);
        assert_eq!(nobody.from, []);
        let operator = Network::default().or_operator_in(Some("system"));
        assert_eq!(operator.from.len(), 1);
        assert_eq!(operator.clone().or_operator_in(Some("other")), operator);
    }
}
