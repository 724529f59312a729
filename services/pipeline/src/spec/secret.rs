//! Names of Secrets in the spec, and the seam through which their values are read.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::validate::At;

#[cfg(feature = "schema")]
use super::schema;

/// Where the values of Secrets come from: mounted files, the Kubernetes API, or a table in a test.
pub trait Secrets {
    /// The value of `key` in the Secret named `secret`; `None` when the Secret or the key does not exist.
    ///
    /// # Errors
    /// [`SecretError`] when the value exists and cannot be read.
    fn read(&self, secret: &str, key: &str) -> Result<Option<String>, SecretError>;

    /// Says, for messages, where a value was looked for that none of these keys holds.
    fn absent(&self, secret: &str, keys: &[&str]) -> String {
        format!("Secret `{secret}` has no key {}", or(keys))
    }
}

/// Lists names in backticks, any of which would do.
#[must_use]
pub fn or(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" or ")
}

/// A Secret does not hold what the spec expects of it. Never contains a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The key is not there.
    #[error("{absent}; add it, or name the key that holds {what}")]
    Missing {
        /// What is not there: [`Secrets::absent`].
        absent: String,
        /// What the key should hold, for the message.
        what: &'static str,
    },
    /// Nothing gives a value that is required.
    #[error("{what} is given neither in the spec nor in a Secret{} set `{field}`",
        absent.as_ref().map_or(";".to_owned(), |absent| format!(": {absent}; add it, or")))]
    Unset {
        /// What is not given.
        what: &'static str,
        /// Field of the connection that can give it.
        field: &'static str,
        /// What the Secret of the connection lacks, if it has one: [`Secrets::absent`].
        absent: Option<String>,
    },
    /// The value has the wrong form.
    #[error("key `{key}` of Secret `{secret}`: {rule}")]
    Malformed {
        /// Name of the Secret.
        secret: String,
        /// The key with the value.
        key: String,
        /// What the value should be.
        rule: &'static str,
    },
    /// The value is there, but could not be read.
    #[error("key `{key}` of Secret `{secret}` cannot be read")]
    Unreadable {
        /// Name of the Secret.
        secret: String,
        /// The key with the value.
        key: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A value that must not appear in logs: `Debug` prints `***`, and there is no `Display` and no `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that has to hand it on.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A Secret with the certificates of the authorities to trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaSecret {
    /// Name of the Secret, in the pipeline's namespace. Rolling.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN)))]
    pub name: String,
    /// Key with the certificates in PEM form. Rolling. Default `ca.crt`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY)))]
    #[serde(default = "ca_crt")]
    pub key: String,
}

/// A Secret with the certificate and private key this side shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientCertSecret {
    /// Name of the Secret, in the pipeline's namespace. Rolling.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN)))]
    pub name: String,
    /// Key with the certificate chain in PEM form. Rolling. Default `tls.crt`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY)))]
    #[serde(default = "tls_crt")]
    pub certificate_key: String,
    /// Key with the private key in PEM form. Rolling. Default `tls.key`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY)))]
    #[serde(default = "tls_key")]
    pub private_key_key: String,
}

impl CaSecret {
    /// The certificates, in PEM form.
    pub(super) fn read(&self, secrets: &dyn Secrets) -> Result<String, SecretError> {
        required(
            secrets,
            &self.name,
            &self.key,
            "the certificates of the authorities to trust",
        )
    }

    pub(super) fn check(&self, at: &mut At<'_>) {
        check_name(&self.name, &mut at.field("name"));
        check_key(&self.key, &mut at.field("key"));
    }
}

impl ClientCertSecret {
    /// The certificate chain and the private key, in PEM form.
    pub(super) fn read(
        &self,
        secrets: &dyn Secrets,
    ) -> Result<(String, Redacted<String>), SecretError> {
        let certificate = required(
            secrets,
            &self.name,
            &self.certificate_key,
            "the client certificate",
        )?;
        let key = required(
            secrets,
            &self.name,
            &self.private_key_key,
            "the client's private key",
        )?;
        Ok((certificate, Redacted::new(key)))
    }

    pub(super) fn check(&self, at: &mut At<'_>) {
        check_name(&self.name, &mut at.field("name"));
        check_key(&self.certificate_key, &mut at.field("certificateKey"));
        check_key(&self.private_key_key, &mut at.field("privateKeyKey"));
    }
}

/// Reads a value that has to be there.
pub(super) fn required(
    secrets: &dyn Secrets,
    secret: &str,
    key: &str,
    what: &'static str,
) -> Result<String, SecretError> {
    let value = secrets.read(secret, key)?;
    value.ok_or_else(|| SecretError::Missing {
        absent: secrets.absent(secret, &[key]),
        what,
    })
}

/// A value of one line, without the line end that editors and `echo` leave behind it.
pub(super) fn one_line(mut value: String) -> String {
    value.truncate(value.trim_end_matches(['\r', '\n']).len());
    value
}

/// A Secret's name also names a directory of mounted files, so its form is checked here, not only by Kubernetes.
pub(super) fn check_name(name: &str, at: &mut At<'_>) {
    if !is_dns_subdomain(name) {
        at.problem("name a Secret: lowercase letters, digits, `-` and `.`, at most 253 characters");
    }
}

/// A Secret's key also names a mounted file: a path is refused.
pub(super) fn check_key(key: &str, at: &mut At<'_>) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if key.is_empty()
        || key.len() > 253
        || key == "."
        || key.starts_with("..")
        || !key.chars().all(allowed)
    {
        at.problem(
            "name a Secret's key: letters, digits, `-`, `_` and `.`, at most 253 characters",
        );
    }
}

/// RFC 1123: labels of lowercase letters, digits and inner dashes, joined by points.
pub(super) fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(|label| is_dns_label(label, 253))
}

/// RFC 1123: lowercase letters, digits and inner dashes, `1..=longest` of them.
pub(super) fn is_dns_label(label: &str, longest: usize) -> bool {
    (1..=longest).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn ca_crt() -> String {
    "ca.crt".to_owned()
}

fn tls_crt() -> String {
    "tls.crt".to_owned()
}

fn tls_key() -> String {
    "tls.key".to_owned()
}
