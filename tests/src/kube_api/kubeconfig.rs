//! Kubeconfig files.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde_json::json;

use crate::loopback;

/// Who a kubeconfig speaks for.
pub(super) enum Identity<'a> {
    /// Whoever has this bearer token.
    Token(&'a str),
    /// A user, by way of an administrator who may impersonate everybody.
    Impersonated {
        /// The administrator's bearer token.
        token: &'a str,
        user: &'a str,
        groups: &'a [&'a str],
    },
}

impl Identity<'_> {
    /// Writes a kubeconfig for the server at this loopback port, whose certificate is in
    /// `authority`.
    pub(super) fn write(&self, path: &Path, port: u16, authority: &Path) -> anyhow::Result<()> {
        let user = match self {
            Self::Token(token) => json!({ "token": token }),
            Self::Impersonated {
                token,
                user,
                groups,
            } => json!({ "token": token, "as": user, "as-groups": groups }),
        };
        let cluster = json!({
            "server": format!("https://{}", loopback::at(port)),
            "certificate-authority": authority,
        });
        // JSON is YAML, and quotes whatever needs it
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "testbed", "cluster": cluster }],
            "users": [{ "name": "testbed", "user": user }],
            "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": "testbed" } }],
            "current-context": "testbed",
        });
        fs::write(path, config.to_string())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
