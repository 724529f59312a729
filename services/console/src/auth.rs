//! Who may look: everybody on loopback, elsewhere whoever knows the token.
//!
//! The token comes as `Authorization: Bearer`, or once as `/?token=`, and is exchanged for a cookie
//! that scripts cannot read. The cookie is the random number of a session that only this process
//! knows: it ends when its browser logs out, after a working day, when the token changes and when
//! the process ends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::http::header::{AUTHORIZATION, COOKIE, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// Name of the cookie.
const NAME: &str = "clickstream_console";

/// How long a session lasts: a working day.
const SESSION: Duration = Duration::from_hours(12);
/// Sessions at the same time; one more ends the oldest. Only who has the token can open one.
const SESSIONS: usize = 1_000;
/// How often a file with the token is read again: a Secret's volume follows the Secret.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Shorter tokens can be guessed.
const SHORTEST: usize = 16;

/// Why a token cannot be used.
#[derive(Debug, Error)]
pub enum TokenError {
    /// It can be guessed.
    #[error(
        "the token has {0} characters, use at least {SHORTEST} (for example: openssl rand -hex 32)"
    )]
    TooShort(usize),
    /// It cannot stand in a header.
    #[error("the token holds characters other than visible ASCII")]
    NotAscii,
    /// Its file cannot be read.
    #[error("cannot be read")]
    Unreadable(#[from] std::io::Error),
}

/// Decides about requests.
pub enum Guard {
    /// On loopback without a token: everybody, but only under a loopback name, so that a web page
    /// of somebody else cannot read ours by pointing its own name here.
    Loopback,
    /// With a token.
    Token(Door),
}

/// Whoever was let in, until this is cancelled.
pub type Pass = CancellationToken;

/// The token, and who has shown it.
pub struct Door {
    /// Where the token is read again, if it can change.
    file: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    /// Digests are compared, which takes the same time wherever they differ.
    token: [u8; 32],
    /// Ends all sessions of this token.
    pass: Pass,
    /// By the digest of the cookie: when each ends by itself, and its pass.
    sessions: HashMap<[u8; 32], (Instant, Pass)>,
    /// Whether the file held no usable token when it was read last.
    unusable: bool,
}

impl Door {
    /// Opened by a token that stays the same.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn fixed(token: &str) -> Result<Self, TokenError> {
        Ok(Self {
            file: None,
            state: Mutex::new(State::new(checked(token)?)),
        })
    }

    /// Opened by the token in a file, which may change.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn following(file: PathBuf) -> Result<Self, TokenError> {
        let token = read(&file)?;
        Ok(Self {
            file: Some(file),
            state: Mutex::new(State::new(token)),
        })
    }

    /// Whether this is the token.
    pub fn opens_with(&self, given: &str) -> bool {
        digest(given).ct_eq(&self.state.lock().token).into()
    }

    /// Opens a session, and returns the header that has a browser remember it. `secure`: the
    /// browser came by HTTPS, and must not send it otherwise.
    pub fn open(&self, secure: bool) -> HeaderValue {
        let cookie = hex(&rand::random::<[u8; 32]>());
        let ends = Instant::now() + SESSION;
        let mut state = self.state.lock();
        state.sessions.retain(|_, (ends, _)| *ends > Instant::now());
        if state.sessions.len() >= SESSIONS {
            let oldest = state.sessions.iter().min_by_key(|(_, (ends, _))| *ends);
            let oldest = oldest.map(|(digest, _)| *digest);
            oldest.into_iter().for_each(|digest| state.end(digest));
        }
        let pass = state.pass.child_token();
        state.sessions.insert(digest(&cookie), (ends, pass));
        remembered(&cookie, SESSION, secure)
    }

    /// Ends the session of these headers, if there is one, and returns the header that has a
    /// browser forget it.
    pub fn close(&self, headers: &HeaderMap, secure: bool) -> HeaderValue {
        let mut state = self.state.lock();
        for cookie in cookies(headers) {
            state.end(digest(cookie));
        }
        remembered("", Duration::ZERO, secure)
    }

    fn pass(&self, headers: &HeaderMap) -> Option<Pass> {
        if bearer(headers).is_some_and(|given| self.opens_with(given)) {
            return Some(self.state.lock().pass.clone());
        }
        let state = self.state.lock();
        cookies(headers).find_map(|cookie| {
            let (ends, pass) = state.sessions.get(&digest(cookie))?;
            (*ends > Instant::now()).then(|| pass.clone())
        })
    }

    /// Reads the token again, and ends all sessions when it has changed. One that cannot be read or
    /// used does not replace the one before.
    fn follow(&self) {
        let Some(file) = &self.file else {
            return;
        };
        let mut state = self.state.lock();
        match read(file) {
            Ok(token) if token == state.token => state.unusable = false,
            Ok(token) => {
                tracing::info!("the token has changed, and all sessions have ended");
                state.pass.cancel();
                *state = State::new(token);
            }
            // said once
            Err(_) if state.unusable => {}
            Err(error) => {
                state.unusable = true;
                tracing::warn!(%error, "the token cannot be read again: the one before stays in force");
            }
        }
    }
}

impl State {
    fn new(token: [u8; 32]) -> Self {
        Self {
            token,
            pass: Pass::new(),
            sessions: HashMap::new(),
            unusable: false,
        }
    }

    fn end(&mut self, session: [u8; 32]) {
        if let Some((_, pass)) = self.sessions.remove(&session) {
            pass.cancel();
        }
    }
}

fn read(file: &std::path::Path) -> Result<[u8; 32], TokenError> {
    checked(&std::fs::read_to_string(file)?)
}

/// The digest of a token that can be used; the line end that editors leave behind it does not
/// count.
fn checked(token: &str) -> Result<[u8; 32], TokenError> {
    let token = token.trim_end_matches(['\r', '\n']);
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::NotAscii);
    }
    if token.len() < SHORTEST {
        return Err(TokenError::TooShort(token.len()));
    }
    Ok(digest(token))
}

fn remembered(cookie: &str, age: Duration, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let age = age.as_secs();
    let text = format!("{NAME}={cookie}; Max-Age={age}; Path=/; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&text).expect("hexadecimal digits and constants are visible ASCII")
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == NAME)
        .map(|(_, value)| value)
}

impl Guard {
    /// Follows the token where it can change; never ends.
    pub async fn follow(&self) {
        let mut ticks = tokio::time::interval(READ_AGAIN);
        loop {
            ticks.tick().await;
            if let Self::Token(door) = self {
                door.follow();
            }
        }
    }

    /// Whether a request may have data, and until when.
    ///
    /// # Errors
    /// The status to answer instead.
    pub fn check(&self, headers: &HeaderMap) -> Result<Pass, StatusCode> {
        match self {
            Self::Loopback if is_loopback_name(headers) => Ok(Pass::new()),
            Self::Loopback => Err(StatusCode::MISDIRECTED_REQUEST),
            Self::Token(door) => door.pass(headers).ok_or(StatusCode::UNAUTHORIZED),
        }
    }
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

fn is_loopback_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn guard() -> Guard {
        Guard::Token(Door::fixed(&format!("{TOKEN}\n")).unwrap())
    }

    fn door(guard: &Guard) -> &Door {
        match guard {
            Guard::Token(door) => door,
            Guard::Loopback => unreachable!("it has a token"),
        }
    }

    fn cookie(header: &HeaderValue) -> String {
        let text = header.to_str().unwrap();
        text.split(';').next().unwrap().to_owned()
    }

    fn check(guard: &Guard, name: &'static str, value: &str) -> Result<Pass, StatusCode> {
        guard.check(&headers(&[(name, value)]))
    }

    #[test]
    fn the_token_and_a_cookie_of_a_session_open_and_nothing_else_does() {
        let guard = guard();
        let cookie = cookie(&door(&guard).open(false));
        let opens = |name, value: &str| check(&guard, name, value).is_ok();
        assert!(opens("authorization", &format!("Bearer {TOKEN}")));
        assert!(opens("authorization", &format!("bearer {TOKEN}")));
        assert!(opens("cookie", &cookie));
        assert!(opens("cookie", &format!("a=b; {cookie}; c=d")));
        for (name, value) in [
            ("authorization", format!("Bearer {TOKEN}0")),
            ("authorization", format!("Basic {TOKEN}")),
            ("authorization", TOKEN.to_owned()),
            ("cookie", format!("{NAME}={TOKEN}")),
            ("cookie", format!("{NAME}=")),
            ("cookie", format!("x{cookie}")),
            ("cookie", cookie[..cookie.len() - 1].to_owned()),
            ("host", "localhost".to_owned()),
        ] {
            assert_eq!(
                check(&guard, name, &value).unwrap_err(),
                StatusCode::UNAUTHORIZED,
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn the_cookie_does_not_hold_the_token() {
        let header = door(&guard()).open(true);
        let text = header.to_str().unwrap();
        assert!(!text.contains(TOKEN) && text.contains("HttpOnly") && text.ends_with("; Secure"));
    }

    #[test]
    fn a_session_that_is_closed_ends_what_it_opened_and_no_other() {
        let guard = guard();
        let [first, second] = [(); 2].map(|()| cookie(&door(&guard).open(false)));
        let stream = check(&guard, "cookie", &first).unwrap();
        let other = check(&guard, "cookie", &second).unwrap();
        let forget = door(&guard).close(&headers(&[("cookie", first.as_str())]), false);
        assert!(forget.to_str().unwrap().contains("Max-Age=0"));
        assert!(stream.is_cancelled());
        check(&guard, "cookie", &first).unwrap_err();
        assert!(!other.is_cancelled());
        check(&guard, "cookie", &second).unwrap();
    }

    #[test]
    fn the_oldest_session_ends_when_there_are_too_many() {
        let guard = guard();
        let first = cookie(&door(&guard).open(false));
        let mut last = first.clone();
        for _ in 0..SESSIONS {
            last = cookie(&door(&guard).open(false));
        }
        check(&guard, "cookie", &first).unwrap_err();
        check(&guard, "cookie", &last).unwrap();
    }

    #[test]
    fn a_token_that_changes_ends_all_sessions_and_one_that_cannot_be_used_changes_nothing() {
        let folder = std::env::temp_dir().join(hex(&rand::random::<[u8; 8]>()));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("token");
        std::fs::write(&file, TOKEN).unwrap();
        let guard = Guard::Token(Door::following(file.clone()).unwrap());
        let cookie = cookie(&door(&guard).open(false));
        let stream = check(&guard, "cookie", &cookie).unwrap();
        for unusable in ["", "short"] {
            std::fs::write(&file, unusable).unwrap();
            door(&guard).follow();
            check(&guard, "cookie", &cookie).unwrap();
        }
        std::fs::write(&file, format!("{TOKEN}-2")).unwrap();
        door(&guard).follow();
        check(&guard, "cookie", &cookie).unwrap_err();
        assert!(stream.is_cancelled());
        check(&guard, "authorization", &format!("Bearer {TOKEN}")).unwrap_err();
        check(&guard, "authorization", &format!("Bearer {TOKEN}-2")).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn tokens_that_can_be_guessed_are_refused() {
        assert!(matches!(
            Door::fixed("short\n"),
            Err(TokenError::TooShort(5))
        ));
        assert!(matches!(Door::fixed(""), Err(TokenError::TooShort(0))));
        assert!(matches!(
            Door::fixed("with a space inside"),
            Err(TokenError::NotAscii)
        ));
    }

    #[test]
    fn without_a_token_only_loopback_names_are_answered() {
        let check = |host| {
            let passed = Guard::Loopback.check(&headers(&[("host", host)]));
            passed.map(|_| ())
        };
        for host in [
            "localhost:8080",
            "LOCALHOST",
            "127.0.0.1:8080",
            "127.0.0.1",
            "[::1]:8080",
            "[::1]",
        ] {
            assert_eq!(check(host), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "10.0.0.1",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "",
        ] {
            assert_eq!(check(host), Err(StatusCode::MISDIRECTED_REQUEST), "{host}");
        }
        assert_eq!(
            Guard::Loopback.check(&HeaderMap::new()).unwrap_err(),
            StatusCode::MISDIRECTED_REQUEST
        );
    }
}
