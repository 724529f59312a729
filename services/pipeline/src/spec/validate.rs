//! Every rule of the spec that its types do not enforce, and all the places it is broken at once.

use std::fmt;
use std::ops::RangeInclusive;

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
