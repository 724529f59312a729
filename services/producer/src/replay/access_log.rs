//! Parses one line of a web server's access log: the common and the combined format of Apache and nginx.
//!
//! ```text
//! HOST IDENT USER [17/May/2015:10:05:03 +0000] "GET /path HTTP/1.1" 200 203023 "REFERRER" "USER AGENT" anything
//! ```

use std::borrow::Cow;

use chrono::{DateTime, FixedOffset};

/// What a request in a log tells about a click.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The client's address, or its name where the server looks names up.
    pub host: Cow<'a, str>,
    /// When the server received the request.
    pub time: DateTime<FixedOffset>,
    /// The request target as the client sent it.
    pub target: Cow<'a, str>,
    /// The page that led here; `-` and the common format have none.
    pub referrer: Option<Cow<'a, str>>,
    /// The client's description; `-` and the common format have none.
    pub user_agent: Option<Cow<'a, str>>,
}

/// Why a line is no request. The text of the line is never part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogLineProblem {
    /// The line does not begin with host, ident and user.
    #[error("no host, ident and user at the beginning")]
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
    /// The request holds no target: what came over the wire was not HTTP.
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

/// Reads one line, without its line ending.
///
/// # Errors
/// The first part of the line that is not as the formats have it.
pub fn parse(line: &[u8]) -> Result<Request<'_>, LogLineProblem> {
    use LogLineProblem as P;
    let (host, rest) = word(line).ok_or(P::NoHost)?;
    let (_ident, rest) = word(rest).ok_or(P::NoHost)?;
    // a user name may hold spaces: everything up to the bracket belongs to it
    let bracket = memchr::memmem::find(rest, b" [").ok_or(P::NoTime)?;
    let (time, rest) = until(&rest[bracket + 2..], b']').ok_or(P::NoTime)?;
    let time = parse_time(time).ok_or(P::BadTime)?;
    let (request, rest) =
        quoted(rest.strip_prefix(b" ").ok_or(P::NoRequest)?).ok_or(P::NoRequest)?;
    let target = target(request).ok_or(P::NoTarget)?;
    let rest = status_and_size(rest).ok_or(P::NoStatus)?;
    let (referrer, user_agent) = match rest.strip_prefix(b" ") {
        None => (None, None),
        Some(rest) => {
            let (referrer, rest) = quoted(rest).ok_or(P::NoReferrer)?;
            let rest = rest.strip_prefix(b" ").ok_or(P::NoUserAgent)?;
            let (user_agent, rest) = quoted(rest).ok_or(P::NoUserAgent)?;
            // servers append fields of their own (forwarded-for, durations); glued on, it is a broken line
            if !(rest.is_empty() || rest.starts_with(b" ")) {
                return Err(P::NoUserAgent);
            }
            (present(referrer), present(user_agent))
        }
    };
    Ok(Request {
        host: readable(host),
        time,
        target: readable(target),
        referrer,
        user_agent,
    })
}

/// Splits off a word and the space behind it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    until(text, b' ').filter(|(word, _)| !word.is_empty())
}

fn until(text: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(end, text)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Splits off a quoted string; a backslash takes the meaning from the byte behind it.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
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

fn parse_time(text: &[u8]) -> Option<DateTime<FixedOffset>> {
    let text = std::str::from_utf8(text).ok()?;
    DateTime::parse_from_str(text, "%d/%b/%Y:%H:%M:%S %z").ok()
}

/// The target of `METHOD TARGET PROTOCOL`; targets with a raw space and HTTP/0.9 without a protocol occur.
fn target(request: &[u8]) -> Option<&[u8]> {
    let (method, rest) = word(request)?;
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
    let (status, rest) = word(rest.strip_prefix(b" ")?)?;
    let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    let (size, rest) = rest.split_at(end);
    let number =
        |text: &[u8]| !text.is_empty() && (text == b"-" || text.iter().all(u8::is_ascii_digit));
    (number(status) && number(size)).then_some(rest)
}

/// The value of a field in which `-` and nothing mean that there is none.
fn present(field: &[u8]) -> Option<Cow<'_, str>> {
    (!field.is_empty() && field != b"-").then(|| readable(field))
}

/// The text that the server escaped when it wrote the log. Where the bytes behind the escapes are not text
/// (not UTF-8, or U+0000, which no event may hold), the field stays as it stands in the log; bytes that are
/// not UTF-8 and were not escaped are shown as the server should have.
fn readable(field: &[u8]) -> Cow<'_, str> {
    let escaped = memchr::memchr(b'\\', field).is_some();
    match std::str::from_utf8(field) {
        Ok(text) if !escaped => Cow::Borrowed(text),
        Ok(text) => unescape(field).map_or(Cow::Borrowed(text), Cow::Owned),
        Err(_) => Cow::Owned(show_bytes(field)),
    }
}

fn unescape(field: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&escape, tail) = rest.split_first()?;
        rest = tail;
        bytes.push(match escape {
            b'"' | b'\\' => escape,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'f' => 0x0c,
            b'v' => 0x0b,
            b'x' => {
                let (digits, tail) = rest.split_first_chunk::<2>()?;
                rest = tail;
                let digits = std::str::from_utf8(digits)
                    .ok()
                    .filter(|text| !text.starts_with('+'))?;
                u8::from_str_radix(digits, 16).ok()?
            }
            _ => return None,
        });
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

fn show_bytes(field: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(field.len() + 16);
    for chunk in field.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    text
}

#[cfg(test)]
mod tests;
