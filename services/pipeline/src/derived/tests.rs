//! What a decoder derives by the rules of a spec, and that it derives nothing without them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::{
    bots,
    event::{Event, EventTime},
    page::{Fragment, TrailingSlash},
    spec::{EventRules, SemanticSpec},
};

const EVENT: &str = r#"{"event_id":"0198f2c4-7d1e-7a31-9c55-2f6b8f0d4e11","user_id":1,
    "event_ts":1772366398123,"url":"https://Shop.example/product/42?utm_source=news+letter#top",
    "referrer":"https://Search.example/q","user_agent":"Googlebot/2.1"}"#;

fn rules() -> DerivedRules {
    DerivedRules {
        page: Some(PageRules {
            trailing_slash: TrailingSlash::Remove,
            fragment: Fragment::Remove,
            query: Vec::new(),
            templates: vec!["/product/:id".parse().unwrap()],
            max_per_window: None,
        }),
        acquisition: true,
        bots: Some(BotList::NEWEST),
    }
}

fn decoded(rules: DerivedRules, payload: &str) -> Event<'static> {
    let mut spec = SemanticSpec::default();
    spec.events.derived = rules;
    let received_at = EventTime::from_micros(1_772_366_400_000_000);
    let event = spec.decoder();
    let event = event.decode(payload.as_bytes(), received_at).unwrap();
    event.into_owned()
}

#[test]
fn without_rules_nothing_is_derived() {
    let event = decoded(DerivedRules::default(), EVENT);
    assert_eq!((event.derived, event.site), (None, None));
    assert_eq!(
        EventRules::of_first_release().derived,
        DerivedRules::default()
    );
}

#[test]
fn with_rules_page_site_campaign_referrer_and_bots_follow_from_the_fields() {
    // the same URL with an escape sequence in it is no part of the payload
    let escaped = EVENT.replace("/product/", "\\/product\\/");
    for payload in [EVENT, &escaped] {
        let event = decoded(rules(), payload);
        assert!(event.url.ends_with("#top"), "the URL itself stays");
        assert_eq!(event.site.as_deref(), Some("shop.example"));
        let derived = *event.derived.unwrap();
        let page = "https://shop.example/product/:id";
        assert_eq!(derived.page.as_deref(), Some(page));
        assert_eq!(derived.referrer_host.as_deref(), Some("search.example"));
        let campaign = [Some("news letter".into()), None, None, None, None];
        assert_eq!(derived.campaign, campaign);
        assert_eq!(derived.bot, bots::LISTED);
    }
}

#[test]
fn a_url_whose_port_is_no_number_has_no_site_and_is_its_own_page() {
    for (port, site) in [
        (":8080", Some("shop.example")),
        (":", Some("shop.example")),
        (":http", None),
        (":80 80", None),
        (":-1", None),
        (":٣", None),
    ] {
        let from = format!("https://Shop.example{port}/product/42");
        let event = decoded(
            rules(),
            &EVENT.replace("https://Shop.example/product/42", &from),
        );
        assert_eq!(event.site.as_deref(), site, "{from}");
        if site.is_none() {
            let page = event.derived.unwrap().page.unwrap_or(event.url);
            assert!(page.starts_with(&from), "{from}: {page}");
        }
    }
}

#[test]
fn each_kind_of_rules_derives_its_own_and_no_other() {
    let only = |change: fn(&mut DerivedRules, DerivedRules)| {
        let mut some = DerivedRules::default();
        change(&mut some, rules());
        let event = decoded(some, EVENT);
        (*event.derived.unwrap(), event.site.is_some())
    };
    let (page, site) = only(|some, all| some.page = all.page);
    assert!(site && page.page.is_some() && page.bot == 0 && page.referrer_host.is_none());
    let (acquisition, site) = only(|some, all| some.acquisition = all.acquisition);
    assert!(!site && acquisition.page.is_none() && acquisition.bot == 0);
    assert!(acquisition.campaign[0].is_some() && acquisition.referrer_host.is_some());
    let (bots, site) = only(|some, all| some.bots = all.bots);
    assert!(!site && bots.page.is_none() && bots.bot != 0 && bots.campaign[0].is_none());
}

#[test]
fn rules_are_kept_with_anchors_and_those_of_a_later_release_are_refused() {
    let text = r#"{"page":{"trailing_slash":"Remove","fragment":"Remove","templates":["/product/:id"]},"acquisition":true,"bots":1}"#;
    assert_eq!(serde_json::to_string(&rules()).unwrap(), text);
    assert_eq!(serde_json::from_str::<DerivedRules>(text).unwrap(), rules());
    assert_eq!(
        serde_json::to_string(&DerivedRules::default()).unwrap(),
        "{}"
    );
    for later in [
        r#"{"bots":2}"#,
        r#"{"sessions":{}}"#,
        r#"{"page":{"trailing_slash":"Remove"}}"#,
        r#"{"page":{"trailing_slash":"Add","fragment":"Remove"}}"#,
        r#"{"page":{"trailing_slash":"Keep","fragment":"Keep","case":"Lower"}}"#,
        r#"{"page":{"trailing_slash":"Keep","fragment":"Keep","templates":["x"]}}"#,
    ] {
        assert!(
            serde_json::from_str::<DerivedRules>(later).is_err(),
            "{later}"
        );
    }
}
