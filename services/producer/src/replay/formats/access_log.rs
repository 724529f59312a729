//! Web servers' access logs: the common and the combined format of Apache and nginx, and what
//! people make of them.
//!
//! ```text
//! [VHOST[:PORT]] CLIENT IDENT USER [17/May/2015:10:05:03 +0000] "GET /path HTTP/1.1" 200 203023 "REFERRER" "USER AGENT" …
//! ```
//! The client may be a list, as `X-Forwarded-For` has it, with or without quotes and spaces. What
//! [`prefix`] knows may stand in front.

use std::borrow::Cow;

use super::escapes::readable;
use super::{LineFormat, prefix};
use crate::replay::hit::{Hit, Miss, Site, Time, Value};
use crate::replay::{address, time};

/// Why a line is no request. The text of the line is never part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum LogLineProblem {
    /// The line does not begin with an address or a host name, ident and user.
    #[error("no address or host name, ident and user at the beginning")]
    NoHost,
    /// There is no time in square brackets.
    #[error("no time in square brackets")]
    NoTime,
    /// The time is not one.
    #[error("the time is not of the form 17/May/2015:10:05:03 +0000")]
    BadTime,
    /// There is no quoted request, or its closing quote is missing.
    #[error("no quoted request")]
    NoRequest,
    /// The request holds no target: the client sent none, or what came over the wire was not HTTP.
    #[error("the request has no target")]
    NoTarget,
    /// Status and size are not numbers (or `-`).
    #[error("no status and size after the request")]
    NoStatus,
    /// The quoted referrer is missing or not closed.
    #[error("no quoted referrer after the size")]
    NoReferrer,
    /// The quoted user agent is missing or not closed.
    #[error("no quoted user agent after the referrer")]
    NoUserAgent,
}

/// Lines of access logs.
#[derive(Debug)]
pub struct AccessLog;

impl LineFormat for AccessLog {
    fn read<'a>(&mut self, line: &'a [u8]) -> Result<Hit<'a>, Miss> {
        match prefix::without(line) {
            Cow::Borrowed(line) => Ok(parse(line)?),
            Cow::Owned(line) => Ok(parse(&line).map(Hit::into_owned)?),
        }
    }
}

/// Reads one line, without its line ending.
///
/// # Errors
/// The first part of the line that is not as the formats have it.
pub fn parse(line: &[u8]) -> Result<Hit<'_>, LogLineProblem> {
    use LogLineProblem as P;
    let bracket = memchr::memmem::find(line, b" [").unwrap_or(line.len());
    let (client, site) = client(&line[..bracket]).ok_or(P::NoHost)?;
    let rest = line.get(bracket + 2..).ok_or(P::NoTime)?;
    let (when, rest) = until(rest, b']').ok_or(P::NoTime)?;
    let micros = time::clf(when).ok_or(P::BadTime)?;
    let (request, rest) =
        quoted(rest.strip_prefix(b" ").ok_or(P::NoRequest)?).ok_or(P::NoRequest)?;
    let target = target(request).ok_or(P::NoTarget)?;
    let rest = status_and_size(rest).ok_or(P::NoStatus)?;
    let (referrer, user_agent, forwarded) = match rest.strip_prefix(b" ") {
        None => (None, None, None),
        Some(rest) => {
            let (referrer, rest) = quoted(rest).ok_or(P::NoReferrer)?;
            let rest = rest.strip_prefix(b" ").ok_or(P::NoUserAgent)?;
            let (user_agent, rest) = quoted(rest).ok_or(P::NoUserAgent)?;
            // servers append fields of their own (forwarded-for, durations); glued on, it is a
            // broken line
            if !(rest.is_empty() || rest.starts_with(b" ")) {
                return Err(P::NoUserAgent);
            }
            (present(referrer), present(user_agent), forwarded(rest))
        }
    };
    Ok(Hit {
        time: Time::Micros(micros),
        url: Value::Text(readable(target)),
        site,
        id: None,
        user: None,
        referrer,
        client: forwarded.or(Some(client)),
        session: None,
        user_agent,
        apart: Vec::new(),
    })
}

/// The client, and the site where one stands in front of it, of what is before the time: `[VHOST]
/// CLIENT IDENT USER`.
fn client(head: &[u8]) -> Option<(Cow<'_, str>, Site<'_>)> {
    let (first, rest) = list(head)?;
    let (second, third) = list(rest)?;
    // ident is `-` nearly everywhere, and never an address
    let vhost = second != b"-"
        && !third.is_empty()
        && (is_address(second) || list(third).is_some_and(|(ident, _)| ident == b"-"));
    let (site, client, ident, user) = if vhost {
        let (ident, user) = list(third)?;
        (Some(first), second, ident, user)
    } else {
        (None, first, second, third)
    };
    // a name proves less than an address: behind a prefix that is not known, what follows it would
    // pass for a user with spaces
    let named = || is_client(client) && (ident == b"-" || memchr::memchr(b' ', user).is_none());
    if !(is_address(client) || named()) {
        return None;
    }
    let site = site.filter(|site| *site != b"-");
    if site.is_some_and(|site| !is_host(site) && !is_address(site)) {
        return None;
    }
    // the user may hold spaces, and a client that sends an empty name leaves nothing or quotes
    if user.is_empty() && !head.ends_with(b" ") {
        return None;
    }
    let host = site.map(readable);
    Some((
        readable(client),
        Site {
            host,
            ..Site::default()
        },
    ))
}

/// Splits off a word, or a list whose commas have spaces behind them, and the space that follows;
/// quotes around it are taken away.
fn list(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.starts_with(b"\"") {
        let (inner, rest) = quoted(text)?;
        return Some((inner, rest.strip_prefix(b" ").unwrap_or(rest)));
    }
    let mut end = 0;
    loop {
        let at = memchr::memchr(b' ', &text[end..]).map_or(text.len(), |at| end + at);
        if at == 0 {
            return None;
        }
        if at == text.len() || text[at - 1] != b',' {
            return Some((&text[..at], text.get(at + 1..).unwrap_or_default()));
        }
        end = at + 1;
    }
}

fn is_address(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| address::first(text).is_some())
}

/// The last field of nginx's `main`, the client's `X-Forwarded-For`: quoted, and nothing but
/// addresses.
fn forwarded(rest: &[u8]) -> Option<Cow<'_, str>> {
    let (list, rest) = quoted(rest.strip_prefix(b" ")?)?;
    let addresses = rest.is_empty() && list.split(|byte| *byte == b',').all(is_address);
    addresses.then(|| readable(list))
}

/// Whether this may stand for a client that has no address: nothing, or host names.
fn is_client(text: &[u8]) -> bool {
    matches!(text, b"" | b"-")
        || text
            .split(|byte| *byte == b',')
            .all(|one| is_host(one.trim_ascii()))
}

/// `www.example` or `www.example:443`; a date is none, and a number neither.
fn is_host(text: &[u8]) -> bool {
    let colon = memchr::memchr(b':', text).unwrap_or(text.len());
    let (name, port) = text.split_at(colon);
    let port = match port {
        [] => true,
        [_, digits @ ..] => {
            (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
        }
    };
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    // a server without a name is called `_`
    let word = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    let date = name.len() >= 10
        && name[..10].iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    port && !name.starts_with(b"-") && name.iter().all(plain) && name.iter().any(word) && !date
}

fn until(text: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(end, text)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Splits off a quoted string; a backslash takes the meaning from the byte behind it.
pub(super) fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', &text[from..])?;
        if text[at] == b'"' {
            return Some((&text[..at], &text[at + 1..]));
        }
        from = (at + 2).min(text.len());
    }
}

/// The target of `METHOD TARGET PROTOCOL`; targets with a raw space and HTTP/0.9 without a protocol
/// occur.
pub(super) fn target(request: &[u8]) -> Option<&[u8]> {
    let (method, rest) = until(request, b' ').filter(|(method, _)| !method.is_empty())?;
    if !method
        .iter()
        .all(|byte| byte.is_ascii_alphabetic() || b"-_".contains(byte))
    {
        return None;
    }
    let end = memchr::memmem::rfind(rest, b" HTTP/").unwrap_or(rest.len());
    Some(&rest[..end]).filter(|target| !target.is_empty())
}

fn status_and_size(rest: &[u8]) -> Option<&[u8]> {
    let (status, rest) = until(rest.strip_prefix(b" ")?, b' ')?;
    let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    let (size, rest) = rest.split_at(end);
    let number =
        |text: &[u8]| !text.is_empty() && (text == b"-" || text.iter().all(u8::is_ascii_digit));
    (number(status) && number(size)).then_some(rest)
}

/// The value of a field in which `-` and nothing mean that there is none.
fn present(field: &[u8]) -> Option<Value<'_>> {
    (!field.is_empty() && field != b"-").then(|| Value::Text(readable(field)))
}

#[cfg(test)]
mod tests;
