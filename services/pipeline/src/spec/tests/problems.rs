use super::*;

/// Changes the full resource in one place and expects problems at exactly these paths.
pub(super) fn problems(change: impl FnOnce(&mut ClickstreamPipeline), paths: &[&str]) {
    let mut pipeline = full();
    change(&mut pipeline);
    let found = pipeline.validate().err().unwrap_or_default();
    let places: Vec<&str> = found.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(places, paths, "{found:?}");
    assert!(found.iter().all(|problem| !problem.message.is_empty()));
}

pub(super) fn text(value: &str) -> String {
    value.to_owned()
}

pub(super) fn duration(value: &str) -> Duration {
    value.parse().unwrap()
}

fn bytes(value: &str) -> Bytes {
    value.parse().unwrap()
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_document() {
    problems(
        |p| {
            p.spec.targets[1].schema = text("Bad");
            p.metadata.name = text("Demo");
            p.spec.window.size = duration("7s");
        },
        &[
            "metadata.name",
            "spec.window.size",
            "spec.targets[1].schema",
        ],
    );
}

#[test]
fn the_head_of_the_document_must_be_ours() {
    problems(
        |p| p.api_version = text("clickstream.dev/v1"),
        &["apiVersion"],
    );
    problems(|p| p.kind = text("Pipeline"), &["kind"]);
    // a Service is named after the pipeline, and begins with a letter
    for name in ["", "-a", "a-", "a.b", "Ä", "1a", &"a".repeat(41)] {
        problems(|p| p.metadata.name = text(name), &["metadata.name"]);
    }
    problems(|p| p.metadata.name = "a".repeat(40), &[]);
    problems(
        |p| p.metadata.namespace = text("a/b"),
        &["metadata.namespace"],
    );
}

#[test]
fn brokers_are_hosts_with_ports() {
    for servers in [
        "",
        "kafka",
        "kafka:",
        "kafka:0",
        "kafka:65536",
        "kafka:+1",
        "a:1, b:2",
        "a:1,",
        "[::1:9092",
        "::1:9092",
        "http://a:1",
    ] {
        problems(
            |p| p.spec.kafka.bootstrap_servers = text(servers),
            &["spec.kafka.bootstrapServers"],
        );
    }
    problems(
        |p| p.spec.kafka.bootstrap_servers = vec!["broker.example.com:9092"; 171].join(","),
        &["spec.kafka.bootstrapServers"],
    );
    problems(
        |p| p.spec.kafka.bootstrap_servers = text("127.0.0.1:9092,kafka-1.kafka.svc:9092"),
        &[],
    );
}

#[test]
fn secrets_are_names_and_never_paths() {
    for name in ["", "../a", "a/b", "A", "a_b", ".", "..", "a..b"] {
        problems(
            |p| p.spec.kafka.sasl.as_mut().unwrap().secret.name = text(name),
            &["spec.kafka.sasl.secret.name"],
        );
    }
    for key in ["", ".", "..", "..data", "a/b", "a b", &"k".repeat(254)] {
        problems(
            |p| p.spec.kafka.sasl.as_mut().unwrap().secret.password_key = text(key),
            &["spec.kafka.sasl.secret.passwordKey"],
        );
    }
}

#[test]
fn every_secret_of_the_spec_is_checked() {
    let bad = "/";
    let mut pipeline = full();
    let tls = pipeline.spec.kafka.tls.as_mut().unwrap();
    *tls.ca_secret.as_mut().unwrap() = CaSecret {
        name: text(bad),
        key: text(bad),
    };
    *tls.client_cert_secret.as_mut().unwrap() = ClientCertSecret {
        name: text(bad),
        certificate_key: text(bad),
        private_key_key: text(bad),
    };
    let user = KafkaUserSecret {
        name: text(bad),
        username_key: text(bad),
        password_key: text(bad),
    };
    pipeline.spec.kafka.sasl.as_mut().unwrap().secret = user.clone();
    let admin = pipeline.spec.kafka.admin.as_mut().unwrap();
    admin.tls = pipeline.spec.kafka.tls.clone();
    admin.sasl.as_mut().unwrap().secret = user;
    let connection = &mut pipeline.spec.targets[0].connection;
    connection.secret = Some(ConnectionSecret {
        name: text(bad),
        host_key: text(bad),
        port_key: text(bad),
        database_key: text(bad),
        user_key: text(bad),
        password_key: text(bad),
        uri_key: text(bad),
    });
    connection.ca_secret = pipeline.spec.kafka.tls.as_ref().unwrap().ca_secret.clone();
    connection.client_cert_secret = pipeline
        .spec
        .kafka
        .tls
        .as_ref()
        .unwrap()
        .client_cert_secret
        .clone();
    pipeline.spec.targets[0].migration.connection = Some(connection.clone());

    let certificates = |at: &str| {
        [
            "caSecret.name",
            "caSecret.key",
            "clientCertSecret.name",
            "clientCertSecret.certificateKey",
            "clientCertSecret.privateKeyKey",
        ]
        .map(|field| format!("{at}.{field}"))
    };
    let sasl = |at: &str| {
        ["name", "usernameKey", "passwordKey"].map(|field| format!("{at}.sasl.secret.{field}"))
    };
    let keys = |at: &str| {
        [
            "name",
            "hostKey",
            "portKey",
            "databaseKey",
            "userKey",
            "passwordKey",
            "uriKey",
        ]
        .map(|field| format!("{at}.secret.{field}"))
    };
    let mut expected: Vec<String> = Vec::new();
    for at in ["spec.kafka", "spec.kafka.admin"] {
        expected.extend(certificates(&format!("{at}.tls")));
        expected.extend(sasl(at));
    }
    for at in [
        "spec.targets[0].connection",
        "spec.targets[0].migration.connection",
    ] {
        expected.extend(keys(at));
        expected.extend(certificates(at));
    }
    let found: Vec<String> = pipeline
        .validate()
        .unwrap_err()
        .into_iter()
        .map(|problem| problem.path)
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_plain_password_needs_encryption() {
    problems(
        |p| {
            p.spec.kafka.tls = None;
            p.spec.kafka.sasl.as_mut().unwrap().mechanism = SaslMechanism::Plain;
        },
        &["spec.kafka.sasl.mechanism"],
    );
    problems(
        |p| {
            p.spec.kafka.tls = None;
            p.spec.kafka.admin.as_mut().unwrap().tls = None;
        },
        &["spec.kafka.admin.sasl.mechanism"],
    );
    problems(|p| p.spec.kafka.admin.as_mut().unwrap().tls = None, &[]);
}

#[test]
fn topics_are_one_to_sixteen_of_different_names() {
    problems(|p| p.spec.topics.clear(), &["spec.topics"]);
    let topics = |count: usize| -> Vec<TopicSpec> {
        (0..count)
            .map(|i| TopicSpec {
                name: format!("t{i}"),
                ..TopicSpec::default()
            })
            .collect()
    };
    problems(|p| p.spec.topics = topics(16), &[]);
    problems(|p| p.spec.topics = topics(17), &["spec.topics"]);
    problems(
        |p| {
            p.spec.topics[0].name = text("a.b");
            p.spec.topics[1].name = text("a_b");
        },
        &["spec.topics[1].name"],
    );
    for name in ["", ".", "..", "a b", "a/b", "ü", &"t".repeat(250)] {
        problems(
            |p| p.spec.topics[0].name = text(name),
            &["spec.topics[0].name"],
        );
    }
    problems(|p| p.spec.topics[0].name = "t".repeat(249), &[]);
}

#[test]
fn a_managed_topic_stays_within_bounds() {
    let topic = |change: fn(&mut TopicSpec), field: &str| {
        problems(
            |p| change(&mut p.spec.topics[0]),
            &[format!("spec.topics[0].{field}").as_str()],
        );
    };
    topic(|t| t.partitions = Some(0), "partitions");
    topic(|t| t.partitions = Some(10_001), "partitions");
    topic(|t| t.replication_factor = Some(0), "replicationFactor");
    topic(|t| t.replication_factor = Some(101), "replicationFactor");
    topic(|t| t.retention = Some(duration("59m")), "retention");
    topic(|t| t.retention = Some(duration("87601h")), "retention");
    topic(
        |t| drop(t.config.insert(text("retention.ms"), text("1"))),
        "config.retention.ms",
    );
    topic(
        |t| {
            drop(
                t.config
                    .insert(text("message.timestamp.type"), text("CreateTime")),
            )
        },
        "config.message.timestamp.type",
    );
    topic(
        |t| drop(t.config.insert(text("cleanup.policy"), text("compact"))),
        "config.cleanup.policy",
    );
    topic(
        |t| drop(t.config.insert(text("a b"), text("1"))),
        "config.a b",
    );
    topic(
        |t| drop(t.config.insert(text("a"), "v".repeat(4097))),
        "config.a",
    );
    topic(
        |t| t.config = (0..65).map(|i| (format!("k{i}"), text("v"))).collect(),
        "config",
    );
    problems(|p| p.spec.topics[0].partitions = Some(10_000), &[]);
    problems(
        |p| {
            let config = &mut p.spec.topics[0].config;
            config.insert(text("message.timestamp.type"), text("LogAppendTime"));
        },
        &[],
    );
}

#[test]
fn nothing_is_asked_of_an_external_topic() {
    problems(
        |p| p.spec.topics[0].management = TopicManagement::External,
        &[
            "spec.topics[0].adopt",
            "spec.topics[0].replicationFactor",
            "spec.topics[0].retention",
            "spec.topics[0].config",
        ],
    );
}

#[test]
fn heartbeats_are_for_managed_topics_and_never_faster_than_one_a_second() {
    // the second topic of the full document is External
    problems(
        |p| p.spec.heartbeat.enabled = true,
        &["spec.heartbeat.enabled"],
    );
    for interval in ["0s", "999ms", "3601s"] {
        problems(
            |p| p.spec.heartbeat.interval = duration(interval),
            &["spec.heartbeat.interval"],
        );
    }
    problems(
        |p| {
            p.spec.topics.truncate(1);
            p.spec.heartbeat.enabled = true;
        },
        &[],
    );
}

#[test]
fn a_day_is_a_whole_number_of_windows() {
    for size in ["0s", "999ms", "7s", "25h", "86399s", "24h1us"] {
        problems(
            |p| p.spec.window.size = duration(size),
            &["spec.window.size"],
        );
    }
    for size in ["1s", "1.5s", "1m", "24h"] {
        problems(|p| p.spec.window.size = duration(size), &[]);
    }
}

#[test]
fn times_stay_within_bounds() {
    problems(
        |p| p.spec.watermark.delay = duration("24h1s"),
        &["spec.watermark.delay"],
    );
    problems(
        |p| p.spec.watermark.idle_timeout = duration("0s"),
        &["spec.watermark.idleTimeout"],
    );
    problems(
        |p| p.spec.watermark.idle_timeout = duration("25h"),
        &["spec.watermark.idleTimeout"],
    );
    problems(
        |p| p.spec.watermark.max_future_skew = duration("25h"),
        &["spec.watermark.maxFutureSkew"],
    );
    problems(
        |p| p.spec.late_events.allowed_lateness = duration("745h"),
        &["spec.lateEvents.allowedLateness"],
    );
    problems(
        |p| {
            p.spec.watermark.delay = Duration::ZERO;
            p.spec.watermark.max_future_skew = Duration::ZERO;
            p.spec.late_events.allowed_lateness = Duration::ZERO;
        },
        &[],
    );
}

#[test]
fn replicas_are_one_to_a_thousand() {
    for count in [0, 1001] {
        problems(
            |p| p.spec.targets[0].replicas = Some(count),
            &["spec.targets[0].replicas"],
        );
        problems(
            |p| p.spec.processor.replicas = count,
            &["spec.processor.replicas"],
        );
    }
    problems(|p| p.spec.processor.replicas = 1000, &[]);
}

#[test]
fn processors_stay_within_bounds() {
    for image in ["a b", "", "-a", "a,b", "ä", &"i".repeat(513)] {
        problems(|p| p.spec.image = Some(text(image)), &["spec.image"]);
        problems(
            |p| p.spec.producer.image = Some(text(image)),
            &["spec.producer.image"],
        );
    }
    problems(
        |p| p.spec.image = Some(text("r:5000/a_b/c:1.0@sha256:0")),
        &[],
    );
    problems(
        |p| p.spec.processor.lag_target = Some(0),
        &["spec.processor.lagTarget"],
    );
    problems(
        |p| p.spec.processor.filter_memory = bytes("1023Ki"),
        &["spec.processor.filterMemory"],
    );
    problems(
        |p| p.spec.processor.filter_memory = bytes("17Gi"),
        &["spec.processor.filterMemory"],
    );
    problems(
        |p| p.spec.processor.max_event_bytes = bytes("1023"),
        &["spec.processor.maxEventBytes"],
    );
    problems(
        |p| p.spec.processor.max_event_bytes = bytes("2Mi"),
        &["spec.processor.flush.maxBytes"],
    );
    problems(
        |p| p.spec.processor.flush.max_rows = 0,
        &["spec.processor.flush.maxRows"],
    );
    problems(
        |p| p.spec.processor.flush.max_rows = 1_000_001,
        &["spec.processor.flush.maxRows"],
    );
    problems(
        |p| p.spec.processor.flush.max_bytes = bytes("63Ki"),
        &["spec.processor.flush.maxBytes"],
    );
    problems(
        |p| p.spec.processor.flush.max_bytes = bytes("1Gi"),
        &["spec.processor.flush.maxBytes"],
    );
}

#[test]
fn the_producer_stays_within_bounds() {
    problems(|p| p.spec.producer.rate = 0, &["spec.producer.rate"]);
    problems(
        |p| p.spec.producer.rate = 1_000_001,
        &["spec.producer.rate"],
    );
    problems(|p| p.spec.producer.users = 0, &["spec.producer.users"]);
    problems(|p| p.spec.producer.seed = 1 << 53, &["spec.producer.seed"]);
    problems(
        |p| p.spec.producer.disorder = duration("61m"),
        &["spec.producer.disorder"],
    );
    for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        problems(
            |p| p.spec.producer.duplicates = share,
            &["spec.producer.duplicates"],
        );
        problems(|p| p.spec.producer.late = share, &["spec.producer.late"]);
        problems(
            |p| p.spec.producer.malformed = share,
            &["spec.producer.malformed"],
        );
    }
}

#[test]
fn a_problem_is_told_as_place_and_advice() {
    let mut pipeline = full();
    pipeline.spec.processor.replicas = 0;
    let problems = pipeline.validate().unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "spec.processor.replicas: 0 is outside 1 to 1000"
    );
}
