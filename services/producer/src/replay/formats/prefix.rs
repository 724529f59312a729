//! What tools put in front of a server's lines: `kubectl logs`, container runtimes, syslog, grep.

use std::borrow::Cow;

use chrono::DateTime;
use serde::Deserialize;

use crate::replay::address;

/// Prefixes one behind the other, such as those of `kubectl logs --prefix --timestamps`.
const MOST: usize = 3;

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// The line as its server wrote it. A line that begins with an address or an object has no prefix,
/// and one whose prefix is not known stays as it is.
#[must_use]
pub fn without(line: &[u8]) -> Cow<'_, [u8]> {
    if let Some(inner) = docker(line) {
        return Cow::Owned(inner);
    }
    let mut rest = line;
    for _ in 0..MOST {
        if begins(rest) {
            break;
        }
        let Some(behind) = one(rest) else { break };
        rest = behind;
    }
    Cow::Borrowed(rest)
}

/// Whether a server's own line begins here: with an address, or as a JSON object.
fn begins(line: &[u8]) -> bool {
    let first = word(line).map_or(line, |(first, _)| first);
    line.starts_with(b"{") || is_address(first)
}

fn is_address(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| address::first(text).is_some())
}

/// Takes one prefix off.
fn one(line: &[u8]) -> Option<&[u8]> {
    syslog(line)
        .or_else(|| timestamp(line))
        .or_else(|| pod(line))
        .or_else(|| compose(line))
        .or_else(|| file(line))
}

/// Splits off a word that is not empty, and the space behind it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b' ', text).filter(|at| *at > 0)?;
    Some((&text[..at], &text[at + 1..]))
}

/// An entry of Docker's json-file driver: `{"log":"…\n","stream":"stdout","time":"…"}`.
fn docker(line: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Entry {
        log: String,
        stream: String,
    }
    if !line.starts_with(b"{\"log\":") {
        return None;
    }
    let entry: Entry = serde_json::from_slice(line).ok()?;
    matches!(entry.stream.as_str(), "stdout" | "stderr")
        .then(|| entry.log.trim_end_matches(['\r', '\n']).into())
}

/// `<190>Nov 20 12:00:01 web1 nginx: ` (RFC 3164), with the priority or without, the time also as
/// RFC 3339 has it and the host left out; `<190>1 2026-11-20T12:00:01Z web1 nginx 12 - - `
/// (RFC 5424).
fn syslog(line: &[u8]) -> Option<&[u8]> {
    let behind = priority(line);
    if let Some(rest) = behind.and_then(|rest| rest.strip_prefix(b"1 ")) {
        return structured(rest);
    }
    let line = behind.unwrap_or(line);
    let rest = local_time(line).or_else(|| instant(line))?;
    let (host, behind_host) = word(rest)?;
    if is_tag(host) {
        return Some(behind_host);
    }
    let (tag, rest) = word(behind_host)?;
    is_tag(tag).then_some(rest)
}

fn is_tag(word: &[u8]) -> bool {
    word.len() > 1 && word.ends_with(b":")
}

/// What is behind `<190>`.
fn priority(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"<")?;
    let end = memchr::memchr(b'>', rest)?;
    let number = (1..=3).contains(&end) && rest[..end].iter().all(u8::is_ascii_digit);
    number.then(|| &rest[end + 1..])
}

/// What is behind `Nov 20 12:00:01 `.
fn local_time(line: &[u8]) -> Option<&[u8]> {
    let (time, rest) = line.split_at_checked(16)?;
    let shape = time
        .iter()
        .zip(b"Mmm dd 00:00:00 ")
        .all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            b'd' => byte.is_ascii_digit() || *byte == b' ',
            b' ' | b':' => byte == shape,
            _ => true,
        });
    (shape && MONTHS.contains(&&time[..3])).then_some(rest)
}

/// What is behind `2026-11-20T12:00:01.123456789Z `.
fn instant(line: &[u8]) -> Option<&[u8]> {
    let (time, rest) = word(line)?;
    let shape = time.get(4) == Some(&b'-') && time.get(10) == Some(&b'T');
    let text = std::str::from_utf8(time).ok().filter(|_| shape)?;
    DateTime::parse_from_rfc3339(text).is_ok().then_some(rest)
}

/// What is behind time, host, application, process, message id and structured data.
fn structured(mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..5 {
        (_, rest) = word(rest)?;
    }
    if let Some(behind) = rest.strip_prefix(b"-") {
        rest = behind;
    } else {
        while rest.starts_with(b"[") {
            let (mut quoted, mut escaped) = (false, false);
            let end = rest.iter().position(|byte| {
                let end = *byte == b']' && !quoted;
                quoted ^= *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                end
            })?;
            rest = &rest[end + 1..];
        }
    }
    let rest = rest.strip_prefix(b" ")?;
    Some(rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest))
}

/// `kubectl logs --timestamps`, and the container runtime interface: `TIME stdout F `. `P` stands
/// before a part of a line.
fn timestamp(line: &[u8]) -> Option<&[u8]> {
    let rest = instant(line)?;
    let streams: [&[u8]; 2] = [b"stdout ", b"stderr "];
    match streams.iter().find_map(|stream| rest.strip_prefix(*stream)) {
        Some(behind) => behind.strip_prefix(b"F "),
        None => Some(rest),
    }
}

/// `kubectl logs --prefix`: `[pod/web-1/nginx] `.
fn pod(line: &[u8]) -> Option<&[u8]> {
    let (name, rest) = word(line)?;
    (name.starts_with(b"[pod/") && name.ends_with(b"]")).then_some(rest)
}

/// `docker compose logs`: `web-1  | `.
fn compose(line: &[u8]) -> Option<&[u8]> {
    let (name, rest) = word(line)?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let rest = rest.trim_ascii_start().strip_prefix(b"| ")?;
    name.iter().all(plain).then_some(rest)
}

/// `grep`: `access.log:`, if what is behind it is a server's line.
fn file(line: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr2(b' ', b'"', line).unwrap_or(line.len());
    memchr::memchr_iter(b':', &line[..end])
        .filter(|at| *at > 0)
        .map(|at| &line[at + 1..])
        .find(|rest| begins(rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::without;

    const LINE: &str = r#"192.0.2.1 - - [20/Nov/2026:10:00:01 +0000] "GET /a HTTP/1.1" 200 5"#;

    #[test]
    fn known_prefixes_are_taken_off() {
        for prefix in [
            "",
            "2026-11-20T10:00:01.123456789Z ",
            "2026-11-20T10:00:01.123456789+01:00 stdout F ",
            "[pod/web-1/nginx] ",
            "[pod/web-1/nginx] 2026-11-20T10:00:01.123456789Z ",
            "Nov 20 12:00:01 web1 nginx: ",
            "Nov  5 12:00:01 nginx[12]: ",
            "<190>Nov 20 12:00:01 web1 nginx: ",
            "2026-11-20T12:00:01.5+01:00 web1 nginx[12]: ",
            "<190>1 2026-11-20T12:00:01Z web1 nginx 12 - - ",
            "<190>1 2026-11-20T12:00:01Z web1 nginx 12 - [a@1 b=\"]\\\"\"][c] \u{feff}",
            "web-1  | ",
            "web_1 | 2026-11-20T10:00:01.123456789Z ",
            "access.log:",
            "/var/log/access.log:12:",
        ] {
            for line in [LINE, r#"{"url":"/a"}"#] {
                let bare = format!("{prefix}{line}");
                assert_eq!(without(bare.as_bytes()), line.as_bytes(), "{prefix}");
            }
        }
        let docker =
            serde_json::json!({"log": format!("{LINE}\n"), "stream": "stdout", "time": "x"});
        let docker = docker.to_string();
        assert_eq!(without(docker.as_bytes()), LINE.as_bytes());
        assert_eq!(
            without(b"a.log:2001:db8::1 - -"),
            b"2001:db8::1 - -".as_slice()
        );
    }

    #[test]
    fn what_is_no_prefix_stays() {
        for line in [
            "2001:db8::1 - - [",
            "shop.example:443 192.0.2.1 - - [",
            "web-1 192.0.2.1 - - [",
            "\"192.0.2.3:51234, 10.0.0.7\" - - [",
            "2026-11-20T10:00:01.123456789Z stdout P 192.0.2.1 - - [",
            "[2026-11-20T10:00:01.250Z] \"GET /cart HTTP/2\" 200",
            "{\"log\":\"x\",\"url\":\"/\"}",
            "<190>1 ",
            "",
        ] {
            assert_eq!(without(line.as_bytes()), line.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line: Vec<u8>, text in "(<1>1 |Nov 20 12:00:01 |a:)?[\\[\\]<>:|\"\\\\ a1{-]{0,60}") {
            let _ = without(&line);
            let _ = without(text.as_bytes());
        }
    }
}
