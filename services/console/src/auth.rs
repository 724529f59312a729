//! Who may look: everybody on loopback, elsewhere whoever knows the token.
//!
//! The token comes as `Authorization: Bearer`, or once as `/?token=`, and is exchanged for a cookie that scripts cannot
//! read. The cookie is a digest of the token, so that it survives a restart and does not give the token away.

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, COOKIE, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

/// Name of the cookie.
const NAME: &str = "clickstream_console";

/// How long a browser keeps it: a working day.
const COOKIE_SECONDS: u32 = 12 * 3600;

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
}

/// Decides about requests.
#[derive(Clone)]
pub enum Guard {
    /// On loopback without a token: everybody, but only under a loopback name, so that a web page of somebody else cannot
    /// read ours by pointing its own name here.
    Loopback,
    /// With a token.
    Token(Token),
}

/// What a token is compared by: digests, whose comparison takes the same time wherever they differ.
#[derive(Clone)]
pub struct Token {
    token: [u8; 32],
    cookie: String,
    cookie_digest: [u8; 32],
}

impl Token {
    /// Takes a token; the line end that editors leave behind it does not count.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn new(token: &str) -> Result<Self, TokenError> {
        let token = token.trim_end_matches(['\r', '\n']);
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::NotAscii);
        }
        if token.len() < SHORTEST {
            return Err(TokenError::TooShort(token.len()));
        }
        let cookie = hex(&digest(&format!("{NAME} {token}")));
        Ok(Self {
            token: digest(token),
            cookie_digest: digest(&cookie),
            cookie,
        })
    }

    /// Whether this is the token.
    pub fn is(&self, given: &str) -> bool {
        digest(given).ct_eq(&self.token).into()
    }

    /// The header that has a browser remember. `secure`: the browser came by HTTPS, and must not send it otherwise.
    pub fn set_cookie(&self, secure: bool) -> HeaderValue {
        let secure = if secure { "; Secure" } else { "" };
        let text = format!(
            "{NAME}={}; Max-Age={COOKIE_SECONDS}; Path=/; HttpOnly; SameSite=Lax{secure}",
            self.cookie
        );
        HeaderValue::from_str(&text).expect("hexadecimal digits and constants are visible ASCII")
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        if bearer(headers).is_some_and(|given| self.is(given)) {
            return true;
        }
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == NAME)
            .any(|(_, value)| digest(value).ct_eq(&self.cookie_digest).into())
    }
}

impl Guard {
    /// Whether a request may have data.
    ///
    /// # Errors
    /// The status to answer instead.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        match self {
            Self::Loopback if is_loopback_name(headers) => Ok(()),
            Self::Loopback => Err(StatusCode::MISDIRECTED_REQUEST),
            Self::Token(token) if token.is_known(headers) => Ok(()),
            Self::Token(_) => Err(StatusCode::UNAUTHORIZED),
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

    #[test]
    fn the_token_and_its_cookie_open_and_nothing_else_does() {
        let token = Token::new(&format!("{TOKEN}\n")).unwrap();
        let cookie = token.set_cookie(false).to_str().unwrap().to_owned();
        let cookie = cookie.split(';').next().unwrap();
        let guard = Guard::Token(token);
        let check = |name, value: &str| guard.check(&headers(&[(name, value)]));
        assert_eq!(check("authorization", &format!("Bearer {TOKEN}")), Ok(()));
        assert_eq!(check("authorization", &format!("bearer {TOKEN}")), Ok(()));
        assert_eq!(check("cookie", cookie), Ok(()));
        assert_eq!(check("cookie", &format!("a=b; {cookie}; c=d")), Ok(()));
        for (name, value) in [
            ("authorization", format!("Bearer {TOKEN}0")),
            ("authorization", format!("Basic {TOKEN}")),
            ("authorization", TOKEN.to_owned()),
            ("cookie", format!("{NAME}={TOKEN}")),
            ("cookie", format!("x{cookie}")),
            ("cookie", cookie[..cookie.len() - 1].to_owned()),
            ("host", "localhost".to_owned()),
        ] {
            assert_eq!(
                check(name, &value),
                Err(StatusCode::UNAUTHORIZED),
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn the_cookie_does_not_hold_the_token() {
        let cookie = Token::new(TOKEN).unwrap().set_cookie(true);
        let cookie = cookie.to_str().unwrap();
        assert!(
            !cookie.contains(TOKEN) && cookie.contains("HttpOnly") && cookie.ends_with("; Secure")
        );
    }

    #[test]
    fn tokens_that_can_be_guessed_are_refused() {
        assert!(matches!(
            Token::new("short\n"),
            Err(TokenError::TooShort(5))
        ));
        assert!(matches!(Token::new(""), Err(TokenError::TooShort(0))));
        assert!(matches!(
            Token::new("with a space inside"),
            Err(TokenError::NotAscii)
        ));
    }

    #[test]
    fn without_a_token_only_loopback_names_are_answered() {
        let check = |host| Guard::Loopback.check(&headers(&[("host", host)]));
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
            Guard::Loopback.check(&HeaderMap::new()),
            Err(StatusCode::MISDIRECTED_REQUEST)
        );
    }
}
