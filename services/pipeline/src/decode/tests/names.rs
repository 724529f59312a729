//! What happened, and on which site: `event_name` and `site`, which the first release did not know.

use super::*;
use crate::page::PageRules;
use crate::spec::{EventIds, EventsSpec, OptionalFields, PageSpec};

fn today(change: impl FnOnce(&mut EventRules)) -> Decoder {
    let mut spec = SemanticSpec::default();
    change(&mut spec.events);
    spec.decoder()
}

/// Rules for pages that are those of a spec with nothing in them.
fn pages() -> PageRules {
    let events = EventsSpec {
        page: Some(PageSpec::default()),
        ..EventsSpec::default()
    };
    events.rules().derived.page.unwrap()
}

/// Name and site of an event with two fields more.
fn said(decoder: &Decoder, event_name: &str, site: &str) -> (Option<String>, Option<String>) {
    let payload = with("event_name", event_name);
    let payload = format!("{{\"site\":{site},{}", &payload[1..]);
    let event = decoder.decode(payload.as_bytes(), RECEIVED_AT).unwrap();
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    (owned(event.event_name), owned(event.site))
}

fn pair(event_name: &str, site: &str) -> (Option<String>, Option<String>) {
    (Some(event_name.to_owned()), Some(site.to_owned()))
}

#[test]
fn an_event_may_say_what_happened_and_where() {
    assert_eq!(
        said(&TODAY, "\"sign\\u0075p\"", "\"shop\""),
        pair("signup", "shop")
    );
    assert_eq!(said(&TODAY, "null", "null"), (None, None));
    let strict = today(|events| events.optional_fields = OptionalFields::Reject);
    assert_eq!(
        said(&strict, "\"signup\"", "\"shop\""),
        pair("signup", "shop")
    );
}

#[test]
fn a_page_view_that_is_said_is_one_that_is_not_said() {
    let strict = today(|events| events.optional_fields = OptionalFields::Reject);
    for decoder in [&*TODAY, &strict] {
        assert_eq!(said(decoder, "\"page_view\"", "null"), (None, None));
        // and nothing else is
        let other = said(decoder, "\"Page_View\"", "null");
        assert_eq!(other, (Some("Page_View".to_owned()), None));
    }
}

#[test]
fn a_host_has_no_upper_case_and_other_sites_stay_as_they_are() {
    for (said_site, site) in [
        ("Shop.Example", "shop.example"),
        ("Shop.Example:8443", "shop.example:8443"),
        ("B\u{fc}cher.Example", "b\u{fc}cher.example"),
        ("Shop", "Shop"),
        ("Main Shop", "Main Shop"),
        ("No. 1", "No. 1"),
        ("https://Shop.Example", "https://Shop.Example"),
        ("17", "17"),
    ] {
        let (_, found) = said(&TODAY, "null", &format!("\"{said_site}\""));
        assert_eq!(found.as_deref(), Some(site));
    }
}

#[test]
fn a_site_that_is_said_comes_before_the_host_of_the_url() {
    let decoder = today(|events| events.derived.page = Some(pages()));
    let of = |site: &str| {
        let url = "\"https://www.example/a\"";
        let payload = with("url", url).replacen('{', &format!("{{\"site\":{site},"), 1);
        let event = decoder.decode(payload.as_bytes(), RECEIVED_AT).unwrap();
        event.site.map(Cow::into_owned)
    };
    assert_eq!(of("\"shop\"").as_deref(), Some("shop"));
    assert_eq!(of("null").as_deref(), Some("www.example"));
    // one that cannot be used is none
    assert_eq!(of("\"\"").as_deref(), Some("www.example"));
}

#[test]
fn the_first_release_goes_on_knowing_neither_whatever_they_hold() {
    for raw in ["\"signup\"", "7", "\"\"", "{}", "\"\\ud800\""] {
        for name in ["event_name", "site"] {
            let payload = with(name, raw).replacen('{', &format!("{{\"{name}\":1,"), 1);
            let event = judge(payload.as_bytes()).unwrap();
            assert_eq!((event.event_name, event.site), (None, None));
            assert!(event.cleaned.is_empty());
        }
    }
}

#[test]
fn what_breaks_the_rules_is_refused_where_the_spec_says_so() {
    let strict = today(|events| events.optional_fields = OptionalFields::Reject);
    for (name, raw, rule) in [
        ("event_name", "\"\"".to_owned(), "empty"),
        ("event_name", "7".to_owned(), "not a string"),
        (
            "event_name",
            format!("\"{}\"", "\u{e9}".repeat(129)),
            "longer than 128 characters",
        ),
        ("site", "\"\"".to_owned(), "empty"),
        (
            "site",
            format!("\"{}\"", "a".repeat(256)),
            "longer than 255 bytes",
        ),
        ("site", "\"a\\u0000\"".to_owned(), "contains U+0000"),
    ] {
        let payload = with(name, &raw);
        let rejected = strict.decode(payload.as_bytes(), RECEIVED_AT).unwrap_err();
        assert_eq!(rejected.detail, format!("{name}: {rule}"));
        let twice = with(name, "\"a\"").replacen('{', &format!("{{\"{name}\":\"b\","), 1);
        let rejected = strict.decode(twice.as_bytes(), RECEIVED_AT).unwrap_err();
        assert_eq!(rejected.detail, format!("{name}: key appears twice"));
    }
}

#[test]
fn two_events_of_one_moment_have_ids_of_their_own_if_their_names_or_sites_differ() {
    let decoder = today(|events| events.id = EventIds::FromFields);
    let paged = today(|events| {
        events.id = EventIds::FromFields;
        events.derived.page = Some(pages());
    });
    let id = |decoder: &Decoder, name: &str, raw: &str| {
        let payload = with("url", "\"https://shop.example/\"");
        let payload = format!("{{\"{name}\":{raw},{}", &payload[1..]);
        let event = decoder.decode(payload.as_bytes(), RECEIVED_AT).unwrap();
        event.event_id
    };
    let plain = id(&decoder, "event_name", "null");
    assert_eq!(id(&decoder, "event_name", "\"page_view\""), plain);
    assert_eq!(id(&decoder, "site", "\"\""), plain);
    let started = id(&decoder, "event_name", "\"session_start\"");
    let shop = id(&decoder, "site", "\"session_start\"");
    assert!(plain != started && plain != shop && started != shop);
    // a host that rules find in the URL says nothing new
    assert_eq!(id(&paged, "event_name", "null"), plain);
}

#[test]
fn properties_do_not_repeat_them() {
    let decoder = today(|events| events.properties = Some(PropertyLimits::default()));
    let payload = with("event_name", "\"signup\"").replacen('{', "{\"site\":\"shop\",\"a\":1,", 1);
    let event = decoder.decode(payload.as_bytes(), RECEIVED_AT).unwrap();
    assert_eq!(event.properties.as_deref(), Some("{\"a\":1}"));
}
