//! What a line of any format comes to, before it is an event: one struct, and one list of reasons
//! why there is none.

use std::borrow::Cow;

use super::formats::access_log::LogLineProblem;

/// A value as a line has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Text, with the format's own escapes undone.
    Text(Cow<'a, str>),
    /// A complete JSON token, which goes into the event as it stands.
    Token(Cow<'a, str>),
}

impl<'a> Value<'a> {
    /// The value as text: of a JSON string what it stands for, of any other token the token itself.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Token(token) => token_text(token),
        }
    }

    /// The same for good.
    #[must_use]
    pub fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text,
            Self::Token(Cow::Borrowed(token)) => token_text(token),
            Self::Token(Cow::Owned(token)) => Cow::Owned(token_text(&token).into_owned()),
        }
    }

    /// Whether this says that there is nothing: empty, or a dash alone.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.text().as_ref(), "" | "-")
    }

    fn into_owned(self) -> Value<'static> {
        match self {
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Self::Token(token) => Value::Token(Cow::Owned(token.into_owned())),
        }
    }
}

/// The text of a JSON string; of any other value, and of a string that is no Unicode text, the
/// token itself.
fn token_text(token: &str) -> Cow<'_, str> {
    let inner = token
        .strip_prefix('"')
        .and_then(|token| token.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        Some(_) => serde_json::from_str(token).map_or(Cow::Borrowed(token), Cow::Owned),
        None => Cow::Borrowed(token),
    }
}

/// When a hit happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Time<'a> {
    /// Microseconds since the Unix epoch.
    Micros(i64),
    /// A time that is not understood, for the decoder to judge.
    Unread(Value<'a>),
}

/// Where a request went, for URLs that are only a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site<'a> {
    /// Host, with or without a port.
    pub host: Option<Cow<'a, str>>,
    /// `http` or `https`.
    pub scheme: Option<Cow<'a, str>>,
    /// The port, where it is not part of the host.
    pub port: Option<Cow<'a, str>>,
}

impl Site<'_> {
    /// `https://www.example.com`, without the scheme's own port. Without a scheme it is https, but
    /// for ports 80 and 8080.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        let host = self.host.as_deref()?;
        let (name, port) = match host.rsplit_once(':') {
            // an IPv6 address in brackets has colons of its own
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
            _ => (host, self.port.as_deref().unwrap_or_default()),
        };
        let scheme = match self.scheme.as_deref() {
            Some(scheme) => scheme.to_ascii_lowercase(),
            None if matches!(port, "80" | "8080") => "http".to_owned(),
            None => "https".to_owned(),
        };
        let own = match scheme.as_str() {
            "http" => "80",
            _ => "443",
        };
        let name = name.to_ascii_lowercase();
        Some(if port.is_empty() || port == own {
            format!("{scheme}://{name}")
        } else {
            format!("{scheme}://{name}:{port}")
        })
    }
}

/// One visit to a page, as a line tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit<'a> {
    /// When.
    pub time: Time<'a>,
    /// The page: a URL, or a request's target beginning with `/`.
    pub url: Value<'a>,
    /// What comes in front of a target.
    pub site: Site<'a>,
    /// What the line itself is called, where it has a name.
    pub id: Option<Value<'a>>,
    /// Who, where the line says so.
    pub user: Option<Value<'a>>,
    /// The page that led here.
    pub referrer: Option<Value<'a>>,
    /// The client's address, or its name where the server looks names up.
    pub client: Option<Cow<'a, str>>,
    /// The visit, where the line says so.
    pub session: Option<Value<'a>>,
    /// The client's description of itself.
    pub user_agent: Option<Value<'a>>,
    /// What else tells clients apart, in the order of `--map client=`.
    pub apart: Vec<Option<Cow<'a, str>>>,
}

impl Hit<'_> {
    /// Microseconds since the Unix epoch, where the time is understood.
    #[must_use]
    pub fn micros(&self) -> Option<i64> {
        match self.time {
            Time::Micros(micros) => Some(micros),
            Time::Unread(_) => None,
        }
    }

    /// The same hit without its line.
    #[must_use]
    pub fn into_owned(self) -> Hit<'static> {
        let text = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Hit {
            time: match self.time {
                Time::Micros(micros) => Time::Micros(micros),
                Time::Unread(value) => Time::Unread(value.into_owned()),
            },
            url: self.url.into_owned(),
            site: Site {
                host: text(self.site.host),
                scheme: text(self.site.scheme),
                port: text(self.site.port),
            },
            id: self.id.map(Value::into_owned),
            user: self.user.map(Value::into_owned),
            referrer: self.referrer.map(Value::into_owned),
            client: text(self.client),
            session: self.session.map(Value::into_owned),
            user_agent: self.user_agent.map(Value::into_owned),
            apart: self.apart.into_iter().map(text).collect(),
        }
    }
}

/// Why a line is no hit; never its text, which may hold personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Miss {
    /// The line is broken.
    #[error(transparent)]
    Unparsable(#[from] Unparsable),
    /// The line is in order and no click.
    #[error(transparent)]
    Skipped(#[from] Skipped),
}

impl Miss {
    /// Whether the line was understood all the same: there is nothing in it to count.
    #[must_use]
    pub fn is_understood(self) -> bool {
        matches!(
            self,
            Self::Skipped(Skipped::Blank | Skipped::Directive | Skipped::NoRequest)
        )
    }
}

/// Why a line is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unparsable {
    /// Not a line of an access log.
    #[error(transparent)]
    Log(#[from] LogLineProblem),
    /// Not one JSON value, for example because it was cut off.
    #[error("not valid JSON")]
    InvalidJson,
    /// A number, a text or a list where an object is expected.
    #[error("not a JSON object")]
    NotAnObject,
    /// Not as the format has its lines.
    #[error("not of the form that the format has")]
    OtherForm,
    /// Fewer or more columns than the header names.
    #[error("not as many columns as the header names")]
    Columns,
    /// A line of data before any `#Fields:` line or header.
    #[error("no line before it names the fields")]
    NoHeader,
    /// Longer than [`super::input::MAX_LINE_BYTES`].
    #[error("longer than 1 MiB")]
    TooLong,
}

/// Why a line in order is no click.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Skipped {
    /// Nothing but white space.
    #[error("blank")]
    Blank,
    /// A header, a comment or a directive.
    #[error("a header or a comment")]
    Directive,
    /// A connection without a request: it timed out, or what came was no HTTP.
    #[error("no request: the connection timed out, or it was no HTTP")]
    NoRequest,
    /// Without a URL: a heartbeat, for example.
    #[error("no url")]
    NoUrl,
    /// Without a time.
    #[error("no event_ts")]
    NoTime,
}

impl From<LogLineProblem> for Miss {
    fn from(problem: LogLineProblem) -> Self {
        match problem {
            LogLineProblem::NoTarget => Skipped::NoRequest.into(),
            problem => Unparsable::Log(problem).into(),
        }
    }
}
