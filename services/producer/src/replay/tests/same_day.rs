//! One day of clicks, written in every format: detection finds each, and each gives the same
//! events.

use std::fmt::Write as _;
use std::io::Cursor;

use chrono::{DateTime, Utc};
use clickstream_pipeline::event::EventTime;
use serde_json::json;

use super::DECODER;
use crate::replay::fields::FieldMap;
use crate::replay::hit::Miss;
use crate::replay::input::{Input, Line};
use crate::replay::merge::Read;
use crate::replay::{Outcome, Replay, ReplayOptions};

const HOST: &str = "shop.example";

/// A click, as every format can tell of it.
struct Click {
    time: DateTime<Utc>,
    client: String,
    path: String,
    query: String,
    user_agent: &'static str,
}

fn day() -> Vec<Click> {
    let click = |number: i64| Click {
        // 2026-11-20T00:00:00Z
        time: DateTime::from_timestamp(1_795_132_800 + number * 300, 0).unwrap(),
        client: format!("192.0.2.{}", number * 37 % 19 + 1),
        path: format!("/p/{}", number * 7 % 11),
        query: format!("q={}", number % 3),
        user_agent: ["Mozilla/5.0 (X11)", "curl/8"][usize::from(number % 2 == 0)],
    };
    (0..288).map(click).collect()
}

impl Click {
    fn local(&self) -> String {
        self.time.format("%d/%b/%Y:%H:%M:%S +0000").to_string()
    }

    fn iso(&self) -> String {
        self.time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn target(&self) -> String {
        format!("{}?{}", self.path, self.query)
    }
}

/// Time, address, target, user agent and user of every event of a file.
fn events(name: &str, file: &str) -> Vec<[String; 5]> {
    let map = FieldMap::default();
    let reader = Box::new(Cursor::new(file.as_bytes().to_vec()));
    let mut input = Input::new(name.to_owned(), reader, None, &map).unwrap();
    let mut lines = input.format().reader(&map);
    let mut replay = Replay::new(ReplayOptions::default());
    let (mut buffer, mut events) = (Vec::new(), Vec::new());
    while let Some((number, line)) = input.next_line(&mut buffer).unwrap() {
        let Line::Text(text) = line else {
            panic!("{name}: line {number} is too long");
        };
        let hit = lines.read(text);
        let outcome = replay.take(Read {
            input: &name.into(),
            number,
            text,
            hit,
            format: &*lines,
        });
        match outcome {
            Outcome::Event(record) => {
                let event = DECODER.decode(&record.payload, EventTime::MAX).unwrap();
                let url = event.url.trim_start_matches("https://shop.example");
                events.push([
                    event.event_ts.to_string(),
                    event.ip.unwrap().to_string(),
                    url.to_owned(),
                    event.user_agent.unwrap().into_owned(),
                    record.key,
                ]);
            }
            Outcome::Miss(miss) => assert!(Miss::is_understood(miss), "{name}:{number}: {miss}"),
        }
    }
    events
}

/// A file of this header and these lines.
fn file(header: &str, line: impl Fn(&Click) -> String) -> String {
    let mut file = header.to_owned();
    for click in day() {
        writeln!(file, "{}", line(&click)).unwrap();
    }
    file
}

#[test]
fn a_day_is_the_same_day_in_every_format() {
    let combined = |click: &Click| {
        let (client, time, agent) = (&click.client, click.local(), click.user_agent);
        let target = click.target();
        format!(r#"{client} - - [{time}] "GET {target} HTTP/1.1" 200 5 "-" "{agent}""#)
    };
    let balancer = |click: &Click| {
        let (client, time, agent) = (&click.client, click.iso(), click.user_agent);
        let target = click.target();
        format!(
            r#"{time} shop {client}:5 198.51.100.1:80 0 0 0 200 200 1 1 "GET https://{HOST}:443{target} HTTP/1.1" "{agent}" - -"#
        )
    };
    let envoy = |click: &Click| {
        json!({
            "start_time": click.iso(), "x_forwarded_for": click.client, "authority": HOST,
            "path": click.target(), "user_agent": click.user_agent,
        })
    };
    let files = [
        ("combined", file("", combined)),
        (
            "vhost",
            file("", |click| format!("{HOST}:443 {}", combined(click))),
        ),
        (
            "forwarded",
            file("", |click| {
                combined(click).replacen(" -", ", 10.0.0.1 -", 1)
            }),
        ),
        ("elb", file("", balancer)),
        ("alb", file("", |click| format!("h2 {}", balancer(click)))),
        (
            "s3",
            file("", |click| {
                let (client, time, agent) = (&click.client, click.local(), click.user_agent);
                let target = click.target();
                format!(
                    r#"79a5 b [{time}] {client} - 3E GET k "GET {target} HTTP/1.1" 200 - 1 1 7 6 "-" "{agent}" - h S E A {HOST} T"#
                )
            }),
        ),
        (
            "envoy",
            file("", |click| {
                let (client, time, agent) = (&click.client, click.iso(), click.user_agent);
                let target = click.target();
                format!(
                    r#"[{time}] "GET {target} HTTP/2" 200 - 0 1 3 2 "{client}" "{agent}" "id" "{HOST}" "-""#
                )
            }),
        ),
        (
            "iis",
            file(
                "#Fields: date time c-ip cs-uri-stem cs-uri-query cs(User-Agent)\n",
                |click| {
                    let agent = click.user_agent.replace(' ', "+");
                    let time = click.time.format("%Y-%m-%d %H:%M:%S");
                    format!(
                        "{time} {} {} {} {agent}",
                        click.client, click.path, click.query
                    )
                },
            ),
        ),
        (
            "cloudfront",
            file(
                "#Version: 1.0\n#Fields: date time c-ip cs-uri-stem cs-uri-query cs(User-Agent) x-host-header\n",
                |click| {
                    let agent = click.user_agent.replace(' ', "%20");
                    let time = click.time.format("%Y-%m-%d\t%H:%M:%S");
                    format!(
                        "{time}\t{}\t{}\t{}\t{agent}\t{HOST}",
                        click.client, click.path, click.query
                    )
                },
            ),
        ),
        (
            "ltsv",
            file("", |click| {
                let (client, time, agent) = (&click.client, click.local(), click.user_agent);
                let target = click.target();
                format!("time:[{time}]\thost:{client}\treq:GET {target} HTTP/1.1\tua:{agent}")
            }),
        ),
        (
            "csv",
            file("Timestamp,IP,URL,User-Agent\n", |click| {
                let (client, time, agent) = (&click.client, click.iso(), click.user_agent);
                let target = click.target();
                format!("{time},{client},\"{target}\",{agent}")
            }),
        ),
        (
            "tsv",
            file("ts\tclient_ip\trequest_uri\tuser_agent\n", |click| {
                let (client, time, agent) = (&click.client, click.time, click.user_agent);
                let target = click.target();
                format!("{}\t{client}\t{target}\t{agent}", time.timestamp_millis())
            }),
        ),
        (
            "caddy",
            file("", |click| {
                let headers = json!({"User-Agent": [click.user_agent]});
                let request = json!({
                    "client_ip": click.client, "host": HOST, "uri": click.target(), "headers": headers,
                });
                json!({"ts": click.time.timestamp() as f64 + 0.0, "request": request}).to_string()
            }),
        ),
        ("envoy.json", file("", |click| envoy(click).to_string())),
        (
            "list",
            serde_json::to_string_pretty(&day().iter().map(envoy).collect::<Vec<_>>()).unwrap(),
        ),
    ];
    let expected = events("combined", &files[0].1);
    assert_eq!(expected.len(), 288);
    for (name, file) in &files {
        assert_eq!(events(name, file), expected, "{name}");
    }
}
