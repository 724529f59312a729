//! An operator with the rights that the chart gives it, and no more: in the namespaces of a test,
//! by Roles.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{KubeApi, unique_name, workspace_root};
use k8s_openapi::api::{
    authorization::v1::SubjectAccessReview,
    rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Deserialize as _, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::stage::{LOOK, PATIENCE};

/// Everybody whom the chart lets read what stands outside the watched namespaces.
const OPERATORS: &str = "test:operators";

/// One user of the API server, for one test.
pub struct Rights {
    client: Client,
    user: String,
    /// Speaks for the user.
    pub kubeconfig: PathBuf,
}

impl Rights {
    /// A user who may read what the operator reads of the cluster, and nothing of any namespace.
    pub async fn of_nobody(api: &KubeApi, client: &Client) -> anyhow::Result<Self> {
        let user = unique_name("operator");
        let outside: ClusterRole = serde_json::from_value(json!({
            "metadata": { "name": OPERATORS },
            "rules": of_operator()?.into_iter().filter(|rule| rule.resource_names.is_some()).collect::<Vec<_>>(),
        }))?;
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": { "name": OPERATORS },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": OPERATORS },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": OPERATORS }],
        }))?;
        let params = PatchParams::apply("test").force();
        Api::<ClusterRole>::all(client.clone())
            .patch(OPERATORS, &params, &Patch::Apply(&outside))
            .await?;
        Api::<ClusterRoleBinding>::all(client.clone())
            .patch(OPERATORS, &params, &Patch::Apply(&binding))
            .await?;
        let rights = Self {
            client: client.clone(),
            kubeconfig: api.kubeconfig_as(&user, &[OPERATORS])?,
            user,
        };
        let kube_system = json!({ "resource": "namespaces", "name": "kube-system", "verb": "get" });
        rights.known(kube_system).await?;
        Ok(rights)
    }

    /// What the chart grants in a watched namespace and in that of the release, in this one.
    pub async fn grant(&self, namespace: &str) -> anyhow::Result<()> {
        self.grant_without(namespace, "").await
    }

    /// The same, without any right to a resource.
    pub async fn grant_without(&self, namespace: &str, resource: &str) -> anyhow::Result<()> {
        let mut rules = of_operator()?;
        let leader: Role = installed("Role", "clickstream-operator-leader")?;
        rules.extend(leader.rules.unwrap_or_default());
        for rule in &mut rules {
            if let Some(resources) = &mut rule.resources {
                resources.retain(|of| of != resource);
            }
        }
        rules.retain(|rule| rule.resources.as_ref().is_none_or(|of| !of.is_empty()));
        let params = PatchParams::apply("test").force();
        let role: Role = serde_json::from_value(json!({
            "metadata": { "name": self.user.replace('_', "-") }, "rules": rules,
        }))?;
        let name = role.metadata.name.clone().unwrap_or_default();
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.user }],
        }))?;
        Api::<Role>::namespaced(self.client.clone(), namespace)
            .patch(&name, &params, &Patch::Apply(&role))
            .await?;
        Api::<RoleBinding>::namespaced(self.client.clone(), namespace)
            .patch(&name, &params, &Patch::Apply(&binding))
            .await?;
        // the last rule of all
        let leases = json!({
            "namespace": namespace, "group": "coordination.k8s.io", "resource": "leases", "verb": "create",
        });
        self.known(leases).await
    }

    /// What the chart grants with `metrics.auth: TokenReview`.
    pub async fn grant_reviews(&self) -> anyhow::Result<()> {
        let name = format!("test:reviews:{}", self.user);
        let rule = |group: &str, resource: &str| json!({ "apiGroups": [group], "resources": [resource], "verbs": ["create"] });
        let role: ClusterRole = serde_json::from_value(json!({
            "metadata": { "name": name },
            "rules": [
                rule("authentication.k8s.io", "tokenreviews"),
                rule("authorization.k8s.io", "subjectaccessreviews"),
            ],
        }))?;
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.user }],
        }))?;
        let params = PatchParams::apply("test").force();
        Api::<ClusterRole>::all(self.client.clone())
            .patch(&name, &params, &Patch::Apply(&role))
            .await?;
        Api::<ClusterRoleBinding>::all(self.client.clone())
            .patch(&name, &params, &Patch::Apply(&binding))
            .await?;
        let last = json!({ "group": "authorization.k8s.io", "resource": "subjectaccessreviews", "verb": "create" });
        self.known(last).await
    }

    /// The API server learns of a binding a moment later.
    async fn known(&self, right: Value) -> anyhow::Result<()> {
        let review: SubjectAccessReview = serde_json::from_value(json!({
            "metadata": {},
            "spec": { "user": self.user, "groups": [OPERATORS], "resourceAttributes": right },
        }))?;
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let begun = Instant::now();
        loop {
            let answer = reviews.create(&PostParams::default(), &review).await?;
            if answer.status.is_some_and(|status| status.allowed) {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "{} is not given {right}",
                self.user
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The rules of the operator's ClusterRole, as the chart renders them.
fn of_operator() -> anyhow::Result<Vec<PolicyRule>> {
    let role: ClusterRole = installed("ClusterRole", "clickstream-system:clickstream-operator")?;
    Ok(role.rules.unwrap_or_default())
}

/// An object of `manifests/install`, which is rendered from the chart.
pub fn installed<K: DeserializeOwned>(kind: &str, name: &str) -> anyhow::Result<K> {
    let path = workspace_root().join("manifests/install/clickstream-operator.yaml");
    let text = std::fs::read_to_string(&path)?;
    for document in serde_yaml::Deserializer::from_str(&text) {
        let document = Value::deserialize(document)?;
        if document["kind"] == kind && document["metadata"]["name"] == name {
            return Ok(serde_json::from_value(document)?);
        }
    }
    None.with_context(|| format!("{} has no {kind} {name}", path.display()))
}
