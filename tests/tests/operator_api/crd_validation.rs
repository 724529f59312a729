//! What a real API server makes of the CustomResourceDefinition: it takes what the processors take,
//! refuses what they refuse, and says what to do.

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
mod fields;
mod kubectl;
mod rules;

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
