//! What the processors say of themselves: `/status` and the latency histogram of `/metrics`.
//!
//! A name that stands for several addresses (a headless Service) means all of them, looked up at every reading: pods come
//! and go.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use clickstream_protocol::status::ProcessorStatus;
use clickstream_telemetry::client::{GetError, HttpClient, Limits, Uri};
use futures_util::future::join_all;
use thiserror::Error;
use url::Url;

use crate::latency::Histogram;

/// For everything that one processor is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Half of the megabyte is a thousand partitions.
const LIMITS: Limits = Limits {
    patience: PATIENCE,
    largest: 1024 * 1024,
};

/// Processors that are asked.
const MAX_PROCESSORS: usize = 64;

/// The base address of one or more processors' admin servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    by_tls: bool,
    host: String,
    port: u16,
}

impl Address {
    /// Whether it is asked by TLS.
    #[must_use]
    pub fn by_tls(&self) -> bool {
        self.by_tls
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.host, self.port)
    }
}

/// A base address that cannot be asked.
#[derive(Debug, Error)]
#[error("--processors: {0:?} is no address; write http://host:port or https://host:port")]
pub struct BadAddress(String);

impl std::str::FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        let url = Url::parse(text).map_err(|_| bad())?;
        let plain = matches!(url.scheme(), "http" | "https")
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.username().is_empty();
        let host = url.host_str().filter(|_| plain).ok_or_else(bad)?;
        Ok(Self {
            by_tls: url.scheme() == "https",
            // brackets belong to URLs, not to addresses
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default().ok_or_else(bad)?,
        })
    }
}

/// Why a processor told nothing.
#[derive(Debug, Error)]
pub enum AskError {
    /// Its name cannot be looked up.
    #[error("cannot connect: {0}")]
    Lookup(#[from] std::io::Error),
    /// No answer, or none that is a success.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The answer is not what a processor says.
    #[error("the answer is no processor's status")]
    Form(#[from] serde_json::Error),
    /// The address stands in no URL: one of a single link.
    #[error("an address of a single link cannot be asked")]
    NoUrl,
    /// No answer in time.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
}

/// What one address said.
#[derive(Debug)]
pub struct Answer {
    /// The address that was asked, or the name when it could not be looked up.
    pub address: String,
    /// What it said.
    pub said: Result<Told, AskError>,
}

/// What a processor tells.
#[derive(Debug)]
pub struct Told {
    /// Its status.
    pub status: ProcessorStatus,
    /// How long records took, since its start; None when that was not asked.
    pub latency: Option<Histogram>,
}

/// Asks all of them at once; `latency` too costs a processor more than the rest, since all its metrics are written for it.
pub async fn ask(client: &HttpClient, addresses: &[Address], latency: bool) -> Vec<Answer> {
    let lookups = join_all(addresses.iter().map(|address| async move {
        let found = tokio::net::lookup_host((address.host.as_str(), address.port));
        let found = tokio::time::timeout(PATIENCE, found).await;
        (address, found)
    }));
    let mut sockets: BTreeSet<(SocketAddr, bool)> = BTreeSet::new();
    let mut answers = Vec::new();
    for (address, found) in lookups.await {
        let error = match found {
            Ok(Ok(found)) => {
                let found = one_family(found.collect());
                sockets.extend(found.into_iter().map(|socket| (socket, address.by_tls)));
                continue;
            }
            Ok(Err(error)) => AskError::Lookup(error),
            Err(_) => AskError::Silent,
        };
        answers.push(Answer {
            address: address.to_string(),
            said: Err(error),
        });
    }
    let asked = sockets.into_iter().take(MAX_PROCESSORS);
    answers.extend(
        join_all(asked.map(|(socket, by_tls)| async move {
            let scheme = if by_tls { "https" } else { "http" };
            let base = format!("{scheme}://{socket}");
            let said = tokio::time::timeout(PATIENCE, tell(client, &base, latency)).await;
            Answer {
                address: socket.to_string(),
                said: said.unwrap_or(Err(AskError::Silent)),
            }
        }))
        .await,
    );
    answers
}

/// A pod or a machine with addresses of both families is one processor: it is asked by IPv4, where it has that.
fn one_family(mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    if found.iter().any(SocketAddr::is_ipv4) {
        found.retain(SocketAddr::is_ipv4);
    }
    found
}

async fn tell(client: &HttpClient, base: &str, latency: bool) -> Result<Told, AskError> {
    let status = get(client, base, "/status").await?;
    let latency = if latency {
        let metrics = get(client, base, "/metrics").await?;
        Some(Histogram::parse(&String::from_utf8_lossy(&metrics)))
    } else {
        None
    };
    Ok(Told {
        status: serde_json::from_slice(&status)?,
        latency,
    })
}

async fn get(client: &HttpClient, base: &str, path: &str) -> Result<Bytes, AskError> {
    let url = format!("{base}{path}");
    let url: Uri = url.parse().map_err(|_| AskError::NoUrl)?;
    Ok(client.get(&url, LIMITS).await?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    #[test]
    fn addresses_have_no_path() {
        let read: Address = "http://processors.shop.svc:8080/".parse().unwrap();
        assert_eq!(
            (read.host.as_str(), read.port),
            ("processors.shop.svc", 8080)
        );
        let read: Address = "http://[::1]:8081".parse().unwrap();
        assert_eq!((read.host.as_str(), read.port), ("::1", 8081));
        assert_eq!("http://a".parse::<Address>().unwrap().port, 80);
        let by_tls: Address = "https://a".parse().unwrap();
        assert!(by_tls.by_tls() && !read.by_tls() && by_tls.port == 443);
        for bad in [
            "a:8080",
            "ftp://a",
            "http://a/status",
            "http://u@a",
            "http://a?b",
            "",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_processor_with_two_addresses_is_asked_once() {
        let all = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let both = all(&["[::1]:80", "127.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(one_family(both), all(&["127.0.0.1:80", "10.0.0.2:80"]));
        assert_eq!(one_family(all(&["[::1]:80"])), all(&["[::1]:80"]));
    }

    #[test]
    fn a_status_with_more_and_with_less_is_read() {
        let status: ProcessorStatus = serde_json::from_str(
            r#"{"owner":"p-1","state":"running","future":1,"partitions":[{"topic":"t","partition":0,"log_end":7}]}"#,
        )
        .unwrap();
        assert_eq!(status.partitions[0].log_end, Some(7));
        assert!(status.halted.is_empty() && !status.partitions[0].paused);
    }

    #[tokio::test]
    async fn a_processor_that_is_away_is_told_with_its_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let addresses = [format!("http://{address}").parse().unwrap()];
        let answers = ask(&HttpClient::new(), &addresses, true).await;
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].address, address.to_string());
        let said = &answers[0].said;
        assert!(matches!(said, Err(AskError::Get(GetError::Connect(_)))));
    }
}
