//! Every rule of the spec that its types do not enforce, and all the places it is broken at once.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde_yaml::Value;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, from the top of the document: `spec.targets[1].schema`.
    pub path: String,
    /// What to do about it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl Problem {
    /// Adds to each message the names of the entries of lists that its path leads through. A
    /// position alone makes people count, and it is another one once an entry before it is removed.
    pub fn name_entries(problems: &mut [Self], document: &impl Serialize) {
        let Ok(document) = serde_yaml::to_value(document) else {
            return;
        };
        for problem in problems {
            problem.message += &entries(&document, &problem.path);
        }
    }
}

/// Longer names say nothing that a position would not.
const LONGEST_NAME: usize = 63;

/// The names of the entries that lead to a path, the innermost first: ` (in `plan`)`; nothing where
/// none has a name.
pub(super) fn entries(document: &Value, path: &str) -> String {
    let mut names = Vec::new();
    let mut place = Some(document);
    // a key with a point in it ends the walk, since nothing is found by its first half
    for step in path.split(['.', '[']) {
        place = match step.strip_suffix(']') {
            Some(index) => {
                let entry = place.and_then(|list| list.get(index.parse::<usize>().ok()?));
                let name = entry.and_then(|entry| entry.get("name")?.as_str());
                let is_short = |name: &&str| (1..=LONGEST_NAME).contains(&name.len());
                names.extend(name.filter(is_short).map(|name| {
                    let name = name.escape_debug();
                    format!("`{name}`")
                }));
                entry
            }
            None => place.and_then(|fields| fields.get(step)),
        };
    }
    names.reverse();
    if names.is_empty() {
        return String::new();
    }
    format!(" (in {})", names.join(" of "))
}

/// A place in the document, and the list that problems there are added to.
pub(super) struct At<'p> {
    path: String,
    problems: &'p mut Vec<Problem>,
}

impl<'p> At<'p> {
    pub(super) fn top(problems: &'p mut Vec<Problem>) -> Self {
        Self {
            path: String::new(),
            problems,
        }
    }

    pub(super) fn field(&mut self, name: &str) -> At<'_> {
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        At {
            path,
            problems: self.problems,
        }
    }

    pub(super) fn index(&mut self, index: usize) -> At<'_> {
        At {
            path: format!("{}[{index}]", self.path),
            problems: self.problems,
        }
    }

    pub(super) fn problem(&mut self, message: impl Into<String>) {
        self.problems.push(Problem {
            path: self.path.clone(),
            message: message.into(),
        });
    }

    /// Demands a value between two others, both of which are allowed.
    pub(super) fn within<T: PartialOrd + fmt::Display>(
        &mut self,
        value: T,
        range: RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            self.problem(format!(
                "{value} is outside {} to {}",
                range.start(),
                range.end()
            ));
        }
    }
}
