//! What became of the lines of a run, for people.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::hit::Miss;

/// Lines that are named for each reason.
const EXAMPLES: usize = 3;

/// Every line of every input, counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    inputs: Vec<InputAccount>,
    /// The place of an input by its name.
    places: HashMap<Arc<str>, usize>,
    reasons: BTreeMap<Miss, Reason>,
}

/// The lines of one input.
#[derive(Clone, Debug, PartialEq, Eq)]
struct InputAccount {
    name: Arc<str>,
    lines: u64,
    events: u64,
    /// Lines in which there is nothing to count, such as blank ones and headers.
    empty: u64,
    /// What it looks like, and which option to use.
    looks: Arc<str>,
}

/// Lines that are no events for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Why, in words.
    pub reason: String,
    /// How many.
    pub lines: u64,
    /// The first ones, as `INPUT:LINE`; never what is in them.
    pub examples: Vec<String>,
}

impl Account {
    /// An input begins; `looks` says what it looks like and which option to use when it was not
    /// understood.
    pub fn begin(&mut self, name: &Arc<str>, looks: &Arc<str>) {
        self.places.insert(Arc::clone(name), self.inputs.len());
        self.inputs.push(InputAccount {
            name: Arc::clone(name),
            lines: 0,
            events: 0,
            empty: 0,
            looks: Arc::clone(looks),
        });
    }

    /// A line that is an event, or why it is none.
    pub fn line(&mut self, input: &Arc<str>, number: u64, miss: Option<Miss>) {
        if let Some(place) = self.places.get(input) {
            let account = &mut self.inputs[*place];
            account.lines += 1;
            account.events += u64::from(miss.is_none());
            account.empty += u64::from(miss.is_some_and(Miss::is_understood));
        }
        let Some(miss) = miss else { return };
        let reason = self.reasons.entry(miss).or_insert_with(|| Reason {
            reason: miss.to_string(),
            ..Reason::default()
        });
        reason.lines += 1;
        if reason.examples.len() < EXAMPLES {
            reason.examples.push(format!("{input}:{number}"));
        }
    }

    /// Lines that are no events, by reason.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        self.reasons.values().cloned().collect()
    }

    /// What to say of inputs of which nothing, or less than half, was understood; `None` when there
    /// is none.
    #[must_use]
    pub fn not_understood(&self) -> Option<String> {
        let said: Vec<String> = self
            .inputs
            .iter()
            .filter(|input| {
                let counted = input.lines - input.empty;
                input.events * 2 < counted
            })
            .map(|input| {
                format!(
                    "{}: {} of {} lines were understood; {}",
                    input.name, input.events, input.lines, input.looks
                )
            })
            .collect();
        (!said.is_empty()).then(|| said.join("\n"))
    }
}

/// `12 lines: no url (access.log:3, access.log:4, access.log:9)`
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.lines == 1 { "" } else { "s" };
        let examples = self.examples.join(", ");
        write!(
            f,
            "{} line{plural}: {} ({examples})",
            self.lines, self.reason
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Account;
    use crate::replay::hit::{Skipped, Unparsable};

    fn account(events: u64, broken: u64, blank: u64) -> Account {
        let name: Arc<str> = "a.log".into();
        let mut account = Account::default();
        account.begin(&name, &"it looks like nothing known".into());
        let lines = std::iter::repeat_n(None, events as usize)
            .chain(std::iter::repeat_n(
                Some(Unparsable::OtherForm.into()),
                broken as usize,
            ))
            .chain(std::iter::repeat_n(
                Some(Skipped::Blank.into()),
                blank as usize,
            ));
        for (line, number) in lines.zip(1..) {
            account.line(&name, number, line);
        }
        account
    }

    #[test]
    fn less_than_half_is_not_enough_and_blank_lines_do_not_matter() {
        for (events, broken, blank, fine) in [
            (0, 0, 0, true),
            (0, 0, 9, true),
            (0, 1, 0, false),
            (1, 1, 9, true),
            (1, 2, 0, false),
        ] {
            let said = account(events, broken, blank).not_understood();
            assert_eq!(said.is_none(), fine, "{said:?}");
        }
        assert_eq!(
            account(1, 2, 0).not_understood().as_deref(),
            Some("a.log: 1 of 3 lines were understood; it looks like nothing known")
        );
    }

    #[test]
    fn each_reason_has_three_examples_by_line_number() {
        let said = account(2, 5, 1).reasons().into_iter();
        assert_eq!(
            said.map(|reason| reason.to_string()).collect::<Vec<_>>(),
            [
                "5 lines: not of the form that the format has (a.log:3, a.log:4, a.log:5)",
                "1 line: blank (a.log:8)"
            ]
        );
    }
}
