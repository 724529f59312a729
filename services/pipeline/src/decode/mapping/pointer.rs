//! Pointers: where in a record a value stands.
//!
//! JSON pointers (RFC 6901) with two additions. `$/time` begins at the record itself, whatever
//! envelope or batch the event stands in. In an array, `[key=page_location]` is the element whose
//! `key` is the text `page_location`.

use std::str::FromStr;

/// Longest pointer, in Unicode scalar values.
pub const MAX_POINTER_CHARS: usize = 256;
/// Most steps of a pointer: they bound how deep a record is followed.
pub const MAX_STEPS: usize = 16;

/// A pointer that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Whether it begins at the record (`$/..`) rather than at the event.
    pub from_record: bool,
    /// The way from there; at least one step.
    pub steps: Vec<Step>,
}

/// One step of a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The value at this key of an object, or at this index of an array.
    Key(String),
    /// The element of an array that is an object with this text at this key.
    Member {
        /// The key that is compared.
        key: String,
        /// The text it must have.
        value: String,
    },
}

/// Why a text is no pointer, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// It does not begin with a slash.
    #[error("a JSON pointer begins with `/`: write {instead}")]
    NoSlash {
        /// What was probably meant.
        instead: String,
    },
    /// A tilde that stands for nothing.
    #[error("write ~0 for a `~` in a key, and ~1 for a `/`")]
    Tilde,
    /// A key to compare with is missing.
    #[error("a step in brackets names a key and its text: write [key=name]")]
    Member,
    /// Longer than [`MAX_POINTER_CHARS`].
    #[error("longer than {MAX_POINTER_CHARS} characters")]
    TooLong,
    /// More steps than [`MAX_STEPS`].
    #[error("more than {MAX_STEPS} steps")]
    TooDeep,
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        if text.chars().count() > MAX_POINTER_CHARS {
            return Err(PointerError::TooLong);
        }
        let (from_record, way) = match text.strip_prefix('$') {
            Some(way) => (true, way),
            None => (false, text),
        };
        let Some(way) = way.strip_prefix('/') else {
            return Err(PointerError::NoSlash {
                instead: instead_of(text),
            });
        };
        let steps = way.split('/').map(step).collect::<Result<Vec<_>, _>>()?;
        if steps.len() > MAX_STEPS {
            return Err(PointerError::TooDeep);
        }
        Ok(Self { from_record, steps })
    }
}

fn step(token: &str) -> Result<Step, PointerError> {
    if let Some(inner) = token
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return match inner.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Step::Member {
                key: unescaped(key)?,
                value: unescaped(value)?,
            }),
            _ => Err(PointerError::Member),
        };
    }
    unescaped(token).map(Step::Key)
}

fn unescaped(token: &str) -> Result<String, PointerError> {
    let mut parts = token.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (stands_for, rest) = match part.split_at_checked(1) {
            Some(("0", rest)) => ('~', rest),
            Some(("1", rest)) => ('/', rest),
            _ => return Err(PointerError::Tilde),
        };
        text.push(stands_for);
        text.push_str(rest);
    }
    Ok(text)
}

/// The pointer that was probably meant by another way of writing one: `context.page.url`, `$.url`,
/// `#/url`.
fn instead_of(text: &str) -> String {
    let way = text
        .trim_start_matches(['#', '$', '.', '/', ' '])
        .trim_end();
    if way.is_empty() {
        return "/context/page/url, say".to_owned();
    }
    let way = if way.contains('/') {
        way.to_owned()
    } else {
        way.replace('.', "/")
    };
    format!("/{way}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        let steps = text.parse::<Pointer>().expect(text).steps;
        let key = |step| match step {
            Step::Key(key) => key,
            Step::Member { key, value } => format!("{key}={value}"),
        };
        steps.into_iter().map(key).collect()
    }

    #[test]
    fn a_pointer_is_read_as_rfc_6901_has_it() {
        assert_eq!(keys("/context/page/url"), ["context", "page", "url"]);
        assert_eq!(keys("/a~1b/m~0n"), ["a/b", "m~n"]);
        assert_eq!(keys("/~01"), ["~1"]);
        assert_eq!(keys("/"), [""]);
        assert_eq!(keys("/a//0"), ["a", "", "0"]);
    }

    #[test]
    fn a_dollar_begins_at_the_record() {
        let pointer: Pointer = "$/time".parse().expect("a pointer");
        assert!(pointer.from_record);
        assert_eq!(keys("$/time"), ["time"]);
        assert_eq!(keys("/$current_url"), ["$current_url"]);
    }

    #[test]
    fn brackets_choose_an_element_by_a_text_in_it() {
        assert_eq!(
            keys("/event_params/[key=a~1b=c]/value"),
            ["event_params", "key=a/b=c", "value"]
        );
        for text in ["/a/[x]", "/a/[=x]", "/a/[]"] {
            assert_eq!(text.parse::<Pointer>(), Err(PointerError::Member), "{text}");
        }
        assert_eq!(keys("/[a"), ["[a"]);
    }

    #[test]
    fn what_is_no_pointer_is_told_how_to_be_one() {
        for (text, instead) in [
            ("context.page.url", "/context/page/url"),
            ("$.context.page.url", "/context/page/url"),
            ("#/url", "/url"),
            ("url", "/url"),
            ("context/page/url", "/context/page/url"),
        ] {
            let error = text.parse::<Pointer>().expect_err(text);
            assert_eq!(
                error,
                PointerError::NoSlash {
                    instead: instead.to_owned()
                }
            );
            assert!(instead.parse::<Pointer>().is_ok());
        }
        assert!("".parse::<Pointer>().is_err());
        assert!("$".parse::<Pointer>().is_err());
        for text in ["/~", "/~2", "/a~", "/~é"] {
            assert_eq!(text.parse::<Pointer>(), Err(PointerError::Tilde), "{text}");
        }
        assert_eq!(
            "/a".repeat(17).parse::<Pointer>(),
            Err(PointerError::TooDeep)
        );
        assert_eq!(
            format!("/{}", "a".repeat(256)).parse::<Pointer>(),
            Err(PointerError::TooLong)
        );
    }
}
