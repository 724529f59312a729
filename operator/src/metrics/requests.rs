//! Requests to the API server, counted where they leave, as Go's client counts them.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use hyper::{Request, Response};
use prometheus::{IntCounterVec, Opts};
use tower::{Layer, Service};

use crate::health::Hearing;

/// Codes that API servers answer with; any other is `other`, so that no server makes series.
const CODES: [u16; 20] = [
    101, 200, 201, 202, 204, 304, 400, 401, 403, 404, 405, 409, 410, 415, 422, 429, 500, 502, 503,
    504,
];

/// The counter; as a layer it goes around a client's transport.
#[derive(Clone)]
pub struct Requests {
    requests: IntCounterVec,
    host: String,
    hearing: Option<Hearing>,
}

impl Requests {
    /// No request yet.
    ///
    /// # Errors
    /// A name that Prometheus does not take.
    pub fn new() -> prometheus::Result<Self> {
        let opts = Opts::new(
            "rest_client_requests_total",
            "Requests to the API server, by code of the answer (`<error>`: there was none), method and host. Alert when 5xx, 429 or <error> go on rising for ten minutes.",
        );
        Ok(Self {
            requests: IntCounterVec::new(opts, &["code", "method", "host"])?,
            host: String::new(),
            hearing: None,
        })
    }

    /// The same counter for one server, whose answers to watches are told to `hearing`.
    #[must_use]
    pub fn to(&self, host: impl Into<String>, hearing: Hearing) -> Self {
        Self {
            requests: self.requests.clone(),
            host: host.into(),
            hearing: Some(hearing),
        }
    }

    /// What is registered.
    pub fn collector(&self) -> IntCounterVec {
        self.requests.clone()
    }

    /// Counts an answer; `None`: there was none.
    pub fn count(&self, code: Option<u16>, method: &str) {
        let code = match code {
            Some(code) if CODES.contains(&code) => code.to_string(),
            Some(_) => "other".to_owned(),
            None => "<error>".to_owned(),
        };
        self.requests
            .with_label_values(&[code.as_str(), method, &self.host])
            .inc();
    }
}

impl<S> Layer<S> for Requests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            requests: self.clone(),
        }
    }
}

/// A transport whose requests are counted.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S, Sent, Got> Service<Request<Sent>> for Counted<S>
where
    S: Service<Request<Sent>, Response = Response<Got>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Sent>) -> Self::Future {
        // the client itself chooses among these
        let method = match request.method().as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            _ => "other",
        };
        let requests = self.requests.clone();
        let path = (method == "GET").then(|| request.uri().path().to_owned());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            requests.count(code, method);
            if let (Some(hearing), Some(path)) = (&requests.hearing, path) {
                hearing.answered(&path, code);
            }
            answer
        })
    }
}
