//! The programs' own admin servers behind a certificate and a token.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::ensure;
use clickstream_telemetry::client::{HttpClient, Uri};
use clickstream_testbed::{Process, build_binary, certificates, free_port};

use crate::stack::{Stack, StackOptions};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
const TOKEN: &str = "a-token-of-thirty-two-characters";

async fn code(client: &HttpClient, url: &str, process: &Process) -> anyhow::Result<u16> {
    let url: Uri = url.parse()?;
    let begun = Instant::now();
    loop {
        match client.ask(&url).await {
            Ok(answer) => return Ok(answer.status().as_u16()),
            Err(error) => ensure!(
                begun.elapsed() < PATIENCE,
                "{url}: {error}\n{}",
                process.log_tail()
            ),
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test]
async fn processor_and_producer_tell_by_tls_who_shows_a_token() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let folder = certificates()?;
    let authority = folder.join("ca.crt");
    let tokens = folder.join("tokens");
    fs::create_dir(&tokens)?;
    fs::write(tokens.join("token"), TOKEN)?;
    let ports = [free_port()?, free_port()?];
    let listen = ports.map(|port| format!("127.0.0.1:{port}"));
    let guarded = |listen: &str| {
        [
            ("CLICKSTREAM_ADMIN_LISTEN", listen.to_owned()),
            ("CLICKSTREAM_ADMIN_TLS", folder.display().to_string()),
            ("CLICKSTREAM_ADMIN_TOKENS", tokens.display().to_string()),
        ]
    };
    let env = guarded(&listen[0]);
    let env: Vec<_> = env
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let processor = stack.start_with("guarded", &env)?;
    let mut command =
        Command::new(tokio::task::spawn_blocking(|| build_binary("clickstream-producer")).await??);
    command
        .args(["generate", "--rate", "10", "--bootstrap-servers"])
        .args([&stack.kafka.bootstrap_servers(), "--topic", &stack.topic])
        .envs(guarded(&listen[1]));
    let producer = Process::spawn(&command, "producer")?;

    let anyone = HttpClient::trusting(&fs::read(&authority)?, Some("localhost"))?;
    let somebody = anyone.clone().with_token(TOKEN)?;
    for (port, process) in ports.into_iter().zip([&processor, &producer]) {
        let at = |path: &str| format!("https://127.0.0.1:{port}{path}");
        ensure!(code(&anyone, &at("/livez"), process).await? == 200);
        for path in ["/metrics", "/status"] {
            ensure!(code(&anyone, &at(path), process).await? == 401, "{path}");
            ensure!(code(&somebody, &at(path), process).await? == 200, "{path}");
        }
    }
    // how a health check by command asks
    for (ca, succeeds) in [("ca.crt", true), ("other.crt", false)] {
        let url = format!("https://localhost:{}/livez", ports[0]);
        let mut probe = tokio::process::Command::new(build_binary("clickstream-processor")?);
        let ended = probe
            .args(["probe", &url, "--ca"])
            .arg(folder.join(ca))
            .output()
            .await?;
        ensure!(ended.status.success() == succeeds, "{ca}: {ended:?}");
    }
    Ok(())
}
