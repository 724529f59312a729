use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_between_fields_has_its_message() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    let user = json!({ "mechanism": "Plain", "secret": { "name": "u" } });
    let target = |name: &str, host: &str| json!({ "name": name, "schema": "s", "connection": { "host": host, "database": "d", "user": "u" } });
    let topic = |more: Value| {
        let mut topic = json!({ "name": "t" });
        if let (Some(topic), Some(more)) = (topic.as_object_mut(), more.as_object()) {
            topic.extend(more.clone());
        }
        json!([topic])
    };
    let name = |name: &str| json!({ "name": name });
    for (path, value, field, message) in [
        ("/metadata", name("1a"), "<nil>", "beginning with a letter"),
        ("/metadata", name(&"a".repeat(41)), "<nil>", "1 to 40"),
        ("/metadata", name("a.b"), "<nil>", "inner `-`"),
        ("/spec", json!({}), "spec.kafka", "Required value"),
        (
            "/spec/targets",
            json!([]),
            "spec.targets",
            "should have at least 1 items",
        ),
        (
            "/spec/topics",
            json!([]),
            "spec.topics",
            "should have at least 1 items",
        ),
        (
            "/spec/kafka/sasl",
            user.clone(),
            "spec.kafka.sasl.mechanism",
            "set tls as well",
        ),
        (
            "/spec/kafka/admin",
            json!({ "sasl": user }),
            "spec.kafka.admin.sasl.mechanism",
            "set tls as well",
        ),
        (
            "/spec/window",
            json!({ "size": "7s" }),
            "spec.window.size",
            "choose a divisor of 24h",
        ),
        (
            "/spec/processor",
            json!({ "flush": { "maxBytes": "64Ki" }, "maxEventBytes": "65Ki" }),
            "spec.processor.flush.maxBytes",
            "lower maxEventBytes",
        ),
        (
            "/spec/topics",
            topic(json!({ "management": "External", "retention": "24h" })),
            "spec.topics[0].retention",
            "set management: Managed",
        ),
        (
            "/spec/topics",
            topic(json!({ "management": "External", "adopt": true })),
            "spec.topics[0].adopt",
            "set management: Managed",
        ),
        (
            "/spec/topics",
            topic(json!({ "management": "External", "replicationFactor": 3 })),
            "spec.topics[0].replicationFactor",
            "set management: Managed",
        ),
        (
            "/spec/topics",
            topic(json!({ "management": "External", "config": { "a": "b" } })),
            "spec.topics[0].config",
            "set management: Managed",
        ),
        (
            "/spec/topics",
            topic(json!({ "config": { "retention.ms": "1" } })),
            "spec.topics[0].config",
            "set `retention`",
        ),
        (
            "/spec/topics",
            topic(json!({ "config": { "cleanup.policy": "compact" } })),
            "spec.topics[0].config",
            "remove cleanup.policy",
        ),
        (
            "/spec/topics",
            topic(json!({ "config": { "message.timestamp.type": "CreateTime" } })),
            "spec.topics[0].config",
            "remove message.timestamp.type",
        ),
        (
            "/spec/topics",
            json!([name("a.b"), name("a_b")]),
            "spec.topics",
            "remove one",
        ),
        (
            "/spec/topics",
            json!([name("a"), name("a")]),
            "spec.topics[1]",
            "Duplicate value",
        ),
        (
            "/spec/targets",
            json!([target("a", "h"), target("a", "i")]),
            "spec.targets[1]",
            "Duplicate value",
        ),
        (
            "/spec/targets",
            json!([target("a", "h"), target("b", "h")]),
            "spec.targets",
            "give each its own",
        ),
        (
            "/spec/targets/0/connection",
            json!({ "host": "h" }),
            "spec.targets[0].connection",
            "give host, database and user",
        ),
        (
            "/spec/targets/0/connection",
            json!({ "secret": { "name": "s" }, "sslMode": "Disable", "caSecret": { "name": "ca" } }),
            "spec.targets[0].connection.sslMode",
            "choose VerifyFull",
        ),
        (
            "/spec/targets/0/schema",
            json!("pg_a"),
            "spec.targets[0].schema",
            "choose another name",
        ),
        (
            "/spec/targets/0/readers",
            json!(["a", "a"]),
            "spec.targets[0].readers[1]",
            "Duplicate value",
        ),
        (
            "/spec/targets/0/readers",
            json!(["a", { "role": "b", "raw": true }]),
            "spec.targets[0].readers[1]",
            "must be of type string",
        ),
        (
            "/spec/targets/0/rawReaders",
            json!(["a", "a"]),
            "spec.targets[0].rawReaders[1]",
            "Duplicate value",
        ),
        (
            "/spec/targets/0/rawReaders",
            json!(["a", ""]),
            "spec.targets[0].rawReaders[1]",
            "at least 1 char",
        ),
        (
            "/spec/targets/0",
            json!({ "connection": { "secret": { "name": "s" } }, "readers": ["a", "b"], "rawReaders": ["b"] }),
            "spec.targets[0].rawReaders",
            "remove it there",
        ),
        (
            "/spec/targets/0",
            json!({ "connection": { "host": "h", "database": "d", "user": "w" }, "rawReaders": ["a", "w"] }),
            "spec.targets[0].rawReaders",
            "has its rights already",
        ),
        (
            "/spec/processor",
            json!({ "labels": { "app.kubernetes.io/name": "x" } }),
            "spec.processor.labels",
            "choose another key",
        ),
        (
            "/spec/producer",
            json!({ "annotations": { "clickstream.dev/x": "x" } }),
            "spec.producer.annotations",
            "choose another key",
        ),
        (
            "/spec/producer",
            json!({ "podTemplate": { "annotations": { "container.apparmor.security.beta.kubernetes.io/producer": "unconfined" } } }),
            "spec.producer.podTemplate.annotations",
            "pods stay restricted",
        ),
        (
            "/spec/processor",
            json!({ "podTemplate": { "annotations": { "seccomp.security.alpha.kubernetes.io/pod": "unconfined" } } }),
            "spec.processor.podTemplate.annotations",
            "pods stay restricted",
        ),
        (
            "/spec/processor",
            json!({ "affinity": { "nodeAffinity": [] } }),
            "spec.processor.affinity.nodeAffinity",
            "must be of type object",
        ),
        (
            "/spec/producer",
            json!({ "tolerations": [1] }),
            "spec.producer.tolerations[0]",
            "must be of type object",
        ),
    ] {
        let document = with(minimal("demo"), &[(path, value)]);
        let status = pipelines.try_to_create(&document).await?.expect_err(field);
        let found = causes(&status);
        assert!(
            found
                .iter()
                .any(|(at, text)| at == field && text.contains(message)),
            "{field}: {found:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_change_is_refused_and_all_else_may() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    let name = |name: &str| json!({ "name": name });
    let schema = |schema: &str| vec![("/spec/targets/0/schema", json!(schema))];
    let topics = |names: &[&str]| {
        vec![(
            "/spec/topics",
            json!(names.iter().map(|topic| name(topic)).collect::<Vec<_>>()),
        )]
    };
    let target = |name: &str, schema: &str| json!({ "name": name, "schema": schema, "connection": { "secret": { "name": "s" } } });
    let targets = |targets: &[Value]| vec![("/spec/targets", json!(targets))];
    let readers = |lists: Value| {
        let mut target = json!({ "connection": { "host": "h", "database": "d", "user": "w" } });
        for (list, roles) in lists.as_object().into_iter().flatten() {
            target[list] = roles.clone();
        }
        vec![("/spec/targets/0", target)]
    };
    const SCHEMA: Option<(&str, &str)> = Some(("spec.targets[0].schema", "add a target"));
    const TOPICS: Option<(&str, &str)> = Some(("spec.topics", "list the other topic beside it"));
    for (index, (before, after, refusal)) in [
        (schema("one"), schema("two"), SCHEMA),
        (schema("one"), vec![], SCHEMA),
        (vec![], schema("two"), SCHEMA),
        (vec![], schema("clickstream"), None),
        (topics(&["a", "b"]), topics(&["a"]), TOPICS),
        (topics(&["a"]), topics(&["b"]), TOPICS),
        (topics(&["a"]), vec![], TOPICS),
        (vec![], topics(&["a"]), TOPICS),
        (vec![], topics(&["clickstream", "more"]), None),
        (topics(&["a", "b"]), topics(&["c", "b", "a"]), None),
        // a target is told by its name, wherever it stands in the list
        (
            targets(&[target("a", "s"), target("b", "t")]),
            targets(&[target("b", "t"), target("a", "s")]),
            None,
        ),
        (
            targets(&[target("a", "s"), target("b", "t")]),
            targets(&[target("b", "t")]),
            None,
        ),
        (
            targets(&[target("a", "s")]),
            targets(&[target("b", "t")]),
            None,
        ),
        (
            targets(&[target("a", "s"), target("b", "t")]),
            targets(&[target("b", "s"), target("a", "t")]),
            SCHEMA,
        ),
        // a role gets the tables, and another the views alone; who named the writer among readers
        // may go on to
        (
            readers(json!({ "readers": ["a", "w"] })),
            readers(json!({ "readers": ["w"], "rawReaders": ["a"] })),
            None,
        ),
        (
            readers(json!({ "rawReaders": ["a"] })),
            readers(json!({ "readers": ["a"] })),
            None,
        ),
        // whether a schema holds windows is not the server's to know
        (
            vec![("/spec/window", json!({ "size": "1m" }))],
            vec![("/spec/window", json!({ "size": "5m" }))],
            None,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let pipeline = format!("p{index}");
        let earlier = with(minimal(&pipeline), &before);
        let created = pipelines
            .api
            .create(&PostParams::default(), &pipelines.object(&earlier)?)
            .await?;
        let mut later = pipelines.object(&with(minimal(&pipeline), &after))?;
        later.metadata.resource_version = created.metadata.resource_version;
        let answer = outcome(
            pipelines
                .api
                .replace(&pipeline, &PostParams::default(), &later)
                .await,
        )?;
        match (answer, refusal) {
            (Ok(_), None) => {}
            (Err(status), Some((field, message))) => {
                let found = causes(&status);
                assert!(
                    found
                        .iter()
                        .any(|(at, text)| at == field && text.contains(message)),
                    "{before:?} to {after:?}: {found:?}"
                );
            }
            (answer, _) => panic!("{before:?} to {after:?}: {answer:?}"),
        }
    }
    Ok(())
}
