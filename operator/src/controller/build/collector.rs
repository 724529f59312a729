//! Where a Collector is, as a policy names it. Traces go to one address, so their way out can be as
//! narrow as that is known.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::settings::Network;

/// Where traces go, the more particular name first: the one that counts.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
/// The names of Services end in this, or in their cluster's domain, which nobody tells the
/// operator. This one is the default.
const DOMAIN: &str = "cluster.local";

/// What ends a name of two parts that is none of `service.namespace`, unless somebody calls a
/// namespace so: names of networks at home and in firms (RFC 6762, appendix G; RFC 8375), of
/// examples, and the largest domains.
const OUTSIDE: [&str; 12] = [
    "arpa", "com", "corp", "example", "home", "internal", "intranet", "lan", "local", "net", "org",
    "private",
];

/// Where something is.
#[derive(Debug, PartialEq, Eq)]
enum Place<'e> {
    /// In the pod itself.
    Here,
    Address(IpAddr),
    Namespace(&'e str),
    /// Outside, or where its name does not say: policies know no names.
    Anywhere,
}

/// The rule that lets a pod of this namespace reach the Collector that its variables name.
pub fn rule(variables: &[(String, String)], namespace: &str, network: &Network) -> Option<Value> {
    let endpoint = ENDPOINTS.iter().find_map(|wanted| {
        let mut found = variables.iter().filter(|(name, _)| name == wanted);
        found.next_back()
    });
    let endpoint: hyper::Uri = endpoint?.1.trim().parse().ok()?;
    let port = endpoint.port_u16().or(match endpoint.scheme_str() {
        Some("https") => Some(443),
        _ => Some(80),
    });
    let mut rule = json!({ "ports": [{ "port": port?, "protocol": "TCP" }] });
    let place = place(endpoint.host()?, namespace);
    if place == Place::Here {
        return None;
    }
    if !network.collector.is_empty() {
        rule["to"] = json!(network.collector);
        return Some(rule);
    }
    match place {
        Place::Address(address) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            rule["to"] = json!([{ "ipBlock": { "cidr": format!("{address}/{bits}") } }]);
        }
        Place::Namespace(name) => {
            let named = json!({ "kubernetes.io/metadata.name": name });
            rule["to"] = json!([{ "namespaceSelector": { "matchLabels": named } }]);
        }
        Place::Here | Place::Anywhere => {}
    }
    Some(rule)
}

/// Reads the host of an address as a pod of this namespace resolves it.
fn place<'e>(host: &'e str, namespace: &'e str) -> Place<'e> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(host).parse::<IpAddr>() {
        let address = address.to_canonical();
        return match address.is_loopback() {
            true => Place::Here,
            false => Place::Address(address),
        };
    }
    let (host, is_whole) = match host.strip_suffix('.') {
        Some(host) => (host, true),
        None => (host, false),
    };
    if host == "localhost" {
        return Place::Here;
    }
    // a part that the kubelet fills in, such as $(HOST_IP), can be anything
    if host.contains('$') {
        return Place::Anywhere;
    }
    let labels: Vec<&str> = host.split('.').collect();
    match *labels {
        [_] if !is_whole => Place::Namespace(namespace),
        [_, of] if !is_whole && !OUTSIDE.contains(&of) => Place::Namespace(of),
        _ => {
            let name = host.strip_suffix(DOMAIN).unwrap_or(host);
            let service = name.trim_end_matches('.').strip_suffix(".svc");
            match service.and_then(|service| service.rsplit_once('.')) {
                Some((_, of)) if !is_whole || name != host => Place::Namespace(of),
                _ => Place::Anywhere,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn to(endpoint: &str, network: &Network) -> Option<Value> {
        let named = [(ENDPOINTS[1].to_owned(), endpoint.to_owned())];
        rule(&named, "shop", network)
    }

    #[test]
    fn a_collector_is_reached_at_the_port_of_its_address_and_nowhere_else() {
        let namespace = |name: &str| json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } }]);
        let block = |cidr: &str| json!([{ "ipBlock": { "cidr": cidr } }]);
        for (endpoint, port, peers) in [
            ("http://collector:4318", 4318, namespace("shop")),
            (
                "http://otel.observability:4318/v1",
                4318,
                namespace("observability"),
            ),
            ("http://otel.o11y.svc", 80, namespace("o11y")),
            (
                "https://otel.o11y.svc.cluster.local",
                443,
                namespace("o11y"),
            ),
            (
                "http://otel.o11y.svc.cluster.local.:1",
                1,
                namespace("o11y"),
            ),
            ("http://otel-0.otel.o11y.svc:4318", 4318, namespace("o11y")),
            ("http://10.1.2.3:4318", 4318, block("10.1.2.3/32")),
            ("http://[fd00::1]:4318/", 4318, block("fd00::1/128")),
            ("http://[::ffff:10.1.2.3]:4318/", 4318, block("10.1.2.3/32")),
            // a policy knows no names, and these say nothing of a namespace
            ("https://otel.example.com/v1", 443, Value::Null),
            ("http://otel.internal:4318", 4318, Value::Null),
            ("https://example.com", 443, Value::Null),
            ("https://otel.eu.svc.example.com", 443, Value::Null),
            ("https://example.com.", 443, Value::Null),
            ("http://$(HOST_IP):4318", 4318, Value::Null),
            ("http://otel.$(TEAM):4318", 4318, Value::Null),
        ] {
            let rule = to(endpoint, &Network::default()).unwrap();
            let ports = json!([{ "port": port, "protocol": "TCP" }]);
            assert_eq!(
                (&rule["ports"], &rule["to"]),
                (&ports, &peers),
                "{endpoint}"
            );
        }
        for here in [
            "http://localhost:4318",
            "http://127.0.0.1:1",
            "http://[::1]:1",
        ] {
            assert_eq!(to(here, &Network::default()), None, "{here}");
        }
        assert_eq!(rule(&[], "shop", &Network::default()), None);
    }

    #[test]
    fn no_pipeline_names_a_collector_beside_those_that_the_platform_names() {
        let peers = json!([{ "ipBlock": { "cidr": "10.0.0.0/8" } }]);
        let network: Network = serde_json::from_value(json!({ "collector": peers })).unwrap();
        for endpoint in [
            "http://collector:4318",
            "http://192.0.2.1:4318",
            "https://evil.example.com:4318",
        ] {
            let rule = to(endpoint, &network).unwrap();
            assert_eq!(rule["to"], peers, "{endpoint}");
            assert_eq!(rule["ports"][0]["port"], 4318);
        }
    }

    #[test]
    fn only_where_traces_go_is_opened() {
        let named = |names: &[(&str, &str)]| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let all: Vec<_> = names.iter().map(own).collect();
            let rule = rule(&all, "shop", &Network::default());
            rule.map(|rule| rule["ports"][0]["port"].clone())
        };
        assert_eq!(
            named(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://a:1")]),
            None
        );
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a:2");
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:3");
        for both in [[traces, all], [all, traces]] {
            assert_eq!(named(&both), Some(json!(2)));
        }
    }
}
