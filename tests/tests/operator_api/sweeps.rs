//! Every field changed once and back, what is refused, and what cannot even be read.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::{KubeApi, unique_name};
use k8s_openapi::{
    api::{apps::v1::Deployment, node::v1::RuntimeClass, scheduling::v1::PriorityClass},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
        PostParams,
    },
};
use serde_json::{Value, json};

use self::fields::{Change, Refused, changes, set, spec_of};
use crate::{
    snapshot::{at_rest, children_of_all, differences},
    stage::{LOOK, Migrations, PATIENCE, Stage, condition},
};

#[allow(
    dead_code,
    reason = "the tests that build children without a cluster look at more of a field"
)]
#[path = "../../../operator/src/controller/build/tests/fields.rs"]
mod fields;

/// A pipeline whose spec changes from one to another.
struct Swept {
    name: String,
    /// The field that changes.
    path: String,
    one: Value,
    another: Value,
    /// Whether the pods of that component are to be replaced.
    rolls: [(&'static str, bool); 2],
    /// Whether it can be taken back.
    has_way_back: bool,
    refused: Option<Refused>,
}

/// One pipeline per field. Kafka's TLS and sign-in stay out: the broker of these tests offers
/// neither, so a pipeline with them never becomes ready; the tests of `build` change those fields
/// too.
fn swept(stage: &Stage) -> anyhow::Result<Vec<Swept>> {
    let definition = json!(clickstream_operator::crd::crd());
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let known = fields::fields(&schema["properties"]["spec"]);
    // one type in several places: what an API server makes of it is seen in the first
    let (changes, left_out): (Vec<_>, Vec<_>) = changes()
        .into_iter()
        .filter(|change| !change.path.contains(".podTemplate"))
        .partition(|change| change.needs.is_none());
    for change in left_out {
        anyhow::ensure!(change.path.starts_with("kafka."), "{change:?}");
    }
    let base = spec_of(&changes);
    let mut swept = Vec::new();
    for (index, change) in changes.into_iter().enumerate() {
        let field = known.iter().find(|field| field.path == change.path);
        let field = field.ok_or_else(|| anyhow::anyhow!("{} is no field", change.path))?;
        let is_of_producer = change.path.starts_with("producer.");
        let rolls = [
            ("processor", field.is_rolling && !is_of_producer),
            ("producer", field.is_rolling && is_of_producer),
        ];
        let one = specification(stage, &base, &change, is_of_producer);
        let mut another = one.clone();
        set(&mut another, &change.path, &another_value(stage, &change));
        swept.push(Swept {
            name: format!("sweep-{index}"),
            path: change.path,
            one,
            another,
            rolls,
            has_way_back: true,
            refused: change.refused,
        });
    }
    swept.extend(lists(stage, &base));
    Ok(swept)
}

/// Lists that grow and shrink. Targets come and go as one likes; topics and their partitions come
/// and stay.
fn lists(stage: &Stage, base: &Value) -> Vec<Swept> {
    let target =
        json!({ "name": "beside", "connection": { "host": "pg", "database": "d", "user": "u" } });
    let topic = || json!({ "name": unique_name("beside"), "partitions": 1 });
    let with = |list: &str, element: Value| {
        let mut spec = base.clone();
        if let Some(elements) = spec[list].as_array_mut() {
            elements.push(element);
        }
        spec
    };
    let mut partitions = base.clone();
    set(&mut partitions, "topics[].partitions", &json!(3));
    let swept = |name: &str, path: &str, another: Value, rolls: bool| {
        let (mut one, mut another) = (base.clone(), another);
        own(stage, &mut one, false);
        own(stage, &mut another, false);
        another["topics"][0]["name"] = one["topics"][0]["name"].clone();
        Swept {
            name: name.to_owned(),
            path: path.to_owned(),
            one,
            another,
            rolls: [("processor", rolls), ("producer", false)],
            has_way_back: true,
            refused: None,
        }
    };
    let more_targets = swept("more-targets", "targets", with("targets", target), false);
    let more_topics = swept("more-topics", "topics", with("topics", topic()), true);
    let more_partitions = swept("more-partitions", "topics[].partitions", partitions, false);
    let fewer_topics = swept("fewer-topics", "topics", with("topics", topic()), true);
    let says = "a topic stays once it is listed".to_owned();
    vec![
        more_targets,
        Swept {
            has_way_back: false,
            ..more_topics
        },
        Swept {
            has_way_back: false,
            ..more_partitions
        },
        Swept {
            one: fewer_topics.another,
            another: fewer_topics.one,
            refused: Some(Refused {
                condition: None,
                reason: None,
                says,
            }),
            ..fewer_topics
        },
    ]
}

/// The document with everything in it, as this change needs it.
fn specification(stage: &Stage, base: &Value, change: &Change, with_producer: bool) -> Value {
    let mut spec = base.clone();
    own(stage, &mut spec, with_producer);
    for path in &change.without {
        set(&mut spec, path, &Value::Null);
    }
    spec
}

/// What each pipeline has for its own. The producer runs only where it is looked at.
fn own(stage: &Stage, spec: &mut Value, with_producer: bool) {
    let servers = json!(stage.kafka.bootstrap_servers());
    set(spec, "kafka.bootstrapServers", &servers);
    set(spec, "topics[].name", &json!(unique_name("clicks")));
    set(spec, "producer.enabled", &json!(with_producer));
    if with_producer {
        // beside these it is refused, since its events could not be read
        for path in ["events.envelope", "events.fields", "events.preset"] {
            set(spec, path, &Value::Null);
        }
    }
}

fn another_value(stage: &Stage, change: &Change) -> Value {
    if change.path == "kafka.bootstrapServers" {
        let servers = stage.kafka.bootstrap_servers();
        // the same broker, said in another way
        return json!(format!("{servers},{servers}"));
    }
    change.another.clone()
}

/// What the specs refer to.
async fn provide(stage: &Stage) -> anyhow::Result<()> {
    let entries = [("username", "u"), ("password", "p")];
    let classes: Api<PriorityClass> = Api::all(stage.client.clone());
    let runtimes: Api<RuntimeClass> = Api::all(stage.client.clone());
    for change in changes() {
        for value in [&change.one, &change.another] {
            let name = value.as_str().unwrap_or_default();
            if change.path.ends_with("ecret.name") {
                stage.create_secret(name, &entries).await?;
            }
            if change.path.ends_with("priorityClassName") {
                let class = json!({
                    "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                    "metadata": { "name": name }, "value": 1,
                });
                let params = PatchParams::apply("test").force();
                classes.patch(name, &params, &Patch::Apply(&class)).await?;
            }
            if change.path.ends_with("runtimeClassName") {
                let class = json!({
                    "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
                    "metadata": { "name": name }, "handler": "runc",
                });
                let params = PatchParams::apply("test").force();
                runtimes.patch(name, &params, &Patch::Apply(&class)).await?;
            }
        }
    }
    Ok(())
}

fn resource(stage: &Stage, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "clickstream.dev/v1alpha1",
        "kind": "ClickstreamPipeline",
        "metadata": { "name": name, "namespace": stage.namespace },
        "spec": spec,
    })
}

/// Pod templates of a component's Deployments.
fn templates<'c>(children: &'c BTreeMap<String, Value>, component: &str) -> Vec<&'c Value> {
    children
        .iter()
        .filter(|(key, child)| {
            key.starts_with("Deployment/")
                && child["labels"]["app.kubernetes.io/component"] == component
        })
        .filter_map(|(_, deployment)| deployment.pointer("/data/spec/template"))
        .collect()
}

/// Children and status of every pipeline, without what counts changes.
async fn snapshot(stage: &Stage) -> anyhow::Result<BTreeMap<String, BTreeMap<String, Value>>> {
    let mut all = children_of_all(stage).await?;
    let pipelines = stage.all::<ClickstreamPipeline>();
    for pipeline in pipelines.list(&ListParams::default()).await? {
        let mut status = json!(pipeline.status);
        if let Some(status) = status.as_object_mut() {
            status.remove("observedGeneration");
        }
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            if let Some(condition) = condition.as_object_mut() {
                condition.remove("lastTransitionTime");
                condition.remove("observedGeneration");
            }
        }
        let children = all.entry(pipeline.name_any()).or_default();
        children.insert("status".to_owned(), status);
    }
    Ok(all)
}

async fn settle(stage: &Stage, swept: &[Swept], log: impl Fn() -> String) -> anyhow::Result<()> {
    for Swept { name, path, .. } in swept {
        stage
            .pipeline_when(name, "settled", |pipeline| {
                let status = pipeline.status.clone().unwrap_or_default();
                let holds = |kind: &str, wanted: &str| {
                    condition(pipeline, kind).is_some_and(|(status, ..)| status == wanted)
                };
                status.observed_generation == pipeline.metadata.generation
                    && holds("Reconciling", "False")
                    && (holds("Ready", "True") || status.suspended == Some(true))
            })
            .await
            .map_err(|error| error.context(log()).context(path.clone()))?;
    }
    at_rest(stage, Duration::from_secs(1)).await?;
    Ok(())
}

#[tokio::test]
async fn every_change_made_and_taken_back_ends_where_it_began() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    provide(&stage).await?;
    let operator = stage.operator()?;
    let log = || operator.log_tail();
    let mut swept = swept(&stage)?;
    swept.retain(|swept| swept.refused.is_none());
    for Swept { name, one, .. } in &swept {
        stage.apply(&resource(&stage, name, one)).await?;
    }
    settle(&stage, &swept, log).await?;
    let before = snapshot(&stage).await?;
    for Swept { name, another, .. } in &swept {
        stage.apply(&resource(&stage, name, another)).await?;
    }
    settle(&stage, &swept, log).await?;
    let changed = snapshot(&stage).await?;
    for Swept { name, one, .. } in swept.iter().filter(|swept| swept.has_way_back) {
        stage.apply(&resource(&stage, name, one)).await?;
    }
    settle(&stage, &swept, log).await?;
    let after = snapshot(&stage).await?;

    let mut wrong = Vec::new();
    for Swept {
        name,
        path,
        rolls,
        has_way_back,
        ..
    } in &swept
    {
        let (before, changed, after) = (&before[name], &changed[name], &after[name]);
        for (component, wanted) in rolls {
            let now = templates(changed, component);
            // a producer that is turned off has no pods to replace
            let rolled = templates(before, component)
                .iter()
                .any(|template| !now.contains(template) && path != "producer.enabled");
            if rolled != *wanted {
                let found = differences(before, changed);
                wrong.push(format!(
                    "{path}: {component}s replaced: {rolled}: {found:#?}"
                ));
            }
        }
        let found = differences(if *has_way_back { before } else { changed }, after);
        if !found.is_empty() {
            wrong.push(format!("{path} taken back: {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_refused_change_touches_no_child_and_says_what_to_do() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    provide(&stage).await?;
    let operator = stage.operator()?;
    let log = || operator.log_tail();
    let mut swept = swept(&stage)?;
    swept.retain(|swept| swept.refused.is_some());
    assert!(swept.len() > 5, "{}", swept.len());
    for Swept { name, one, .. } in &swept {
        stage.apply(&resource(&stage, name, one)).await?;
    }
    settle(&stage, &swept, log).await?;
    let before = snapshot(&stage).await?;

    for Swept {
        name,
        path,
        another,
        refused,
        ..
    } in &swept
    {
        let Some(refused) = refused else { continue };
        let mut another = another.clone();
        if refused.condition.as_deref() == Some("Stalled") {
            // where the spec as a whole is refused, nothing else of it is followed either
            set(&mut another, "targets[].replicas", &json!(7));
        }
        let applied = stage.apply(&resource(&stage, name, &another)).await;
        let says = match (&refused.condition, &refused.reason, applied) {
            (Some(kind), Some(reason), applied) => {
                let applied = applied?;
                let told = stage
                    .pipeline_when(name, reason, |pipeline| {
                        let status = pipeline.status.as_ref();
                        status.and_then(|status| status.observed_generation)
                            == applied.metadata.generation
                            && condition(pipeline, kind).is_some_and(|(_, why, _)| why == *reason)
                    })
                    .await
                    .map_err(|error| error.context(log()).context(path.clone()))?;
                condition(&told, kind).unwrap_or_default().2
            }
            (_, _, Err(kube::Error::Api(status))) => status.message,
            (_, _, other) => anyhow::bail!("{path} is not refused: {other:?}"),
        };
        assert!(says.contains(&refused.says), "{path}: {says}");
    }
    at_rest(&stage, Duration::from_secs(1)).await?;
    let refused = children_of_all(&stage).await?;
    for Swept {
        name, path, one, ..
    } in &swept
    {
        let mut children = before[name].clone();
        children.remove("status");
        let found = differences(&children, &refused[name]);
        assert!(found.is_empty(), "{path}: {found:#?}");
        stage.apply(&resource(&stage, name, one)).await?;
    }
    settle(&stage, &swept, log).await?;
    let after = snapshot(&stage).await?;
    for Swept { name, path, .. } in &swept {
        let found = differences(&before[name], &after[name]);
        assert!(found.is_empty(), "{path} taken back: {found:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_resource_that_cannot_be_read_stops_no_other() -> anyhow::Result<()> {
    let api = Box::leak(Box::new(KubeApi::start().await?));
    let stage = Stage::on(api, Migrations::Succeed).await?;
    // as from a definition of another version, which lets anything through
    let definitions: Api<CustomResourceDefinition> = Api::all(stage.client.clone());
    let mut definition = serde_json::to_value(clickstream_operator::crd::crd())?;
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    definitions
        .patch(
            clickstream_operator::crd::CRD_NAME,
            &PatchParams::apply("test").force(),
            &Patch::Apply(&definition),
        )
        .await?;
    let kind = GroupVersionKind::gvk("clickstream.dev", "v1alpha1", "ClickstreamPipeline");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clickstreampipelines");
    let pipelines: Api<DynamicObject> =
        Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource);
    let broken = json!({
        "apiVersion": "clickstream.dev/v1alpha1", "kind": "ClickstreamPipeline",
        "metadata": { "name": "broken", "finalizers": ["clickstream.dev/cleanup", "test.example/other"] },
        "spec": { "kafka": "nonsense", "topics": 7 },
    });
    let mut created = pipelines
        .create(
            &PostParams::default(),
            &serde_json::from_value(broken.clone())?,
        )
        .await;
    // the definition takes a moment
    for _ in 0..100 {
        if created.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        created = pipelines
            .create(
                &PostParams::default(),
                &serde_json::from_value(broken.clone())?,
            )
            .await;
    }
    created?;
    let operator = stage.operator_with(&["--deletion-patience", "2"])?;
    let topic = unique_name("clicks");
    let good = stage.pipeline("shop", &topic, json!({}));
    pipelines
        .create(&PostParams::default(), &serde_json::from_value(good)?)
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage.children::<Deployment>("shop", 1).await?;
    let broken = pipelines.get("broken").await?;
    let conditions = broken.data["status"]["conditions"].to_string();
    assert!(conditions.contains("Unreadable"), "{conditions}");
    assert!(conditions.contains("cannot be read"), "{conditions}");

    // what it wants deleted is not known, and it goes all the same
    pipelines.delete("broken", &DeleteParams::default()).await?;
    let begun = Instant::now();
    loop {
        let finalizers = pipelines.get("broken").await?.metadata.finalizers;
        if finalizers == Some(vec!["test.example/other".to_owned()]) {
            break;
        }
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "{finalizers:?}: {}",
            operator.log_tail()
        );
        tokio::time::sleep(LOOK).await;
    }
    let events = stage.events("broken").await?;
    assert!(
        events.contains(&"CleanupIncomplete".to_owned()),
        "{events:?}"
    );
    Ok(())
}
