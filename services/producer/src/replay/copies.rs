//! Inputs with the same lines: copies of one log, such as `access.log.1` beside `access.log.1.gz`.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::RandomState;

/// What tells whether two inputs have the same lines, in a few words for each of them.
#[derive(Debug, Default)]
pub struct Copies {
    inputs: Vec<Content>,
    /// The input of the line before.
    last: usize,
    state: RandomState,
}

#[derive(Debug)]
struct Content {
    name: Arc<str>,
    /// Of all lines so far, in their order.
    hash: u64,
    lines: u64,
    events: u64,
}

impl Copies {
    /// Takes the next line of an input.
    pub fn observe(&mut self, input: &Arc<str>, line: &[u8], is_event: bool) {
        let is_last = |content: &&Content| content.name == *input;
        if self.inputs.get(self.last).filter(is_last).is_none() {
            let place = self
                .inputs
                .iter()
                .position(|content| content.name == *input);
            self.last = place.unwrap_or(self.inputs.len());
            if place.is_none() {
                self.inputs.push(Content {
                    name: Arc::clone(input),
                    hash: 0,
                    lines: 0,
                    events: 0,
                });
            }
        }
        let content = &mut self.inputs[self.last];
        content.hash = self.state.hash_one((content.hash, line));
        content.lines += 1;
        content.events += u64::from(is_event);
    }

    /// What to say of inputs with the same lines; `None` where there are none with an event.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let same =
            |one: &Content, other: &Content| (one.hash, one.lines) == (other.hash, other.lines);
        let mut said = Vec::new();
        for (place, first) in self.inputs.iter().enumerate() {
            let is_first = !self.inputs[..place].iter().any(|other| same(other, first));
            let names: Vec<&str> = self.inputs[place..]
                .iter()
                .filter(|other| same(other, first))
                .map(|content| content.name.as_ref())
                .collect();
            if first.events == 0 || !is_first || names.len() < 2 {
                continue;
            }
            said.push(format!(
                "{}: the same {}. Equal lines are events of their own, so all {} of them are sent \
                 and count; if these are copies of one log, name one of them",
                names.join(", "),
                if first.lines == 1 {
                    "line".to_owned()
                } else {
                    format!("{} lines", first.lines)
                },
                first.events * names.len() as u64
            ));
        }
        (!said.is_empty()).then(|| said.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Copies;

    fn warning(inputs: &[(&str, &[&str])]) -> Option<String> {
        let mut copies = Copies::default();
        let longest = inputs.iter().map(|(_, lines)| lines.len()).max();
        // as if they were merged
        for place in 0..longest.unwrap_or(0) {
            for (name, lines) in inputs {
                if let Some(line) = lines.get(place) {
                    let name: Arc<str> = (*name).into();
                    copies.observe(&name, line.as_bytes(), line.starts_with('e'));
                }
            }
        }
        copies.warning()
    }

    #[test]
    fn inputs_with_the_same_lines_are_named_with_what_is_sent() {
        let log = ("a.log", &["e1", "e1", "no event", "e2"][..]);
        let copy = |name| (name, log.1);
        assert_eq!(warning(&[log]), None);
        assert_eq!(
            warning(&[log, ("other", &["e1"]), copy("b.gz"), copy("c")]).as_deref(),
            Some(
                "a.log, b.gz, c: the same 4 lines. Equal lines are events of their own, so all 9 \
                 of them are sent and count; if these are copies of one log, name one of them"
            )
        );
        for other in [
            &["e1", "e1", "e2", "no event"][..],
            &["e1", "e1", "no event"],
            &["e1", "e1", "no event", "e2", ""],
            &["e1e", "1", "no event", "e2"],
        ] {
            assert_eq!(warning(&[log, ("b.log", other)]), None, "{other:?}");
        }
        assert_eq!(warning(&[("a", &["blank"]), ("b", &["blank"])]), None);
        let two = warning(&[log, ("x", &["e"]), copy("b"), ("y", &["e"])]);
        assert_eq!(two.map(|said| said.lines().count()), Some(2));
    }
}
