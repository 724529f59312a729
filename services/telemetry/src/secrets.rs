//! Secrets as files: `DIR/<secret>/<key>`, the way Kubernetes mounts them.

use std::io::ErrorKind;
use std::path::PathBuf;

use clickstream_pipeline::spec::{SecretError, Secrets};

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
        match std::fs::read_to_string(directory.join(secret).join(key)) {
            Ok(value) => Ok(Some(value)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(SecretError::Unreadable {
                secret: secret.to_owned(),
                key: key.to_owned(),
                source: Box::new(error),
            }),
        }
    }
}
