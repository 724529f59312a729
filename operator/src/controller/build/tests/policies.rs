//! Who may reach pods, and whom they reach.

use super::*;

#[test]
fn every_pod_reaches_what_the_spec_names_and_is_reached_by_the_operator_alone() {
    let mut fetched = secrets("secret");
    let postgres = fetched.0.get_mut("postgres").unwrap().as_mut().unwrap();
    for (key, value) in [
        ("host", "pg"),
        ("dbname", "d"),
        ("username", "u"),
        ("port", "6432"),
    ] {
        postgres.insert(key.to_owned(), value.as_bytes().to_vec());
    }
    let mut document: Value = serde_yaml::from_str(MINIMAL).unwrap();
    document["spec"]["kafka"]["bootstrapServers"] = json!("a:9094,[fd00::1]:9095");
    document["spec"]["targets"][0]["migration"] = json!({ "connection": {
        "host": "direct", "port": 5433, "database": "d", "user": "owner",
    } });
    let resource: ClickstreamPipeline = serde_json::from_value(document).unwrap();
    let pipeline = validate(&resource).unwrap().with_values(fetched);
    let all = children(&pipeline);
    let policies: Vec<NetworkPolicy> = all
        .iter()
        .filter(|child| child.kind == Kind::NetworkPolicy)
        .map(|child| serde_json::from_value(child.body.clone()).unwrap())
        .collect();
    for child in &all {
        if !matches!(child.kind, Kind::Deployment | Kind::Job) {
            continue;
        }
        let component = child.body["metadata"]["labels"]["app.kubernetes.io/component"].clone();
        let labels = child.body["spec"]["template"]["metadata"]["labels"].clone();
        let selecting: Vec<_> = policies
            .iter()
            .filter_map(|policy| policy.spec.as_ref())
            .filter(|spec| {
                let wanted = spec.pod_selector.as_ref().unwrap().match_labels.as_ref();
                wanted
                    .unwrap()
                    .iter()
                    .all(|(key, value)| labels[key] == *value)
            })
            .collect();
        // what is in front of a migration is what is in front of processors
        assert!(!selecting.is_empty(), "{component}");
        assert!(
            selecting.iter().all(|spec| spec == &selecting[0]),
            "{component}"
        );
        let spec = selecting[0];
        assert_eq!(
            spec.policy_types,
            Some(vec!["Ingress".to_owned(), "Egress".to_owned()])
        );
        let ingress = json!(spec.ingress);
        assert_eq!(ingress.as_array().map(Vec::len), Some(1), "{component}");
        assert_eq!(
            ingress[0]["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
            "system"
        );
        let ports: Vec<String> = spec
            .egress
            .iter()
            .flatten()
            .flat_map(|rule| rule.ports.iter().flatten())
            .map(|port| format!("{} {}", json!(port.port), port.protocol.clone().unwrap()))
            .collect();
        let mut expected = vec![
            "53 UDP", "53 TCP", "5353 UDP", "5353 TCP", "9094 TCP", "9095 TCP",
        ];
        if component != "producer" {
            expected.extend(["5433 TCP", "6432 TCP"]);
        }
        assert_eq!(ports, expected, "{component}");
    }
    // a migration's pod can go nowhere before its policy is there
    let target_spec = &pipeline.document.spec.targets[0];
    let order: Vec<Kind> = migration(&pipeline, target_spec, &settings(), 0)
        .iter()
        .map(|child| child.kind)
        .collect();
    assert_eq!(order, [Kind::NetworkPolicy, Kind::ConfigMap, Kind::Job]);
    let order: Vec<Kind> = removal(&pipeline, target_spec, &settings())
        .iter()
        .map(|child| child.kind)
        .collect();
    assert_eq!(order, [Kind::NetworkPolicy, Kind::ConfigMap, Kind::Job]);
}

#[test]
fn traces_are_let_out_to_where_their_collector_is() {
    let collector =
        json!({ "name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel.o11y:4318" });
    let children = children(&pipeline(|document| {
        document["spec"]["podTemplate"] = json!({ "env": [collector] });
    }));
    let expected = json!({
        "ports": [{ "port": 4318, "protocol": "TCP" }],
        "to": [{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "o11y" } } }],
    });
    let policies = children
        .iter()
        .filter(|child| child.kind == Kind::NetworkPolicy);
    let rules = policies.map(|policy| policy.body["spec"]["egress"].as_array().unwrap());
    let rules: Vec<_> = rules.collect();
    assert!(rules.len() > 1);
    assert!(
        rules.iter().all(|rules| rules.contains(&expected)),
        "{rules:?}"
    );
}

#[test]
fn where_brokers_and_databases_are_can_be_said() {
    let mut settings = settings();
    let peers = json!({
        "from": [{ "namespaceSelector": { "matchLabels": { "team": "monitoring" } } }],
        "kafka": [{ "namespaceSelector": { "matchLabels": { "team": "kafka" } } }],
        "postgres": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }],
        "egress": [{ "ports": [{ "port": 31092, "protocol": "TCP" }] }],
    });
    let network: Network = serde_json::from_value(peers.clone()).unwrap();
    settings.network_policy = Some(network.or_operator_in(Some("system")));
    let pipeline = pipeline(|_| {});
    let around = target(
        &pipeline,
        &pipeline.document.spec.targets[0],
        &settings,
        &[],
    )
    .around;
    let policy = around
        .iter()
        .find(|child| child.kind == Kind::NetworkPolicy);
    let spec = &policy.unwrap().body["spec"];
    assert_eq!(spec["ingress"][0]["from"], peers["from"]);
    assert_eq!(spec["egress"][1]["to"], peers["kafka"]);
    assert_eq!(spec["egress"][2]["to"], peers["postgres"]);
    assert_eq!(spec["egress"][3], peers["egress"][0]);
    serde_json::from_value::<Network>(json!({ "form": [] })).unwrap_err();
}
