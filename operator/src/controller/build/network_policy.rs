//! Who may reach the pods of a pipeline, and what they may reach. In a namespace that refuses what no policy allows these are
//! all that is needed; in any other they refuse the rest.

use std::collections::BTreeSet;

use clickstream_pipeline::spec::{ConnectionSpec, KafkaSpec, TargetSpec};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use serde_json::{Map, Value, json};

use super::{
    Child, Kind, PIPELINE_LABEL, TARGET_LABEL, labels, names, pod::ADMIN_PORT_NAME, tracing,
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
    Some(policy(name, &labels, selected, egress, network, &traced))
}

/// The policy of a producer's pod.
pub fn of_producer(pipeline: &ValidatedPipeline, settings: &Settings) -> Option<Child> {
    let network = settings.network_policy.as_ref()?;
    let labels = labels::of(pipeline, "producer", None);
    let selected = labels::selector_of(&labels);
    let egress = vec![kafka(&pipeline.document.spec.kafka, network)];
    let name = names::child(&pipeline.name, &["producer"]);
    let pod = pipeline.document.spec.producer_pod();
    let traced = tracing::variables(settings, &pod.template.env);
    Some(policy(name, &labels, selected, egress, network, &traced))
}

fn policy(
    name: String,
    labels: &Map<String, Value>,
    selected: Value,
    egress: Vec<Value>,
    network: &Network,
    traced: &[(String, String)],
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
    rules.extend(collector(traced).map(|port| rule([port].into(), &[])));
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

/// The ports of the brokers to begin with; others that brokers advertise are for the operator's own rules.
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

/// The port of the Collector that spans go to.
fn collector(tracing: &[(String, String)]) -> Option<u16> {
    let (_, endpoint) = tracing
        .iter()
        .filter(|(name, _)| name.ends_with("_ENDPOINT"))
        .max_by_key(|(name, _)| name.contains("TRACES"))?;
    let endpoint: hyper::Uri = endpoint.trim().parse().ok()?;
    endpoint.port_u16().or(match endpoint.scheme_str() {
        Some("https") => Some(443),
        _ => Some(80),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_reached_at_the_port_of_its_address() {
        let port = |endpoint: &str| {
            collector(&[(
                "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
                endpoint.to_owned(),
            )])
        };
        assert_eq!(port("http://collector:4318"), Some(4318));
        assert_eq!(port("https://otel.example.com/v1"), Some(443));
        assert_eq!(port("http://[fd00::1]:4318/"), Some(4318));
        assert_eq!(collector(&[]), None);
    }

    #[test]
    fn nobody_is_let_in_unless_somebody_is_named() {
        let nobody = Network::default().or_operator_in(None);
        assert_eq!(nobody.from, []);
        let operator = Network::default().or_operator_in(Some("system"));
        assert_eq!(operator.from.len(), 1);
        assert_eq!(operator.clone().or_operator_in(Some("other")), operator);
    }
}
