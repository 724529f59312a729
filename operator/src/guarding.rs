//! What guards the admin ports of pods: a certificate and tokens, out of Secrets that have the same
//! names in every namespace.

use std::fmt;

use anyhow::ensure;

/// The key of the authority that vouches for the certificate.
pub const AUTHORITY: &str = "ca.crt";

/// The Secrets that the pods of each namespace are guarded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarding {
    /// Holds `tls.crt`, `tls.key` and `ca.crt`, as cert-manager writes them.
    pub certificate: String,
    /// Who reads `/status` and `/metrics` has to know it; `None`: everybody who reaches the port
    /// may.
    pub token: Option<TokenKey>,
}

/// A Secret with tokens: every one of its keys is good, and one of them is what the operator and
/// Prometheus show.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// Name of the Secret.
    pub secret: String,
    /// The key that is shown.
    pub key: String,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.secret, self.key)
    }
}

impl Guarding {
    /// From names of Secrets; an empty one is none.
    ///
    /// # Errors
    /// A token without a certificate would be shown in the clear.
    pub fn new(certificate: &str, token: &str, key: &str) -> anyhow::Result<Option<Self>> {
        if certificate.is_empty() {
            ensure!(
                token.is_empty(),
                "--metrics-token-secret takes --metrics-tls-secret: a token in the clear is everybody's"
            );
            return Ok(None);
        }
        let token = (!token.is_empty()).then(|| TokenKey {
            secret: token.to_owned(),
            key: key.to_owned(),
        });
        Ok(Some(Self {
            certificate: certificate.to_owned(),
            token,
        }))
    }
}

/// What the certificate of a namespace's pods is valid for: pods are asked by addresses that come
/// and go, and no authority puts those into a certificate.
pub fn server_name(namespace: &str) -> String {
    format!("clickstream-metrics.{namespace}.svc")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    #[test]
    fn nothing_is_guarded_unasked_and_no_token_goes_in_the_clear() {
        assert_eq!(Guarding::new("", "", "token").unwrap(), None);
        let refused = Guarding::new("", "scrape", "token")
            .unwrap_err()
            .to_string();
        assert!(refused.contains("--metrics-tls-secret"), "{refused}");
    }
}
