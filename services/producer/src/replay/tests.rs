#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod cases;
mod same_day;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use clickstream_pipeline::decode::Decoder;
use clickstream_pipeline::event::EventTime;
use clickstream_pipeline::spec::SemanticSpec;

use super::hit::{Miss, Skipped, Unparsable};
use super::merge::{Read, Reading, Step};
use super::pace::Speed;
use super::{Format, Outcome, Replay, ReplayOptions};
use crate::record::Record;

static DECODER: LazyLock<Decoder> = LazyLock::new(|| SemanticSpec::default().decoder());

const LINE: &str =
    r#"192.0.2.7 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 17 "-" "curl/8""#;

/// What a single line of this format comes to.
fn outcome(options: ReplayOptions, format: &Format, map: &str, line: &[u8]) -> Outcome {
    let mut reader = format.reader(&map.parse().unwrap());
    let hit = reader.read(line);
    Replay::new(options).take(Read {
        input: &"log".into(),
        number: 1,
        text: line,
        hit,
        format: &*reader,
    })
}

fn event(outcome: Outcome) -> Record {
    match outcome {
        Outcome::Event(record) => record,
        other => panic!("no event: {other:?}"),
    }
}

fn log_event(options: ReplayOptions, line: &str) -> Record {
    event(outcome(options, &Format::AccessLog, "", line.as_bytes()))
}

fn json_event(options: ReplayOptions, line: &str) -> String {
    let record = event(outcome(options, &Format::Json, "", line.as_bytes()));
    String::from_utf8(record.payload).unwrap()
}

#[test]
fn a_request_becomes_an_event_that_the_decoder_accepts() {
    let record = log_event(ReplayOptions::default(), LINE);
    let event = DECODER.decode(&record.payload, EventTime::MAX).unwrap();
    assert_eq!(event.event_id.get_version_num(), 5);
    assert_eq!(event.user_id.to_string(), record.key);
    assert_eq!(event.event_ts.to_string(), "2015-05-17T10:05:03Z");
    assert_eq!((event.url.as_ref(), event.referrer), ("/a", None));
    assert_eq!(event.ip, Some("192.0.2.7".parse().unwrap()));
    assert_eq!(event.user_agent.as_deref(), Some("curl/8"));
    assert_eq!(
        event.session_id.as_deref(),
        Some(format!("{}-555867cf", record.key).as_str())
    );
}

#[test]
fn a_base_url_goes_before_paths_only() {
    let url = |line: &str| {
        let options = ReplayOptions {
            base_url: Some("https://www.example/".into()),
            ..ReplayOptions::default()
        };
        let record = log_event(options, line);
        DECODER
            .decode(&record.payload, EventTime::MAX)
            .unwrap()
            .url
            .into_owned()
    };
    assert_eq!(url(LINE), "https://www.example/a");
    assert_eq!(
        url(&LINE.replace("/a ", "http://other.example/ ")),
        "http://other.example/"
    );
}

#[test]
fn a_host_name_is_no_ip_and_still_tells_clients_apart() {
    let first = log_event(
        ReplayOptions::default(),
        &LINE.replace("192.0.2.7", "a.example"),
    );
    let second = log_event(
        ReplayOptions::default(),
        &LINE.replace("192.0.2.7", "b.example"),
    );
    assert_ne!(first.key, second.key);
    assert_eq!(
        DECODER.decode(&first.payload, EventTime::MAX).unwrap().ip,
        None
    );
}

#[test]
fn a_shift_moves_every_time() {
    let options = ReplayOptions {
        shift_micros: 3_600_000_000,
        ..ReplayOptions::default()
    };
    let record = log_event(options.clone(), LINE);
    let event = DECODER.decode(&record.payload, EventTime::MAX).unwrap();
    assert_eq!(event.event_ts.to_string(), "2015-05-17T11:05:03Z");
    let json = json_event(options, r#"{"event_ts":"2015-05-17T10:05:03Z","url":"/"}"#);
    assert!(
        json.contains(r#""event_ts":"2015-05-17T11:05:03Z""#),
        "{json}"
    );
}

#[test]
fn json_fields_pass_through_untouched() {
    let line = r#"{"event_id":"6f7c2a3e-8a55-4d42-9d92-0a3c8c8d1f52","user_id":12,"event_ts":"nonsense","url":"\ud800","more":1}"#;
    assert_eq!(
        json_event(ReplayOptions::default(), line),
        r#"{"event_id":"6f7c2a3e-8a55-4d42-9d92-0a3c8c8d1f52","user_id":12,"event_ts":"nonsense","url":"\ud800"}"#
    );
}

#[test]
fn an_id_that_is_no_uuid_becomes_one_and_the_same_one_every_time() {
    let line = |id: &str| format!(r#"{{"event_id":{id},"user_id":"u","event_ts":1,"url":"/"}}"#);
    let id = |text: &str| {
        let event: serde_json::Value =
            serde_json::from_str(&json_event(ReplayOptions::default(), &line(text))).unwrap();
        event["event_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(id(r#""order-17""#), "7fbcf926-0129-5a51-8f42-d84b21503989");
    assert_eq!(id(r#""order-17""#), id(r#""order\u002d17""#));
    assert_ne!(id(r#""order-17""#), id(r#""order-18""#));
    assert_eq!(id("17"), id(r#""17""#));
    // no id at all: that of the line
    assert_ne!(id(r#""""#), id("null"));
}

#[test]
fn json_lines_without_user_get_one_from_the_client() {
    let user = |line: &str| {
        let map = "event_ts=t,user_agent=a,client=tz";
        event(outcome(
            ReplayOptions::default(),
            &Format::Json,
            map,
            line.as_bytes(),
        ))
        .key
    };
    let first = user(r#"{"t":1331923247,"url":"/","a":"x","tz":"Oslo"}"#);
    assert_eq!(
        first,
        user(r#"{"t":1331923999,"url":"/b","tz":"Oslo","a":"x"}"#)
    );
    assert_ne!(
        first,
        user(r#"{"t":1331923247,"url":"/","a":"x","tz":"Rome"}"#)
    );
}

#[test]
fn lines_that_are_no_events_are_told_apart() {
    let miss = |format: Format, line: &str| match outcome(
        ReplayOptions::default(),
        &format,
        "",
        line.as_bytes(),
    ) {
        Outcome::Miss(miss) => miss,
        event => panic!("{event:?}"),
    };
    let line = LINE
        .replace("GET /a HTTP/1.1", "-")
        .replace("200 17", "408 -");
    for (found, expected) in [
        (miss(Format::Json, "{}"), Skipped::NoUrl.into()),
        (miss(Format::Json, r#"{"url":1}"#), Skipped::NoTime.into()),
        (miss(Format::Json, "{"), Unparsable::InvalidJson.into()),
        (miss(Format::AccessLog, &line), Skipped::NoRequest.into()),
    ] {
        assert_eq!(found, expected);
    }
    assert!(matches!(
        miss(Format::AccessLog, "x"),
        Miss::Unparsable(Unparsable::Log(_))
    ));
}

/// What a replay of a real log comes to.
#[derive(Default)]
struct Account {
    lines: u64,
    events: u64,
    unparsable: Vec<u64>,
    skipped: u64,
    ids: HashSet<uuid::Uuid>,
    users: HashSet<String>,
    sessions: HashSet<String>,
    urls: HashSet<String>,
    last_due: Duration,
}

fn account(path: &Path, map: &str, options: ReplayOptions) -> Account {
    let mut replay = Replay::new(options);
    let reading = Reading {
        paths: vec![path.to_owned()],
        format: None,
        fields: map.parse().unwrap(),
    };
    let mut account = Account::default();
    reading
        .each(&mut |step| {
            let Step::Line(read) = step else { return true };
            account.lines = read.number;
            match replay.take(read) {
                Outcome::Event(record) => {
                    let event = DECODER.decode(&record.payload, EventTime::MAX).unwrap();
                    account.events += 1;
                    account.ids.insert(event.event_id);
                    account.users.insert(record.key);
                    account.urls.insert(event.url.into_owned());
                    account
                        .sessions
                        .insert(event.session_id.unwrap().into_owned());
                }
                Outcome::Miss(Miss::Unparsable(_)) => account.unparsable.push(account.lines),
                Outcome::Miss(Miss::Skipped(_)) => account.skipped += 1,
            }
            true
        })
        .unwrap();
    account.last_due = replay.last_due();
    account
}

/// Real logs lie beside the checkout, not in it.
fn beside(what: &str, folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared")
        .join(what)
        .join(folder);
    if !path.is_dir() {
        eprintln!("skipped: the logs ({what}/{folder}) are not beside this checkout");
        return None;
    }
    Some(path)
}

#[test]
fn every_line_of_a_real_access_log_is_accounted_for() {
    let Some(logs) = beside("data", "apache-semicomplete") else {
        return;
    };
    let options = ReplayOptions {
        speed: Speed::Times(60.0),
        ..ReplayOptions::default()
    };
    let account = account(&logs.join("apache_logs"), "", options);
    assert_eq!(
        (account.lines, account.events, account.skipped),
        (10_000, 9_999, 0)
    );
    assert_eq!(account.unparsable.len(), 1);
    assert_eq!(account.ids.len(), 9_999);
    assert_eq!(account.urls.len(), 1_498);
    // 83 hours and 59 seconds, less the seconds before the first line, sixty times faster
    assert!(
        account.last_due.abs_diff(Duration::from_secs(83 * 60)) < Duration::from_secs(1),
        "{:?}",
        account.last_due
    );
    assert!(account.users.len() >= 1_753 && account.sessions.len() >= account.users.len());
}

#[test]
fn every_line_of_a_real_click_feed_is_accounted_for() {
    let Some(logs) = beside("data", "usagov-clicks") else {
        return;
    };
    let mut total = Account::default();
    for entry in std::fs::read_dir(logs).unwrap() {
        let path = entry.unwrap().path();
        if !path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("usagov_bitly")
        {
            continue;
        }
        let map = "event_ts=t,url=u,referrer=r,user_agent=a";
        let account = account(&path, map, ReplayOptions::default());
        total.lines += account.lines;
        total.events += account.events;
        total.skipped += account.skipped;
        total.unparsable.extend(account.unparsable);
        total.ids.extend(account.ids);
        total.urls.extend(account.urls);
    }
    assert_eq!(
        (total.lines, total.events, total.skipped),
        (114_410, 111_293, 3_116)
    );
    assert_eq!(total.unparsable.len(), 1);
    assert_eq!(total.ids.len(), 111_293);
    assert_eq!(total.urls.len(), 13_556);
}
