//! What a real API server makes of the CustomResourceDefinition: it takes what the processors take, refuses what they
//! refuse, and says what to do.

use std::time::Duration;

use clickstream_pipeline::spec::{self, ClickstreamPipeline};
use clickstream_testbed::{KubeApi, shared, unique_name, workspace_root};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{
        ApiResource, DynamicObject, GetParams, GroupVersionKind, ListParams, Patch, PatchParams,
        PostParams, Request,
    },
    core::Status,
};
use serde_json::{Value, json};

#[path = "../../../operator/tests/crd/candidates.rs"]
mod candidates;

/// Every field of the resource, none with its default.
const FULL: &str = include_str!("../../../services/pipeline/src/spec/tests/full.yaml");

/// The definition as people apply it.
fn definition() -> anyhow::Result<Value> {
    let file = workspace_root().join("manifests/crd/clickstreampipelines.yaml");
    Ok(serde_yaml::from_str(&std::fs::read_to_string(file)?)?)
}

/// A namespace of a server that knows the definition.
struct Pipelines {
    client: Client,
    namespace: String,
    api: Api<DynamicObject>,
}

impl Pipelines {
    async fn new() -> anyhow::Result<Self> {
        let server: &KubeApi = shared::kube_api().await?;
        let client = server.client().await?;
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let name = format!("clickstreampipelines.{}", spec::GROUP);
        definitions
            .patch(
                &name,
                &PatchParams::apply("test").force(),
                &Patch::Apply(definition()?),
            )
            .await?;
        let is_established = |definition: &CustomResourceDefinition| {
            let conditions = definition
                .status
                .as_ref()
                .and_then(|status| status.conditions.as_ref());
            conditions
                .into_iter()
                .flatten()
                .any(|condition| condition.type_ == "Established" && condition.status == "True")
        };
        tokio::time::timeout(Duration::from_secs(60), async {
            while !is_established(&definitions.get(&name).await?) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            anyhow::Ok(())
        })
        .await??;
        let namespace = unique_name("crd").replace('_', "-");
        server.create_namespace(&namespace).await?;
        let kind = GroupVersionKind::gvk(spec::GROUP, spec::VERSION, spec::KIND);
        let resource = ApiResource::from_gvk(&kind);
        let api = Api::namespaced_with(client.clone(), &namespace, &resource);
        let pipelines = Self {
            client,
            namespace,
            api,
        };
        pipelines.wait_served().await?;
        Ok(pipelines)
    }

    /// An established definition is served a moment later.
    async fn wait_served(&self) -> anyhow::Result<()> {
        tokio::time::timeout(Duration::from_secs(60), async {
            while let Err(kube::Error::Api(status)) = self.api.list(&ListParams::default()).await {
                anyhow::ensure!(status.code == 404 || status.code == 503, "{status:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        })
        .await?
    }

    /// Creates a pipeline for the look of it.
    async fn try_to_create(&self, document: &Value) -> anyhow::Result<Result<Value, Box<Status>>> {
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        outcome(self.api.create(&dry, &self.object(document)?).await)
    }

    fn path(&self) -> String {
        format!(
            "/apis/{}/{}/namespaces/{}/clickstreampipelines",
            spec::GROUP,
            spec::VERSION,
            self.namespace
        )
    }

    fn object(&self, document: &Value) -> anyhow::Result<DynamicObject> {
        let mut object: DynamicObject = serde_json::from_value(document.clone())?;
        object.metadata.namespace = Some(self.namespace.clone());
        Ok(object)
    }
}

/// What the server made of it, or why it refused.
fn outcome(answer: kube::Result<DynamicObject>) -> anyhow::Result<Result<Value, Box<Status>>> {
    match answer {
        Ok(object) => Ok(Ok(serde_json::to_value(object)?)),
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(Err(status)),
        Err(error) => Err(error.into()),
    }
}

/// Fields and messages of a refusal.
fn causes(status: &Status) -> Vec<(String, String)> {
    let details = status.details.as_ref();
    details
        .into_iter()
        .flat_map(|details| &details.causes)
        .map(|cause| (cause.field.clone(), cause.message.clone()))
        .collect()
}

fn minimal(name: &str) -> Value {
    json!({
        "apiVersion": format!("{}/{}", spec::GROUP, spec::VERSION),
        "kind": spec::KIND,
        "metadata": { "name": name },
        "spec": {
            "kafka": { "bootstrapServers": "kafka:9092" },
            "targets": [{ "connection": { "secret": { "name": "pg-app" } } }],
        },
    })
}

/// Whether the processors would take the document that the API server has.
fn processors_take(document: &Value) -> Result<(), String> {
    let pipeline =
        ClickstreamPipeline::from_yaml(&document.to_string()).map_err(|error| error.to_string())?;
    pipeline.validate().map_err(|problems| {
        problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_refuses_what_the_processors_refuse_and_names_the_field() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    let definition = definition()?;
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut full: Value = serde_yaml::from_str(FULL)?;
    full["metadata"] = json!({ "name": "full" });
    pipelines
        .try_to_create(&full)
        .await?
        .map_err(|status| anyhow::anyhow!("{status:?}"))?;
    let (mut taken, mut refused, mut apart) = (0, 0, Vec::new());
    let mut unnamed = Vec::new();
    for (pointer, place) in
        candidates::places(&schema["properties"]["spec"], &full["spec"], "/spec")
    {
        let mut was_refused = false;
        for candidate in candidates::candidates(&place) {
            let mut document = full.clone();
            let Some(field) = document.pointer_mut(&pointer) else {
                continue;
            };
            *field = candidate.clone();
            match (
                processors_take(&document),
                pipelines.try_to_create(&document).await?,
            ) {
                (Ok(()), Ok(_)) => taken += 1,
                (Err(_), Err(status)) => {
                    refused += 1;
                    was_refused |= causes(&status)
                        .iter()
                        .any(|(field, message)| is_named(&pointer, field) && !message.is_empty());
                }
                (ours, server) => apart.push(format!(
                    "{pointer} = {candidate}\n  processor: {ours:?}\n  server: {:?}",
                    server.map(|_| ()).map_err(|status| status.message)
                )),
            }
        }
        if !was_refused {
            unnamed.push(pointer);
        }
    }
    assert!(
        apart.is_empty(),
        "{} of {} differ:\n{}",
        apart.len(),
        apart.len() + taken + refused,
        apart.join("\n")
    );
    assert!(
        taken > 300 && refused > 1000,
        "{taken} taken, {refused} refused"
    );
    assert_eq!(
        unnamed,
        Vec::<String>::new(),
        "no value was refused by the name of its field"
    );
    Ok(())
}

/// Whether `spec.topics[0].name` is what `/spec/topics/0/name` points at; an entry of a map may go by the map's name.
fn is_named(pointer: &str, field: &str) -> bool {
    let plain = field.replace(['[', ']'], ".").replace("..", ".");
    let pointer = pointer
        .trim_start_matches('/')
        .replace("~1", "/")
        .replace('/', ".");
    let field = plain.trim_end_matches('.').replace('/', ".");
    pointer == field || pointer.starts_with(&format!("{field}."))
}

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

/// Sets fields of a document, given by JSON pointers, and makes the mappings on the way.
fn with(mut document: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let mut at = &mut document;
        for name in pointer.split('/').skip(1) {
            at = match name.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[name],
            };
        }
        *at = value.clone();
    }
    document
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

#[tokio::test(flavor = "multi_thread")]
async fn only_two_defaults_are_written_into_a_pipeline() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    let stored = pipelines
        .try_to_create(&minimal("demo"))
        .await?
        .map_err(|status| anyhow::anyhow!("{status:?}"))?;
    let mut expected = minimal("demo")["spec"].clone();
    expected["targets"][0]["name"] = json!("default");
    expected["processor"] = json!({ "replicas": 2 });
    assert_eq!(stored["spec"], expected);
    // and with them it means the same to a processor
    let read = |spec: &Value| {
        let mut document = minimal("demo");
        document["spec"] = spec.clone();
        ClickstreamPipeline::from_yaml(&document.to_string())
    };
    assert_eq!(read(&stored["spec"])?, read(&minimal("demo")["spec"])?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_sees_and_sets_the_number_of_processors() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    pipelines
        .api
        .create(
            &PostParams::default(),
            &pipelines.object(&minimal("scaled"))?,
        )
        .await?;
    let scale = pipelines.api.get_scale("scaled").await?;
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(2));
    let wanted = Patch::Merge(json!({ "spec": { "replicas": 5 } }));
    pipelines
        .api
        .patch_scale("scaled", &PatchParams::default(), &wanted)
        .await?;
    let pipeline = pipelines.api.get("scaled").await?;
    assert_eq!(pipeline.data["spec"]["processor"]["replicas"], 5);
    let none = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    let refusal = pipelines
        .api
        .patch_scale("scaled", &PatchParams::default(), &none)
        .await;
    assert!(
        matches!(&refusal, Err(kube::Error::Api(status)) if status.code == 422),
        "{refusal:?}"
    );
    let status = Patch::Merge(
        json!({ "status": { "replicas": 4, "selector": "clickstream.dev/pipeline=scaled" } }),
    );
    pipelines
        .api
        .patch_status("scaled", &PatchParams::default(), &status)
        .await?;
    let status = pipelines.api.get_scale("scaled").await?.status;
    assert_eq!(
        status.map(|status| (status.replicas, status.selector)),
        Some((4, Some("clickstream.dev/pipeline=scaled".to_owned())))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_what_the_status_says() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    pipelines
        .api
        .create(
            &PostParams::default(),
            &pipelines.object(&minimal("shown"))?,
        )
        .await?;
    let condition = json!({
        "type": "Ready", "status": "False", "reason": "TopicExists", "message": "set adopt: true",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    });
    let status = json!({ "status": {
        "observedGeneration": 1, "conditions": [condition], "processors": "1/2", "lag": 7, "window": "1m", "suspended": false,
        "topics": [{ "name": "clickstream" }], "targets": [{ "name": "default" }],
    } });
    pipelines
        .api
        .patch_status("shown", &PatchParams::default(), &Patch::Merge(status))
        .await?;
    let mut request = Request::new(pipelines.path()).get("shown", &GetParams::default())?;
    let as_table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    request.headers_mut().insert("accept", as_table.parse()?);
    let table: Value = pipelines.client.request(request).await?;
    let names: Vec<_> = table["columnDefinitions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|column| column["name"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "Name",
            "Ready",
            "Reason",
            "Processors",
            "Lag",
            "Window",
            "Age",
            "Topics",
            "Targets",
            "Suspended",
            "Message"
        ]
    );
    let mut cells = table["rows"][0]["cells"].clone();
    cells[6] = json!("age");
    assert_eq!(
        cells,
        json!([
            "shown",
            "False",
            "TopicExists",
            "1/2",
            7,
            "1m",
            "age",
            "clickstream",
            "default",
            false,
            "set adopt: true"
        ])
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_micro_sign_is_read_as_go_reads_it() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    let document = with(
        minimal("demo"),
        &[("/spec/watermark", json!({ "delay": "2µs" }))],
    );
    let answer = pipelines.try_to_create(&document).await?;
    assert!(answer.is_ok(), "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_field_is_named() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    let document = with(minimal("demo"), &[("/spec/windw", json!({ "size": "1m" }))]);
    let mut request = Request::new(pipelines.path())
        .create(&PostParams::default(), serde_json::to_vec(&document)?)?;
    // as kubectl asks
    *request.uri_mut() =
        format!("{}?fieldValidation=Strict&dryRun=All", pipelines.path()).parse()?;
    let refusal = pipelines.client.request::<Value>(request).await;
    let Err(kube::Error::Api(status)) = refusal else {
        panic!("{refusal:?}")
    };
    assert!(
        status.message.contains("unknown field \"spec.windw\""),
        "{status:?}"
    );
    Ok(())
}
