#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::HashSet;
use std::path::Path;

use uuid::Uuid;

use super::Source;
use crate::replay::input::{Input, Line};

fn named(name: &str) -> Source {
    Source::of_file(Path::new(name))
}

/// The ids of a file's lines.
fn ids(name: &str, text: &str) -> Vec<Uuid> {
    let reader = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
    let mut input = Input::new(name.to_owned(), reader, None).unwrap();
    let mut buffer = Vec::new();
    let mut ids = Vec::new();
    while let Some((number, line)) = input.next_line(&mut buffer).unwrap() {
        let Line::Text(line) = line else {
            panic!("a line of {name} is too long");
        };
        ids.push(named(name).event_id(number, line));
    }
    ids
}

fn log(path: &str, lines: usize) -> String {
    let line = |second: usize| {
        format!(
            "192.0.2.7 - - [29/Nov/2026:10:00:{second:02} +0000] \"GET {path} HTTP/1.1\" 200 5\n"
        )
    };
    (0..lines).map(line).collect()
}

#[test]
fn ids_follow_from_source_line_number_and_line_alone() {
    let id = named("access.log").event_id(7, b"a");
    assert_eq!(id, named("access.log").event_id(7, b"a"));
    assert_eq!(
        id,
        Uuid::new_v5(
            &Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"replay.clickstream.dev"),
            b"access.log:7:a"
        )
    );
    assert_ne!(id, named("access.log").event_id(7, b"b"));
    assert_ne!(id, named("access.log").event_id(8, b"a"));
    assert_ne!(id, named("other.log").event_id(7, b"a"));
    assert_ne!(id, Source::Unnamed.event_id(7, b"a"));
}

#[test]
fn an_unnamed_stream_gets_the_ids_of_its_own_lines() {
    let id = Source::Unnamed.event_id(7, b"a");
    assert_eq!(id, Source::Unnamed.event_id(7, b"a"));
    assert_ne!(id, Source::Unnamed.event_id(7, b"b"));
    assert_ne!(id, Source::Unnamed.event_id(8, b"a"));
}

#[test]
fn a_rotation_between_two_replays_loses_and_doubles_nothing() {
    let (early, late, new) = (log("/early", 20), log("/late", 5), log("/new", 40));
    let before: HashSet<Uuid> = ids("access.log", &early).into_iter().collect();
    // the log grew after the first replay, then it was rotated, and a new one began
    let rotated = ids("access.log.1", &(early + &late));
    let fresh = ids("access.log", &new);
    assert!(rotated[..20].iter().all(|id| before.contains(id)));
    assert!(rotated[20..].iter().all(|id| !before.contains(id)));
    assert!(fresh.iter().all(|id| !before.contains(id)));
    let all: HashSet<Uuid> = rotated.iter().chain(&fresh).copied().collect();
    assert_eq!(all.len(), 20 + 5 + 40);
}

#[test]
fn equal_lines_on_both_sides_of_a_rotation_are_events_of_their_own() {
    let line = log("/", 1);
    let before = ids("access.log.1", &line.repeat(3));
    let after = ids("access.log", &(log("/first", 1) + &line.repeat(2)));
    assert_eq!(before.iter().collect::<HashSet<_>>().len(), 3);
    assert_ne!(before[2], after[1], "the same line, at another place");
    assert_ne!(before[0], after[1]);
}

#[test]
fn a_rotated_or_compressed_log_is_the_same_source() {
    for name in [
        "/var/log/access.log",
        "access.log.gz",
        "access.log.1",
        "old/access.log.2.gz",
        "access.log.365",
        "access.log.old",
        "access.log-20261129",
        "access.log-20261129.gz",
        "access.log-2026112916.gz",
        "access.log-20261129-1795971600",
        "access.log-202611",
        "access.log.2026-11-29",
        "access.log.2026-11-29.1.gz",
        "access.log.2026-11",
        "access.log.2026-11-29-16",
        "access.log.2026-11-29_16-50-00",
        "access.log.1795971600",
        "access.1.log",
        "access-20261129.log.gz",
        "access.2026-11-29.log",
        "access-2026-11-29T16-50-00.000.log.gz",
    ] {
        assert_eq!(named(name), Source::Named("access.log".into()), "{name}");
    }
}

#[test]
fn other_names_stay_as_they_are() {
    for name in [
        "access.log",
        "access",
        "access_log",
        "web-1",
        "web-01.log",
        "feed_2.jsonl",
        "20261129",
        "20261129.log",
        ".1",
        ".gz",
        ".old",
        "-20261129",
        "access.log.",
        "access-",
        "v2-beta.log",
        "zugriffe-größe.log",
        "größe",
        "-",
        ".",
    ] {
        let source = named(name);
        // `.` is no file name
        let expected = if name == "." {
            Source::Unnamed
        } else {
            Source::Named(name.into())
        };
        assert_eq!(source, expected, "{name}");
    }
}
