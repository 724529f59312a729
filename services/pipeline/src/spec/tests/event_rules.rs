//! How records are read, as anchors keep it: releases that do not know each other's rules never
//! judge by half of them.

use super::*;

/// A semantic spec as the first release writes it into anchors.
const FIRST_RELEASE: &str = r#"{"window_micros":60000000,"delay_micros":10000000,"max_future_skew_micros":300000000,
    "allowed_lateness_micros":600000000,"late_policy":"Divert","max_event_bytes":65536}"#;

fn with_events(events: &str) -> String {
    let rules = format!(r#","events":{events}}}"#);
    FIRST_RELEASE.replacen('}', &rules, 1)
}

#[test]
fn an_anchor_of_the_first_release_means_its_rules_and_is_written_as_it_wrote_it() {
    let spec: SemanticSpec = serde_json::from_str(FIRST_RELEASE).unwrap();
    assert_eq!(spec.events, EventRules::of_first_release());
    let plain = FIRST_RELEASE.replace(['\n', ' '], "");
    assert_eq!(serde_json::to_string(&spec).unwrap(), plain);
    // whose click with an address that is none is a dead letter, as it was when it was read
    let event = br#"{"event_id":"018e2f00-0000-7000-8000-000000000001","user_id":1,"event_ts":1710114600000,"url":"/","ip":"-"}"#;
    let received_at = crate::event::EventTime::from_micros(1_710_114_600_000_000);
    assert!(spec.decoder().decode(event, received_at).is_err());
    assert!(
        SemanticSpec::default()
            .decoder()
            .decode(event, received_at)
            .is_ok()
    );
}

#[test]
fn todays_anchors_name_what_is_not_the_default_and_are_read_back() {
    let spec = SemanticSpec::default();
    let written = serde_json::to_string(&spec).unwrap();
    assert!(
        written.ends_with(r#","events":{"version":2}}"#),
        "{written}"
    );
    for spec in [spec, full().semantic()] {
        let written = serde_json::to_string(&spec).unwrap();
        assert_eq!(
            serde_json::from_str::<SemanticSpec>(&written).unwrap(),
            spec
        );
    }
}

#[test]
fn rules_of_a_later_release_are_refused_instead_of_being_followed_by_half() {
    for (events, said) in [
        (
            r#"{"version":3}"#,
            "version 3 of the rules for events is of a later release",
        ),
        (
            r#"{"version":2,"sampling":0.5}"#,
            "unknown field `sampling`",
        ),
        (
            r#"{"version":2,"optional_fields":"Guess"}"#,
            "unknown variant `Guess`",
        ),
        (
            r#"{"version":2,"trusted_proxies":["ten"]}"#,
            "`ten` is no range of addresses",
        ),
    ] {
        let error = serde_json::from_str::<SemanticSpec>(&with_events(events)).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let later = FIRST_RELEASE.replacen('}', r#","mood":"good"}"#, 1);
    let error = serde_json::from_str::<SemanticSpec>(&later).unwrap_err();
    assert!(
        error.to_string().contains("unknown field `mood`"),
        "{error}"
    );
}

#[test]
fn proxies_are_few() {
    let range: IpRange = "10.0.0.0/8".parse().unwrap();
    problems::problems(|p| p.spec.events.trusted_proxies = vec![range; 64], &[]);
    problems::problems(
        |p| p.spec.events.trusted_proxies = vec![range; 65],
        &["spec.events.trustedProxies"],
    );
}
