//! Logs as people have them, which lie beside the checkout; without them these tests say so and
//! pass. Each kind has inputs of its own in the tests of the modules.

use std::collections::HashSet;
use std::path::PathBuf;

use clickstream_pipeline::event::{Event, EventTime};

use super::{DECODER, beside};
use crate::replay::merge::{Reading, Step};
use crate::replay::{Outcome, Replay, ReplayOptions};

/// What a run sends, in order; every line that is none fails the test.
fn events(folder: &str, files: &[&str], map: &str) -> Option<Vec<Event<'static>>> {
    let folder = beside("cases", folder)?;
    let reading = Reading {
        paths: files
            .iter()
            .map(|file| folder.join(file))
            .collect::<Vec<PathBuf>>(),
        format: None,
        fields: map.parse().unwrap(),
    };
    let mut replay = Replay::new(ReplayOptions::default());
    let mut events = Vec::new();
    reading
        .each(&mut |step| {
            let Step::Line(read) = step else { return true };
            let number = read.number;
            match replay.take(read) {
                Outcome::Event(record) => {
                    let event = DECODER.decode(&record.payload, EventTime::MAX).unwrap();
                    events.push(event.into_owned());
                }
                Outcome::Miss(miss) => panic!("{folder:?} line {number}: {miss}"),
            }
            true
        })
        .unwrap();
    Some(events)
}

fn distinct<T: std::hash::Hash + Eq>(
    events: &[Event<'static>],
    of: impl Fn(&Event<'static>) -> T,
) -> usize {
    events.iter().map(of).collect::<HashSet<T>>().len()
}

#[test]
fn logs_of_several_servers_and_rotated_ones_are_in_order_whatever_their_order() {
    for pair in [
        ["web1-access.log", "web2-access.log"],
        ["access.log", "access.log.1"],
    ] {
        for files in [pair, [pair[1], pair[0]]] {
            let Some(events) = events("H01", &files, "") else {
                return;
            };
            assert_eq!(distinct(&events, |event| event.event_id), 960);
            assert!(events.is_sorted_by_key(|event| event.event_ts), "{files:?}");
        }
    }
}

#[test]
fn what_was_read_already_is_known_under_another_name_and_new_lines_under_the_same() {
    let read = |file: &str| events("H02", &[file], "");
    let Some(morning) = read("morning/access.log") else {
        return;
    };
    let known: HashSet<_> = morning.iter().map(|event| event.event_id).collect();
    let count = |events: Vec<Event<'static>>| {
        let again = events
            .iter()
            .filter(|event| known.contains(&event.event_id));
        (events.len(), again.count())
    };
    assert_eq!(known.len(), 240);
    assert_eq!(count(read("afternoon/access.log").unwrap()), (300, 0));
    assert_eq!(
        count(read("after-rotation/access.log.1").unwrap()),
        (240, 240)
    );
}

#[test]
fn clients_behind_proxies_are_told_apart_by_the_left_most_address() {
    let Some(events) = events("H04", &["access.log"], "") else {
        return;
    };
    assert_eq!(events.len(), 60);
    assert!(events.iter().all(|event| event.ip.is_some()));
    assert_eq!(distinct(&events, |event| event.user_id.to_string()), 12);
    assert_eq!(distinct(&events, |event| event.ip), 12);
}

#[test]
fn a_host_in_front_is_part_of_the_url_and_not_the_client() {
    let Some(with) = events("H05", &["other_vhosts_access.log"], "") else {
        return;
    };
    let without = events("H05", &["plain.log"], "").unwrap();
    let users = |events: &[Event<'static>]| -> HashSet<String> {
        events
            .iter()
            .map(|event| event.user_id.to_string())
            .collect()
    };
    assert_eq!(users(&with), users(&without));
    assert_eq!(users(&with).len(), 6);
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(with.url, format!("https://shop.example{}", without.url));
        assert_eq!(with.ip, without.ip);
    }
}

#[test]
fn ids_that_are_no_uuids_and_times_with_a_zones_name_are_read() {
    let map = "event_id=id";
    let Some(pages) = events("H08", &["pages.jsonl"], map) else {
        return;
    };
    let again = events("H08", &["pages-sent-again.jsonl"], map).unwrap();
    let known: HashSet<_> = pages.iter().map(|event| event.event_id).collect();
    assert_eq!((pages.len(), known.len(), again.len()), (20, 20, 10));
    assert!(again.iter().all(|event| known.contains(&event.event_id)));
}

#[test]
fn nginx_writes_either_time_and_escapes_of_its_own() {
    for map in ["", "event_ts=time_local", "event_ts=time_iso8601"] {
        let Some(events) = events("H10", &["access.json.log"], map) else {
            return;
        };
        assert_eq!(events.len(), 30);
        let quoted = events
            .iter()
            .filter_map(|event| event.user_agent.as_deref());
        assert_eq!(
            quoted.filter(|agent| agent.contains("\"quoted\"")).count(),
            2
        );
        assert_eq!(events[0].event_ts.to_string(), "2026-11-20T02:00:01Z");
    }
}

#[test]
fn nested_names_are_read_with_and_without_a_map() {
    for (map, url) in [
        ("", "https://shop.example/c/0"),
        ("url=request.uri", "/c/0"),
    ] {
        let Some(events) = events("H12", &["caddy.log"], map) else {
            return;
        };
        assert_eq!((events.len(), events[0].url.as_ref()), (40, url));
        assert!(
            events
                .iter()
                .all(|event| event.ip.is_some() && event.user_agent.is_some())
        );
        assert!(
            events
                .iter()
                .all(|event| !event.user_id.to_string().is_empty())
        );
    }
}
