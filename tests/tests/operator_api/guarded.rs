//! Metrics for those who may read them: TLS, and tokens that the API server reviews or that a
//! Secret holds.

use std::{fs, path::Path, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use clickstream_telemetry::{
    Health, Verdict,
    admin::{self, Access, AdminServer, Guard},
    client::{HttpClient, Limits},
    metrics,
    tls::{CERTIFICATE, KEY, Tls},
};
use clickstream_testbed::{
    Guarded, Process, Prometheus, ScrapeTarget, certificates_for, free_port, unique_name,
};
use k8s_openapi::{
    api::{
        authentication::v1::TokenRequest,
        core::v1::{Pod, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    pods::{deployment, run_behind_a_pod},
    processor::running,
    stage::{LOOK, Migrations, PATIENCE, Stage},
};

const LIMITS: Limits = Limits {
    patience: PATIENCE,
    largest: 16 << 20,
};

fn trusting(folder: &Path, name: &str) -> anyhow::Result<HttpClient> {
    let authority = fs::read(folder.join("ca.crt"))?;
    Ok(HttpClient::trusting(&authority, Some(name))?)
}

/// A ServiceAccount, and a token of it from the API server.
async fn account(stage: &Stage, name: &str) -> anyhow::Result<String> {
    let accounts = stage.all::<ServiceAccount>();
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    accounts.create(&PostParams::default(), &account).await?;
    let request: TokenRequest = serde_json::from_value(json!({
        "metadata": {}, "spec": { "audiences": [], "expirationSeconds": 3_600 },
    }))?;
    let made = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await?;
    Ok(made.status.context("no token")?.token)
}

/// Binds what the chart calls `metrics-reader`.
async fn may_read_metrics(client: &Client, namespace: &str, account: &str) -> anyhow::Result<()> {
    let name = format!("test:metrics-reader:{namespace}");
    let role: ClusterRole = serde_json::from_value(json!({
        "metadata": { "name": name },
        "rules": [{ "nonResourceURLs": ["/metrics", "/status"], "verbs": ["get"] }],
    }))?;
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace }],
    }))?;
    let params = PatchParams::apply("test").force();
    Api::<ClusterRole>::all(client.clone())
        .patch(&name, &params, &Patch::Apply(&role))
        .await?;
    Api::<ClusterRoleBinding>::all(client.clone())
        .patch(&name, &params, &Patch::Apply(&binding))
        .await?;
    Ok(())
}

/// An operator whose admin port is guarded.
struct Operator {
    process: Process,
    port: u16,
}

impl Operator {
    fn start(stage: &Stage, folder: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        let process = stage.operator_with(&[
            "--admin-listen",
            &format!("127.0.0.1:{port}"),
            "--admin-tls",
            &folder.display().to_string(),
            "--admin-token-review",
        ])?;
        Ok(Self { process, port })
    }

    /// Waits for this answer; its first line.
    async fn answers(&self, client: &HttpClient, path: &str, code: u16) -> anyhow::Result<String> {
        let url = format!("https://127.0.0.1:{}{path}", self.port).parse()?;
        let begun = Instant::now();
        loop {
            let told = match client.ask(&url).await {
                Ok(answer) if answer.status() == code => {
                    let body = answer.body(LIMITS.largest).await?;
                    let text = String::from_utf8_lossy(&body).into_owned();
                    return Ok(text.lines().next().unwrap_or_default().to_owned());
                }
                Ok(answer) => answer.status().to_string(),
                Err(error) => error.to_string(),
            };
            ensure!(
                begun.elapsed() < PATIENCE,
                "{path} never answered {code}, at last: {told}\n{}",
                self.process.log_tail()
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[tokio::test]
async fn who_may_get_its_metrics_reads_them_and_nobody_else() -> anyhow::Result<()> {
    const NAME: &str = "clickstream-operator.clickstream-system.svc";
    let stage = Stage::new(Migrations::Succeed).await?;
    let folder = certificates_for(NAME)?;
    let [prometheus, stranger] = ["prometheus", "stranger"];
    let tokens = [
        account(&stage, prometheus).await?,
        account(&stage, stranger).await?,
    ];
    may_read_metrics(&stage.client, &stage.namespace, prometheus).await?;
    let operator = Operator::start(&stage, &folder)?;
    let anyone = trusting(&folder, NAME)?;
    let with = |token: &str| anyone.clone().with_token(token);

    // probes ask nobody; and while the operator may review nothing, nobody reads on
    operator.answers(&anyone, "/livez", 200).await?;
    let why = operator
        .answers(&with(&tokens[0])?, "/metrics", 503)
        .await?;
    ensure!(why.contains("cannot be reviewed"), "{why}");
    stage.rights.grant_reviews().await?;

    for path in ["/metrics", "/status"] {
        operator.answers(&with(&tokens[0])?, path, 200).await?;
        let why = operator.answers(&with(&tokens[1])?, path, 403).await?;
        let who = format!("system:serviceaccount:{}:stranger", stage.namespace);
        ensure!(why == format!("{who} may not get {path}"), "{why}");
        let why = operator.answers(&anyone, path, 401).await?;
        ensure!(why.contains("a token is needed"), "{why}");
        operator
            .answers(&with("no-token-of-anybody")?, path, 401)
            .await?;
    }
    // the API server says of the token of an account that has gone that it could not find that one
    stage
        .all::<ServiceAccount>()
        .delete("stranger", &DeleteParams::default())
        .await?;
    let why = operator.answers(&with(&tokens[1])?, "/status", 401).await?;
    ensure!(why.contains("not known"), "{why}");
    let stranger = HttpClient::trusting(&fs::read(folder.join("other.crt"))?, Some(NAME))?;
    let url = format!("https://127.0.0.1:{}/livez", operator.port).parse()?;
    let refused = stranger.get(&url, LIMITS).await;
    ensure!(refused.is_err(), "another authority was trusted");
    let log = operator.process.log_tail();
    for token in &tokens {
        ensure!(!log.contains(token), "a token stands in the log");
    }

    // and a real Prometheus, as the chart's monitors have it ask
    for (token, up) in [(&tokens[0], 1.0), (&tokens[1], 0.0)] {
        let guarded = Guarded {
            ca: folder.join("ca.crt"),
            server_name: NAME.to_owned(),
            token: token.clone(),
        };
        let prometheus = Prometheus::start_for("groups: []", Some(&guarded)).await?;
        prometheus.scrape(&[ScrapeTarget {
            port: operator.port,
            labels: Vec::new(),
        }])?;
        let begun = Instant::now();
        loop {
            let samples = prometheus.query("up").await?;
            if samples.iter().any(|sample| sample.value == up) {
                break;
            }
            ensure!(
                samples.is_empty() && begun.elapsed() < PATIENCE,
                "up is not {up}: {samples:?}\n{}",
                prometheus.log_tail()
            );
            tokio::time::sleep(LOOK).await;
        }
        let series = prometheus.query("clickstream_build_info").await?;
        ensure!(series.is_empty() == (up == 0.0), "{series:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_is_reviewed_by_tls_only() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let operator = stage.operator_with(&["--admin-listen", &listen, "--admin-token-review"])?;
    let begun = Instant::now();
    while operator.exited()?.is_none() {
        ensure!(begun.elapsed() < PATIENCE, "it runs");
        tokio::time::sleep(LOOK).await;
    }
    let log = operator.log_tail();
    ensure!(log.contains("--admin-tls"), "{log}");
    Ok(())
}

/// What a processor of a test says.
pub struct Said(pub Value);

impl Health for Said {
    fn live(&self) -> Verdict {
        Verdict::Ok
    }

    fn ready(&self) -> Verdict {
        Verdict::Ok
    }

    fn status(&self) -> Value {
        self.0.clone()
    }
}

/// Serves as a guarded processor does, by what its folder holds.
async fn guarded(folder: &Path, said: Value) -> anyhow::Result<(AdminServer, CancellationToken)> {
    let stop = CancellationToken::new();
    let guard = Guard {
        tls: Some(Tls::following(folder)?),
        access: Access::tokens(folder.join("tokens"))?,
    };
    let registry = metrics::registry("processor")?;
    let said = Arc::new(Said(said));
    let local = "127.0.0.1:0".parse()?;
    let server = admin::serve_guarded(local, guard, registry, said, stop.clone()).await?;
    Ok((server, stop))
}

async fn publish(stage: &Stage, folder: &Path) -> anyhow::Result<()> {
    let text = |name: &str| fs::read_to_string(folder.join(name));
    let (ca, certificate, key) = (text("ca.crt")?, text(CERTIFICATE)?, text(KEY)?);
    let pods_tls = [
        ("ca.crt", ca.as_str()),
        (CERTIFICATE, certificate.as_str()),
        (KEY, key.as_str()),
    ];
    stage.create_secret("pods-tls", &pods_tls).await?;
    let tokens = text("tokens")?;
    stage.create_secret("scrape", &[("shown", &tokens)]).await
}

#[tokio::test]
async fn guarded_processors_tell_the_operator_and_go_on_when_their_secrets_are_renewed()
-> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    let name = format!("clickstream-metrics.{}.svc", stage.namespace);
    let folder = certificates_for(&name)?;
    fs::write(folder.join("tokens"), "a-token-of-thirty-two-characters\n")?;
    publish(&stage, &folder).await?;
    let operator = stage.operator_with(&[
        "--metrics-tls-secret=pods-tls",
        "--metrics-token-secret=scrape",
        "--metrics-token-key=shown",
    ])?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("web", &topic, json!({})))
        .await?;
    let processors = deployment(&stage, "web").await?;
    let pod = json!(processors.spec.context("no spec")?.template.spec);
    for probe in ["livenessProbe", "readinessProbe"] {
        let scheme = &pod["containers"][0][probe]["httpGet"]["scheme"];
        ensure!(scheme == "HTTPS", "{probe}: {scheme}");
    }
    let volumes = pod["volumes"].to_string();
    ensure!(
        volumes.contains("pods-tls") && volumes.contains("scrape"),
        "{volumes}"
    );

    let (server, stop) = guarded(&folder, running(&topic, &[0, 1, 2])).await?;
    run_behind_a_pod(&stage, "web", "web-0", server.local_addr().port()).await?;
    let told = |lag: i64, what: &'static str| {
        let stage = &stage;
        let operator = &operator;
        async move {
            stage
                .pipeline_when("web", what, |pipeline| {
                    let status = pipeline.status.as_ref();
                    status.and_then(|status| status.lag) == Some(lag)
                })
                .await
                .map_err(|error| error.context(operator.log_tail()))
        }
    };
    told(0, "told of by its processor").await?;

    // all of it is renewed: another authority, another token
    stop.cancel();
    server.stopped().await;
    let next = certificates_for(&name)?;
    fs::write(next.join("tokens"), "another-token-of-thirty-two-char\n")?;
    let mut behind = running(&topic, &[0, 1, 2]);
    behind["partitions"][0]["lag"] = json!(7);
    let (server, stop) = guarded(&next, behind).await?;
    publish(&stage, &next).await?;
    run_behind_a_pod(&stage, "web", "web-1", server.local_addr().port()).await?;
    let stirs = async |pod: &str| {
        for number in 0.. {
            let stirred =
                json!({ "metadata": { "annotations": { "test/stirred": number.to_string() } } });
            let pods = stage.all::<Pod>();
            let params = PatchParams::default();
            pods.patch(pod, &params, &Patch::Merge(&stirred)).await?;
            tokio::time::sleep(PATIENCE / 60).await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        told = told(7, "told of after the renewal") => { told?; }
        stirs = stirs("web-1") => stirs?,
    }

    // a pod that its kubelet has not brought the renewed certificate yet
    stop.cancel();
    server.stopped().await;
    let tokens = fs::read(next.join("tokens"))?;
    fs::write(folder.join("tokens"), tokens)?;
    let mut late = running(&topic, &[0, 1, 2]);
    late["partitions"][0]["lag"] = json!(3);
    let (server, _stop) = guarded(&folder, late).await?;
    run_behind_a_pod(&stage, "web", "web-2", server.local_addr().port()).await?;
    tokio::select! {
        told = told(3, "told of by a pod with the certificate of before") => { told?; }
        stirs = stirs("web-2") => stirs?,
    }
    let log = operator.log_tail();
    ensure!(
        !log.contains("thirty-two-char"),
        "a token stands in the log"
    );
    stage.stop_playing();
    Ok(())
}
