//! Where lines come from, and the event ids that follow from it.

use std::path::Path;

use uuid::Uuid;

/// Where lines come from; event ids are made from its name, the line's number and the line. The name alone
/// would not do: after a rotation it belongs to other lines. Nor would the line alone: equal lines, of one log
/// or of two servers, are events of their own. Nothing has to be remembered between lines for this. A log whose
/// beginning was cut off gives other ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A log with a name that lasts.
    Named(String),
    /// A stream without a name, which counts as an empty one.
    Unnamed,
}

impl Source {
    /// The source of a file: its base name without what rotation and compression add, so that a log gives the
    /// same ids before and after.
    #[must_use]
    pub fn of_file(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy());
        name.map_or(Self::Unnamed, |name| Self::Named(before_rotation(&name)))
    }

    /// The id of the event that this line gives. The namespace is the UUIDv5 of `replay.clickstream.dev` under
    /// the DNS namespace, the name `SOURCE:NUMBER:LINE`, where lines are numbered from 1 in each file.
    #[must_use]
    pub fn event_id(&self, number: u64, line: &[u8]) -> Uuid {
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"replay.clickstream.dev");
        let source = match self {
            Self::Named(source) => source.as_str(),
            Self::Unnamed => "",
        };
        let mut name = format!("{source}:{number}:").into_bytes();
        name.extend_from_slice(line);
        Uuid::new_v5(&namespace, &name)
    }
}

/// The name that a log had before it was rotated and compressed: `access.log` for `access.log.2.gz`,
/// `access.log-20261129`, `access.log.old`, `access.2026-11-29.log`. Something always remains. Where a
/// name loses too much (`node.1` and `node.2` of two servers), ids still differ with number and line.
fn before_rotation(name: &str) -> String {
    let name = without(name, ".gz");
    let name = without_mark(without(name, ".old"));
    match name.rsplit_once('.') {
        Some((stem, extension)) if extension.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            format!("{}.{extension}", without_mark(stem))
        }
        _ => name.to_owned(),
    }
}

fn without<'a>(name: &'a str, suffix: &str) -> &'a str {
    match name.strip_suffix(suffix) {
        Some(rest) if !rest.is_empty() => rest,
        _ => name,
    }
}

/// Without a number behind a dot, or a date, at the end.
fn without_mark(name: &str) -> &str {
    let mark = name.char_indices().skip(1).find(|&(at, separator)| {
        let (_, rest) = name.split_at(at + separator.len_utf8());
        match separator {
            '.' => is_number(rest) || is_moment(rest),
            '-' | '_' => is_moment(rest),
            _ => false,
        }
    });
    mark.map_or(name, |(at, _)| &name[..at])
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether this is a date, with or without a time and a number behind it: `20261129`, `2026-11-29_16.1`,
/// `202611`, seconds since the Unix epoch. Fewer digits may be the number of a server.
fn is_moment(text: &str) -> bool {
    let part_of_one = |byte: u8| byte.is_ascii_digit() || b"-_.:+TZ".contains(&byte);
    let begins = match text.bytes().take_while(u8::is_ascii_digit).count() {
        4 => (text.starts_with("19") || text.starts_with("20")) && text.len() >= "2026-11".len(),
        digits => digits >= 6,
    };
    begins && text.bytes().all(part_of_one)
}

#[cfg(test)]
mod tests;
