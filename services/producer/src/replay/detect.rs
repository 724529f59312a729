//! What an input looks like, told from its first lines. A pure function of them.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::de::IgnoredAny;

use super::fields::FieldMap;
use super::format::{Format, names};
use super::formats::delimited::{Values, delimiter};
use super::formats::names::{LONGEST, Names, Role, is_plain};
use super::formats::prefix;
use super::hit::{Miss, Skipped};
use super::quoted::first_records;

/// Lines that are looked at.
const LINES: usize = 50;

/// Names that are shown.
const SHOWN: usize = 12;

/// How records are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One a line.
    Lines,
    /// JSON objects over several lines, or in a list.
    Objects,
    /// Values between these, or between what the header has; those in quotes may go over several
    /// lines.
    Quoted(Option<u8>),
}

/// What an input looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The best guess.
    pub format: Format,
    /// How its records are laid out.
    pub layout: Layout,
    /// What it looks like and which option to use, should it not be understood. Names of fields at
    /// most, no values.
    pub looks: String,
}

/// Looks at the beginning of an input; `given` is the format that somebody named.
#[must_use]
pub fn detect(head: &[u8], given: Option<&Format>, map: &FieldMap) -> Detected {
    let lines = first_lines(head);
    let bare: Vec<_> = lines.iter().map(|line| prefix::without(line)).collect();
    let bare: Vec<&[u8]> = bare.iter().map(AsRef::as_ref).collect();
    let objects = is_json(head, &bare, &lines, map);
    let looks = looks(&bare, objects, map);
    let detected = match given {
        Some(format) => format.clone(),
        None if objects => Format::Json,
        None if has_fields_line(&lines) => Format::W3c,
        None => best(head, &lines, map).unwrap_or(Format::AccessLog),
    };
    let layout = match detected {
        Format::Json if objects => layout(&bare),
        Format::Csv => Layout::Quoted(None),
        Format::Tsv => Layout::Quoted(Some(b'\t')),
        _ => Layout::Lines,
    };
    let looks = match given {
        Some(format) => format!("it was read as {format}, as --format says: {looks}"),
        None => looks,
    };
    Detected {
        format: detected,
        layout,
        looks,
    }
}

/// Lines with something in them; the last one only where it is whole or the only one.
fn first_lines(head: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .collect();
    lines.retain(|line| !line.iter().all(u8::is_ascii_whitespace));
    if lines.len() > 1 && !head.ends_with(b"\n") {
        lines.pop();
    }
    lines.truncate(LINES);
    lines
}

/// Most of the first lines are objects, or the first one begins like one and nothing else is
/// understood; a line of something else in front, such as a program's greeting, does not count.
fn is_json(head: &[u8], bare: &[&[u8]], lines: &[&[u8]], map: &FieldMap) -> bool {
    let whole = |line: &&&[u8]| {
        let line = line.trim_ascii();
        line.starts_with(b"{") && line.ends_with(b"}")
    };
    let count = bare.iter().filter(whole).count();
    let first = bare.first().is_some_and(|line| whole(&line));
    count * 2 > bare.len() || begins_json(bare) && !(first && best(head, lines, map).is_some())
}

fn begins_json(lines: &[&[u8]]) -> bool {
    let Some(first) = lines.first().map(|line| line.trim_ascii_start()) else {
        return false;
    };
    let behind = first.get(1..).unwrap_or_default().trim_ascii_start();
    match first.first() {
        Some(b'{') => true,
        // a list of objects, and no time in brackets
        Some(b'[') => matches!(behind.first(), None | Some(b'{' | b']')),
        _ => false,
    }
}

/// One object a line, if any of the first lines is a whole one.
fn layout(lines: &[&[u8]]) -> Layout {
    let whole = lines.iter().any(|line| {
        let line = line.trim_ascii();
        line.starts_with(b"{")
            && (serde_json::from_slice::<IgnoredAny>(line).is_ok() || line.ends_with(b"}"))
    });
    let first = lines.first().map_or(&[][..], |line| line.trim_ascii());
    // the only line may go on where the head ends; laid out over lines, a brace stands alone
    let cut = lines.len() == 1 && first.starts_with(b"{") && first != b"{";
    // one object of a pretty-printed list may be small enough for a line, with a comma behind it
    if (whole || cut) && !first.starts_with(b"[") {
        Layout::Lines
    } else {
        Layout::Objects
    }
}

fn has_fields_line(lines: &[&[u8]]) -> bool {
    lines.iter().any(|line| line.starts_with(b"#Fields:"))
}

/// The format that understands most of the lines, if one understands half of them.
fn best(head: &[u8], lines: &[&[u8]], map: &FieldMap) -> Option<Format> {
    let understood = |format: &Format| {
        let mut reader = format.reader(map);
        let (mut hits, mut none, mut counted) = (0, 0, 0);
        let records = match format {
            Format::Csv => first_records(head, None, LINES),
            Format::Tsv => first_records(head, Some(b'\t'), LINES),
            _ => Vec::new(),
        };
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let lines = if records.is_empty() { lines } else { &records };
        for line in lines {
            match reader.read(line) {
                Err(Miss::Skipped(Skipped::Directive)) => continue,
                Ok(_) => hits += 1,
                Err(Miss::Skipped(Skipped::NoRequest)) => none += 1,
                Err(_) => {}
            }
            counted += 1;
        }
        let understood = hits + none;
        // a hit proves more than a line in which nothing was found
        (understood > 0 && understood * 2 >= counted).then_some((hits, none))
    };
    let mut best: Option<((usize, usize), Format)> = None;
    for format in Format::TOLD_BY_LINES {
        if let Some(score) = understood(&format)
            && best.as_ref().is_none_or(|(other, _)| score > *other)
        {
            best = Some((score, format));
        }
    }
    best.map(|(_, format)| format).or_else(|| {
        // a header alone
        let header = column_names(lines.first()?)?;
        let mut names = Names::new(map, &[]);
        let roles: Vec<Role> = header
            .iter()
            .filter_map(|name| names.look_up(name.trim()).role)
            .map(|(role, _)| role)
            .collect();
        let usual = roles.contains(&Role::Time)
            && (roles.contains(&Role::Url) || roles.contains(&Role::Target));
        (usual || header.iter().any(|name| map.names(name))).then_some(Format::Csv)
    })
}

/// What to say of an input that was not understood.
fn looks(lines: &[&[u8]], objects: bool, map: &FieldMap) -> String {
    let Some(first) = lines.first() else {
        return "it has no lines".to_owned();
    };
    if objects {
        let fields = lines
            .iter()
            .find_map(|line| field_names(line))
            .unwrap_or_default();
        return said(
            "JSON objects with the names",
            &fields,
            map,
            "--map says which of them are what, as in --map event_ts=NAME,url=NAME,user_id=NAME",
        );
    }
    if has_fields_line(lines) {
        return "it looks like a W3C log: its #Fields need date, time and cs-uri-stem, or --map names them"
            .to_owned();
    }
    if let Some(columns) = column_names(first) {
        return said(
            "values behind a header with the names",
            &columns,
            map,
            "--format csv --map says which of them are what, as in --map event_ts=NAME,url=NAME",
        );
    }
    let bracket = memchr::memmem::find(first, b"[").is_some();
    if bracket && first.contains(&b'"') {
        return "it looks like an access log in a form of its own: give the LogFormat or log_format of the \
                server's configuration, as in --format '%h %l %u %t \"%r\" %>s %b'"
            .to_owned();
    }
    let format = names();
    format!(
        "it looks like nothing that is known: --format takes one of {format}, or a LogFormat or log_format"
    )
}

fn said(what: &str, fields: &[Cow<'_, str>], map: &FieldMap, option: &str) -> String {
    let mut said = format!("it looks like {what} ");
    let shown = fields.iter().filter(|name| is_plain(name));
    for (at, name) in shown.take(SHOWN).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(said, "{comma}{name}").expect("writing to a string cannot fail");
    }
    if fields.len() > SHOWN {
        said += ", …";
    }
    said = said + ": " + option;
    for given in map.given() {
        let leads = |longer: &str, name: &str| {
            let rest = longer.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let is_there = |name: &Cow<'_, str>| leads(given, name.trim()) || leads(name.trim(), given);
        if !fields.is_empty() && !fields.iter().any(is_there) {
            write!(said, "; `{given}`, which --map names, is not among them")
                .expect("writing to a string cannot fail");
        }
    }
    said
}

/// The names in an object.
fn field_names<'a>(line: &'a [u8]) -> Option<Vec<Cow<'a, str>>> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
    let names = object.iter().flat_map(|(name, value)| match value {
        serde_json::Value::Object(inner) => {
            inner.keys().map(|key| format!("{name}.{key}")).collect()
        }
        _ => vec![name.clone()],
    });
    Some(names.map(Cow::Owned).collect())
}

/// The names of columns, if this line may be a header: several words, none of them a number.
fn column_names(line: &[u8]) -> Option<Vec<Cow<'_, str>>> {
    let text = std::str::from_utf8(line).ok()?;
    let values = Values {
        rest: Some(text),
        delimiter: delimiter(line),
    };
    let names: Vec<_> = values.collect::<Option<_>>()?;
    let word = |name: &Cow<'_, str>| {
        let name = name.trim();
        name.starts_with(|c: char| c.is_alphabetic() || "_$@".contains(c))
            && name.len() <= LONGEST
            && !name.contains([':', '=', '/', '"'])
    };
    (names.len() > 1 && names.iter().all(word)).then_some(names)
}

#[cfg(test)]
mod tests;
