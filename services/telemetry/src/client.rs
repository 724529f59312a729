//! One HTTP question and its answer, on a connection of its own: how the operator and the console
//! ask processors, and commands ask for a health check. In the clear, or by TLS of an authority
//! that is named.
//!
//! Whoever answers may be broken, or be no processor at all, so nothing is read that has no bound:
//! [`HttpClient::get`] is bounded in time and bytes, [`Answer::body`] in bytes.

mod trust;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
pub use hyper::Uri;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

pub use self::trust::{Authorities, BESIDE, TrustFiles};

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

/// Whom a client cannot trust, or what it cannot show.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// What should be certificates of authorities is none.
    #[error("no certificate of an authority in PEM")]
    NoAuthority,
    /// A name that no certificate can have.
    #[error("{0:?} is no name that a certificate can have")]
    Name(String),
    /// A token that cannot stand in a header.
    #[error("the token holds characters other than visible ASCII")]
    Token,
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Unreadable {
        /// Which one.
        file: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Asks questions; its clones share what it is made of, never a connection.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    /// Shown by TLS, and never in the clear. Marked as sensitive: it is not printed.
    token: Option<HeaderValue>,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpClient {
    /// Asks in plain text, and trusts no certificate.
    #[must_use]
    pub fn new() -> Self {
        Self::made(RootCertStore::empty(), None)
    }

    /// Trusts the authorities of this PEM and nobody else. `name` is what every server's
    /// certificate has to be valid for, in place of the name or address in the URL.
    ///
    /// # Errors
    /// [`TrustError`] when there is no authority, or when nothing can have this name.
    pub fn trusting(authorities: &[u8], name: Option<&str>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities) {
            let certificate = certificate.map_err(|_| TrustError::NoAuthority)?;
            roots
                .add(certificate)
                .map_err(|_| TrustError::NoAuthority)?;
        }
        if roots.is_empty() {
            return Err(TrustError::NoAuthority);
        }
        let name = name.map(|name| {
            let parsed = ServerName::try_from(name.to_owned());
            parsed.map_err(|_| TrustError::Name(name.to_owned()))
        });
        Ok(Self::made(roots, name.transpose()?))
    }

    /// Shows this token to everybody who is asked by TLS.
    ///
    /// # Errors
    /// [`TrustError::Token`]
    pub fn with_token(mut self, token: &str) -> Result<Self, TrustError> {
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_| TrustError::Token)?;
        value.set_sensitive(true);
        self.token = Some(value);
        Ok(self)
    }

    fn made(roots: RootCertStore, name: Option<ServerName<'static>>) -> Self {
        let provider = ring::default_provider();
        let tls = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http();
        if let Some(name) = name {
            connector = connector.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        let connector = connector.enable_http1().build();
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Self { inner, token: None }
    }

    /// Asks, and waits for the head of the answer however long it takes.
    ///
    /// # Errors
    /// [`GetError::Connect`] and [`GetError::BrokeOff`].
    pub async fn ask(&self, url: &Uri) -> Result<Answer, GetError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = url.clone();
        if let Some(token) = &self.token
            && url.scheme_str() == Some("https")
        {
            let headers = request.headers_mut();
            headers.insert(AUTHORIZATION, token.clone());
        }
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

    /// A server that says these words to the question of one client, then waits for that one to go;
    /// the question.
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
