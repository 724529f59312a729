//! Each preset on records of the form that its product documents, with values of our own.

use super::*;
use crate::decode::Decoder;
use crate::event::{Event, EventTime};
use crate::spec::{EventsSpec, SemanticSpec};

/// 2026-03-01T12:00:00Z.
const RECEIVED_AT: EventTime = EventTime::from_micros(1_772_366_400_000_000);
/// 2026-03-01T11:59:58.123Z.
const AT: i64 = 1_772_366_398_123_000;

fn decoder(preset: Preset) -> Decoder {
    let events = EventsSpec {
        preset: Some(preset),
        ..EventsSpec::default()
    };
    let spec = SemanticSpec {
        events: events.rules(),
        ..SemanticSpec::default()
    };
    spec.decoder()
}

fn event(preset: Preset, record: &str) -> Event<'static> {
    let decoder = decoder(preset);
    match decoder.decode(record.as_bytes(), RECEIVED_AT) {
        Ok(event) => event.into_owned(),
        Err(rejected) => panic!("{preset:?}: {}", rejected.detail),
    }
}

/// Name and site of an event.
fn named<'e>(event: &'e Event<'_>) -> (Option<&'e str>, Option<&'e str>) {
    (event.event_name.as_deref(), event.site.as_deref())
}

/// User, time, URL, referrer, address, session and user agent, as text.
fn shown(event: &Event<'_>) -> [String; 7] {
    let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
    [
        event.user_id.to_string(),
        event.event_ts.micros().to_string(),
        event.url.to_string(),
        text(event.referrer.as_deref()),
        text(event.ip.map(|ip| ip.to_string()).as_deref()),
        text(event.session_id.as_deref()),
        text(event.user_agent.as_deref()),
    ]
}

fn expected(user: &str, session: &str, user_agent: &str) -> [String; 7] {
    [
        user,
        &AT.to_string(),
        "https://shop.example/cart?step=2",
        "https://search.example/",
        "192.0.2.7",
        session,
        user_agent,
    ]
    .map(str::to_owned)
}

const SEGMENT: &str = r#"{
  "anonymousId": "23adfd82-aa0f-45a7-a756-24f2a7a4c895",
  "context": {
    "ip": "192.0.2.7",
    "library": { "name": "analytics.js", "version": "next-1.62.0" },
    "locale": "en-GB",
    "page": {
      "path": "/cart",
      "referrer": "https://search.example/",
      "search": "?step=2",
      "title": "Cart",
      "url": "https://shop.example/cart?step=2"
    },
    "timezone": "Europe/Berlin",
    "userAgent": "Mozilla/5.0 (X11)"
  },
  "integrations": {},
  "messageId": "ajs-next-1772366398123-23adfd82-aa0f-45a7-a756-24f2a7a4c895",
  "originalTimestamp": "2026-03-01T11:59:57.900Z",
  "properties": { "path": "/cart", "url": "https://shop.example/cart?step=2" },
  "receivedAt": "2026-03-01T11:59:58.500Z",
  "sentAt": "2026-03-01T11:59:58.100Z",
  "timestamp": "2026-03-01T11:59:58.123Z",
  "type": "page",
  "userId": null,
  "version": 2
}"#;

#[test]
fn segments_page_calls_are_read() {
    let user = "23adfd82-aa0f-45a7-a756-24f2a7a4c895";
    let agent = "Mozilla/5.0 (X11)";
    assert_eq!(
        shown(&event(Preset::Segment, SEGMENT)),
        expected(user, "-", agent)
    );
    assert_eq!(
        named(&event(Preset::Segment, SEGMENT)),
        (Some("page"), None)
    );
    // who has signed in is the same person on all devices
    let signed_in = SEGMENT.replace("\"userId\": null", "\"userId\": \"97980cfea0067\"");
    assert_eq!(
        shown(&event(Preset::Segment, &signed_in)),
        expected("97980cfea0067", "-", agent)
    );
    // other calls have the page among their properties alone
    let track = r#"{"type":"track","event":"Added","messageId":"m-1","userId":"anna",
        "timestamp":"2026-03-01T11:59:58.123Z","context":{"ip":"192.0.2.7"},
        "properties":{"url":"https://shop.example/cart?step=2",
        "referrer":"https://search.example/"}}"#;
    assert_eq!(
        shown(&event(Preset::Segment, track)),
        expected("anna", "-", "-")
    );
    assert_eq!(named(&event(Preset::Segment, track)), (Some("Added"), None));
}

#[test]
fn a_message_of_segment_sent_again_is_the_same_event() {
    let id = |record: &str| event(Preset::Segment, record).event_id;
    let other = SEGMENT.replace("ajs-next-1772366398123", "ajs-next-1772366398124");
    assert_eq!(id(SEGMENT), id(SEGMENT));
    assert_ne!(id(SEGMENT), id(&other));
}

#[test]
fn rudder_stacks_events_have_a_session_and_the_address_of_the_request() {
    let record = r#"{
      "anonymousId": "1af9a5a4-cc3f-4f1b-9a0f-0d0e6a4d6a11",
      "channel": "web",
      "context": {
        "app": { "name": "RudderLabs JavaScript SDK", "namespace": "com.rudderlabs.javascript" },
        "page": {
          "initial_referrer": "$direct",
          "path": "/cart",
          "referrer": "https://search.example/",
          "url": "https://shop.example/cart?step=2"
        },
        "sessionId": 1772366300000,
        "userAgent": "Mozilla/5.0 (X11)"
      },
      "event": "",
      "messageId": "c9ef33bc-f1a1-4d33-b8aa-0b3b2e1a7d55",
      "originalTimestamp": "2026-03-01T11:59:58.123Z",
      "properties": { "path": "/cart" },
      "request_ip": "192.0.2.7",
      "sentAt": "2026-03-01T11:59:58.200Z",
      "type": "page",
      "userId": "anna"
    }"#;
    assert_eq!(
        shown(&event(Preset::RudderStack, record)),
        expected("anna", "1772366300000", "Mozilla/5.0 (X11)")
    );
}

#[test]
fn post_hogs_events_are_read() {
    let record = r#"{
      "uuid": "0195514e-8d8b-7c2b-a5f7-c1a2b3d4e5f6",
      "event": "$pageview",
      "distinct_id": "anna",
      "properties": {
        "$browser": "Firefox",
        "$current_url": "https://shop.example/cart?step=2",
        "$host": "shop.example",
        "$ip": "192.0.2.7",
        "$lib": "web",
        "$pathname": "/cart",
        "$raw_user_agent": "Mozilla/5.0 (X11)",
        "$referrer": "https://search.example/",
        "$session_id": "0195514e-0000-7000-8000-000000000001"
      },
      "timestamp": "2026-03-01T11:59:58.123000+00:00",
      "team_id": 1
    }"#;
    let session = "0195514e-0000-7000-8000-000000000001";
    let event = event(Preset::PostHog, record);
    assert_eq!(
        shown(&event),
        expected("anna", session, "Mozilla/5.0 (X11)")
    );
    assert_eq!(named(&event), (Some("$pageview"), Some("shop.example")));
    assert_eq!(
        event.event_id.to_string(),
        "0195514e-8d8b-7c2b-a5f7-c1a2b3d4e5f6"
    );
}

#[test]
fn snowplows_enriched_events_are_read() {
    let record = r#"{
      "app_id": "shop",
      "platform": "web",
      "collector_tstamp": "2026-03-01T11:59:58.400Z",
      "derived_tstamp": "2026-03-01T11:59:58.123Z",
      "event": "page_view",
      "event_id": "c6ef3124-b53a-4b13-a233-0088f79dcbcb",
      "event_name": "page_view",
      "user_id": null,
      "user_ipaddress": "192.0.2.7",
      "domain_userid": "bc2e92ec6c204a14",
      "domain_sessionidx": 3,
      "domain_sessionid": "2b15e5c8-d3b1-11e4-b9d6-1681e6b88ec1",
      "network_userid": "ecdff4d0-9175-40ac-a8bb-325c49733607",
      "page_url": "https://shop.example/cart?step=2",
      "page_urlhost": "shop.example",
      "page_referrer": "https://search.example/",
      "useragent": "Mozilla/5.0 (X11)",
      "contexts_com_snowplowanalytics_snowplow_web_page_1": [
        { "id": "b0d2b2b4-5bcf-4b0f-9d3a-0d0e6a4d6a12" }
      ],
      "geo_country": "DE"
    }"#;
    let session = "2b15e5c8-d3b1-11e4-b9d6-1681e6b88ec1";
    assert_eq!(
        shown(&event(Preset::Snowplow, record)),
        expected("bc2e92ec6c204a14", session, "Mozilla/5.0 (X11)")
    );
    assert_eq!(
        named(&event(Preset::Snowplow, record)),
        (None, Some("shop.example"))
    );
}

#[test]
fn parameters_of_matomos_tracking_api_are_read() {
    let record = r#"{
      "idsite": "1", "rec": "1", "apiv": "1", "action_name": "Cart",
      "url": "https://shop.example/cart?step=2",
      "urlref": "https://search.example/",
      "_id": "c00f0c4675b91fb8", "cip": "192.0.2.7", "ua": "Mozilla/5.0 (X11)",
      "cdt": "1772366398", "pv_id": "x7Kq2a", "rand": "351459"
    }"#;
    let mut shown_as = expected("c00f0c4675b91fb8", "-", "Mozilla/5.0 (X11)");
    shown_as[1] = "1772366398000000".to_owned();
    assert_eq!(shown(&event(Preset::Matomo, record)), shown_as);
    assert_eq!(named(&event(Preset::Matomo, record)), (None, Some("1")));
    let tracked = record.replace("\"rec\"", "\"e_a\": \"Play\", \"rec\"");
    assert_eq!(
        named(&event(Preset::Matomo, &tracked)),
        (Some("Play"), Some("1"))
    );
}

#[test]
fn rows_of_google_analytics_export_are_read() {
    let record = r#"{
      "event_date": "20260301",
      "event_timestamp": "1772366398123000",
      "event_name": "page_view",
      "event_params": [
        { "key": "ga_session_id", "value": { "int_value": "1772366300" } },
        { "key": "page_referrer", "value": { "string_value": "https://search.example/" } },
        { "key": "page_location",
          "value": { "string_value": "https://shop.example/cart?step=2" } },
        { "key": "engaged_session_event", "value": { "int_value": "1" } }
      ],
      "user_pseudo_id": "1174325692.1772366301",
      "device": { "category": "desktop", "web_info": { "hostname": "shop.example" } },
      "stream_id": "2530670391",
      "platform": "WEB"
    }"#;
    let mut shown_as = expected("1174325692.1772366301", "1772366300", "-");
    shown_as[4] = "-".to_owned();
    let view = event(Preset::Ga4, record);
    assert_eq!(shown(&view), shown_as);
    assert_eq!(named(&view), (None, Some("shop.example")));
    // what happens in the same moment is another event
    let started = record.replace("page_view", "session_start");
    let started = event(Preset::Ga4, &started);
    assert_eq!(named(&started).0, Some("session_start"));
    assert_ne!(started.event_id, view.event_id);
}

#[test]
fn cloud_events_carry_our_fields_as_an_object_or_as_text() {
    let data = r#"{"userId":"anna","url":"https://shop.example/cart?step=2",
        "referrer":"https://search.example/","ip":"192.0.2.7","sessionId":"s-1",
        "userAgent":"Mozilla/5.0 (X11)"}"#;
    let quoted = serde_json::to_string(data).unwrap();
    for data in [data, &quoted] {
        let record = format!(
            r#"{{"specversion":"1.0","id":"A234-1234-1234","source":"/shop/web",
            "type":"example.shop.page","time":"2026-03-01T11:59:58.123Z",
            "datacontenttype":"application/json","data":{data}}}"#
        );
        assert_eq!(
            shown(&event(Preset::CloudEvents, &record)),
            expected("anna", "s-1", "Mozilla/5.0 (X11)")
        );
        assert_eq!(
            named(&event(Preset::CloudEvents, &record)),
            (Some("example.shop.page"), None)
        );
    }
}

#[test]
fn what_is_missing_is_said_with_the_places_that_were_looked_at() {
    let decoder = decoder(Preset::Segment);
    let record = r#"{"messageId":"m-1","timestamp":"2026-03-01T11:59:58.123Z"}"#;
    let rejected = decoder.decode(record.as_bytes(), RECEIVED_AT).unwrap_err();
    assert_eq!(
        rejected.detail,
        "user_id: nothing at /userId or /anonymousId"
    );
}

#[test]
fn a_schema_registrys_prefix_is_taken_off_where_the_spec_says_so() {
    let mut spec = SemanticSpec::default();
    spec.events = EventsSpec {
        preset: Some(Preset::Segment),
        schema_registry_prefix: crate::spec::SchemaRegistryPrefix::Strip,
        ..EventsSpec::default()
    }
    .rules();
    let decoder = spec.decoder();
    for prefix in [&[][..], &[0, 0, 0, 0, 1], &[0, 0xff, 0xff, 0xff, 0xff]] {
        let record = [prefix, SEGMENT.as_bytes()].concat();
        assert!(decoder.decode(&record, RECEIVED_AT).is_ok());
    }
    for record in [&[0][..], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 1, b'{']] {
        assert!(decoder.decode(record, RECEIVED_AT).is_err());
    }
    let kept = SemanticSpec::default().decoder();
    let record = [&[0, 0, 0, 0, 1], SEGMENT.as_bytes()].concat();
    assert!(kept.decode(&record, RECEIVED_AT).is_err());
}
