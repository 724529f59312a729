//! Colours and columns.

use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clickstream_protocol::output::Output;

/// What is as it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What passes by itself, or can wait.
pub const WAITING: Style = AnsiColor::Yellow.on_default();
/// What a person should look at.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What need not be read.
pub const FAINT: Style = Style::new().dimmed();
/// What a part begins with.
pub const HEADING: Style = Style::new().bold();
/// As everything else.
pub const PLAIN: Style = Style::new();

/// Whether to colour.
#[derive(Clone, Copy, Debug)]
pub struct Colours(ColorChoice);

impl Colours {
    /// As standard output and the environment (NO_COLOR, CLICOLOR) want it, or never.
    #[must_use]
    pub fn new(never: bool) -> Self {
        Self(if never {
            ColorChoice::Never
        } else {
            ColorChoice::Auto
        })
    }
}

/// Writes to standard output.
///
/// # Errors
/// Standard output cannot be written, or nobody reads it any more:
/// [`clickstream_protocol::output::reader_is_gone`].
pub fn print(colours: Colours, text: &str) -> io::Result<()> {
    let mut out = Output::new(AutoStream::new(io::stdout(), colours.0).lock());
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A text and how it looks.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    style: Style,
}

/// A cell in a colour.
pub fn cell(text: impl Into<String>, style: Style) -> Cell {
    Cell {
        text: text.into(),
        style,
    }
}

/// A cell like everything else.
pub fn plain(text: impl Into<String>) -> Cell {
    cell(text, PLAIN)
}

/// A cell for something that may not be known: `-` then.
pub fn known(value: Option<impl ToString>) -> Cell {
    value.map_or_else(|| cell("-", FAINT), |value| plain(value.to_string()))
}

impl Cell {
    fn width(&self) -> usize {
        self.text.chars().count()
    }

    /// The text between the codes of its style.
    pub fn painted(&self) -> String {
        format!("{}{}{:#}", self.style, self.text, self.style)
    }
}

/// Lines of cells under headings, as wide as they need to be, each behind `indent`. Columns whose
/// heading begins with `>` are aligned right.
pub fn table(indent: &str, headings: &[&str], lines: &[Vec<Cell>]) -> String {
    let (names, right): (Vec<&str>, Vec<bool>) = headings
        .iter()
        .map(|heading| match heading.strip_prefix('>') {
            Some(name) => (name, true),
            None => (*heading, false),
        })
        .unzip();
    let head: Vec<Cell> = names.iter().map(|name| cell(*name, FAINT)).collect();
    let widths: Vec<usize> = (0..names.len())
        .map(|column| {
            std::iter::once(&head)
                .chain(lines)
                .filter_map(|line| line.get(column))
                .map(Cell::width)
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in std::iter::once(&head).chain(lines) {
        text.push_str(indent);
        for (column, cell) in line.iter().enumerate() {
            let padding = " ".repeat(widths[column] - cell.width());
            let last = column + 1 == line.len();
            match (right[column], last) {
                (true, _) => text.extend([padding.as_str(), &cell.painted()]),
                (false, true) => text.push_str(&cell.painted()),
                (false, false) => text.extend([cell.painted().as_str(), &padding]),
            }
            text.push_str(if last { "\n" } else { "  " });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_are_aligned_whatever_their_colours() {
        let lines = [
            vec![cell("web", GOOD), plain("7"), plain("first")],
            vec![plain("warehouse"), cell("12345", BAD), plain("second")],
        ];
        assert_eq!(
            bare(&table("  ", &["NAME", ">LAG", "NOTE"], &lines)),
            "  NAME         LAG  NOTE\n  web            7  first\n  warehouse  12345  second\n"
        );
    }

    #[test]
    fn what_is_not_known_is_a_dash_and_never_a_zero() {
        assert_eq!(bare(&known(None::<i64>).painted()), "-");
        assert_eq!(bare(&known(Some(0)).painted()), "0");
    }
}
