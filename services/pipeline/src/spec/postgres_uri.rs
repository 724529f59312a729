//! The `postgresql://` URI, as far as one connection over TCP needs it.

use percent_encoding::percent_decode_str;
use url::Url;

use super::connection::{SslMode, is_host, is_name};

/// The parts of a URI; each may be absent.
#[derive(Default)]
pub(super) struct PostgresUri {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) database: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) ssl_mode: Option<SslMode>,
}

impl PostgresUri {
    /// Splits the URI, or names the rule it breaks, never the URI itself: it may hold a password.
    pub(super) fn parse(uri: &str) -> Result<Self, &'static str> {
        const FORM: &str = "not a URI of the form postgresql://user:password@host:port/database";
        let url = Url::parse(uri).map_err(|_| FORM)?;
        if !matches!(url.scheme(), "postgresql" | "postgres") {
            return Err(FORM);
        }
        let host = decoded(url.host_str().unwrap_or_default()).ok_or(FORM)?;
        // the brackets belong to the URI, not to the address
        let host = host
            .strip_prefix('[')
            .and_then(|v6| v6.strip_suffix(']'))
            .unwrap_or(&host);
        if host.contains(',') {
            return Err("names several hosts; name the one to write to");
        }
        if host.starts_with('/') {
            return Err("names a Unix socket; name a host");
        }
        let host = Some(host.to_owned()).filter(|host| !host.is_empty());
        if host.as_deref().is_some_and(|host| !is_host(host)) || url.port() == Some(0) {
            return Err(FORM);
        }
        let database = part(url.path().trim_start_matches('/')).ok_or(FORM)?;
        let user = part(url.username()).ok_or(FORM)?;
        if [&database, &user]
            .into_iter()
            .flatten()
            .any(|name| !is_name(name))
        {
            return Err(FORM);
        }
        let password = part(url.password().unwrap_or_default()).ok_or(FORM)?;
        let ssl_mode = match url.query_pairs().find(|(name, _)| name == "sslmode") {
            Some((_, mode)) => ssl_mode(&mode)?,
            None => None,
        };
        Ok(Self {
            host,
            port: url.port(),
            database,
            user,
            password,
            ssl_mode,
        })
    }
}

/// libpq's modes as ours. A demand is never weakened; `prefer` and `allow` demand nothing.
fn ssl_mode(mode: &str) -> Result<Option<SslMode>, &'static str> {
    match mode {
        "disable" => Ok(Some(SslMode::Disable)),
        "allow" | "prefer" => Ok(None),
        "require" => Ok(Some(SslMode::Require)),
        "verify-ca" | "verify-full" => Ok(Some(SslMode::VerifyFull)),
        _ => Err("has an sslmode that libpq does not know"),
    }
}

/// A decoded part, `Some(None)` when it is empty; `None` when it is not text.
fn part(raw: &str) -> Option<Option<String>> {
    decoded(raw).map(|text| Some(text).filter(|text| !text.is_empty()))
}

fn decoded(raw: &str) -> Option<String> {
    percent_decode_str(raw)
        .decode_utf8()
        .ok()
        .map(|text| text.into_owned())
}
