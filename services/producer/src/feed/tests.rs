#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::time::Duration;

use super::{Feed, Item, Next, SAMPLE};
use crate::replay::ReplayOptions;
use crate::replay::fields::FieldMap;
use crate::replay::merge::Reading;

const TIMED: &str = "{\"ts\":1795168801,\"url\":\"/timed\"}\n";
const TIMELESS: &str = "{\"ts\":\"soon\",\"url\":\"/timeless\"}\n";

/// What comes of these lines, in a word each, and what is said at the end.
fn read(lines: &str) -> (Vec<&'static str>, Option<String>) {
    let folder = std::env::temp_dir().join(format!("feed-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("events.jsonl");
    std::fs::write(&path, lines).unwrap();
    let reading = Reading {
        paths: vec![path],
        format: None,
        fields: FieldMap::default(),
    };
    let mut feed = Feed::read(reading, ReplayOptions::default()).unwrap();
    let (mut words, mut said) = (Vec::new(), None);
    loop {
        words.push(match feed.next(Duration::from_secs(60)) {
            Next::End => break,
            Next::Item(Item::Line { outcome, .. }) if outcome.is_event() => "sent",
            Next::Item(Item::Line { .. }) => "miss",
            Next::Item(Item::Withheld { .. }) => "withheld",
            Next::Item(Item::Begins { .. }) => continue,
            Next::Item(Item::Ends { doubts, .. }) => {
                said = doubts.error();
                continue;
            }
            other => panic!("{other:?}"),
        });
    }
    std::fs::remove_dir_all(&folder).unwrap();
    (words, said)
}

#[test]
fn of_a_log_without_times_nothing_is_sent() {
    let (words, said) = read(&[TIMELESS, "{}\n", TIMELESS].concat());
    assert_eq!(words, ["miss", "withheld", "withheld"]);
    assert!(said.unwrap().contains("(`ts` in the log)"));
}

#[test]
fn with_one_time_all_is_sent_in_its_order() {
    let (words, said) = read(&[TIMELESS, "{}\n", TIMELESS, TIMED, TIMELESS].concat());
    assert_eq!(words, ["miss", "sent", "sent", "sent", "sent"]);
    assert_eq!(said, None);
}

#[test]
fn a_long_log_without_times_is_read_as_far_as_the_sample_goes() {
    let (words, said) = read(&(TIMELESS.repeat(3 * SAMPLE) + TIMED));
    assert_eq!(words, vec!["withheld"; SAMPLE]);
    assert!(said.is_some());
    let (words, said) = read(&(TIMELESS.repeat(SAMPLE - 1) + TIMED));
    assert_eq!(words, vec!["sent"; SAMPLE]);
    assert_eq!(said, None);
}
