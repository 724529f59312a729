//! The stack under names and ports of its own, beside whatever else runs on the machine.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clickstream_telemetry::client::{HttpClient, Limits};
use clickstream_testbed::{free_port, server_dir, unique_name, workspace_root};
use serde_json::Value;
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};

use crate::{engine, images};

/// How long anything may take before the test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How often something that nobody signals is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Names, ports and settings; removed with everything in it on drop.
pub struct Stack {
    env: Vec<(&'static str, String)>,
    pub project: String,
    tag: String,
    pub kafka: u16,
    postgres: u16,
    pub adminer: u16,
    pub prometheus: u16,
    pub console: u16,
}

impl Stack {
    /// Builds the images and chooses names and ports; starts nothing.
    pub async fn prepare() -> anyhow::Result<Self> {
        let project = unique_name("compose");
        let tag = project.clone();
        // written down before they are built, so that whatever is built is removed
        let mut stack = Self {
            env: Vec::new(),
            project,
            tag,
            kafka: free_port()?,
            postgres: free_port()?,
            adminer: free_port()?,
            prometheus: free_port()?,
            console: free_port()?,
        };
        let mut files = workspace_root().join("compose.yaml").display().to_string();
        if !engine::has(engine::GRAFANA).await {
            eprintln!("without Grafana: its image is not to be had");
            let leave_out = server_dir("compose")?.join("without-grafana.yaml");
            fs::write(
                &leave_out,
                "services: { grafana: { profiles: [left-out] } }\n",
            )?;
            files = format!("{files}:{}", leave_out.display());
        }
        stack.env = vec![
            ("COMPOSE_PROJECT_NAME", stack.project.clone()),
            ("COMPOSE_FILE", files),
            // somebody's own settings are not what is tried here
            ("COMPOSE_DISABLE_ENV_FILE", "1".to_owned()),
            ("CLICKSTREAM_TAG", stack.tag.clone()),
            ("KAFKA_PORT", stack.kafka.to_string()),
            ("POSTGRES_PORT", stack.postgres.to_string()),
            ("ADMINER_PORT", stack.adminer.to_string()),
            ("PROMETHEUS_PORT", stack.prometheus.to_string()),
            ("CONSOLE_PORT", stack.console.to_string()),
            ("GRAFANA_PORT", free_port()?.to_string()),
        ];
        images::build(&stack.tag).await?;
        Ok(stack)
    }

    /// Runs a line of shell as a person would type it in the checkout.
    ///
    /// # Errors
    /// It fails; the message holds what it wrote and how the containers are.
    pub async fn sh(&self, line: &str) -> anyhow::Result<String> {
        let mut bash = Command::new("bash");
        bash.args(["-o", "pipefail", "-c", line]);
        match engine::output(self.within(&mut bash)).await {
            Ok(output) => Ok(output),
            Err(error) => bail!("{error:#}\n{}", self.state().await),
        }
    }

    fn within<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let env = self.env.iter().map(|(name, value)| (name, value));
        command.envs(env).current_dir(workspace_root())
    }

    async fn state(&self) -> String {
        let mut said = String::new();
        for question in [&["ps", "--all"][..], &["logs", "--no-color", "--tail=15"]] {
            let mut compose = engine::docker();
            compose.arg("compose").args(question);
            if let Ok(answer) = engine::output(self.within(&mut compose)).await {
                said.push_str(&answer);
            }
        }
        said
    }

    /// A session in the database `analytics`, over the published port.
    pub async fn database(&self, user: &str) -> anyhow::Result<Client> {
        let url = format!(
            "postgres://{user}:{user}@127.0.0.1:{}/analytics",
            self.postgres
        );
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Waits until a query, which may fail until then, gives true.
    pub async fn eventually(&self, what: &str, query: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let asked = async {
                let row = self
                    .database("dashboard")
                    .await?
                    .query_one(query, &[])
                    .await?;
                anyhow::Ok(row.try_get::<_, bool>(0)?)
            };
            match asked.await {
                Ok(true) => return Ok(()),
                Ok(false) if begun.elapsed() > PATIENCE => {
                    bail!("never happened: {what}\n{}", self.state().await)
                }
                Err(error) if begun.elapsed() > PATIENCE => {
                    return Err(error.context(what.to_owned()));
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// What Prometheus answers to a path of its API.
    pub async fn ask_prometheus(&self, path: &str) -> anyhow::Result<Value> {
        let text = get(self.prometheus, path).await?;
        let mut answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(answer["status"] == "success", "{path}: {text}");
        Ok(answer["data"].take())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut down = engine::docker();
        down.args([
            "compose",
            "down",
            "--volumes",
            "--remove-orphans",
            "--timeout=1",
        ]);
        let mut untag = engine::docker();
        untag
            .args(["image", "rm", "--force"])
            .args(images::names(&self.tag));
        for command in [&mut down, &mut untag] {
            let command = self.within(command).as_std_mut();
            // what cannot be removed has been removed already, or there is no engine any more
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .ok();
        }
    }
}

/// The body of a page on loopback.
pub async fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let limits = Limits {
        patience: PATIENCE,
        largest: 16 << 20,
    };
    let url = format!("http://127.0.0.1:{port}{path}").parse()?;
    let body = HttpClient::new().get(&url, limits).await;
    let body = body.with_context(|| path.to_owned())?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}
