//! `top` and `report` by the API server's own proxy to pods: it keeps headers back, and speaks TLS
//! to whom it does not know.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use clickstream_telemetry::{
    admin::{self, Access, AdminServer, Guard},
    metrics,
    tls::{CERTIFICATE, KEY, Tls},
};
use clickstream_testbed::{
    build_binary, certificates_for, loopback, server_dir, tools::kubernetes::Assets, unique_name,
};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{
    Resource,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::{
    guarded::Said,
    pods::{deployment, run_behind_a_pod},
    processor::running,
    stage::{LOOK, Migrations, PATIENCE, Stage},
};

const TOKEN: &str = "a-token-of-thirty-two-characters";
/// What `top` needs, but for what a guarded pod wants.
const ASKS: [(&str, &str, &str); 3] = [
    ("clickstream.dev", "clickstreampipelines", "get"),
    ("", "pods", "list"),
    ("", "pods/proxy", "get"),
];

async fn serve(guard: Guard, said: Value) -> anyhow::Result<AdminServer> {
    let registry = metrics::registry("processor")?;
    let listen = (loopback::of_pods(), 0).into();
    let stop = CancellationToken::new();
    Ok(admin::serve_guarded(listen, guard, registry, Arc::new(Said(said)), stop).await?)
}

/// Somebody who types commands of the plugin.
struct Person<'s> {
    stage: &'s Stage,
    user: String,
    kubeconfig: PathBuf,
    plugin: PathBuf,
}

impl<'s> Person<'s> {
    async fn new(stage: &'s Stage) -> anyhow::Result<Self> {
        let user = unique_name("person").replace('_', "-");
        Ok(Self {
            stage,
            kubeconfig: stage.api.kubeconfig_as(&user, &[])?,
            user,
            plugin: tokio::task::spawn_blocking(|| build_binary("kubectl-clickstream")).await??,
        })
    }

    /// Has these rights from a moment later on, and no others.
    async fn may(&self, rights: &[(&str, &str, &str)]) -> anyhow::Result<()> {
        let rules = rights.iter().map(|(group, resource, verb)| {
            json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] })
        });
        let role = json!({
            "metadata": { "name": self.user }, "rules": rules.collect::<Vec<_>>(),
        });
        self.put::<Role>(role).await?;
        let group = "rbac.authorization.k8s.io";
        self.put::<RoleBinding>(json!({
            "metadata": { "name": self.user },
            "roleRef": { "apiGroup": group, "kind": "Role", "name": self.user },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": self.user }],
        }))
        .await
    }

    async fn put<K>(&self, object: Value) -> anyhow::Result<()>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let object: K = serde_json::from_value(object)?;
        let params = PatchParams::apply("test").force();
        self.stage
            .all::<K>()
            .patch(&self.user, &params, &Patch::Apply(&object))
            .await?;
        Ok(())
    }

    /// Exit code and both streams.
    async fn types(&self, args: &[&str]) -> anyhow::Result<(i32, String, String)> {
        let output = Command::new(&self.plugin)
            .args(args)
            .args(["--namespace", &self.stage.namespace, "--kubeconfig"])
            .arg(&self.kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        Ok((
            output.status.code().context("a signal")?,
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        ))
    }

    /// Types `top` until it ends so, with these words on standard error; what it shows.
    async fn top(&self, wanted: i32, words: &str) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            let args = ["top", "web", "--interval", "1", "--output", "json"];
            let (code, shown, said) = self.types(&args).await?;
            if code == wanted && said.contains(words) {
                return Ok(shown);
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "{code} instead of {wanted} {words:?}: {shown}{said}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The text of a file in a report.
    async fn reports(&self, path: &str) -> anyhow::Result<String> {
        let file = server_dir("report")?.join("report.tar.gz");
        let name = file.display().to_string();
        let (code, _, said) = self.types(&["report", "web", "--file", &name]).await?;
        // much else of it may not be read, which it says
        ensure!(code == 4 && !said.contains(path), "{code}: {said}");
        let mut tar = Command::new("tar");
        tar.args([
            "--extract",
            "--gzip",
            "--to-stdout",
            "--wildcards",
            "--file",
        ]);
        let output = tar.arg(&file).arg(format!("*/{path}")).output().await?;
        ensure!(output.status.success(), "{path} is not in it: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Owners of the partitions that `top` shows.
fn owners(shown: &str) -> anyhow::Result<Vec<String>> {
    let shown: Value = serde_json::from_str(shown)?;
    let partitions = shown["partitions"].as_array().context("no list")?;
    let owners = partitions
        .iter()
        .filter_map(|found| found["owner"].as_str());
    Ok(owners.map(ToOwned::to_owned).collect())
}

/// Whether this is the run in which the API server can reach pods.
async fn is_outside(test: &str) -> anyhow::Result<bool> {
    // what has to be built is built where there is a network
    tokio::task::spawn_blocking(Assets::find).await??;
    loopback::again_with_pods(&format!("pod_proxy::{test}")).await
}

#[tokio::test]
async fn top_and_report_ask_processors_by_the_api_servers_proxy() -> anyhow::Result<()> {
    if is_outside("top_and_report_ask_processors_by_the_api_servers_proxy").await? {
        return Ok(());
    }
    let stage = Stage::new(Migrations::Succeed).await?;
    let _operator = stage.operator()?;
    let topic = unique_name("clicks");
    let pipeline = stage.pipeline("web", &topic, json!({}));
    stage.apply(&pipeline).await?;
    let server = serve(Guard::default(), running(&topic, &[0, 1, 2])).await?;
    run_behind_a_pod(&stage, "web", "web-0", server.local_addr().port()).await?;

    let person = Person::new(&stage).await?;
    person.may(&ASKS[..2]).await?;
    person.top(1, "It takes get on pods/proxy").await?;
    person.may(&ASKS).await?;
    ensure!(owners(&person.top(0, "").await?)? == ["web-0"; 3]);
    let status: Value = serde_json::from_str(&person.reports("status/web-0.json").await?)?;
    ensure!(status["partitions"][0]["topic"] == topic, "{status}");
    let metrics = person.reports("metrics/web-0.txt").await?;
    ensure!(metrics.contains("clickstream_build_info"), "{metrics}");
    Ok(())
}

/// What the operator's Secrets hold, in the namespace of the pods.
async fn publish(stage: &Stage, folder: &Path) -> anyhow::Result<()> {
    let text = |name: &str| fs::read_to_string(folder.join(name));
    let (ca, certificate, key) = (text("ca.crt")?, text(CERTIFICATE)?, text(KEY)?);
    let tls = [
        ("ca.crt", ca.as_str()),
        (CERTIFICATE, certificate.as_str()),
        (KEY, key.as_str()),
    ];
    stage.create_secret("pods-tls", &tls).await?;
    // the first that is tried is one that this pod has not read
    let tokens = [
        ("added", TOKEN),
        ("token", "another-token-of-thirty-two-char"),
    ];
    stage.create_secret("scrape", &tokens).await
}

#[tokio::test]
async fn guarded_processors_are_asked_by_tls_and_shown_a_token_that_the_proxy_hands_on()
-> anyhow::Result<()> {
    let name = "guarded_processors_are_asked_by_tls_and_shown_a_token_that_the_proxy_hands_on";
    if is_outside(name).await? {
        return Ok(());
    }
    let stage = Stage::new(Migrations::Succeed).await?;
    let folder = certificates_for(&format!("clickstream-metrics.{}.svc", stage.namespace))?;
    fs::write(folder.join("tokens"), format!("{TOKEN}\n"))?;
    publish(&stage, &folder).await?;
    let _operator = stage.operator_with(&[
        "--metrics-tls-secret=pods-tls",
        "--metrics-token-secret=scrape",
        "--metrics-token-key=token",
    ])?;
    let topic = unique_name("clicks");
    let pipeline = stage.pipeline("web", &topic, json!({}));
    stage.apply(&pipeline).await?;
    deployment(&stage, "web").await?;
    let guard = Guard {
        tls: Some(Tls::following(&folder)?),
        access: Access::tokens(folder.join("tokens"))?,
    };
    let server = serve(guard, running(&topic, &[0, 1])).await?;
    run_behind_a_pod(&stage, "web", "web-0", server.local_addr().port()).await?;

    let person = Person::new(&stage).await?;
    person.may(&ASKS).await?;
    person
        .top(1, "it wants a token, which takes get on secrets/scrape")
        .await?;
    person
        .may(&[&ASKS[..], &[("", "secrets", "get")]].concat())
        .await?;
    ensure!(owners(&person.top(0, "").await?)? == ["web-0"; 2]);
    let metrics = person.reports("metrics/web-0.txt").await?;
    ensure!(metrics.contains("clickstream_build_info"), "{metrics}");
    Ok(())
}
