//! The options of a program that has an admin server.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::access::Access;
use super::tokens::TokensError;
use crate::tls::{Tls, TlsError};

/// Where the admin server listens, and who may read it.
#[derive(Args, Clone, Debug, Default)]
pub struct AdminArgs {
    /// Where to serve /livez, /readyz, /status and /metrics.
    #[arg(long, env = "CLICKSTREAM_ADMIN_LISTEN", value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<SocketAddr>,
    /// Serves them by TLS, with tls.crt and tls.key of this folder, which are read again when they change.
    #[arg(
        long,
        env = "CLICKSTREAM_ADMIN_TLS",
        value_name = "DIR",
        requires = "admin_listen"
    )]
    pub admin_tls: Option<PathBuf>,
    /// File with tokens, one a line, or folder of such files: /status and /metrics want one of them as `Authorization: Bearer`. They
    /// are read again when they change. Takes TLS: a token in the clear is everybody's.
    #[arg(
        long,
        env = "CLICKSTREAM_ADMIN_TOKENS",
        value_name = "PATH",
        requires = "admin_tls"
    )]
    pub admin_tokens: Option<PathBuf>,
}

/// What protects an admin server; by default nothing.
#[derive(Clone, Default)]
pub struct Guard {
    /// Its certificate; without one it is asked in the clear.
    pub tls: Option<Tls>,
    /// Who may read `/status` and `/metrics`.
    pub access: Access,
}

/// What is to protect an admin server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The certificate.
    #[error("--admin-tls")]
    Tls(#[from] TlsError),
    /// The tokens.
    #[error("--admin-tokens")]
    Tokens(#[from] TokensError),
}

impl AdminArgs {
    /// Reads certificate and tokens.
    ///
    /// # Errors
    /// [`GuardError`] names the option and the file.
    pub fn guard(&self) -> Result<Guard, GuardError> {
        let access = match &self.admin_tokens {
            Some(file) => Access::tokens(file.clone())?,
            None => Access::anyone(),
        };
        Ok(Guard {
            tls: self.admin_tls.clone().map(Tls::following).transpose()?,
            access,
        })
    }
}
