//! Columns by place, with quotes and brackets: logs of Amazon's load balancers and of S3, Envoy's
//! own text.

use std::borrow::Cow;

use super::LineFormat;
use super::access_log::quoted;
use super::escapes::readable;
use super::found::Found;
use super::names::{Names, Role};
use crate::replay::fields::FieldMap;
use crate::replay::hit::{Hit, Miss, Skipped, Unparsable, Value};
use crate::replay::{address, time};

/// What stands where in a line.
#[derive(Debug)]
pub struct Columns {
    names: Names,
    /// The column's place from 0, and what it is for.
    places: &'static [(usize, Role)],
}

impl Columns {
    /// An Application Load Balancer's access log.
    #[must_use]
    pub fn alb() -> Self {
        Self::of(&[
            (1, Role::Time),
            (3, Role::Client),
            (12, Role::Request),
            (13, Role::UserAgent),
        ])
    }

    /// A Classic Load Balancer's access log.
    #[must_use]
    pub fn elb() -> Self {
        Self::of(&[
            (0, Role::Time),
            (2, Role::Client),
            (11, Role::Request),
            (12, Role::UserAgent),
        ])
    }

    /// What Envoy writes unless its configuration says otherwise, and Istio with it.
    #[must_use]
    pub fn envoy() -> Self {
        Self::of(&[
            (0, Role::Time),
            (1, Role::Request),
            (8, Role::Client),
            (9, Role::UserAgent),
            (11, Role::Host),
        ])
    }

    /// S3's server access log.
    #[must_use]
    pub fn s3() -> Self {
        Self::of(&[
            (2, Role::Time),
            (3, Role::Client),
            (8, Role::Request),
            (15, Role::Referrer),
            (16, Role::UserAgent),
            (22, Role::Host),
        ])
    }

    fn of(places: &'static [(usize, Role)]) -> Self {
        Self {
            names: Names::new(&FieldMap::default(), &[]),
            places,
        }
    }
}

impl LineFormat for Columns {
    fn read<'a>(&mut self, line: &'a [u8]) -> Result<Hit<'a>, Miss> {
        let mut found = Found::new(&self.names);
        let mut places = self.places.iter().peekable();
        let mut rest = line;
        let mut place = 0;
        while !rest.is_empty() {
            let (value, behind) = column(rest).ok_or(Unparsable::OtherForm)?;
            rest = behind;
            if let Some((_, role)) = places.next_if(|(at, _)| *at == place) {
                let text = readable(value);
                match role {
                    // `-`, and `- http://192.0.2.1:80- -`: the balancer could not read it
                    Role::Request if text.starts_with('-') => {
                        return Err(Skipped::NoRequest.into());
                    }
                    Role::Request => found.add((*role, 0), Value::Text(without_own_port(text))),
                    // these two prove the form
                    Role::Time if !text.contains(':') || time::parse(&text).is_none() => {
                        return Err(Unparsable::OtherForm.into());
                    }
                    Role::Client if address::first(&text).is_none() && text != "-" => {
                        return Err(Unparsable::OtherForm.into());
                    }
                    role => found.add((*role, 0), Value::Text(text)),
                }
            }
            place += 1;
        }
        // older lines lack the last columns
        if places.any(|(_, role)| matches!(role, Role::Time | Role::Client | Role::Request)) {
            return Err(Unparsable::Columns.into());
        }
        found.hit()
    }
}

/// Splits off a column and the space behind it.
fn column(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (value, rest) = match text.first()? {
        b'"' => quoted(text)?,
        b'[' => {
            let end = memchr::memchr(b']', text)?;
            (&text[1..end], &text[end + 1..])
        }
        _ => {
            let end = memchr::memchr(b' ', text).unwrap_or(text.len());
            text.split_at(end)
        }
    };
    match rest {
        [] => Some((value, rest)),
        [b' ', rest @ ..] => Some((value, rest)),
        _ => None,
    }
}

/// `GET https://shop.example:443/a HTTP/1.1` without the port, which balancers always write.
fn without_own_port(request: Cow<'_, str>) -> Cow<'_, str> {
    for (scheme, port) in [("https://", ":443/"), ("http://", ":80/")] {
        if let Some(at) = request.find(scheme)
            && let Some(slash) = request[at + scheme.len()..].find('/')
        {
            let end = at + scheme.len() + slash + 1;
            if let Some(begin) = request[..end].strip_suffix(port) {
                return Cow::Owned(format!("{begin}/{}", &request[end..]));
            }
        }
    }
    request
}
