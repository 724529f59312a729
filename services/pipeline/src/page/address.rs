//! The parts of a URL, as they stand in it.

use std::borrow::Cow;

/// Longest host that is taken for one, in bytes: names in the DNS have at most 253.
const MAX_HOST_BYTES: usize = 255;

/// A URL with a host, or a path from the root of one that is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address<'a> {
    pub(super) authority: Option<Authority<'a>>,
    /// Empty, or from its first `/` on.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) fragment: Option<&'a str>,
}

/// What stands before the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    /// Empty in `//host/path`.
    scheme: &'a str,
    /// Whether user or password stand before the host.
    has_user: bool,
    host: &'a str,
    /// Behind the host's colon; perhaps empty.
    port: Option<&'a str>,
}

impl<'a> Address<'a> {
    /// The parts; `None` if it is neither kind of URL, or its host or port is none.
    pub(super) fn parse(url: &'a str) -> Option<Self> {
        let (authority, rest) = if let Some(rest) = url.strip_prefix("//") {
            let (authority, rest) = Authority::parse("", rest)?;
            (Some(authority), rest)
        } else if url.starts_with('/') {
            (None, url)
        } else {
            let (scheme, rest) = url.split_once("://")?;
            if !is_scheme(scheme) {
                return None;
            }
            let (authority, rest) = Authority::parse(scheme, rest)?;
            (Some(authority), rest)
        };
        let (rest, fragment) = split(rest, '#');
        let (path, query) = split(rest, '?');
        Some(Self {
            authority,
            path,
            query,
            fragment,
        })
    }

    /// Where the path begins.
    pub(super) fn path_start(&self, url: &str) -> usize {
        let behind = |part: Option<&str>| part.map_or(0, |part| part.len() + 1);
        url.len() - behind(self.fragment) - behind(self.query) - self.path.len()
    }

    /// Whether [`Self::write_up_to_path`] writes what stands in the URL.
    pub(super) fn is_plain_up_to_path(&self) -> bool {
        self.authority.is_none_or(|authority| {
            let is_lower = |text: &str| !text.bytes().any(|byte| byte.is_ascii_uppercase());
            !authority.has_user
                && is_lower(authority.scheme)
                && is_lower(authority.host)
                && authority.port.is_none_or(|_| authority.needs_port())
        })
    }

    /// Writes scheme, host and port: in lower case, without a user, and the port only where it is
    /// not the scheme's own.
    pub(super) fn write_up_to_path(&self, out: &mut String) {
        let Some(authority) = self.authority else {
            return;
        };
        let from = out.len();
        if !authority.scheme.is_empty() {
            out.push_str(authority.scheme);
            out.push(':');
        }
        out.push_str("//");
        out.push_str(authority.host);
        out[from..].make_ascii_lowercase();
        if let Some(port) = authority.port
            && authority.needs_port()
        {
            out.push(':');
            out.push_str(port);
        }
    }
}

impl<'a> Authority<'a> {
    /// Reads it up to the path, and returns what follows.
    fn parse(scheme: &'a str, text: &'a str) -> Option<(Self, &'a str)> {
        let end = text.find(['/', '?', '#', '\\']).unwrap_or(text.len());
        let (authority, rest) = text.split_at(end);
        if rest.starts_with('\\') {
            // a slash to browsers and nothing to others
            return None;
        }
        let (user, host_port) = match authority.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, authority),
        };
        let (host, port) = if host_port.starts_with('[') {
            let (host, behind) = host_port.split_at(host_port.find(']')? + 1);
            match behind.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if behind.is_empty() => (host, None),
                None => return None,
            }
        } else {
            split(host_port, ':')
        };
        let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let is_host = !host.is_empty() && host.len() <= MAX_HOST_BYTES;
        if !is_host || !port.is_none_or(is_port) {
            return None;
        }
        let authority = Self {
            scheme,
            has_user: user.is_some(),
            host,
            port,
        };
        Some((authority, rest))
    }

    fn needs_port(&self) -> bool {
        let is = |scheme: &str| self.scheme.eq_ignore_ascii_case(scheme);
        match self.port {
            None | Some("") => false,
            Some("80") => !is("http") && !is("ws"),
            Some("443") => !is("https") && !is("wss"),
            Some(_) => true,
        }
    }
}

/// The host of a URL that has one, its ASCII letters in lower case. It is no proof of a name in the
/// DNS: `example` and `a b` are hosts too.
pub(crate) fn host(url: &str) -> Option<Cow<'_, str>> {
    let host = Address::parse(url)?.authority?.host;
    Some(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}
