#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its own fixture should stop there"
)]

mod document;
mod pod_problems;
mod problems;
mod settings;
mod target_problems;

use std::collections::BTreeMap;

use super::*;

/// Every field of the resource, none with its default.
const FULL: &str = r#"
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata:
  name: demo
  namespace: shop
  labels: { team: web }
  annotations: { note: "a: b" }
spec:
  kafka:
    bootstrapServers: kafka-0.kafka:9093,[::1]:9094
    tls:
      caSecret: { name: kafka-ca, key: root.pem }
      clientCertSecret: { name: kafka-client, certificateKey: c, privateKeyKey: k }
    sasl:
      mechanism: ScramSha512
      secret: { name: kafka-user, usernameKey: u, passwordKey: p }
    admin:
      tls: { caSecret: { name: admin-ca } }
      sasl: { mechanism: Plain, secret: { name: admin } }
  topics:
  - { name: clicks, adopt: true, partitions: 12, replicationFactor: 3, retention: 168h, config: { segment.bytes: "1048576" } }
  - { name: partner-clicks, management: External }
  window: { size: 5m }
  watermark: { delay: 20s, idleTimeout: 1m, maxFutureSkew: 1m30s }
  lateEvents: { allowedLateness: 1h, policy: Store }
  targets:
  - name: warehouse
    connection:
      secret: { name: pg, hostKey: h, portKey: o, databaseKey: d, userKey: u, passwordKey: p, uriKey: i }
      host: pg.example.com
      port: 6432
      database: shop
      user: writer
      sslMode: VerifyFull
      caSecret: { name: pg-ca }
      clientCertSecret: { name: pg-client }
    migration: { connection: { secret: { name: pg-owner } } }
    schema: clicks
    durability: Replayable
    retention: { events: 2160h, aggregates: 8760h, deadLetters: 168h, lateEvents: 720h }
    readers: [grafana, bi]
    replicas: 3
  - name: copy
    connection: { secret: { name: copy-app } }
  image: registry.example.com/clickstream:1.0.0
  processor:
    replicas: 4
    lagTarget: 10000
    filterMemory: 64Mi
    maxEventBytes: 32Ki
    flush: { maxRows: 1000, maxBytes: 1Mi }
    resources: { requests: { cpu: 500m, memory: 256Mi }, limits: { cpu: 2, memory: 512Mi } }
    labels: { example.com/cost-center: web, tier: "" }
    annotations: { example.com/note: "a b" }
    nodeSelector: { topology.kubernetes.io/zone: a }
    tolerations: [{ key: spot, operator: Exists }]
    affinity: { nodeAffinity: {} }
    topologySpreadConstraints: [{ maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule }]
    priorityClassName: high
    imagePullSecrets: [{ name: registry }, { name: mirror }]
  producer:
    enabled: true
    image: registry.example.com/producer@sha256:abc
    rate: 10
    users: 5
    seed: 7
    disorder: 1s
    duplicates: 0.5
    late: 0.25
    malformed: 0.125
    resources: { limits: { memory: 64Mi } }
    labels: { team: web }
    annotations: { note: c }
    nodeSelector: { disk: ssd }
    tolerations: [{ operator: Exists }]
    affinity: { podAffinity: {} }
    topologySpreadConstraints: [{ maxSkew: 2, topologyKey: node, whenUnsatisfiable: ScheduleAnyway }]
    priorityClassName: low
    imagePullSecrets: [{ name: registry }]
  suspend: true
  deletionPolicy: { topics: Delete, tables: Delete }
"#;

/// The smallest resource.
const MINIMAL: &str = "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: { name: demo }
spec:
  kafka: { bootstrapServers: '127.0.0.1:9092' }
  topics: [{ name: clickstream }]
  targets:
  - connection: { secret: { name: pg-app } }
";

fn full() -> ClickstreamPipeline {
    ClickstreamPipeline::from_yaml(FULL).unwrap()
}

fn minimal() -> ClickstreamPipeline {
    ClickstreamPipeline::from_yaml(MINIMAL).unwrap()
}

/// Secrets in a table.
#[derive(Default)]
struct Table(BTreeMap<(String, String), String>);

impl Table {
    fn with(mut self, secret: &str, key: &str, value: &str) -> Self {
        self.0
            .insert((secret.to_owned(), key.to_owned()), value.to_owned());
        self
    }
}

impl Secrets for Table {
    fn read(&self, secret: &str, key: &str) -> Result<Option<String>, SecretError> {
        Ok(self.0.get(&(secret.to_owned(), key.to_owned())).cloned())
    }
}
