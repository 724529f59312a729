#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use proptest::prelude::*;

use super::{LogLineProblem, parse};
use crate::replay::hit::{Hit, Value};

const MAY_17: i64 = 1_431_857_103_000_000;

fn text(value: &Option<Value<'_>>) -> Option<String> {
    value.as_ref().map(|value| value.text().into_owned())
}

fn combined(request: &str, referrer: &str, user_agent: &str) -> String {
    format!(
        r#"192.0.2.7 - - [17/May/2015:10:05:03 +0200] "{request}" 200 17 "{referrer}" "{user_agent}""#
    )
}

fn target(request: &str) -> String {
    parse(combined(request, "-", "-").as_bytes())
        .unwrap()
        .url
        .text()
        .into_owned()
}

#[test]
fn a_combined_line_gives_all_fields() {
    let line = combined(
        "GET /a?b=c HTTP/1.1",
        "https://www.example/",
        "Mozilla/5.0 (X11)",
    );
    let hit = parse(line.as_bytes()).unwrap();
    assert_eq!(hit.micros(), Some(MAY_17 - 7_200_000_000));
    assert_eq!(hit.client.as_deref(), Some("192.0.2.7"));
    assert_eq!(hit.url.text(), "/a?b=c");
    assert_eq!(text(&hit.referrer).as_deref(), Some("https://www.example/"));
    assert_eq!(text(&hit.user_agent).as_deref(), Some("Mozilla/5.0 (X11)"));
}

#[test]
fn a_common_line_has_neither_referrer_nor_user_agent() {
    let line = br#"2001:db8::1 - frank miller [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 304 -"#;
    let hit = parse(line).unwrap();
    assert_eq!(
        (hit.client.as_deref(), hit.url.text().as_ref()),
        (Some("2001:db8::1"), "/apache_pb.gif")
    );
    assert_eq!(hit.micros(), Some(971_211_336_000_000));
    assert_eq!((hit.referrer, hit.user_agent), (None, None));
}

/// The client and the site of a line that begins like this.
fn begins(head: &str) -> (String, Option<String>) {
    let line = format!(r#"{head} [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 5"#);
    let hit: Hit<'_> = parse(line.as_bytes()).unwrap();
    (hit.client.unwrap().into_owned(), hit.site.origin())
}

#[test]
fn the_client_may_be_a_list_with_or_without_spaces_and_quotes() {
    for (head, client) in [
        ("192.0.2.1, 198.51.100.7 - -", "192.0.2.1, 198.51.100.7"),
        (
            "192.0.2.1, 203.0.113.9, 198.51.100.7 - -",
            "192.0.2.1, 203.0.113.9, 198.51.100.7",
        ),
        (
            "192.0.2.1,198.51.100.7 - frank miller",
            "192.0.2.1,198.51.100.7",
        ),
        ("\"192.0.2.1, 198.51.100.7\" - -", "192.0.2.1, 198.51.100.7"),
        ("unknown, 2001:db8::1 - -", "unknown, 2001:db8::1"),
        ("- - -", "-"),
        ("192.0.2.1 - ", "192.0.2.1"),
        ("client.example ident frank", "client.example"),
    ] {
        assert_eq!(begins(head), (client.to_owned(), None), "{head}");
    }
}

#[test]
fn a_host_in_front_is_the_site_and_not_the_client() {
    for (head, client, site) in [
        (
            "shop.example:443 192.0.2.1 - -",
            "192.0.2.1",
            "https://shop.example",
        ),
        (
            "Shop.example 192.0.2.1 - -",
            "192.0.2.1",
            "https://shop.example",
        ),
        (
            "shop.example:80 192.0.2.1, 198.51.100.7 - x",
            "192.0.2.1, 198.51.100.7",
            "http://shop.example",
        ),
        (
            "shop.example:8443 2001:db8::1 - -",
            "2001:db8::1",
            "https://shop.example:8443",
        ),
        (
            "198.51.100.1:443 192.0.2.1 - -",
            "192.0.2.1",
            "https://198.51.100.1",
        ),
        (
            "shop.example:443 client.example - -",
            "client.example",
            "https://shop.example",
        ),
    ] {
        assert_eq!(
            begins(head),
            (client.to_owned(), Some(site.to_owned())),
            "{head}"
        );
    }
}

#[test]
fn what_is_neither_an_address_nor_a_host_is_not_guessed_to_be_one() {
    for head in [
        "2026-11-20T10:00:01.123456789Z 192.0.2.1 - -",
        "2026-11-20 192.0.2.1 - -",
        "2026-11-20 10:00:01 192.0.2.1 - -",
        "1795168801.250 192.0.2.1 - -",
        "[pod/web-1/nginx] 192.0.2.1 - -",
        "Nov 20 12:00:01 web1 nginx: 192.0.2.1 - -",
        "web1 nginx: 192.0.2.1 - -",
        "web1 | 192.0.2.1 - -",
        "<190> 192.0.2.1 - -",
        "access.log:192.0.2.1 - -",
        "20 - -",
        "/var/log/a 192.0.2.1 - -",
    ] {
        let line = format!(r#"{head} [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 5"#);
        assert_eq!(
            parse(line.as_bytes()),
            Err(LogLineProblem::NoHost),
            "{head}"
        );
    }
}

#[test]
fn a_place_for_the_host_that_is_empty_is_no_site() {
    assert_eq!(begins("- 192.0.2.1 - -"), ("192.0.2.1".to_owned(), None));
    assert_eq!(begins("unknown, unknown - -").0, "unknown, unknown");
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
        text(&parse(line.as_bytes()).unwrap().user_agent).as_deref(),
        Some("curl")
    );
}

#[test]
fn a_last_field_of_nothing_but_quoted_addresses_is_the_client() {
    for (field, client) in [
        (r#" "203.0.113.9""#, "203.0.113.9"),
        (r#" "203.0.113.9, 2001:db8::1""#, "203.0.113.9, 2001:db8::1"),
        (r#" "-""#, "192.0.2.7"),
        (r#" "203.0.113.9" 0.004"#, "192.0.2.7"),
        (r#" "203.0.113.9, x""#, "192.0.2.7"),
        (" 203.0.113.9", "192.0.2.7"),
    ] {
        let line = combined("GET / HTTP/1.1", "-", "curl") + field;
        let hit = parse(line.as_bytes()).unwrap();
        assert_eq!(hit.client.as_deref(), Some(client), "{field}");
    }
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
    assert_eq!(parse(&line).unwrap().url.text(), r"/\xE9");
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
