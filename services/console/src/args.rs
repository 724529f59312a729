//! The command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use clickstream_pipeline::spec::{
    CaSecret, ConnectionSecret, ConnectionSpec, Duration, PostgresSettings, SecretError, Secrets,
    SslMode,
};
use clickstream_telemetry::logging::{self, LogFormat};
use clickstream_telemetry::probe::probe;

use crate::app::{self, Settings};
use crate::auth::{Guard, Token};
use crate::database::Place;
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
    /// Where to serve /livez, /readyz, /status and /metrics.
    #[arg(long, env = "CLICKSTREAM_ADMIN_LISTEN", value_name = "ADDRESS:PORT")]
    admin_listen: Option<SocketAddr>,
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
            Command::Probe { url, patience } => Ok(probe(&url, patience.to_std()).await?),
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
        let postgres = given.settings()?;
        let token = match &self.token_file {
            Some(file) => {
                let token = std::fs::read_to_string(file)
                    .with_context(|| format!("--token-file {}", file.display()))?;
                Some(token)
            }
            None => variable(TOKEN_VARIABLE),
        };
        let guard = match token {
            Some(token) => Guard::Token(Token::new(&token)?),
            None if self.listen.ip().is_loopback() => Guard::Loopback,
            None => bail!(
                "--listen {}: beyond loopback a token is required: give --token-file or {TOKEN_VARIABLE}",
                self.listen
            ),
        };
        Ok(Settings {
            listen: self.listen,
            admin_listen: self.admin_listen,
            place: Place {
                settings: postgres,
                schema: self.schema,
            },
            processors: self.processors,
            guard,
        })
    }
}

/// Looks a variable of the environment up.
type Variables = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The connection as it was given, in the form in which processors are given theirs: the keys of a Secret.
struct GivenConnection {
    url: Option<String>,
    directory: Option<PathBuf>,
    variables: Variables,
}

/// Keys of the Secret, with the variable that stands in for each.
const KEYS: [(&str, &str); 5] = [
    ("host", "PGHOST"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("username", "PGUSER"),
    ("password", "PGPASSWORD"),
];

/// What messages about the connection call its source.
const SOURCE: &str = "database";

impl GivenConnection {
    fn settings(&self) -> anyhow::Result<PostgresSettings> {
        let key = |index: usize| KEYS[index].0.to_owned();
        let ca_secret = self.file("ca.crt")?.map(|_| CaSecret {
            name: SOURCE.to_owned(),
            key: "ca.crt".to_owned(),
        });
        let ssl_mode = match (self.variables)("PGSSLMODE").as_deref() {
            None => None,
            Some("disable") => Some(SslMode::Disable),
            Some("require") => Some(SslMode::Require),
            Some("verify-full") => Some(SslMode::VerifyFull),
            Some(other) => bail!("PGSSLMODE={other}: use disable, require or verify-full"),
        };
        let connection = ConnectionSpec {
            secret: Some(ConnectionSecret {
                name: SOURCE.to_owned(),
                host_key: key(0),
                port_key: key(1),
                database_key: key(2),
                user_key: key(3),
                password_key: key(4),
                uri_key: "uri".to_owned(),
            }),
            ssl_mode,
            ca_secret,
            ..ConnectionSpec::default()
        };
        connection.settings(self).context(
            "the database: give --database, --database-secret, or PGHOST, PGDATABASE, PGUSER and PGPASSWORD",
        )
    }

    fn file(&self, key: &str) -> anyhow::Result<Option<String>> {
        let Some(directory) = &self.directory else {
            return Ok(None);
        };
        read_if_there(&directory.join(key))
            .with_context(|| format!("--database-secret {}: {key}", directory.display()))
    }
}

impl Secrets for GivenConnection {
    fn read(&self, secret: &str, key: &str) -> Result<Option<String>, SecretError> {
        let file = self.file(key).map_err(|error| SecretError::Unreadable {
            secret: secret.to_owned(),
            key: key.to_owned(),
            source: error.into(),
        })?;
        if file.is_some() {
            return Ok(file);
        }
        let url = || {
            let directory = self.directory.as_ref()?;
            read_if_there(&directory.join("uri")).ok()?
        };
        let url = self.url.clone().or_else(url);
        if key == "uri" {
            return Ok(url);
        }
        // the URL wins over the environment, of which it may use the password
        let variable = KEYS.iter().find(|(name, _)| *name == key);
        let allowed =
            url.is_none() || key == "password" && !url.as_deref().is_some_and(has_password);
        Ok(variable
            .filter(|_| allowed)
            .and_then(|(_, variable)| (self.variables)(variable)))
    }
}

fn has_password(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| url.password().is_some())
}

fn read_if_there(path: &Path) -> std::io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn given(
        url: Option<&str>,
        variables: &'static [(&'static str, &'static str)],
    ) -> GivenConnection {
        GivenConnection {
            url: url.map(str::to_owned),
            directory: None,
            variables: Box::new(move |name| {
                let found = variables.iter().find(|(known, _)| *known == name)?;
                Some(found.1.to_owned())
            }),
        }
    }

    #[test]
    fn a_url_describes_the_connection() {
        let url = "postgresql://reader:secret@db.example:6432/analytics?sslmode=require";
        let found = given(
            Some(url),
            &[("PGHOST", "elsewhere"), ("PGPASSWORD", "other")],
        )
        .settings()
        .unwrap();
        assert_eq!((found.host.as_str(), found.port), ("db.example", 6432));
        assert_eq!(
            (found.database.as_str(), found.user.as_str()),
            ("analytics", "reader")
        );
        assert_eq!(found.password.unwrap().expose(), "secret");
        assert_eq!(found.ssl_mode, SslMode::Require);
    }

    #[test]
    fn a_url_without_a_password_takes_it_from_the_environment() {
        let url = "postgresql://reader@127.0.0.1/analytics";
        let found = given(Some(url), &[("PGPASSWORD", "secret")])
            .settings()
            .unwrap();
        assert_eq!(found.password.unwrap().expose(), "secret");
        assert_eq!(found.ssl_mode, SslMode::Disable, "loopback needs no TLS");
    }

    #[test]
    fn the_standard_variables_suffice() {
        let variables = &[
            ("PGHOST", "db"),
            ("PGDATABASE", "analytics"),
            ("PGUSER", "reader"),
            ("PGPASSWORD", "secret"),
            ("PGSSLMODE", "disable"),
        ];
        let found = given(None, variables).settings().unwrap();
        assert_eq!((found.host.as_str(), found.port), ("db", 5432));
        assert_eq!(found.ssl_mode, SslMode::Disable);
    }

    #[test]
    fn a_connection_that_is_not_given_says_how_to_give_it() {
        let error = format!("{:#}", given(None, &[]).settings().unwrap_err());
        assert!(
            error.contains("--database-secret") && error.contains("host"),
            "{error}"
        );
        let error = given(Some("postgresql://r@db/a"), &[("PGSSLMODE", "prefer")]).settings();
        assert!(error.unwrap_err().to_string().contains("PGSSLMODE=prefer"));
    }

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
}
