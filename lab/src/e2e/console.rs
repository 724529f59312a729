//! The chart's console as a person meets it: enabled by values, behind a port-forward, with its
//! token.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

use crate::kind::pipeline::Pipeline;
use crate::kind::stack::{self, NAMESPACE, RELEASE, Release};
use crate::program;
use xtask::steps::Steps;

/// The role that reads; named under `rawReaders` of the target.
pub const ROLE: &str = "dashboard";

/// Of a database that lives for minutes, in a cluster of its own.
const PASSWORD: &str = "of-the-dashboard";
const TOKEN: &str = "for-those-who-may-look";

/// How long the page may take to show everything: it asks the processors once a second, for metrics
/// every five.
const PATIENCE: Duration = Duration::from_secs(60);

/// Creates the role, as an administrator would before it is named in the resource.
///
/// # Errors
/// PostgreSQL's pod does not answer.
pub async fn create_role(pipeline: &Pipeline<'_>) -> anyhow::Result<()> {
    let sql = format!(
        "do $$ begin create role {ROLE} login password '{PASSWORD}'; exception when duplicate_object then null; end $$"
    );
    pipeline.statements(&[&sql]).await.map(|_| ())
}

/// Turns the console on in the release, and reads what a page would get.
///
/// # Errors
/// It does not come up, lets in whoever has no token, or does not show every part of the pipeline.
pub async fn shows(pipeline: &Pipeline<'_>, release: Release, steps: &Steps) -> anyhow::Result<()> {
    let cluster = pipeline.cluster();
    for (name, data) in [
        (
            "dashboard",
            json!({ "host": "postgres.default.svc", "dbname": "analytics", "username": ROLE, "password": PASSWORD }),
        ),
        ("console", json!({ "token": TOKEN })),
    ] {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "stringData": data,
        });
        let mut apply = cluster.kubectl();
        apply.args(["apply", "--filename", "-"]);
        program::fed(&mut apply, &secret.to_string()).await?;
    }
    let processors = pipeline.service("processor").await?;
    let release = release
        .with("console.enabled", "true")
        .with("console.database.secret", "dashboard")
        .with("console.database.schema", pipeline.schema())
        // as the quickstart's own connection
        .with("console.database.sslMode", "Disable")
        .with(
            "console.processors[0]",
            &format!("http://{processors}.default.svc:8080"),
        )
        .with("console.token.secret", "console");
    stack::operator(cluster, &release, steps).await?;

    let step = steps.begin("console");
    let seen = async {
        let mut forward = cluster.kubectl();
        let service = format!("service/{RELEASE}-console");
        forward.args(["-n", NAMESPACE, "port-forward", &service, ":8080"]);
        let (_forward, _output, address) = forwarded(forward).await?;
        let refused = question(&address, "an-invented-token").await?;
        let refused = status(refused).await?;
        ensure!(refused == 401, "a wrong token is answered with {refused}");
        let begun = Instant::now();
        let mut page = BufReader::new(question(&address, TOKEN).await?);
        let mut sections = BTreeMap::new();
        loop {
            let missing = missing(&sections);
            if missing.is_empty() {
                return Ok(sections["flow"]["consumed"]["total"].clone());
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let next = tokio::time::timeout(left, next_section(&mut page)).await;
            let Ok(next) = next else {
                bail!("the console shows no {missing:?}: {sections:#?}");
            };
            let (name, section) = next?;
            sections.insert(name, section);
        }
    };
    step.during(seen, |consumed: &Value| {
        format!("{consumed} records add up on its page, with every processor's lag")
    })
    .await?;
    Ok(())
}

/// What of the page is not as it is when all is well.
fn missing(sections: &BTreeMap<String, Value>) -> Vec<&'static str> {
    let section = |name: &str| sections.get(name).cloned().unwrap_or_default();
    let (flow, sources) = (section("flow"), section("sources"));
    let processors = sources["processors"].as_array();
    let all_answer = processors.is_some_and(|all| {
        !all.is_empty() && all.iter().all(|processor| processor["error"].is_null())
    });
    let rows = |name: &str, rows: &str| {
        section(name)[rows]
            .as_array()
            .is_some_and(|rows| !rows.is_empty())
    };
    [
        (
            "account",
            flow["consumed"]["total"].as_i64() > Some(0) && flow["difference"] == 0,
        ),
        ("lag", section("partitions")["lag"].is_i64()),
        ("processors", all_answer),
        ("traffic", rows("traffic", "windows")),
        ("pages", rows("pages", "rows")),
        ("latency", section("latency")["p50"].is_number()),
        ("dead letters", rows("deadLetters", "rows")),
    ]
    .into_iter()
    .filter(|(_, is_there)| !is_there)
    .map(|(name, _)| name)
    .collect()
}

/// Runs `kubectl port-forward` until it is dropped; with its output, whose end would be its own,
/// and where it listens.
async fn forwarded(
    mut forward: Command,
) -> anyhow::Result<(Child, BufReader<ChildStdout>, String)> {
    let mut child = forward
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run kubectl port-forward")?;
    let stdout = child.stdout.take().context("its output is piped")?;
    let mut output = BufReader::new(stdout);
    let mut line = String::new();
    output.read_line(&mut line).await?;
    // Forwarding from 127.0.0.1:34567 -> 8080
    let address = line
        .strip_prefix("Forwarding from ")
        .and_then(|rest| rest.split_once(" -> "))
        .map(|(address, _)| address.to_owned());
    let address = address.with_context(|| format!("kubectl port-forward says {line:?}"))?;
    Ok((child, output, address))
}

/// Asks for the stream of the page. By HTTP/1.0, whose answers are not cut into chunks.
async fn question(address: &str, token: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let question =
        format!("GET /events HTTP/1.0\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(question.as_bytes()).await?;
    Ok(stream)
}

/// The status of an answer, by its first line: what a forwarded connection does after that is
/// kubectl's affair.
async fn status(answer: TcpStream) -> anyhow::Result<u16> {
    let mut line = String::new();
    BufReader::new(answer).read_line(&mut line).await?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.with_context(|| format!("no HTTP: {line:?}"))
}

/// The next server-sent event that has a name.
async fn next_section(page: &mut BufReader<TcpStream>) -> anyhow::Result<(String, Value)> {
    let mut name = None;
    loop {
        let mut line = String::new();
        let read = page.read_line(&mut line).await?;
        ensure!(read > 0, "the console ended the stream");
        if let Some(event) = line.strip_prefix("event: ") {
            name = Some(event.trim().to_owned());
        } else if let Some(data) = line.strip_prefix("data: ")
            && let Some(name) = name.take()
        {
            return Ok((name, serde_json::from_str(data)?));
        }
    }
}
