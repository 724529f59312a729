//! The pipeline's document as our binaries get it here: a copy with this machine's addresses, and
//! its Secret as files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clickstream_pipeline::spec::{
    ClickstreamPipeline, ConnectionSecret, ConnectionSpec, KafkaSpec, SslMode, TargetSpec,
    TopicSpec,
};
use clickstream_telemetry::secrets::SecretFiles;
use tokio::process::Command;

use clickstream_tools::workspace_root;

/// The document that a run takes when none is given.
pub const QUICKSTART: &str = "manifests/quickstart/pipeline.yaml";

/// Name of the Secret that holds the database's address.
const SECRET: &str = "xtask-postgres";

/// The document of this path, or the quickstart's.
#[must_use]
pub fn path(given: Option<&Path>) -> PathBuf {
    given.map_or_else(|| workspace_root().join(QUICKSTART), Path::to_path_buf)
}

/// Where the servers are.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// `host:port` of the brokers, separated by commas; `None`: as the document says.
    pub kafka: Option<String>,
    /// `postgres://user:password@host:port/database`.
    pub postgres: String,
}

/// A document written down for our binaries.
#[derive(Clone, Debug)]
pub struct Document {
    pipeline: ClickstreamPipeline,
    path: PathBuf,
    secrets: PathBuf,
}

impl Document {
    /// Reads a document; relative to the workspace's root when it is the quickstart's.
    ///
    /// # Errors
    /// It cannot be read, or breaks a rule; the message names the field.
    pub fn read(path: Option<&Path>) -> anyhow::Result<ClickstreamPipeline> {
        let path = self::path(path);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let pipeline =
            ClickstreamPipeline::from_yaml(&text).with_context(|| path.display().to_string())?;
        if let Err(problems) = pipeline.validate() {
            let lines: Vec<String> = problems
                .iter()
                .map(|problem| format!("  {problem}"))
                .collect();
            anyhow::bail!("{}:\n{}", path.display(), lines.join("\n"));
        }
        Ok(pipeline)
    }

    /// Writes `pipeline` into `dir`, with its addresses replaced.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(
        mut pipeline: ClickstreamPipeline,
        addresses: &Addresses,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        if let Some(brokers) = &addresses.kafka {
            pipeline.spec.kafka = KafkaSpec {
                bootstrap_servers: brokers.clone(),
                tls: None,
                sasl: None,
                admin: None,
            };
        }
        // one target is run here, whatever the document says about others
        pipeline.spec.targets.truncate(1);
        if let Some(target) = pipeline.spec.targets.first_mut() {
            target.connection = ConnectionSpec {
                secret: Some(connection_secret()),
                ssl_mode: Some(SslMode::Disable),
                ..ConnectionSpec::default()
            };
            target.migration.connection = None;
        }
        let secrets = dir.join("secrets");
        let secret = secrets.join(SECRET);
        fs::create_dir_all(&secret)
            .with_context(|| format!("cannot create {}", secret.display()))?;
        // the address may hold a password
        fs::set_permissions(&secrets, fs::Permissions::from_mode(0o700))?;
        fs::write(secret.join("uri"), &addresses.postgres)?;
        let path = dir.join("pipeline.yaml");
        fs::write(&path, serde_yaml::to_string(&pipeline)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            pipeline,
            path,
            secrets,
        })
    }

    /// A command of one of our binaries with this document: `PROGRAM VERB --pipeline FILE
    /// --secrets-dir DIR`.
    #[must_use]
    pub fn command(&self, program: &Path, verb: &str) -> Command {
        let mut command = Command::new(program);
        command
            .arg(verb)
            .arg("--pipeline")
            .arg(&self.path)
            .arg("--secrets-dir")
            .arg(&self.secrets)
            .kill_on_drop(true);
        command
    }

    /// The document's content.
    #[must_use]
    pub fn pipeline(&self) -> &ClickstreamPipeline {
        &self.pipeline
    }

    /// The one target.
    #[must_use]
    pub fn target(&self) -> &TargetSpec {
        self.pipeline
            .spec
            .targets
            .first()
            .expect("a valid document has a target")
    }

    /// The first topic, which the producer writes.
    #[must_use]
    pub fn topic(&self) -> &TopicSpec {
        self.pipeline
            .spec
            .topics
            .first()
            .expect("a valid document has a topic")
    }

    /// How Kafka's clients are set up.
    ///
    /// # Errors
    /// A Secret that the document names is not there.
    pub fn kafka_properties(&self) -> anyhow::Result<Vec<(String, String)>> {
        let secrets = SecretFiles::new(Some(self.secrets.clone()));
        Ok(self.pipeline.spec.kafka.client_properties(&secrets)?)
    }
}

fn connection_secret() -> ConnectionSecret {
    ConnectionSecret {
        name: SECRET.to_owned(),
        host_key: "host".to_owned(),
        port_key: "port".to_owned(),
        database_key: "dbname".to_owned(),
        user_key: "username".to_owned(),
        password_key: "password".to_owned(),
        uri_key: "uri".to_owned(),
    }
}
