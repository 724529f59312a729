//! What all formats have in common.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use clickstream_pipeline::decode::Field;
use proptest::prelude::*;

use crate::replay::fields::FieldMap;
use crate::replay::format::Format;
use crate::replay::hit::{Hit, Miss, Skipped, Unparsable};

const SECOND: i64 = 1_795_168_801;

/// The hits of these lines, read as one input.
fn read(format: &Format, lines: &str) -> Vec<Result<Hit<'static>, Miss>> {
    let mut reader = format.reader(&FieldMap::default());
    lines
        .lines()
        .map(|line| reader.read(line.as_bytes()).map(Hit::into_owned))
        .collect()
}

/// URL, client and user agent of the only hit.
fn only(format: &Format, lines: &str) -> [String; 3] {
    let mut hits: Vec<_> = read(format, lines)
        .into_iter()
        .filter(|hit| *hit != Err(Skipped::Directive.into()))
        .collect();
    assert_eq!(hits.len(), 1, "{hits:?}");
    let hit = hits.remove(0).unwrap();
    assert_eq!(hit.micros().map(|micros| micros / 1_000_000), Some(SECOND));
    let target = hit.url.text().into_owned();
    let origin = hit
        .site
        .origin()
        .filter(|_| target.starts_with('/'))
        .unwrap_or_default();
    [
        origin + &target,
        hit.client.unwrap_or_default().into_owned(),
        hit.user_agent
            .map_or_else(String::new, |agent| agent.text().into_owned()),
    ]
}

#[test]
fn w3c_logs_are_read_by_their_fields_line_also_when_it_changes() {
    let iis = "#Software: Microsoft Internet Information Services 10.0\n\
        #Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) cs(Referer) sc-status\n\
        2026-11-20 10:00:01 198.51.100.1 GET /a b=1 443 - 192.0.2.1 Mozilla/5.0+(X11) - 200";
    assert_eq!(
        only(&Format::W3c, iis),
        ["/a?b=1", "192.0.2.1", "Mozilla/5.0 (X11)"]
    );
    let cloudfront = "#Version: 1.0\n\
        #Fields: date time c-ip cs-method cs(Host) cs-uri-stem cs(User-Agent) cs-uri-query x-host-header cs-protocol\n\
        2026-11-20\t10:00:01\t192.0.2.1\tGET\td1.cloudfront.example\t/a\tMozilla/5.0%20(X11)\t-\tshop.example\thttps";
    assert_eq!(
        only(&Format::W3c, cloudfront),
        ["https://shop.example/a", "192.0.2.1", "Mozilla/5.0 (X11)"]
    );
    let hits = read(
        &Format::W3c,
        "x\n#Fields: date time c-ip cs-uri-stem\n2026-11-20 10:00:01 192.0.2.1\n#Fields: time date cs-uri-stem\n10:00:01 2026-11-20 /b",
    );
    assert_eq!(hits[0], Err(Unparsable::NoHeader.into()));
    assert_eq!(hits[2], Err(Unparsable::Columns.into()));
    assert_eq!(hits[4].as_ref().unwrap().micros(), Some(SECOND * 1_000_000));
}

#[test]
fn logs_of_load_balancers_and_buckets_are_read_by_place() {
    let alb = r#"https 2026-11-20T10:00:01.000000Z app/shop/1 192.0.2.1:2817 198.51.100.1:80 0.0 0.1 0.0 200 200 34 366 "GET https://shop.example:443/a?b=1 HTTP/2.0" "curl/8" ECDHE TLSv1.2 arn "Root=1" "shop.example" "-" 0 2026-11-20T10:00:00Z "forward""#;
    let page = "https://shop.example/a?b=1";
    assert_eq!(only(&Format::Alb, alb), [page, "192.0.2.1:2817", "curl/8"]);
    let elb = r#"2026-11-20T10:00:01.000000Z shop 192.0.2.1:2817 198.51.100.1:80 0.0 0.1 0.0 200 200 0 29 "GET https://shop.example:443/a?b=1 HTTP/1.1" "curl/8" - -"#;
    assert_eq!(only(&Format::Elb, elb), [page, "192.0.2.1:2817", "curl/8"]);
    let s3 = r#"79a5 files [20/Nov/2026:10:00:01 +0000] 192.0.2.1 - 3E57 REST.GET.OBJECT a.pdf "GET /a.pdf HTTP/1.1" 200 - 113 113 7 6 "-" "curl/8" - h= SigV4 ECDHE AuthHeader files.example TLSv1.2 - -"#;
    assert_eq!(
        only(&Format::S3, s3),
        ["https://files.example/a.pdf", "192.0.2.1", "curl/8"]
    );
    let envoy = r#"[2026-11-20T10:00:01.250Z] "GET /a HTTP/2" 200 - 0 154 3 2 "192.0.2.1,10.0.0.7" "curl/8" "id" "shop.example" "198.51.100.1:80""#;
    assert_eq!(
        only(&Format::Envoy, envoy),
        ["https://shop.example/a", "192.0.2.1,10.0.0.7", "curl/8"]
    );
    let none = alb.replace(
        "GET https://shop.example:443/a?b=1 HTTP/2.0",
        "- http://shop.example:80- -",
    );
    assert_eq!(read(&Format::Alb, &none), [Err(Skipped::NoRequest.into())]);
}

#[test]
fn labels_and_headers_name_values() {
    let ltsv = "time:[20/Nov/2026:10:00:01 +0000]\thost:192.0.2.1\tforwardedfor:-\treq:GET /a HTTP/1.1\tvhost:shop.example\tua:curl/8";
    assert_eq!(
        only(&Format::Ltsv, ltsv),
        ["https://shop.example/a", "192.0.2.1", "curl/8"]
    );
    let csv = "Timestamp,IP Address,URL,\"User Agent\"\n2026-11-20 10:00:01,192.0.2.1,\"/a,\"\"b\"\"\",curl/8";
    assert_eq!(only(&Format::Csv, csv), ["/a,\"b\"", "192.0.2.1", "curl/8"]);
    let semicolons = "timestamp;ip;url;user_agent\n1795168801;192.0.2.1;/a,b;curl/8";
    assert_eq!(
        only(&Format::Csv, semicolons),
        ["/a,b", "192.0.2.1", "curl/8"]
    );
    let tsv = "ts\tclient_ip\trequest_uri\tuser_agent\n1795168801000\t192.0.2.1\t/a\tcurl/8";
    assert_eq!(only(&Format::Tsv, tsv), ["/a", "192.0.2.1", "curl/8"]);
    for broken in ["a,b\n1,2,3", "a,b\n1", "a,b\n\"1,2", "a,b\n\"1\"x,2"] {
        assert!(matches!(
            read(&Format::Csv, broken)[1],
            Err(Miss::Unparsable(_))
        ));
    }
}

#[test]
fn the_client_behind_a_proxy_is_found_in_every_format() {
    let page = ["/a", "203.0.113.7, 10.0.0.1", "x"];
    let list = "203.0.113.7, 10.0.0.1";
    let ltsv = format!("time:1795168801\thost:192.0.2.1\tforwardedfor:{list}\turi:/a\tua:x");
    assert_eq!(only(&Format::Ltsv, &ltsv), page);
    let header = "time,ip,x_forwarded_for,url,user_agent";
    let csv = format!("{header}\n1795168801,192.0.2.1,\"{list}\",/a,x");
    assert_eq!(only(&Format::Csv, &csv), page);
    let fields = "#Fields: date time c-ip cs-uri-stem cs(X-Forwarded-For) cs(User-Agent)";
    let w3c = format!("{fields}\n2026-11-20 10:00:01 192.0.2.1 /a 203.0.113.7,10.0.0.1 x");
    assert_eq!(only(&Format::W3c, &w3c)[1], "203.0.113.7,10.0.0.1");
    for name in [
        "forwardedfor",
        "forwarded_for",
        "xff",
        "XFF",
        "real_ip",
        "x-forwarded-for",
        "http_x_forwarded_for",
        "http_x_real_ip",
        "http_cf_connecting_ip",
        "True-Client-IP",
    ] {
        let json = format!(
            r#"{{"ip":"192.0.2.1","remote_addr":"192.0.2.1","{name}":"{list}","ts":1795168801,"url":"/a","ua":"x"}}"#
        );
        assert_eq!(only(&Format::Json, &json), page, "{name}");
    }
}

#[test]
fn a_text_called_user_is_a_user_where_no_better_name_is() {
    let user = |user: &str| {
        let line = format!(r#"{{"ts":1,"url":"/a",{user}}}"#);
        let hit = Format::Json
            .reader(&FieldMap::default())
            .read(line.as_bytes())
            .unwrap()
            .into_owned();
        hit.user.map(|user| user.text().into_owned())
    };
    assert_eq!(user(r#""user":"anna""#).as_deref(), Some("anna"));
    assert_eq!(
        user(r#""user":"x","user_id":"anna""#).as_deref(),
        Some("anna")
    );
    assert_eq!(user(r#""user":{"name":"anna"}"#), None);
    assert_eq!(user(r#""user":12"#), None);
}

proptest! {
    #[test]
    fn no_input_makes_a_reader_panic(
        lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..6),
        text in "[\",;:#\\[\\] \\t\\-a-z0-9{}\\\\]{0,80}",
    ) {
        for format in Format::TOLD_BY_LINES.into_iter().chain([Format::W3c, Format::Json]) {
            let mut reader = format.reader(&FieldMap::default());
            let _ = reader.read(b"#Fields: date time c-ip cs-uri-stem cs(User-Agent)");
            for line in lines.iter().map(Vec::as_slice).chain([text.as_bytes()]) {
                let _ = reader.read(line);
            }
        }
    }
}

#[test]
fn formats_with_names_tell_what_the_log_calls_a_field() {
    for (format, lines, time, url) in [
        (
            Format::Json,
            "{\"time\":1,\"request\":{\"uri\":\"/a\"}}",
            "time",
            "request.uri",
        ),
        (Format::Csv, "Time;Page URL\n1;/a", "Time", "Page URL"),
        (Format::Ltsv, "time:1\tpath:/a", "time", "path"),
        (
            Format::W3c,
            "#Fields: time cs-uri-stem\n1 /a",
            "time",
            "cs-uri-stem",
        ),
    ] {
        let mut reader = format.reader(&FieldMap::default());
        for line in lines.lines() {
            let _ = reader.read(line.as_bytes());
        }
        let called =
            [Field::EventTs, Field::Url, Field::Referrer].map(|field| reader.called(field));
        assert_eq!(called, [Some(time), Some(url), None], "{format}");
    }
    // a name that holds data is not told
    let mut reader = Format::Json.reader(&"event_ts=a/b@c#d".parse().unwrap());
    let _ = reader.read(b"{\"a/b@c#d\":1}");
    assert_eq!(reader.called(Field::EventTs), None);
    let combined = Format::AccessLog.reader(&FieldMap::default());
    assert_eq!(combined.called(Field::Url), None);
}
