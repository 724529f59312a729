//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use clickstream_pipeline::spec::Duration;
use clickstream_telemetry::admin::AdminArgs;
use clickstream_telemetry::client::TrustFiles;
use clickstream_telemetry::logging::{self, LogFormat};
use clickstream_telemetry::probe::probe;

use crate::app::{self, Settings};
use crate::auth::{Door, Guard};
use crate::database::Place;
use crate::given::GivenConnection;
use crate::processors::Address;

/// A token in the environment; as an option it would stand in the list of processes.
const TOKEN_VARIABLE: &str = "CLICKSTREAM_CONSOLE_TOKEN";

/// Shows a pipeline live on a small page: traffic, where each record went, lag, latency. It reads, and changes nothing.
#[derive(Parser)]
#[command(name = "clickstream-console", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Form of the log lines on standard error; RUST_LOG chooses what is logged.
    #[arg(long, global = true, default_value_t = LogFormat::Pretty, env = "CLICKSTREAM_LOG_FORMAT")]
    log_format: LogFormat,
}

const EXAMPLES: &str = "Examples:
  PGPASSWORD=... clickstream-console run --database postgresql://dashboard@127.0.0.1/analytics --processors http://127.0.0.1:8081
  clickstream-console run --listen 0.0.0.0:8080 --token-file token --database-secret /etc/clickstream/database --processors http://processors:8080
  clickstream-console probe http://127.0.0.1:8081/readyz";

#[derive(Subcommand)]
enum Command {
    /// Serves the page until SIGTERM.
    Run(Box<RunArgs>),
    /// Asks an HTTP address, and ends with 0 when the answer is a success: for images without a shell.
    Probe {
        /// Where to ask.
        url: String,
        /// File with the authority that vouches for an https address.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// How long to go on asking.
        #[arg(long, value_name = "TIME", default_value = "0s")]
        patience: Duration,
    },
}

#[derive(Args)]
struct RunArgs {
    /// Where to serve the page. Beyond loopback a token is required.
    #[arg(
        long,
        env = "CLICKSTREAM_CONSOLE_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8080"
    )]
    listen: SocketAddr,
    #[command(flatten)]
    admin: AdminArgs,
    /// The database, as postgresql://user:password@host:port/database?sslmode=require. A password is better given by
    /// --database-secret or PGPASSWORD.
    #[arg(
        long,
        env = "CLICKSTREAM_CONSOLE_DATABASE",
        value_name = "URL",
        hide_env_values = true
    )]
    database: Option<String>,
    /// Folder with files host, port, dbname, username, password, uri, ca.crt: a mounted connection Secret. What it does not
    /// hold comes from the standard variables PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD and PGSSLMODE.
    #[arg(
        long,
        env = "CLICKSTREAM_CONSOLE_DATABASE_SECRET",
        value_name = "DIR",
        conflicts_with = "database"
    )]
    database_secret: Option<PathBuf>,
    /// Schema of the pipeline's target.
    #[arg(
        long,
        env = "CLICKSTREAM_CONSOLE_SCHEMA",
        default_value = "clickstream"
    )]
    schema: String,
    /// Admin servers of the processors. A name with several addresses, such as a headless Service's, means all of them.
    #[arg(
        long,
        env = "CLICKSTREAM_CONSOLE_PROCESSORS",
        value_name = "URL",
        value_delimiter = ','
    )]
    processors: Vec<Address>,
    /// File with the authority that vouches for processors with an https address; read again when it changes.
    #[arg(
        long,
        env = "CLICKSTREAM_CONSOLE_PROCESSORS_CA",
        value_name = "FILE",
        requires_all = ["processors", "processors_name"]
    )]
    processors_ca: Option<PathBuf>,
    /// Name that the certificate of each has to be valid for: they are asked by address, which no certificate has.
    #[arg(
        long,
        env = "CLICKSTREAM_CONSOLE_PROCESSORS_NAME",
        value_name = "NAME",
        requires = "processors_ca"
    )]
    processors_name: Option<String>,
    /// File whose first line is the token that their /status and /metrics ask for; read again when it changes.
    #[arg(
        long,
        env = "CLICKSTREAM_CONSOLE_PROCESSORS_TOKEN_FILE",
        value_name = "FILE",
        requires = "processors_ca"
    )]
    processors_token_file: Option<PathBuf>,
    /// File with the token that readers need; CLICKSTREAM_CONSOLE_TOKEN may hold it instead.
    #[arg(long, env = "CLICKSTREAM_CONSOLE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Cli {
    /// Runs the command that was given.
    ///
    /// # Errors
    /// Whatever stopped it, for standard error and exit code 1.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(args) => {
                logging::init(self.log_format, "info")?;
                app::run(args.settings()?).await
            }
            Command::Probe { url, ca, patience } => {
                Ok(probe(&url, ca.as_deref(), patience.to_std()).await?)
            }
        }
    }
}

impl RunArgs {
    fn settings(self) -> anyhow::Result<Settings> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let given = GivenConnection {
            url: self.database.clone(),
            directory: self.database_secret.clone(),
            variables: Box::new(variable),
        };
        // what is missing from the start is said at once; later, what is there is read again
        given.settings()?;
        let door = match self.token_file {
            Some(file) => {
                let what = format!("--token-file {}", file.display());
                Some(Door::following(file).context(what)?)
            }
            None => variable(TOKEN_VARIABLE)
                .map(|token| Door::fixed(&token))
                .transpose()?,
        };
        let guard = match door {
            Some(door) => Guard::Token(door),
            None if self.listen.ip().is_loopback() => Guard::Loopback,
            None => bail!(
                "--listen {}: beyond loopback a token is required: give --token-file or {TOKEN_VARIABLE}",
                self.listen
            ),
        };
        let by_tls = self.processors.iter().find(|address| address.by_tls());
        if let (Some(address), None) = (by_tls, &self.processors_ca) {
            bail!("--processors {address}: https takes --processors-ca, the authority to trust");
        }
        let trust = TrustFiles::following(
            self.processors_ca,
            self.processors_name,
            self.processors_token_file,
        )
        .context("--processors-ca, --processors-name, --processors-token-file")?;
        Ok(Settings {
            listen: self.listen,
            admin: self.admin,
            trust,
            place: Place {
                connection: Arc::new(given),
                schema: self.schema,
            },
            processors: self.processors,
            guard,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn run(args: &[&str]) -> anyhow::Result<Settings> {
        let all = [
            "clickstream-console",
            "run",
            "--database",
            "postgresql://r@127.0.0.1/a",
        ];
        match Cli::try_parse_from(all.iter().chain(args))?.command {
            Command::Run(args) => args.settings(),
            Command::Probe { .. } => bail!("not run"),
        }
    }

    #[test]
    fn beyond_loopback_a_token_is_required() {
        assert!(run(&["--listen", "127.0.0.1:0"]).is_ok());
        assert!(run(&["--listen", "[::1]:0"]).is_ok());
        for open in ["0.0.0.0:8080", "[::]:8080", "192.168.0.1:8080"] {
            let error = run(&["--listen", open]).err().unwrap().to_string();
            assert!(error.contains("--token-file"), "{error}");
        }
    }

    #[test]
    fn processors_are_a_list() {
        let settings = run(&["--processors", "http://a:1,http://b:2"]).unwrap();
        assert_eq!(settings.processors.len(), 2);
        assert!(run(&["--processors", "a:1"]).is_err());
    }

    #[test]
    fn by_tls_an_authority_is_needed_and_what_it_takes_is_named() {
        let told = |args: &[&str]| format!("{:#}", run(args).err().unwrap());
        let alone = told(&["--processors", "https://a:1"]);
        assert!(alone.contains("--processors-ca"), "{alone}");
        let processors = [
            "--processors",
            "https://a:1",
            "--processors-ca",
            "/nowhere",
            "--processors-name",
            "a",
        ];
        let nowhere = told(&processors);
        assert!(nowhere.contains("/nowhere"), "{nowhere}");
        let token = [
            "--processors",
            "http://a:1",
            "--processors-token-file",
            "/t",
        ];
        assert!(told(&token).contains("--processors-ca"), "in the clear");
    }
}
