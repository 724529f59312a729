//! One HTTP question and its answer, on a connection of its own: how the operator and the console ask
//! processors, and commands ask for a health check.
//!
//! Whoever answers may be broken, or be no processor at all, so nothing is read that has no bound:
//! [`HttpClient::get`] is bounded in time and bytes, [`Answer::body`] in bytes.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
pub use hyper::Uri;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// What an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the connection to the end of the answer.
    pub patience: Duration,
    /// Bytes of its body.
    pub largest: usize,
}

/// Why there is no answer, or none that is of use.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The name cannot be looked up, or nobody listens there.
    #[error("cannot connect: {0}")]
    Connect(Cause),
    /// The exchange broke off.
    #[error("the answer broke off: {0}")]
    BrokeOff(Cause),
    /// The answer is no success.
    #[error("answered {0}")]
    Refused(StatusCode),
    /// The body is longer than allowed, or broke off.
    #[error("the answer cannot be read: {0}")]
    Body(Box<dyn Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
}

/// A client's error, told by its innermost cause: what is around it says only which layer saw it.
#[derive(Debug)]
pub struct Cause(legacy::Error);

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cause: &dyn Error = &self.0;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        write!(out, "{cause}")
    }
}

/// Asks questions; its clones share what it is made of, never a connection.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpClient {
    /// Asks in plain text, and trusts no certificate.
    ///
    /// # Panics
    /// Never: the provider of TLS knows the default versions.
    #[must_use]
    pub fn new() -> Self {
        let provider = ring::default_provider();
        let tls = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions of TLS")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Self { inner }
    }

    /// Asks, and waits for the head of the answer however long it takes.
    ///
    /// # Errors
    /// [`GetError::Connect`] and [`GetError::BrokeOff`].
    pub async fn ask(&self, url: &Uri) -> Result<Answer, GetError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = url.clone();
        let answer = self.inner.request(request).await;
        answer.map(Answer).map_err(|error| match error {
            error if error.is_connect() => GetError::Connect(Cause(error)),
            error => GetError::BrokeOff(Cause(error)),
        })
    }

    /// The body of an answer that is a success.
    ///
    /// # Errors
    /// Every [`GetError`].
    pub async fn get(&self, url: &Uri, limits: Limits) -> Result<Bytes, GetError> {
        let asked = async {
            let answer = self.ask(url).await?;
            if !answer.status().is_success() {
                return Err(GetError::Refused(answer.status()));
            }
            answer.body(limits.largest).await
        };
        let silent = GetError::Silent(limits.patience);
        let answered = tokio::time::timeout(limits.patience, asked).await;
        answered.unwrap_or(Err(silent))
    }
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Answer(Response<Incoming>);

impl Answer {
    /// Its status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Its body, of so many bytes at most.
    ///
    /// # Errors
    /// [`GetError::Body`].
    pub async fn body(self, largest: usize) -> Result<Bytes, GetError> {
        let body = Limited::new(self.0.into_body(), largest).collect().await;
        Ok(body.map_err(GetError::Body)?.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    const LIMITS: Limits = Limits {
        patience: Duration::from_secs(5),
        largest: 8,
    };

    /// A server that says these words to the question of one client, then waits for that one to go; the question.
    async fn saying(words: &'static str) -> (Uri, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a?b", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
            }
            stream.write_all(words.as_bytes()).await.unwrap();
            let end = stream.read(&mut [0]).await;
            // a client that leaves something unread ends its connection with a reset
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
            String::from_utf8(asked).unwrap()
        });
        (url.parse().unwrap(), asked)
    }

    #[tokio::test]
    async fn a_question_names_whom_it_asks_and_its_connection_ends_with_the_answer() {
        let (url, asked) = saying("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n12345678").await;
        let body = HttpClient::new().get(&url, LIMITS).await.unwrap();
        assert_eq!(&body[..], b"12345678");
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("GET /a?b HTTP/1.1\r\n"), "{asked}");
        let host = format!("host: {}\r\n", url.authority().unwrap());
        assert!(asked.contains(&host), "{asked}");
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_not_read_on() {
        for words in [
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789",
            // a body without an end
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n",
        ] {
            let (url, asked) = saying(words).await;
            let error = HttpClient::new().get(&url, LIMITS).await.unwrap_err();
            assert!(matches!(error, GetError::Body(_)), "{error:?}");
            asked.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_slow_body_ends_the_patience_and_the_connection() {
        let limits = Limits {
            patience: Duration::from_millis(50),
            ..LIMITS
        };
        for words in ["", "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n1234"] {
            let (url, asked) = saying(words).await;
            let error = HttpClient::new().get(&url, limits).await.unwrap_err();
            assert!(matches!(error, GetError::Silent(_)), "{error:?}");
            // the server reads to the end of the connection
            asked.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_refusal_a_broken_answer_and_an_empty_place_are_told_apart() {
        let client = HttpClient::new();
        let (url, _asked) = saying("HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        let error = client.get(&url, LIMITS).await.unwrap_err();
        assert!(matches!(error, GetError::Refused(code) if code == 503));
        let (url, _asked) = saying("no HTTP at all\r\n\r\n").await;
        let error = client.get(&url, LIMITS).await.unwrap_err();
        assert!(matches!(error, GetError::BrokeOff(_)), "{error:?}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let error = client.get(&url.parse().unwrap(), LIMITS).await.unwrap_err();
        assert!(matches!(error, GetError::Connect(_)), "{error:?}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
