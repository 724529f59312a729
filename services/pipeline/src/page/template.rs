//! Paths that are counted as one page, such as `/product/:id`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest template, in characters.
pub const MAX_TEMPLATE_CHARS: usize = 255;

/// What a template looks like: a regular expression for the schema.
pub const TEMPLATE_PATTERN: &str = r"^(/(:[A-Za-z_][A-Za-z0-9_]*|[^/:*?#\s\p{Cc}][^/?#\s\p{Cc}]*))+(/\*[A-Za-z_][A-Za-z0-9_]*)?$|^/\*[A-Za-z_][A-Za-z0-9_]*$";

/// A path of which parts may be anything: `:name` stands for one segment, `*rest` at the end for
/// one or more. Its text is what pages have instead of the path.
///
/// A template matches its own text, and of several templates the first that matches a path also is
/// the first that matches its own text: so a page is its own page. That is why `:name` is no
/// segment that begins with `*`, and why no literal segment begins with `:` or `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    /// How many bytes of the text are the same in all paths.
    literal: usize,
}

/// A text that is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no template of a path: write one such as /product/:id or /docs/*rest, of at most \
     {MAX_TEMPLATE_CHARS} characters"
)]
pub struct NoTemplate(String);

impl Template {
    /// The template as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it stands for this path, which has no slash at its end.
    pub(super) fn matches(&self, path: &str) -> bool {
        let (text, literal) = (self.text.as_bytes(), self.literal);
        // most paths are told apart by this alone
        if path.as_bytes().get(..literal) != text.get(..literal) {
            return false;
        }
        let mut segments = path.split('/').skip(1);
        for wanted in self.text.split('/').skip(1) {
            let Some(segment) = segments.next() else {
                return false;
            };
            if wanted.starts_with('*') {
                return !segment.is_empty() || segments.next().is_some();
            }
            let is_as_wanted = if wanted.starts_with(':') {
                !segment.is_empty() && !segment.starts_with('*')
            } else {
                segment == wanted
            };
            if !is_as_wanted {
                return false;
            }
        }
        segments.next().is_none()
    }
}

impl FromStr for Template {
    type Err = NoTemplate;

    fn from_str(text: &str) -> Result<Self, NoTemplate> {
        let none = || NoTemplate(text.chars().take(MAX_TEMPLATE_CHARS).collect());
        let segments = text.strip_prefix('/').ok_or_else(none)?;
        let last = segments.split('/').count() - 1;
        let is_valid = segments.split('/').enumerate().all(|(at, segment)| {
            match segment.strip_prefix([':', '*']) {
                Some(name) => is_name(name) && (segment.starts_with(':') || at == last),
                None => {
                    !segment.is_empty()
                        && !segment
                            .contains(|c: char| matches!(c, '?' | '#') || c.is_ascii_whitespace())
                }
            }
        });
        if !is_valid || text.chars().count() > MAX_TEMPLATE_CHARS {
            return Err(none());
        }
        let literal = text
            .match_indices(['/'])
            .map(|(slash, _)| slash + 1)
            .find(|&segment| text[segment..].starts_with([':', '*']))
            .unwrap_or(text.len());
        Ok(Self {
            text: text.to_owned(),
            literal,
        })
    }
}

/// A name that a person gives a part.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Template {
    type Error = NoTemplate;

    fn try_from(text: String) -> Result<Self, NoTemplate> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}
