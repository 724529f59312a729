//! The bundle for the Operator Lifecycle Manager, made from what the chart renders: rights,
//! Deployment and definition are said once, in the chart.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;
use clickstream_tools::workspace_root;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::archive::File;
use super::{Facts, chart};

/// The package in catalogues.
const PACKAGE: &str = "clickstream-operator";
const CHANNEL: &str = "alpha";
/// Namespace that the chart is rendered for; OLM chooses another, and nothing of the bundle names
/// it.
pub const NAMESPACE: &str = "clickstream-operator";

/// What a chart says of itself, of which the bundle's description is made.
pub struct Chart {
    /// Chart.yaml.
    pub description: Value,
    /// The definition of the resource, as YAML.
    pub definition: String,
}

impl Chart {
    /// The chart of this workspace.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read() -> anyhow::Result<Self> {
        let description = fs::read_to_string(chart::folder().join("Chart.yaml"))?;
        let crd = workspace_root().join("manifests/crd/clickstreampipelines.yaml");
        Ok(Self {
            description: serde_yaml::from_str(&description)?,
            definition: fs::read_to_string(crd)?,
        })
    }
}

/// The bundle's files, and the labels that its image and `metadata/annotations.yaml` share.
///
/// # Errors
/// The rendering lacks what a bundle needs.
pub fn bundle(
    chart: &Chart,
    rendered: &str,
    facts: &Facts,
    images: &BTreeMap<String, String>,
) -> anyhow::Result<Vec<File>> {
    let objects = documents(rendered)?;
    let mut files = vec![
        File::new(
            format!("manifests/{PACKAGE}.clusterserviceversion.yaml"),
            serde_yaml::to_string(&version(chart, &objects, facts, images)?)?,
        ),
        File::new(
            "manifests/clickstream.dev_clickstreampipelines.yaml",
            chart.definition.clone(),
        ),
    ];
    for object in objects.iter().filter(|object| is_beside(object, &objects)) {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        let file = format!("{}_{}.yaml", name.replace(':', "-"), kind.to_lowercase());
        files.push(File::new(
            format!("manifests/{file}"),
            serde_yaml::to_string(&object)?,
        ));
    }
    let annotations: serde_json::Map<String, Value> = labels()
        .into_iter()
        .map(|(key, value)| (key, json!(value)))
        .collect();
    files.push(File::new(
        "metadata/annotations.yaml",
        serde_yaml::to_string(&json!({ "annotations": annotations }))?,
    ));
    Ok(files)
}

/// What says that an image is a bundle.
#[must_use]
pub fn labels() -> Vec<(String, String)> {
    let prefix = "operators.operatorframework.io.bundle";
    let labels = [
        ("mediatype.v1", "registry+v1"),
        ("manifests.v1", "manifests/"),
        ("metadata.v1", "metadata/"),
        ("package.v1", PACKAGE),
        ("channels.v1", CHANNEL),
        ("channel.default.v1", CHANNEL),
    ];
    labels
        .map(|(key, value)| (format!("{prefix}.{key}"), value.to_owned()))
        .into()
}

fn documents(rendered: &str) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(rendered) {
        let value = Value::deserialize(document).context("what Helm renders is no YAML")?;
        if !value.is_null() {
            found.push(value);
        }
    }
    Ok(found)
}

fn version(
    chart: &Chart,
    objects: &[Value],
    facts: &Facts,
    images: &BTreeMap<String, String>,
) -> anyhow::Result<Value> {
    let deployments: Vec<Value> = of_kind(objects, "Deployment")
        .map(|object| {
            json!({
                "name": object["metadata"]["name"],
                "label": object["metadata"]["labels"],
                "spec": object["spec"],
            })
        })
        .collect();
    let deployment = deployments
        .first()
        .context("the chart renders no Deployment")?;
    let account = text(&deployment["spec"]["template"]["spec"]["serviceAccountName"]);
    let rights = |bindings: &str, roles: &str| {
        let bound = of_kind(objects, bindings).filter(|binding| is_bound(binding, account));
        let roles = bound.filter_map(|binding| {
            let name = &binding["roleRef"]["name"];
            of_kind(objects, roles).find(|role| role["metadata"]["name"] == *name)
        });
        let rules = roles.filter_map(|role| role["rules"].as_array());
        let rules: Vec<Value> = rules.flatten().cloned().collect();
        json!([{ "serviceAccountName": account, "rules": rules }])
    };
    let about = &chart.description;
    let definition: Value = serde_yaml::from_str(&chart.definition)?;
    let newest = definition["spec"]["versions"][0]["name"].clone();
    let kind = text(&definition["spec"]["names"]["kind"]).to_owned();
    let examples = text(&about["annotations"]["artifacthub.io/crdsExamples"]);
    let examples: Value = serde_yaml::from_str(examples)?;
    let oldest = text(&about["kubeVersion"]);
    let oldest = oldest.trim_start_matches(">=").trim_end_matches("-0");
    let related = images
        .iter()
        .map(|(service, image)| json!({ "name": service, "image": image }));
    Ok(json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {
            "name": format!("{PACKAGE}.v{}", facts.version),
            "annotations": {
                "alm-examples": serde_json::to_string_pretty(&examples)?,
                "capabilities": about["annotations"]["artifacthub.io/operatorCapabilities"],
                "categories": "Streaming & Messaging, Database",
                "containerImage": images.get("operator").context("no image of the operator")?,
                "createdAt": super::date(facts.time),
                "description": about["description"],
                "features.operators.openshift.io/disconnected": "true",
            },
        },
        "spec": {
            "displayName": "Clickstream Operator",
            "description": about["description"],
            "version": facts.version,
            "maturity": CHANNEL,
            "minKubeVersion": oldest,
            "keywords": about["keywords"],
            "provider": { "name": "Clickstream Operator" },
            "installModes": [
                { "type": "OwnNamespace", "supported": false },
                { "type": "SingleNamespace", "supported": false },
                { "type": "MultiNamespace", "supported": false },
                { "type": "AllNamespaces", "supported": true },
            ],
            "customresourcedefinitions": { "owned": [{
                "name": definition["metadata"]["name"],
                "kind": kind,
                "version": newest,
                "displayName": "Clickstream pipeline",
                "description": "A pipeline of click events from Kafka topics into PostgreSQL schemas",
            }] },
            "install": { "strategy": "deployment", "spec": {
                "deployments": deployments,
                "clusterPermissions": rights("ClusterRoleBinding", "ClusterRole"),
                "permissions": rights("RoleBinding", "Role"),
            } },
            "relatedImages": related.collect::<Vec<_>>(),
        },
    }))
}

/// What OLM does not make of the description itself: Services, and roles for people.
fn is_beside(object: &Value, objects: &[Value]) -> bool {
    let name = &object["metadata"]["name"];
    match text(&object["kind"]) {
        "ClusterRole" => {
            let mut bindings = of_kind(objects, "ClusterRoleBinding");
            !bindings.any(|binding| binding["roleRef"]["name"] == *name)
        }
        "Deployment" | "ServiceAccount" | "ClusterRoleBinding" | "Role" | "RoleBinding" => false,
        _ => true,
    }
}

fn is_bound(binding: &Value, account: &str) -> bool {
    let subjects = binding["subjects"].as_array();
    subjects.is_some_and(|all| all.iter().any(|subject| subject["name"] == account))
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tests::facts;
    use super::*;

    /// The installation without Helm, which a test of the chart compares with the chart.
    fn made() -> anyhow::Result<Vec<File>> {
        let path = workspace_root().join("manifests/install/clickstream-operator.yaml");
        let rendered = fs::read_to_string(path)?;
        let rendered = rendered
            .split_once("\n---\n")
            .context("a namespace first")?
            .1;
        let image = format!(
            "registry.example.com/clickstream/operator@sha256:{}",
            "a".repeat(64)
        );
        let images = [("operator".to_owned(), image)].into();
        bundle(&Chart::read()?, rendered, &facts(None), &images)
    }

    fn file(files: &[File], path: &str) -> anyhow::Result<Value> {
        let file = files.iter().find(|file| file.path == path);
        let file = file.with_context(|| {
            let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            format!("no {path} in {paths:?}")
        })?;
        Ok(serde_yaml::from_slice(&file.bytes)?)
    }

    #[test]
    fn the_operator_has_the_rights_that_the_chart_gives_it() -> anyhow::Result<()> {
        let files = made()?;
        let csv = file(
            &files,
            "manifests/clickstream-operator.clusterserviceversion.yaml",
        )?;
        let install = &csv["spec"]["install"]["spec"];
        let cluster = install["clusterPermissions"][0]["rules"]
            .as_array()
            .context("rules")?;
        let of = |resource: &str| {
            let named = cluster
                .iter()
                .filter(move |rule| rule["resources"].to_string().contains(resource));
            named.map(|rule| rule["verbs"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(of("\"secrets\""), [json!(["get"])]);
        assert_eq!(of("deployments").len(), 1);
        let own = &install["permissions"][0];
        assert_eq!(own["serviceAccountName"], "clickstream-operator");
        assert_eq!(own["rules"][0]["resources"], json!(["leases"]));
        Ok(())
    }

    #[test]
    fn the_description_names_resource_deployment_images_and_how_old_a_cluster_may_be()
    -> anyhow::Result<()> {
        let files = made()?;
        let csv = file(
            &files,
            "manifests/clickstream-operator.clusterserviceversion.yaml",
        )?;
        assert_eq!(csv["metadata"]["name"], "clickstream-operator.v1.2.3");
        let spec = &csv["spec"];
        assert_eq!(spec["minKubeVersion"], "1.33.0");
        let owned = &spec["customresourcedefinitions"]["owned"][0];
        assert_eq!(owned["name"], "clickstreampipelines.clickstream.dev");
        assert_eq!(owned["kind"], "ClickstreamPipeline");
        let deployment = &spec["install"]["spec"]["deployments"][0];
        assert_eq!(deployment["name"], "clickstream-operator");
        assert_eq!(deployment["spec"]["replicas"], 1);
        assert_eq!(
            spec["relatedImages"][0]["image"],
            csv["metadata"]["annotations"]["containerImage"]
        );
        let examples = text(&csv["metadata"]["annotations"]["alm-examples"]);
        let examples: Value = serde_json::from_str(examples)?;
        assert_eq!(examples[0]["kind"], "ClickstreamPipeline");
        Ok(())
    }

    #[test]
    fn beside_it_are_the_definition_the_service_and_roles_for_people() -> anyhow::Result<()> {
        let files = made()?;
        let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert!(
            names.contains(&"manifests/clickstream-operator_service.yaml"),
            "{names:?}"
        );
        let people = names
            .iter()
            .filter(|name| name.ends_with("_clusterrole.yaml"));
        assert_eq!(people.count(), 2, "{names:?}");
        assert!(
            !names
                .iter()
                .any(|name| name.contains("binding") || name.contains("account"))
        );
        let service = file(&files, "manifests/clickstream-operator_service.yaml")?;
        assert_eq!(service["metadata"].get("namespace"), None);
        let annotations = file(&files, "metadata/annotations.yaml")?;
        for (key, value) in labels() {
            assert_eq!(annotations["annotations"][&key], value);
        }
        Ok(())
    }
}
