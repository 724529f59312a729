//! From a line of a server's configuration to the pieces of its log.

use std::iter::Peekable;
use std::str::{CharIndices, FromStr};

use chrono::format::{Item, StrftimeItems};

use super::{Kind, Pattern, Piece};
use crate::replay::fields::FieldMap;
use crate::replay::formats::names::{Names, Role};

/// A form that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Nothing in it says which page was asked for.
    #[error("names no request: %r or %U in a LogFormat, $request or $request_uri in a log_format")]
    NoRequest,
    /// Nothing in it says when.
    #[error(
        "names no time: %t in a LogFormat, $time_local, $time_iso8601 or $msec in a log_format"
    )]
    NoTime,
    /// Two values would run into each other.
    #[error("has nothing between two values, so that no line tells where one ends: `{0}`")]
    Together(String),
    /// Something behind a `%` that is no directive.
    #[error("`{0}` is no directive of a LogFormat")]
    NoDirective(String),
    /// A time whose form is unknown.
    #[error("`{0}` is no form of a time")]
    NoTimeForm(String),
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    /// Takes the form itself, or the whole line of the configuration.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let form = if let Some(rest) = text.strip_prefix("LogFormat") {
            in_quotes(rest, '"')
        } else if let Some(rest) = text.strip_prefix("log_format") {
            let quote = if rest.contains('\'') { '\'' } else { '"' };
            in_quotes(rest, quote)
        } else {
            text.to_owned()
        };
        let form = form.replace("\\\"", "\"").replace("\\t", "\t");
        let apache = form.contains('%');
        let mut pieces = Pieces::default();
        let mut chars = form.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '%' if apache => directive(&form[at..], &mut chars, &mut pieces)?,
                '$' if !apache => variable(&mut chars, &mut pieces),
                c => pieces.literal(c),
            }
        }
        pieces.finish()
    }
}

/// What stands in quotes, joined; the text itself where nothing does.
fn in_quotes(text: &str, quote: char) -> String {
    let mut inside = String::new();
    let mut within = false;
    let mut escaped = false;
    for c in text.chars() {
        if c == quote && !escaped {
            within = !within;
        } else if within {
            inside.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    inside
}

#[derive(Default)]
struct Pieces {
    pieces: Vec<Piece>,
    literal: String,
}

impl Pieces {
    fn literal(&mut self, c: char) {
        self.literal.push(c);
    }

    fn flush(&mut self) {
        if !self.literal.is_empty() {
            let text = std::mem::take(&mut self.literal).into_bytes();
            self.pieces.push(Piece::Literal(text));
        }
    }

    fn value(&mut self, role: Option<(Role, u8)>, kind: Kind) {
        self.flush();
        self.pieces.push(Piece::Value(role, kind));
    }

    fn finish(mut self) -> Result<Pattern, InvalidPattern> {
        self.flush();
        let has = |roles: &[Role]| {
            self.pieces.iter().any(
                |piece| matches!(piece, Piece::Value(Some((role, _)), _) if roles.contains(role)),
            )
        };
        if !has(&[Role::Request, Role::Target, Role::Url]) {
            return Err(InvalidPattern::NoRequest);
        }
        if !has(&[Role::Time, Role::Date]) {
            return Err(InvalidPattern::NoTime);
        }
        for pair in self.pieces.windows(2) {
            let query = matches!(&pair[1], Piece::Value(Some((Role::Query, _)), _));
            if let [Piece::Value(..), Piece::Value(..)] = pair
                && !query
            {
                return Err(InvalidPattern::Together(format!("{:?}", pair[0])));
            }
        }
        Ok(Pattern {
            pieces: self.pieces.into(),
        })
    }
}

type Chars<'a> = Peekable<CharIndices<'a>>;

/// A directive of Apache's, without its `%`: modifiers, an argument in braces, a letter.
fn directive(text: &str, chars: &mut Chars<'_>, pieces: &mut Pieces) -> Result<(), InvalidPattern> {
    let unknown = || InvalidPattern::NoDirective(text.chars().take(12).collect());
    while chars
        .next_if(|(_, c)| c.is_ascii_digit() || "!<>,^".contains(*c))
        .is_some()
    {}
    let mut argument = None;
    if chars.next_if(|(_, c)| *c == '{').is_some() {
        let mut inside = String::new();
        loop {
            match chars.next() {
                Some((_, '}')) => break,
                Some((_, c)) => inside.push(c),
                None => return Err(unknown()),
            }
        }
        argument = Some(inside);
    }
    let (_, letter) = chars.next().ok_or_else(unknown)?;
    let role = match (letter, argument.as_deref()) {
        ('%', None) => {
            pieces.literal('%');
            return Ok(());
        }
        ('t', None) => {
            pieces.literal('[');
            pieces.value(Some((Role::Time, 0)), Kind::Plain);
            pieces.literal(']');
            return Ok(());
        }
        ('t', Some(form)) => {
            let form = form.trim_start_matches("begin:").trim_start_matches("end:");
            let kind = match form {
                "sec" | "msec" | "usec" => Kind::Plain,
                form if StrftimeItems::new(form).any(|item| item == Item::Error) => {
                    return Err(InvalidPattern::NoTimeForm(form.to_owned()));
                }
                form => Kind::Time(form.to_owned()),
            };
            pieces.value(Some((Role::Time, 0)), kind);
            return Ok(());
        }
        ('i', Some(header)) => {
            let header = header.to_ascii_lowercase();
            match header.as_str() {
                "host" => Some((Role::Host, 0)),
                "x-real-ip" | "true-client-ip" | "cf-connecting-ip" => Some((Role::Client, 1)),
                _ => Names::new(&FieldMap::default(), &[]).look_up(&header).role,
            }
        }
        ('r', None) => Some((Role::Request, 0)),
        ('U', None) => Some((Role::Target, 0)),
        ('q', None) => Some((Role::Query, 0)),
        ('h' | 'a', _) => Some((Role::Client, 20)),
        ('v' | 'V', None) => Some((Role::Host, 1)),
        ('p', _) => Some((Role::Port, 0)),
        (letter, _) if letter.is_ascii_alphabetic() => None,
        _ => return Err(unknown()),
    };
    pieces.value(role, Kind::Plain);
    Ok(())
}

/// A variable of nginx's, without its `$`.
fn variable(chars: &mut Chars<'_>, pieces: &mut Pieces) {
    let braces = chars.next_if(|(_, c)| *c == '{').is_some();
    let mut name = String::new();
    while let Some((_, c)) = chars.next_if(|(_, c)| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    if braces {
        chars.next_if(|(_, c)| *c == '}');
    }
    let role = Names::new(&FieldMap::default(), &[]).look_up(&name).role;
    pieces.value(role, Kind::Plain);
}
