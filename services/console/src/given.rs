//! The connection to PostgreSQL as people give it; what stands in files may change while the
//! console runs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clickstream_pipeline::spec::{
    CaSecret, ConnectionSecret, ConnectionSpec, PostgresSettings, SecretError, Secrets, SslMode, or,
};

/// Looks a variable of the environment up.
pub type Variables = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The connection as it was given, in the form in which processors are given theirs: the keys of a
/// Secret.
pub struct GivenConnection {
    /// As a URL.
    pub url: Option<String>,
    /// The folder of a mounted Secret.
    pub directory: Option<PathBuf>,
    /// The environment.
    pub variables: Variables,
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
    /// The connection as it is given now.
    ///
    /// # Errors
    /// What is given nowhere, cannot be read or has the wrong form.
    pub fn settings(&self) -> anyhow::Result<PostgresSettings> {
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

    fn absent(&self, _: &str, keys: &[&str]) -> String {
        let said = KEYS.iter().filter(|(key, _)| keys.contains(key));
        let variables: Vec<&str> = said.map(|(_, variable)| *variable).collect();
        let variables = or(&variables);
        match &self.directory {
            Some(folder) => format!(
                "folder {} has no file {}, and the environment no variable {variables}",
                folder.display(),
                or(keys)
            ),
            None => format!("the environment has no variable {variables}"),
        }
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
        assert!(error.contains("no variable `PGHOST`"), "{error}");
        let mut mounted = given(None, &[]);
        mounted.directory = Some(PathBuf::from("/nowhere"));
        let error = format!("{:#}", mounted.settings().unwrap_err());
        assert!(
            error.contains("folder /nowhere has no file `host` or `uri`"),
            "{error}"
        );
        let error = given(Some("postgresql://r@db/a"), &[("PGSSLMODE", "prefer")]).settings();
        assert!(error.unwrap_err().to_string().contains("PGSSLMODE=prefer"));
    }
}
