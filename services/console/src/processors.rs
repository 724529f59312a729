//! What the processors say of themselves: `/status` and the latency histogram of `/metrics`.
//!
//! A name that stands for several addresses (a headless Service) means all of them, looked up at
//! every reading: pods come and go.

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

/// Asks all of them at once; `latency` too costs a processor more than the rest, since all its
/// metrics are written for it.
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

/// A pod or a machine with addresses of both families is one processor: it is asked by IPv4, where
/// it has that.
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

    /// A folder as a mounted Secret is: `ca.crt`, `tls.crt` and `tls.key`, valid for one name.
    fn certified(name: &str) -> std::path::PathBuf {
        let folder =
            std::env::temp_dir().join(format!("clickstream-console-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("names"), format!("subjectAltName=DNS:{name}\n")).unwrap();
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        for args in [
            format!("req -x509 {new} -days 2 -subj /CN=ca -keyout ca.key -out ca.crt"),
            format!("req {new} -subj /CN=pods -keyout tls.key -out tls.csr"),
            "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out tls.crt".to_owned(),
        ] {
            let mut openssl = std::process::Command::new("openssl");
            let ended = openssl.args(args.split(' ')).current_dir(&folder).output();
            let ended = ended.unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success(), "openssl {args}: {said}");
        }
        folder
    }

    struct Running;

    impl clickstream_telemetry::Health for Running {
        fn live(&self) -> clickstream_telemetry::Verdict {
            clickstream_telemetry::Verdict::Ok
        }

        fn ready(&self) -> clickstream_telemetry::Verdict {
            clickstream_telemetry::Verdict::Ok
        }

        fn status(&self) -> serde_json::Value {
            serde_json::json!({ "owner": "p-1", "state": "running", "partitions": [] })
        }
    }

    #[tokio::test]
    async fn a_guarded_processor_tells_who_trusts_it_and_shows_its_token() {
        use clickstream_telemetry::admin::{self, Access, Guard};
        use clickstream_telemetry::client::TrustFiles;
        use clickstream_telemetry::{metrics, tls::Tls};

        const NAME: &str = "clickstream-metrics.shop.svc";
        let folder = certified(NAME);
        let token = folder.join("token");
        std::fs::write(&token, "a-token-of-thirty-two-characters").unwrap();
        let guard = Guard {
            tls: Some(Tls::following(&folder).unwrap()),
            access: Access::tokens(token.clone()).unwrap(),
        };
        let registry = metrics::registry("processor").unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        let local = "127.0.0.1:0".parse().unwrap();
        let running = std::sync::Arc::new(Running);
        let server = admin::serve_guarded(local, guard, registry, running, stop.clone())
            .await
            .unwrap();
        let address = format!("https://{}", server.local_addr());
        let addresses: [Address; 1] = [address.parse().unwrap()];
        let asking = |name: &str, token: Option<&std::path::PathBuf>| {
            let ca = Some(folder.join("ca.crt"));
            let trust = TrustFiles::following(ca, Some(name.to_owned()), token.cloned());
            trust.unwrap().client()
        };
        let mut told = ask(&asking(NAME, Some(&token)), &addresses, true).await;
        let said = told.remove(0).said.unwrap();
        assert_eq!(said.status.owner, "p-1");
        assert!(said.latency.is_some());
        let refused = ask(&asking(NAME, None), &addresses, false).await;
        let said = &refused[0].said;
        assert!(
            matches!(said, Err(AskError::Get(GetError::Refused(code))) if *code == 401),
            "{said:?}"
        );
        let stranger = ask(&asking("other.svc", Some(&token)), &addresses, false).await;
        let said = &stranger[0].said;
        assert!(
            matches!(said, Err(AskError::Get(GetError::Connect(_)))),
            "{said:?}"
        );
        stop.cancel();
        std::fs::remove_dir_all(&folder).ok();
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
