//! One HTTP question, for health checks by command: images without a shell have nothing else to ask
//! with.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::http::uri::InvalidUri;
use hyper::{StatusCode, Uri};

use crate::client::{GetError, HttpClient, TrustError};

/// Bytes of an answer that are read for its reason.
const LONGEST_WHY: usize = 16 << 10;

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Why there was no success.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The address cannot be read.
    #[error("{url}: write http://host:port/path, or https://host:port/path with --ca")]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it, where the parser says it.
        #[source]
        source: Option<InvalidUri>,
    },
    /// The authority of an https address is not known.
    #[error("--ca {}: {source}", file.display())]
    Authority {
        /// Where it should stand.
        file: std::path::PathBuf,
        /// What is wrong with it.
        source: TrustError,
    },
    /// Nobody answered until patience was over.
    #[error("{url}: no answer within {} s", patience.as_secs())]
    Silent {
        /// Who was asked.
        url: String,
        /// For how long.
        patience: Duration,
    },
    /// The last answer was not a success.
    #[error("{url}: answered {status}{}", if why.is_empty() { String::new() } else { format!(": {why}") })]
    Refused {
        /// Who was asked.
        url: String,
        /// The answer.
        status: StatusCode,
        /// Its first line.
        why: String,
    },
    /// The last question was not answered.
    #[error("{url}: {why}")]
    Failed {
        /// Who was asked.
        url: String,
        /// Where it failed.
        why: GetError,
    },
}

/// Asks `url` until the answer is a success, at least once, and for `patience` at most. An https
/// address takes the file of the authority that vouches for it.
///
/// # Errors
/// The last answer when `patience` is over; at once for an address that cannot be asked.
pub async fn probe(url: &str, ca: Option<&Path>, patience: Duration) -> Result<(), ProbeError> {
    let address = |source| ProbeError::Address {
        url: url.to_owned(),
        source,
    };
    let uri: Uri = url.parse().map_err(|source| address(Some(source)))?;
    let Some(host) = uri.host() else {
        return Err(address(None));
    };
    let client = match (uri.scheme_str(), ca) {
        _ if host.is_empty() => return Err(address(None)),
        (Some("http"), _) => HttpClient::new(),
        (Some("https"), Some(ca)) => trusting(ca)?,
        _ => return Err(address(None)),
    };
    let begun = Instant::now();
    loop {
        let left = patience.saturating_sub(begun.elapsed()).max(PAUSE);
        let silent = ProbeError::Silent {
            url: url.to_owned(),
            patience,
        };
        match tokio::time::timeout(left, ask(&client, url, &uri)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if begun.elapsed() >= patience => return Err(error),
            Err(_) => return Err(silent),
            Ok(Err(_)) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn trusting(ca: &Path) -> Result<HttpClient, ProbeError> {
    let file = ca.to_owned();
    fs::read(ca)
        .map_err(|source| TrustError::Unreadable {
            file: file.clone(),
            source,
        })
        .and_then(|authorities| HttpClient::trusting(&authorities, None))
        .map_err(|source| ProbeError::Authority { file, source })
}

async fn ask(client: &HttpClient, url: &str, uri: &Uri) -> Result<(), ProbeError> {
    let url = || url.to_owned();
    let failed = |why| ProbeError::Failed { url: url(), why };
    let answer = client.ask(uri).await.map_err(failed)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    // without its text the answer says enough
    let body = answer.body(LONGEST_WHY).await.unwrap_or_default();
    let why = String::from_utf8_lossy(&body);
    Err(ProbeError::Refused {
        url: url(),
        status,
        why: why.lines().next().unwrap_or_default().trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use std::sync::Arc;

    use prometheus::Registry;
    use serde_json::Value;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{Health, Verdict, admin};

    /// Ready, and yet dead.
    struct Undead;

    impl Health for Undead {
        fn live(&self) -> Verdict {
            Verdict::Failing("for the test".to_owned())
        }

        fn ready(&self) -> Verdict {
            Verdict::Ok
        }

        fn status(&self) -> Value {
            Value::Null
        }
    }

    #[tokio::test]
    async fn a_success_is_a_success_and_a_refusal_is_told_with_its_status() {
        let stop = CancellationToken::new();
        let local = "127.0.0.1:0".parse().unwrap();
        let server = admin::serve(local, Registry::new(), Arc::new(Undead), stop.clone())
            .await
            .unwrap();
        let at = |path: &str| format!("http://{}{path}", server.local_addr());
        probe(&at("/readyz"), None, Duration::ZERO).await.unwrap();
        let refused = probe(&at("/livez"), None, Duration::ZERO)
            .await
            .unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("/livez: answered 503 Service Unavailable: {\"reason\":\"for the test\""),
            "{refused}"
        );
        let url = at("/readyz");
        stop.cancel();
        server.stopped().await;
        let gone = probe(&url, None, Duration::ZERO).await.unwrap_err();
        let connect = |why: &GetError| matches!(why, GetError::Connect(_));
        assert!(
            matches!(&gone, ProbeError::Failed { why, .. } if connect(why)),
            "{gone:?}"
        );
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_ends_the_patience() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let silent = probe(&url, None, Duration::ZERO).await.unwrap_err();
        assert!(matches!(silent, ProbeError::Silent { .. }), "{silent:?}");
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_asked_is_refused_at_once() {
        for url in [
            "https://127.0.0.1/",
            "127.0.0.1:80",
            "/readyz",
            "http://",
            "",
        ] {
            let error = probe(url, None, Duration::from_secs(60)).await.unwrap_err();
            assert!(
                matches!(error, ProbeError::Address { .. }),
                "{url}: {error:?}"
            );
        }
    }
}
