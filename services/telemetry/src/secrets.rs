//! Secrets as files: `DIR/<secret>/<key>`, the way Kubernetes mounts them.

use std::io::ErrorKind;
use std::path::PathBuf;

use clickstream_pipeline::spec::{SecretError, Secrets, or};

/// Reads Secrets from a directory; without one, no Secret exists.
#[derive(Clone, Debug, Default)]
pub struct SecretFiles(Option<PathBuf>);

impl SecretFiles {
    /// The Secrets below this directory.
    #[must_use]
    pub fn new(directory: impl Into<Option<PathBuf>>) -> Self {
        Self(directory.into())
    }
}

impl Secrets for SecretFiles {
    fn read(&self, secret: &str, key: &str) -> Result<Option<String>, SecretError> {
        let Some(directory) = &self.0 else {
            return Ok(None);
        };
        let file = directory.join(secret).join(key);
        match std::fs::read_to_string(&file) {
            Ok(value) => Ok(Some(value)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(SecretError::Unreadable {
                secret: secret.to_owned(),
                key: key.to_owned(),
                source: format!("{}: {error}", file.display()).into(),
            }),
        }
    }

    fn absent(&self, secret: &str, keys: &[&str]) -> String {
        let Some(directory) = &self.0 else {
            return format!(
                "no folder of Secrets is given, with a file {} of Secret `{secret}`",
                or(keys)
            );
        };
        let folder = directory.join(secret);
        let display = folder.display();
        match std::fs::metadata(&folder) {
            Ok(found) if found.is_dir() => format!("folder {display} has no file {}", or(keys)),
            Ok(_) => format!("{display} is no folder with a file {}", or(keys)),
            Err(_) => format!(
                "there is no folder {display}, which should hold Secret `{secret}` with a file {}",
                or(keys)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use std::path::Path;

    use clickstream_pipeline::spec::ClickstreamPipeline;

    use super::*;

    const DOCUMENT: &str = "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: { name: demo }
spec:
  kafka: { bootstrapServers: '127.0.0.1:9092', tls: { caSecret: { name: kafka-ca } } }
  targets:
  - connection: { secret: { name: pg } }
";

    /// What is said of the target's connection and of Kafka's.
    fn said(directory: Option<&Path>) -> [String; 2] {
        let pipeline = ClickstreamPipeline::from_yaml(DOCUMENT).unwrap();
        let secrets = SecretFiles::new(directory.map(Path::to_path_buf));
        let target = pipeline.spec.targets[0].connection_settings(&secrets);
        let kafka = pipeline.spec.kafka.client_properties(&secrets);
        [
            target.unwrap_err().to_string(),
            kafka.unwrap_err().to_string(),
        ]
    }

    #[test]
    fn a_missing_folder_or_file_is_named_with_what_should_be_in_it() {
        let directory = std::env::temp_dir().join(format!("secrets-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let at = directory.display().to_string();
        let unset = |what: &str, absent: &str, field: &str| {
            format!(
                "{what} is given neither in the spec nor in a Secret: {absent}; add it, or set `{field}`"
            )
        };
        let host = "the host of PostgreSQL";
        let missing = |absent: &str| {
            format!(
                "{absent}; add it, or name the key that holds the certificates of the authorities to trust"
            )
        };
        let found = said(Some(&directory));
        let hint = |secret: &str, files: &str| {
            format!(
                "there is no folder {at}/{secret}, which should hold Secret `{secret}` with a file {files}"
            )
        };
        assert_eq!(
            found,
            [
                unset(host, &hint("pg", "`host` or `uri`"), "host"),
                missing(&hint("kafka-ca", "`ca.crt`")),
            ]
        );

        std::fs::create_dir_all(directory.join("pg")).unwrap();
        std::fs::create_dir_all(directory.join("kafka-ca")).unwrap();
        let lacks = |secret: &str, files: &str| format!("folder {at}/{secret} has no file {files}");
        let found = said(Some(&directory));
        assert_eq!(
            found,
            [
                unset(host, &lacks("pg", "`host` or `uri`"), "host"),
                missing(&lacks("kafka-ca", "`ca.crt`")),
            ]
        );

        std::fs::write(directory.join("pg/uri"), "postgresql://u@h").unwrap();
        let found = said(Some(&directory));
        let database = unset("the database", &lacks("pg", "`dbname`"), "database");
        assert_eq!(found[0], database);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn without_a_folder_of_secrets_its_absence_is_named() {
        assert_eq!(
            said(None)[1],
            "no folder of Secrets is given, with a file `ca.crt` of Secret `kafka-ca`; add it, or \
             name the key that holds the certificates of the authorities to trust"
        );
    }
}
