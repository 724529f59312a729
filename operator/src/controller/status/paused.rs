//! The condition `Paused`. Pure.

use clickstream_protocol::annotations;
use clickstream_protocol::conditions::Reason;

use super::conditions::Finding;
use crate::controller::asked::Asked;

/// The condition `Paused`, where there is something to say: a value that nobody knows was meant for
/// something.
pub fn finding(asked: &Asked) -> Option<Finding> {
    let key = annotations::RECONCILE;
    let known = annotations::PAUSED;
    if asked.paused {
        return Some(Finding::yes(
            Reason::Paused,
            format!(
                "topics, tables and pods stay as they are, and events flow: the annotation {key} is {known}; remove it to go on"
            ),
        ));
    }
    let unknown = asked.unknown.as_ref()?;
    Some(Finding::no(
        Reason::UnknownValue,
        format!(
            "the annotation {key} is {unknown:?}; only {known} is known, so the operator goes on"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(value: &str) -> Option<Finding> {
        let pairs = [(annotations::RECONCILE.to_owned(), value.to_owned())];
        finding(&Asked::of(&pairs.into()))
    }

    #[test]
    fn only_one_word_pauses_and_any_other_is_told() {
        assert!(said(" ").is_none());
        assert!(said("paused").is_some_and(|said| said.holds()));
        assert!(
            said("Paused").is_some_and(|said| !said.holds() && said.message.contains("\"Paused\""))
        );
    }

    #[test]
    fn a_long_value_makes_no_long_message() {
        assert!(said(&"ä".repeat(5_000)).is_some_and(|said| said.message.len() < 300));
    }
}
