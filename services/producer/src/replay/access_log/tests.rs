#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use proptest::prelude::*;

use super::{LogLineProblem, Request, parse};

fn combined(request: &str, referrer: &str, user_agent: &str) -> String {
    format!(
        r#"192.0.2.7 - - [17/May/2015:10:05:03 +0200] "{request}" 200 17 "{referrer}" "{user_agent}""#
    )
}

fn target(request: &str) -> String {
    parse(combined(request, "-", "-").as_bytes())
        .unwrap()
        .target
        .into_owned()
}

#[test]
fn a_combined_line_gives_all_fields() {
    let line = combined(
        "GET /a?b=c HTTP/1.1",
        "https://www.example/",
        "Mozilla/5.0 (X11)",
    );
    let expected = Request {
        host: "192.0.2.7".into(),
        time: chrono::DateTime::parse_from_rfc3339("2015-05-17T10:05:03+02:00").unwrap(),
        target: "/a?b=c".into(),
        referrer: Some("https://www.example/".into()),
        user_agent: Some("Mozilla/5.0 (X11)".into()),
    };
    assert_eq!(parse(line.as_bytes()), Ok(expected));
}

#[test]
fn a_common_line_has_neither_referrer_nor_user_agent() {
    let line = br#"2001:db8::1 - frank miller [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 304 -"#;
    let request = parse(line).unwrap();
    assert_eq!(
        (request.host.as_ref(), request.target.as_ref()),
        ("2001:db8::1", "/apache_pb.gif")
    );
    assert_eq!(request.time.to_rfc3339(), "2000-10-10T13:55:36-07:00");
    assert_eq!((request.referrer, request.user_agent), (None, None));
}

#[test]
fn dashes_and_empty_quotes_mean_none() {
    for none in ["-", ""] {
        let line = combined("GET / HTTP/1.1", none, none);
        let request = parse(line.as_bytes()).unwrap();
        assert_eq!((request.referrer, request.user_agent), (None, None));
    }
}

#[test]
fn fields_that_servers_append_are_passed_over() {
    let line = combined("GET / HTTP/1.1", "-", "curl") + r#" "203.0.113.9" 0.004"#;
    assert_eq!(
        parse(line.as_bytes()).unwrap().user_agent.as_deref(),
        Some("curl")
    );
}

#[test]
fn targets_are_found_in_unusual_requests() {
    assert_eq!(target("GET /a b HTTP/1.1"), "/a b");
    assert_eq!(target("GET /old"), "/old");
    assert_eq!(target("OPTIONS * HTTP/1.0"), "*");
    assert_eq!(
        target("GET http://other.example/ HTTP/1.1"),
        "http://other.example/"
    );
}

#[test]
fn escapes_become_the_text_they_stand_for() {
    assert_eq!(
        target(r#"GET /\"q\"?n=caf\xC3\xA9\\ HTTP/1.1"#),
        "/\"q\"?n=café\\"
    );
    assert_eq!(target(r"GET /a\tb HTTP/1.1"), "/a\tb");
}

#[test]
fn escapes_that_are_no_text_stay_as_logged() {
    assert_eq!(target(r"GET /\xef\xe0\xf0 HTTP/1.1"), r"/\xef\xe0\xf0");
    assert_eq!(target(r"GET /a\x00b HTTP/1.1"), r"/a\x00b");
    assert_eq!(target(r"GET /a\qb\x4 HTTP/1.1"), r"/a\qb\x4");
    assert_eq!(target(r"GET /\x+f HTTP/1.1"), r"/\x+f");
}

#[test]
fn raw_bytes_that_are_no_text_are_shown_escaped() {
    let mut line = combined("GET /A HTTP/1.1", "-", "-").into_bytes();
    let at = line.iter().position(|&byte| byte == b'A').unwrap();
    line[at] = 0xe9;
    assert_eq!(parse(&line).unwrap().target, r"/\xE9");
}

#[test]
fn each_broken_part_is_named() {
    use LogLineProblem as P;
    let good = combined("GET / HTTP/1.1", "-", "curl/8");
    let broken = |from: &str, to: &str| {
        let line = good.replace(from, to);
        assert_ne!(line, good);
        parse(line.as_bytes()).unwrap_err()
    };
    assert_eq!(parse(b"").unwrap_err(), P::NoHost);
    assert_eq!(parse(b"GET / HTTP/1.1").unwrap_err(), P::NoTime);
    assert_eq!(broken("[17", "17"), P::NoTime);
    assert_eq!(broken("May", "Mai"), P::BadTime);
    assert_eq!(broken("17/", "31/Feb/"), P::BadTime);
    assert_eq!(broken("\"GET", "GET"), P::NoRequest);
    assert_eq!(broken("GET / HTTP/1.1", "-"), P::NoTarget);
    assert_eq!(broken("GET / HTTP/1.1", r"\x16\x03\x01 a"), P::NoTarget);
    assert_eq!(broken("200 17", "ok 17"), P::NoStatus);
    assert_eq!(broken(" 200 17", ""), P::NoStatus);
    assert_eq!(broken("\"-\" \"", "- \""), P::NoReferrer);
    assert_eq!(broken("curl/8\"", "curl/8"), P::NoUserAgent);
    assert_eq!(broken("curl/8\"", "curl/8\"x"), P::NoUserAgent);
}

proptest! {
    #[test]
    fn no_line_makes_the_parser_panic(line: Vec<u8>) {
        let _ = parse(&line);
    }

    #[test]
    fn no_change_of_a_good_line_makes_the_parser_panic(at in 0_usize..100, byte: u8, cut in 0_usize..140) {
        let mut line = combined(r"GET /\x41 HTTP/1.1", "https://a.example/", "Mozilla/5.0").into_bytes();
        let at = at % line.len();
        line[at] = byte;
        line.truncate(cut);
        let _ = parse(&line);
    }
}
