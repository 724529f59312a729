//! Records with a known purpose: every verdict, every way to be a duplicate, and some awkward
//! events.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

/// One record for one partition.
#[derive(Clone)]
pub struct Click {
    pub partition: i32,
    pub value: Option<Vec<u8>>,
}

/// The page that the fixture's constraint refuses.
pub const REFUSED_PAGE: &str = "/refused";

/// `count` records for each of `partitions` partitions, from `from` on, one every four seconds of
/// event time. Numbers decide what each record is, so that tests can look one up.
pub fn clicks(partitions: i32, numbers: std::ops::Range<u64>, from: DateTime<Utc>) -> Vec<Click> {
    let mut clicks = Vec::new();
    for number in numbers {
        for partition in 0..partitions {
            clicks.push(Click {
                partition,
                value: value(partition, number, from).map(String::into_bytes),
            });
        }
    }
    clicks
}

/// An event of its own at this time.
pub fn click_at(time: DateTime<Utc>) -> Vec<u8> {
    let mut event = event(0, 0, time);
    event["event_id"] = json!(Uuid::new_v4());
    event.to_string().into_bytes()
}

fn value(partition: i32, number: u64, from: DateTime<Utc>) -> Option<String> {
    match number % 20 {
        // the same event again, from the same partition
        5 => Some(event(partition, number - 2, from).to_string()),
        // an event that the other partition has as well
        7 => Some(event(partition ^ 1, number - 1, from).to_string()),
        9 => Some("{\"event_id\": no json".to_owned()),
        11 => Some("{}".to_owned()),
        13 => None,
        // half an hour behind, and every third of them twice; T has to have come that far
        15 if number > 600 => {
            let number = if number % 60 == 15 && number > 640 {
                number - 20
            } else {
                number
            };
            let mut event = event(partition, number, from);
            event["event_ts"] = stamp(time(number, from) - TimeDelta::minutes(30)).into();
            Some(event.to_string())
        }
        17 if number % 40 == 17 => {
            let mut event = event(partition, number, from);
            event["url"] = REFUSED_PAGE.into();
            Some(event.to_string())
        }
        _ => Some(event(partition, number, from).to_string()),
    }
}

fn event(partition: i32, number: u64, from: DateTime<Utc>) -> serde_json::Value {
    let id = Uuid::new_v5(
        &Uuid::NAMESPACE_URL,
        format!("{partition}/{number}").as_bytes(),
    );
    let mut event = json!({
        "event_id": id,
        "user_id": format!("user-{partition}-{}", number % 41),
        "event_ts": stamp(time(number, from)),
        "url": format!("/page/{}?q=\"é\"", number % 17),
    });
    if number.is_multiple_of(2) {
        event["session_id"] = format!("visit-{}", number / 8).into();
        event["ip"] = format!("192.0.2.{}", number % 250).into();
    }
    if number.is_multiple_of(3) {
        event["user_id"] = json!(number % 41);
        event["ip"] = format!("2001:db8::{:x}", number % 65_000).into();
        event["referrer"] = "https://example.com/\n\\".into();
        event["user_agent"] = "Mozilla/5.0 (X11)".into();
    }
    event
}

fn time(number: u64, from: DateTime<Utc>) -> DateTime<Utc> {
    from + TimeDelta::milliseconds(i64::try_from(number).unwrap() * 4_000 + 123)
}

fn stamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
