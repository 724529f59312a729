#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use proptest::prelude::*;

use super::Json;
use crate::replay::formats::LineFormat as _;
use crate::replay::hit::{Hit, Miss, Skipped, Time, Unparsable, Value};

fn parse<'a>(line: &'a str, map: &str) -> Result<Hit<'a>, Miss> {
    Json::new(&map.parse().unwrap()).read(line.as_bytes())
}

fn text(value: &Option<Value<'_>>) -> Option<String> {
    value.as_ref().map(|value| value.text().into_owned())
}

#[test]
fn mapped_fields_are_taken_as_they_stand() {
    let line = r#"{"a": "Mozilla\/5.0", "t": 1331923247, "u": "http:\/\/a.example\/ b", "r": "http:\/\/t.example\/x", "x": {"y": [1]}}"#;
    let hit = parse(line, "event_ts=t,url=u,referrer=r,user_agent=a").unwrap();
    let token = |text: &'static str| Value::Token(text.into());
    assert_eq!(hit.url, token(r#""http:\/\/a.example\/ b""#));
    assert_eq!(hit.referrer, Some(token(r#""http:\/\/t.example\/x""#)));
    assert_eq!(text(&hit.user_agent).as_deref(), Some("Mozilla/5.0"));
    assert_eq!(hit.micros(), Some(1_331_923_247_000_000));
}

#[test]
fn fields_that_are_not_mapped_keep_their_own_names() {
    let line = r#"{"t": 1, "url": "/", "user_id": 7, "ip": "192.0.2.1"}"#;
    let hit = parse(line, "event_ts=t,ip=").unwrap();
    assert_eq!(text(&hit.user).as_deref(), Some("7"));
    assert_eq!(hit.client, None);
}

#[test]
fn nested_fields_are_mapped_by_their_path() {
    let line =
        r#"{"ev": {"at": 1, "page": {"u": "/a"}}, "who": {"n": ["x", "y"]}, "url": "/other"}"#;
    let hit = parse(line, "event_ts=ev.at,url=/ev/page/u,user_id=who.n").unwrap();
    assert_eq!(hit.url.text(), "/a");
    assert_eq!(text(&hit.user).as_deref(), Some("x"));
}

#[test]
fn a_name_that_is_mapped_is_not_looked_for_elsewhere() {
    let line = r#"{"t": 1, "u": null, "url": "/b", "uri": "/c"}"#;
    assert_eq!(
        parse(line, "event_ts=t,url=u").unwrap_err(),
        Skipped::NoUrl.into()
    );
}

#[test]
fn client_fields_join_address_and_user_agent() {
    let line = r#"{"event_ts": 1, "url": "/", "tz": "Europe\/Oslo", "c": null}"#;
    let hit = parse(line, "client=tz,client=c").unwrap();
    assert_eq!(hit.apart, [Some("Europe/Oslo".into()), None]);
}

#[test]
fn words_for_nothing_are_nothing() {
    for word in ["direct", "(direct)", "$direct", "-", ""] {
        let line = format!(r#"{{"event_ts": 1, "url": "direct", "referrer": "{word}"}}"#);
        let hit = parse(&line, "").unwrap();
        assert_eq!(hit.referrer, None, "{word}");
        assert_eq!(hit.url.text(), "direct");
    }
    let line =
        r#"{"event_ts": 1, "url": "/", "user_id": "", "session_id": "-", "user_agent": null}"#;
    let hit = parse(line, "").unwrap();
    assert_eq!((hit.user, hit.session, hit.user_agent), (None, None, None));
}

#[test]
fn the_best_of_several_addresses_and_times_is_taken() {
    let line = r#"{"x_forwarded_for": "unknown", "remote_addr": "192.0.2.1", "timestamp": "soon", "time": 5, "uri": "/"}"#;
    let hit = parse(line, "").unwrap();
    assert_eq!(hit.client.as_deref(), Some("192.0.2.1"));
    assert_eq!(hit.micros(), Some(5_000_000));
}

#[test]
fn a_time_that_is_not_understood_is_left_to_the_decoder() {
    for token in ["\"yesterday\"", "\"2016-12-31T23:59:60Z\"", "1e99"] {
        let line = format!(r#"{{"event_ts":{token},"url":"/"}}"#);
        let hit = parse(&line, "").unwrap();
        assert_eq!(hit.time, Time::Unread(Value::Token(token.into())));
    }
}

#[test]
fn lines_without_a_click_are_told_apart() {
    let problem = |line| parse(line, "event_ts=t,url=u").unwrap_err();
    assert_eq!(
        problem(r#"{"_heartbeat_":1356999061}"#),
        Skipped::NoUrl.into()
    );
    assert_eq!(problem(r#"{"u":"/"}"#), Skipped::NoTime.into());
    // a connection that timed out, in a log of requests
    for none in ["-", ""] {
        let line = format!(r#"{{"request":"{none}","status":408}}"#);
        assert_eq!(parse(&line, "").unwrap_err(), Skipped::NoRequest.into());
    }
    for line in [r#"{"u":"/","t":13"#, r#"{"u":"/","t":13} x"#, "[1", "\u{1}"] {
        assert_eq!(problem(line), Unparsable::InvalidJson.into());
    }
    for line in ["[1]", "17", "\"x\""] {
        assert_eq!(problem(line), Unparsable::NotAnObject.into());
    }
}

/// URL, client, user agent and microseconds of a line with the names that its writer uses.
fn known(line: &str) -> (String, String, String, i64) {
    let hit = parse(line, "").unwrap();
    let target = hit.url.text().into_owned();
    let url = match hit.site.origin() {
        Some(origin) if target.starts_with('/') => origin + &target,
        _ => target,
    };
    (
        url,
        hit.client.clone().unwrap_or_default().into_owned(),
        text(&hit.user_agent).unwrap_or_default(),
        hit.micros().unwrap_or_default(),
    )
}

#[test]
fn servers_and_proxies_that_write_json_are_known_by_their_names() {
    let nginx = r#"{"time_iso8601":"2026-11-20T10:00:01+00:00","remote_addr":"192.0.2.1","request":"GET /a?b=1 HTTP/1.1","status":"200","http_user_agent":"curl \x22q\x22"}"#;
    let local = r#"{"time_local":"20/Nov/2026:10:00:01 +0000","remote_addr":"192.0.2.1","request_uri":"/a?b=1","http_user_agent":"curl \"q\""}"#;
    let at = 1_795_168_801_000_000;
    for line in [nginx, local] {
        assert_eq!(
            known(line),
            ("/a?b=1".into(), "192.0.2.1".into(), "curl \"q\"".into(), at)
        );
    }
    let page = || "https://shop.example/a?b=1".to_owned();
    let all = [
        r#"{"level":"info","ts":1795168801.0,"logger":"http.log.access","request":{"remote_ip":"198.51.100.1","client_ip":"192.0.2.1","host":"shop.example","uri":"/a?b=1","headers":{"User-Agent":["curl"]}},"user_id":"","status":200}"#,
        r#"{"ClientAddr":"192.0.2.1:5","ClientHost":"192.0.2.1","RequestHost":"shop.example","RequestPath":"/a?b=1","RequestScheme":"https","StartUTC":"2026-11-20T10:00:01Z","request_User-Agent":"curl","time":"2026-11-20T10:00:09Z"}"#,
        r#"{"start_time":"2026-11-20T10:00:01.000Z","method":"GET","path":"/a?b=1","authority":"shop.example","x_forwarded_for":"192.0.2.1","downstream_remote_address":"198.51.100.9:4","user_agent":"curl"}"#,
        r#"{"ClientIP":"192.0.2.1","ClientRequestHost":"shop.example","ClientRequestURI":"/a?b=1","ClientRequestUserAgent":"curl","EdgeStartTimestamp":1795168801000000000,"ClientRequestScheme":"https"}"#,
        r#"{"httpRequest":{"requestUrl":"https://shop.example/a?b=1","remoteIp":"192.0.2.1","userAgent":"curl","status":200},"insertId":"x1","timestamp":"2026-11-20T10:00:01Z"}"#,
    ];
    for line in all {
        let (url, client, user_agent, micros) = known(line);
        assert_eq!(
            (url, user_agent, micros),
            (page(), "curl".into(), at),
            "{line}"
        );
        assert!(client == "192.0.2.1" || client == "192.0.2.1:5", "{line}");
    }
}

#[test]
fn events_of_customer_data_platforms_are_known_by_their_names() {
    for line in [
        // Segment and RudderStack
        r#"{"messageId":"m-1","anonymousId":"anna","userId":null,"originalTimestamp":"2026-11-20T10:00:01Z","context":{"ip":"192.0.2.1","userAgent":"curl","page":{"url":"https://shop.example/a?b=1","referrer":"https://search.example/"}}}"#,
        // PostHog
        r#"{"event":"$pageview","distinct_id":"anna","timestamp":"2026-11-20T10:00:01Z","properties":{"$current_url":"https://shop.example/a?b=1","$referrer":"https://search.example/","$ip":"192.0.2.1","$user_agent":"curl"}}"#,
        // Snowplow, enriched
        r#"{"event_id":"6f7c2a3e-8a55-4d42-9d92-0a3c8c8d1f52","domain_userid":"anna","collector_tstamp":"2026-11-20 10:00:01.000","user_ipaddress":"192.0.2.1","useragent":"curl","page_url":"https://shop.example/a?b=1","page_referrer":"https://search.example/"}"#,
    ] {
        assert_eq!(
            known(line),
            (
                "https://shop.example/a?b=1".into(),
                "192.0.2.1".into(),
                "curl".into(),
                1_795_168_801_000_000
            ),
            "{line}"
        );
        let hit = parse(line, "").unwrap();
        assert_eq!(text(&hit.user).as_deref(), Some("anna"));
        assert_eq!(
            text(&hit.referrer).as_deref(),
            Some("https://search.example/")
        );
    }
}

proptest! {
    #[test]
    fn no_line_makes_the_reader_panic(line in "\\PC*", time in "\\PC{0,24}", bytes: Vec<u8>) {
        let _ = parse(&line, "");
        let _ = Json::new(&"".parse().unwrap()).read(&bytes);
        let event = serde_json::json!({"url": format!("/{line}"), "event_ts": format!("t{time}")}).to_string();
        prop_assert!(parse(&event, "").is_ok());
    }
}
