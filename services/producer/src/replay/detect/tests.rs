#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use proptest::prelude::*;

use super::{Detected, Layout, detect};
use crate::replay::fields::FieldMap;
use crate::replay::format::Format;

fn seen(head: &str) -> Detected {
    detect(head.as_bytes(), None, &FieldMap::default())
}

#[test]
fn json_is_told_by_its_first_character_and_its_layout_by_the_first_lines() {
    for (head, layout) in [
        ("\n {\"a\":1}", Layout::Lines),
        ("{\"a\":1}\n{\"a\":2}\n{\"a", Layout::Lines),
        ("{\"a\": \"\\x22\"}\n{\"a", Layout::Lines),
        ("{\"a\": \"cut of", Layout::Lines),
        ("{", Layout::Objects),
        ("{\n  \"a\": 1\n}\n", Layout::Objects),
        ("[{\"a\":1},\n{\"a\":2}]", Layout::Objects),
        ("[\n{\"a\":1}\n]", Layout::Objects),
    ] {
        let detected = seen(head);
        assert_eq!(
            (detected.format, detected.layout),
            (Format::Json, layout),
            "{head}"
        );
    }
}

#[test]
fn other_formats_are_told_by_what_is_in_their_lines() {
    let log = r#"192.0.2.1 - - [20/Nov/2026:10:00:01 +0000] "GET /a HTTP/1.1" 200 5"#;
    for (head, format) in [
        (log.to_owned(), Format::AccessLog),
        (format!("broken\n{log}\n{log}\ncut off"), Format::AccessLog),
        (format!("#comment\n{log}\n{log}\n"), Format::AccessLog),
        ("#Version: 1.0\n#Fields: date time cs-uri-stem\n".to_owned(), Format::W3c),
        (
            r#"[2026-11-20T10:00:01Z] "GET /a HTTP/2" 200 - 0 1 3 2 "-" "x" "id" "s.example" "-""#.to_owned(),
            Format::Envoy,
        ),
        ("time:1\thost:192.0.2.1\turi:/a\n".to_owned(), Format::Ltsv),
        ("ts,url,user_id\n1,/a,u\n".to_owned(), Format::Csv),
        ("ts\turl\n1\t/a\n".to_owned(), Format::Tsv),
        (r#"h2 2026-11-20T10:00:01Z app/s/1 192.0.2.1:1 - 0 0 0 200 200 1 1 "GET https://s.example:443/ HTTP/2.0" "x" - -"#.to_owned(), Format::Alb),
        (r#"2026-11-20T10:00:01Z shop 192.0.2.1:1 - 0 0 0 200 200 1 1 "GET https://s.example:443/ HTTP/1.1" "x" - -"#.to_owned(), Format::Elb),
        (r#"79a5 b [20/Nov/2026:10:00:01 +0000] 192.0.2.1 - 3E GET k "GET /k HTTP/1.1" 200 - 1 1 7 6 "-" "x" -"#.to_owned(), Format::S3),
    ] {
        assert_eq!(seen(&head).format, format, "{head}");
    }
}

#[test]
fn what_tools_put_in_front_of_lines_hides_no_format() {
    let log = r#"192.0.2.1 - - [20/Nov/2026:10:00:01 +0000] "GET /a HTTP/1.1" 200 5"#;
    let docker = serde_json::json!({"log": format!("{log}\n"), "stream": "stdout", "time": "x"});
    assert_eq!(seen(&docker.to_string()).format, Format::AccessLog);
    for prefix in [
        "2026-11-20T10:00:01.123456789Z ",
        "[pod/web-1/nginx] ",
        "a.log:",
        "web-1  | ",
    ] {
        assert_eq!(seen(&format!("{prefix}{log}\n")).format, Format::AccessLog);
        let json = seen(&format!("{prefix}{{\"url\":\"/a\",\"ts\":1}}\n"));
        assert_eq!((json.format, json.layout), (Format::Json, Layout::Lines));
    }
}

#[test]
fn a_first_line_of_something_else_hides_no_format() {
    let log = r#"192.0.2.1 - - [20/Nov/2026:10:00:01 +0000] "GET /a HTTP/1.1" 200 5"#;
    let json = "{\"a\":1}\n".repeat(3);
    for (head, format) in [
        (format!("Starting server\n{json}"), Format::Json),
        (format!("[INFO] starting\n{json}"), Format::Json),
        (
            format!("{{\"level\":\"info\"}}\n{log}\n{log}\n{log}\n"),
            Format::AccessLog,
        ),
        ("{\"a\":1}\nbroken\nbroken\n".to_owned(), Format::Json),
        (
            "Starting\n#Fields: date time cs-uri-stem\n".to_owned(),
            Format::W3c,
        ),
        ("event_ts;user_id;url\n".to_owned(), Format::Csv),
        ("Dear colleague,\n".to_owned(), Format::AccessLog),
    ] {
        assert_eq!(seen(&head).format, format, "{head}");
    }
}

#[test]
fn values_over_several_lines_hide_no_format() {
    let record = |number: u64| format!("{number};\"a\r\nb; \"\"c\"\"\r\n\r\n\";/a\r\n");
    let records: String = (0..9).map(record).collect();
    let csv = seen(&format!("ts;note;url\r\n{records}7;\"cut\r\noff"));
    assert_eq!(
        (csv.format, csv.layout),
        (Format::Csv, Layout::Quoted(None))
    );
    let tsv = seen(&format!("ts;note;url\r\n{records}").replace(';', "\t"));
    assert_eq!(
        (tsv.format, tsv.layout),
        (Format::Tsv, Layout::Quoted(Some(b'\t')))
    );
}

#[test]
fn what_is_not_understood_is_described_with_names_and_without_values() {
    let looks = |head: &str| seen(head).looks;
    let json = looks("{\"at\":\"secret\",\"page\":{\"u\":\"secret\"}}\n");
    assert!(
        json.contains("at, page.u: --map") && !json.contains("secret"),
        "{json}"
    );
    let csv = looks("at,page,who\nsecret,secret,secret\n");
    assert!(csv.contains("at, page, who: --format csv --map"), "{csv}");
    let map = "event_ts=page.when,url=page.u,client=who".parse().unwrap();
    let json = "{\"at\":\"secret\",\"page\":{\"u\":\"secret\"}}\n";
    let missed = detect(json.as_bytes(), None, &map).looks;
    assert!(missed.ends_with("; `page.when`, which --map names, is not among them; `who`, which --map names, is not among them"), "{missed}");
    let own = looks("[20/Nov/2026:10:00:01 +0000] 192.0.2.1 \"GET /secret\"\n");
    assert!(
        own.contains("LogFormat") && !own.contains("secret"),
        "{own}"
    );
    let nothing = looks("Dear secret,\n");
    assert!(
        nothing.contains("--format takes one of combined, json"),
        "{nothing}"
    );
    assert!(!nothing.contains("secret"));
    let map = "event_ts=at,url=page".parse().unwrap();
    let mapped = detect(b"at,page\n1,/a\n", None, &map);
    assert_eq!(mapped.format, Format::Csv);
}

#[test]
fn a_format_that_is_given_is_taken() {
    let given = detect(b"{\"a\":1}", Some(&Format::Csv), &FieldMap::default());
    assert_eq!(
        (given.format, given.layout),
        (Format::Csv, Layout::Quoted(None))
    );
    assert!(
        given
            .looks
            .starts_with("it was read as csv, as --format says: it looks like JSON")
    );
    for name in [
        "combined",
        "common",
        "vhost",
        "access-log",
        "nginx",
        "apache",
        "json",
        "caddy",
        "iis",
        "cloudfront",
        "tsv",
    ] {
        assert!(name.parse::<Format>().is_ok(), "{name}");
    }
    let refused = "excel".parse::<Format>().unwrap_err().to_string();
    for names in ["combined, json, w3c", "common, vhost, access-log, nginx"] {
        assert!(refused.contains(names), "{refused}");
    }
}

proptest! {
    #[test]
    fn no_beginning_makes_it_panic(head: Vec<u8>, text in "[\\[\\]{}\",:#a-z\\n\\t ]{0,80}") {
        let map = FieldMap::default();
        let _ = detect(&head, None, &map);
        let _ = detect(text.as_bytes(), None, &map);
    }
}
