//! The closed list of formats, and their names on the command line.

use std::fmt;
use std::str::FromStr;

use super::fields::FieldMap;
use super::formats::columns::Columns;
use super::formats::pattern::{InvalidPattern, Pattern, PatternLines};
use super::formats::{LineFormat, access_log, delimited, json, ltsv, w3c};

/// What the lines of an input look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Access log, common or combined, with what people put in front of it.
    AccessLog,
    /// JSON objects, one a line or laid out otherwise.
    Json,
    /// The W3C's extended log format.
    W3c,
    /// Application Load Balancer.
    Alb,
    /// Classic Load Balancer.
    Elb,
    /// S3 server access log.
    S3,
    /// Envoy's default text.
    Envoy,
    /// Labelled tab-separated values.
    Ltsv,
    /// Comma- or semicolon-separated values with a header.
    Csv,
    /// Tab-separated values with a header.
    Tsv,
    /// An access log in a form of its own.
    Pattern(Pattern),
}

/// Every format that has a name; the first name is the one that is shown.
const NAMED: [(Format, &[&str]); 10] = [
    (
        Format::AccessLog,
        &[
            "combined",
            "common",
            "vhost",
            "access-log",
            "nginx",
            "apache",
        ],
    ),
    (
        Format::Json,
        &["json", "caddy", "traefik", "envoy", "cloudflare", "gcp"],
    ),
    (Format::W3c, &["w3c", "iis", "cloudfront"]),
    (Format::Alb, &["alb"]),
    (Format::Elb, &["elb"]),
    (Format::S3, &["s3"]),
    (Format::Envoy, &["envoy-text"]),
    (Format::Ltsv, &["ltsv"]),
    (Format::Csv, &["csv"]),
    (Format::Tsv, &["tsv"]),
];

/// A format that is not in the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFormat {
    /// Neither a name nor a form.
    #[error(
        "expected one of {} (or {}), or a LogFormat or log_format of your server",
        names(),
        aliases()
    )]
    Unknown,
    /// A form of lines that cannot be read.
    #[error("the form of lines {0}")]
    Pattern(#[from] InvalidPattern),
}

impl Format {
    /// Formats whose lines are told by what is in them.
    pub const TOLD_BY_LINES: [Self; 8] = [
        Self::AccessLog,
        Self::Alb,
        Self::Elb,
        Self::S3,
        Self::Envoy,
        Self::Ltsv,
        Self::Tsv,
        Self::Csv,
    ];

    /// A reader that has seen nothing yet.
    #[must_use]
    pub fn reader(&self, map: &FieldMap) -> Box<dyn LineFormat> {
        match self {
            Self::AccessLog => Box::new(access_log::AccessLog),
            Self::Json => Box::new(json::Json::new(map)),
            Self::W3c => Box::new(w3c::W3c::new(map)),
            Self::Alb => Box::new(Columns::alb()),
            Self::Elb => Box::new(Columns::elb()),
            Self::S3 => Box::new(Columns::s3()),
            Self::Envoy => Box::new(Columns::envoy()),
            Self::Ltsv => Box::new(ltsv::Ltsv::new(map)),
            Self::Csv => Box::new(delimited::Delimited::csv(map)),
            Self::Tsv => Box::new(delimited::Delimited::tsv(map)),
            Self::Pattern(pattern) => Box::new(PatternLines::new(pattern)),
        }
    }
}

/// The names that are shown, joined with commas.
#[must_use]
pub fn names() -> String {
    let names: Vec<&str> = NAMED.iter().map(|(_, names)| names[0]).collect();
    names.join(", ")
}

/// The other names, likewise.
fn aliases() -> String {
    let others: Vec<&str> = NAMED
        .iter()
        .flat_map(|(_, names)| names.iter().skip(1).copied())
        .collect();
    others.join(", ")
}

impl FromStr for Format {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(['%', '$']) {
            return Ok(Self::Pattern(text.parse()?));
        }
        NAMED
            .iter()
            .find(|(_, names)| names.contains(&text))
            .map(|(format, _)| format.clone())
            .ok_or(InvalidFormat::Unknown)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMED.iter().find(|(format, _)| format == self);
        f.write_str(name.map_or("a form of your own", |(_, names)| names[0]))
    }
}
