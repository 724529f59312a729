#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use proptest::prelude::*;

use super::{InvalidPattern, Pattern, PatternLines};
use crate::replay::formats::LineFormat as _;
use crate::replay::hit::{Hit, Miss, Skipped, Unparsable};

fn read<'a>(pattern: &str, line: &'a str) -> Result<Hit<'a>, Miss> {
    PatternLines::new(&pattern.parse().unwrap()).read(line.as_bytes())
}

/// URL, client and user agent.
fn of(pattern: &str, line: &str) -> (String, String, String) {
    let hit = read(pattern, line).unwrap();
    assert_eq!(
        hit.micros().map(|micros| micros / 1_000_000),
        Some(1_795_168_801),
        "{pattern}"
    );
    let target = hit.url.text().into_owned();
    (
        hit.site.origin().unwrap_or_default() + &target,
        hit.client.clone().unwrap_or_default().into_owned(),
        hit.user_agent
            .as_ref()
            .map_or_else(String::new, |agent| agent.text().into_owned()),
    )
}

#[test]
fn apaches_directives_are_read_however_the_configuration_has_them() {
    let line = r#"192.0.2.1 - - [20/Nov/2026:10:00:01 +0000] "GET /a?b=\"c\" HTTP/1.1" 200 5 "-" "curl \"x\"" 17"#;
    for pattern in [
        r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i" %D"#,
        r#"%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\""#,
        r#"LogFormat "%a %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\" %D" own"#,
    ] {
        assert_eq!(
            of(pattern, line),
            ("/a?b=\"c\"".into(), "192.0.2.1".into(), "curl \"x\"".into())
        );
    }
    assert_eq!(
        of(
            "%{%Y-%m-%d %H:%M:%S}t|%V|%p|%{c}a|%{X-Forwarded-For}i|%m|%U%q|%!200,304{User-agent}i",
            "2026-11-20 10:00:01|shop.example|8443|198.51.100.1|192.0.2.1, 10.0.0.1|GET|/a?b=1|x"
        ),
        (
            "https://shop.example:8443/a?b=1".into(),
            "192.0.2.1, 10.0.0.1".into(),
            "x".into()
        )
    );
    assert_eq!(
        of(
            "%{msec}t %% %h \"%r\"",
            "1795168801500 % 192.0.2.1 \"GET /a\""
        )
        .0,
        "/a"
    );
}

#[test]
fn nginxs_variables_are_read_however_the_configuration_has_them() {
    let pattern = "log_format main '$remote_addr - $remote_user [$time_local] \"$request\" '\n                '$status \"$http_user_agent\" ${host}$scheme';";
    assert!(matches!(
        pattern.parse::<Pattern>(),
        Err(InvalidPattern::Together(_))
    ));
    let pattern = pattern.replace("${host}$scheme", "${host} $scheme");
    let line = r#"192.0.2.1 - frank miller [20/Nov/2026:10:00:01 +0000] "GET /a HTTP/1.1" 200 "curl \x22x\x22" shop.example http"#;
    assert_eq!(
        of(&pattern, line),
        (
            "http://shop.example/a".into(),
            "192.0.2.1".into(),
            "curl \"x\"".into()
        )
    );
    assert_eq!(
        of(
            "$msec\\t$http_x_forwarded_for\\t$remote_addr\\t$uri\\t$args",
            "1795168801.250\t-\t192.0.2.1\t/a\tb=1"
        ),
        ("/a?b=1".into(), "192.0.2.1".into(), String::new())
    );
}

#[test]
fn a_form_without_page_or_time_is_refused() {
    for (text, expected) in [
        ("%h %t", InvalidPattern::NoRequest),
        ("$remote_addr $request", InvalidPattern::NoTime),
        ("%t %r %", InvalidPattern::NoDirective("%".into())),
        ("%t %{a", InvalidPattern::NoDirective("%{a".into())),
        ("%{%Q}t %r", InvalidPattern::NoTimeForm("%Q".into())),
    ] {
        assert_eq!(text.parse::<Pattern>(), Err(expected), "{text}");
    }
}

#[test]
fn lines_of_another_form_are_none() {
    let pattern = r#"%h %t "%r" %>s"#;
    let miss = |line: &str| read(pattern, line).unwrap_err();
    assert_eq!(miss("x"), Unparsable::OtherForm.into());
    assert_eq!(
        miss(r#"192.0.2.1 [20/Nov/2026:10:00:01 +0000] "GET /a"#),
        Unparsable::OtherForm.into()
    );
    assert_eq!(
        miss(r#"192.0.2.1 [20/Nov/2026:10:00:01 +0000] "-" 408"#),
        Skipped::NoRequest.into()
    );
}

proptest! {
    #[test]
    fn no_form_and_no_line_make_it_panic(pattern in "[%$a-zA-Z{}\" \\\\>\\[\\]-]{0,30}", line: Vec<u8>) {
        if let Ok(pattern) = pattern.parse::<Pattern>() {
            let _ = PatternLines::new(&pattern).read(&line);
        }
        let fixed: Pattern = r#"%h %l %t "%r" "%{User-Agent}i""#.parse().unwrap();
        let _ = PatternLines::new(&fixed).read(&line);
    }
}
