//! Who may read `/status` and `/metrics`: everybody, who shows one of the tokens of a file, or who
//! shows a token that somebody else vouches for.
//!
//! A token comes as `Authorization: Bearer TOKEN`, or in [`TOKEN_HEADER`]: the API server's proxy
//! to a pod keeps the former for itself and hands every other header on.

use std::error::Error;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::answers::{Answers, Decision, Key, Step};
use super::tokens::{LONGEST, Tokens, TokensError};

/// Where a token may stand beside `Authorization`.
pub const TOKEN_HEADER: &str = "x-clickstream-token";

/// How long the judge may take: a connection has ten seconds in all.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two warnings that it does not answer.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// What a judge says; an error when that cannot be known now.
pub type Judgement = Result<Decision, Box<dyn Error + Send + Sync>>;

/// Somebody who knows whose a token is and what its owner may read.
pub trait Judge: Send + Sync + 'static {
    /// What becomes of this token at this path.
    fn judge<'j>(
        &'j self,
        token: &'j str,
        path: &'j str,
    ) -> Pin<Box<dyn Future<Output = Judgement> + Send + 'j>>;
}

/// Who may read.
#[derive(Clone, Default)]
pub struct Access(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Anyone,
    Tokens(Arc<Tokens>),
    Judged(Arc<Judged>),
}

struct Judged {
    judge: Box<dyn Judge>,
    state: Mutex<State>,
}

struct State {
    answers: Answers,
    /// When it was last said that the judge does not answer.
    said: Option<Instant>,
}

/// Why somebody may not read, in words for that one.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    NoToken,
    Unknown,
    Forbidden(String),
    Later,
    NoJudge,
}

impl Access {
    /// Everybody who reaches the port.
    #[must_use]
    pub fn anyone() -> Self {
        Self::default()
    }

    /// Who shows a token of this file, or of a file in this folder: one a line, read again when
    /// they change.
    ///
    /// # Errors
    /// [`TokensError`]
    pub fn tokens(place: PathBuf) -> Result<Self, TokensError> {
        let tokens = Tokens::following(place)?;
        Ok(Self(Kind::Tokens(Arc::new(tokens))))
    }

    /// Whom a judge lets in.
    #[must_use]
    pub fn judged_by(judge: impl Judge) -> Self {
        let state = Mutex::new(State {
            answers: Answers::new(Instant::now()),
            said: None,
        });
        let judge = Box::new(judge);
        Self(Kind::Judged(Arc::new(Judged { judge, state })))
    }

    /// Lets a request through, or says what to answer instead.
    pub(super) async fn check(&self, headers: &HeaderMap, path: &str) -> Result<(), Response> {
        let allowed = match &self.0 {
            Kind::Anyone => Ok(()),
            Kind::Tokens(tokens) => match token(headers) {
                None => Err(Refusal::NoToken),
                Some(token) if tokens.hold(token) => Ok(()),
                Some(_) => Err(Refusal::Unknown),
            },
            Kind::Judged(judged) => match token(headers) {
                None => Err(Refusal::NoToken),
                Some(token) => judged.check(token, path).await,
            },
        };
        allowed.map_err(IntoResponse::into_response)
    }
}

impl Judged {
    async fn check(&self, token: &str, path: &str) -> Result<(), Refusal> {
        let key: Key = Sha256::new()
            .chain_update(path)
            .chain_update([0])
            .chain_update(token)
            .finalize()
            .into();
        let step = self.state.lock().answers.step(&key, Instant::now());
        let decision = match step {
            Step::Known(decision) => decision,
            Step::Later => return Err(Refusal::Later),
            Step::Ask => {
                let asked = self.judge.judge(token, path);
                let answer = match tokio::time::timeout(PATIENCE, asked).await {
                    Ok(answer) => answer,
                    Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs()).into()),
                };
                self.learned(key, answer)?
            }
        };
        match decision {
            Decision::Allowed => Ok(()),
            Decision::Unknown => Err(Refusal::Unknown),
            Decision::Forbidden { who } => {
                Err(Refusal::Forbidden(format!("{who} may not get {path}")))
            }
        }
    }

    fn learned(&self, key: Key, answer: Judgement) -> Result<Decision, Refusal> {
        let now = Instant::now();
        let mut state = self.state.lock();
        match answer {
            Ok(decision) => {
                state.said = None;
                state.answers.learn(key, decision.clone(), now);
                Ok(decision)
            }
            Err(error) => {
                let said = state.said.map(|at| now.saturating_duration_since(at));
                if said.is_none_or(|ago| ago >= SAY_AGAIN) {
                    state.said = Some(now);
                    let error: &dyn Error = error.as_ref();
                    tracing::warn!(error, "tokens for /status and /metrics cannot be reviewed");
                }
                let before = state.answers.without_judge(&key, now);
                before.ok_or(Refusal::NoJudge)
            }
        }
    }
}

/// The token of a request; one that could be none is left out.
fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    };
    let token = match headers.get(TOKEN_HEADER) {
        Some(token) => token.to_str().ok(),
        None => bearer(),
    };
    token
        .map(str::trim)
        .filter(|token| (1..=LONGEST).contains(&token.len()))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, why) = match self {
            Self::NoToken => (
                StatusCode::UNAUTHORIZED,
                "a token is needed: send Authorization: Bearer TOKEN".to_owned(),
            ),
            Self::Unknown => (
                StatusCode::UNAUTHORIZED,
                "the token is not known here, or has expired".to_owned(),
            ),
            Self::Forbidden(why) => (StatusCode::FORBIDDEN, why),
            Self::Later => (
                StatusCode::TOO_MANY_REQUESTS,
                "too many tokens that nobody knows have come: try again in a moment".to_owned(),
            ),
            Self::NoJudge => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the token cannot be reviewed now: the kubernetes api does not answer, or could not check it"
                    .to_owned(),
            ),
        };
        let mut response = (status, format!("{why}\n")).into_response();
        let (name, value) = match status {
            StatusCode::UNAUTHORIZED => (WWW_AUTHENTICATE, "Bearer"),
            StatusCode::FORBIDDEN => return response,
            _ => (RETRY_AFTER, "1"),
        };
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static(value));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_str(value).expect("a header's value");
            headers.insert(*name, value);
        }
        headers
    }

    #[test]
    fn a_token_comes_by_either_header_and_none_is_made_up() {
        let of = |pairs: &[_]| token(&headers(pairs)).map(str::to_owned);
        assert_eq!(
            of(&[("authorization", "Bearer abc")]).as_deref(),
            Some("abc")
        );
        assert_eq!(
            of(&[("authorization", "bearer  abc")]).as_deref(),
            Some("abc")
        );
        assert_eq!(of(&[(TOKEN_HEADER, "abc")]).as_deref(), Some("abc"));
        for none in ["Basic abc", "Bearer", "Bearer ", "abc", ""] {
            assert_eq!(of(&[("authorization", none)]), None, "{none}");
        }
        let long = format!("Bearer {}", "a".repeat(LONGEST + 1));
        assert_eq!(of(&[("authorization", &long)]), None);
        assert_eq!(of(&[]), None);
    }
}
