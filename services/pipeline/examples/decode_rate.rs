//! Prints how many events per second one core decodes.
//!
//! `cargo run --release --package clickstream-pipeline --example decode_rate`

#![expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the ban on clocks is for the library; this program measures it"
)]

use std::hint::black_box;
use std::time::Instant;

use clickstream_pipeline::decode::Decoder;
use clickstream_pipeline::decode::properties::PropertyLimits;
use clickstream_pipeline::event::EventTime;
use clickstream_pipeline::spec::{EventRules, SemanticSpec};

/// Events per measurement: about half a second of work.
const EVENTS: usize = 1_000_000;

/// An event as browsers send it, of about 250 bytes.
const PLAIN: &str = r#"{"event_id":"0198f2c4-7d1e-7a31-9c55-2f6b8f0d4e11","user_id":"user-004217","event_ts":"2026-03-01T11:59:58.123Z","url":"https://shop.example.com/products/42?ref=home","ip":"203.0.113.7","session_id":"s-9f31c2","user_agent":"Mozilla/5.0 (X11)"}"#;

/// The same event with each field one or two objects deep, and five entries that are no fields.
const NESTED: &str = r#"{"meta":{"id":"0198f2c4-7d1e-7a31-9c55-2f6b8f0d4e11","at":"2026-03-01T11:59:58.123Z"},"who":{"user":"user-004217","visit":"s-9f31c2"},"context":{"page":{"url":"https://shop.example.com/products/42?ref=home","referrer":null},"client":{"ip":"203.0.113.7","agent":"Mozilla/5.0 (X11)"}},"cart":{"items":3,"total":49.5},"locale":"en-GB","tags":["a","b"],"ab":{"group":"B"}}"#;

/// Where its fields stand.
const POINTERS: [(&str, &str); 8] = [
    ("event_id", "/meta/id"),
    ("user_id", "/who/user"),
    ("event_ts", "/meta/at"),
    ("url", "/context/page/url"),
    ("referrer", "/context/page/referrer"),
    ("ip", "/context/client/ip"),
    ("session_id", "/who/visit"),
    ("user_agent", "/context/client/agent"),
];

fn main() {
    let escaped = PLAIN.replace("/products/", "\\/products\\/");
    let millis = PLAIN.replace("\"2026-03-01T11:59:58.123Z\"", "1772366398123");
    let forwarded = PLAIN.replace("203.0.113.7", "203.0.113.7, 10.0.0.7");
    let named = PLAIN.replace(
        "0198f2c4-7d1e-7a31-9c55-2f6b8f0d4e11",
        "web-1772366398123-5b1d0b3e",
    );
    let broken = PLAIN.replace("\"url\"", "\"page\"");
    let first = SemanticSpec {
        events: EventRules::of_first_release(),
        ..SemanticSpec::default()
    };
    let (first, today) = (first.decoder(), SemanticSpec::default().decoder());
    let mut mapped = SemanticSpec::default();
    for (field, pointer) in POINTERS {
        let pointers = vec![pointer.to_owned()];
        mapped
            .events
            .mapping
            .fields
            .insert(field.to_owned(), pointers);
    }
    let mut storing = mapped.clone();
    storing.events.properties = Some(PropertyLimits::default());
    let (mapped, storing) = (mapped.decoder(), storing.decoder());
    for (name, payload, decoder) in [
        ("plain, by the first release's rules", PLAIN, &first),
        ("plain", PLAIN, &today),
        ("epoch milliseconds", &millis, &today),
        ("with escapes", &escaped, &today),
        ("list of addresses", &forwarded, &today),
        ("id that is no UUID", &named, &today),
        ("8 nested fields", NESTED, &mapped),
        ("8 nested fields, 5 properties", NESTED, &storing),
        ("rejected", &broken, &today),
    ] {
        // the best of five: what the code needs, rather than what the machine was doing meanwhile
        let best = (0..5)
            .map(|_| seconds(decoder, payload.as_bytes()))
            .fold(f64::INFINITY, f64::min);
        let rate = EVENTS as f64 / best;
        println!(
            "{name}: {} bytes, {rate:.0} events/s, {:.3} us per event, {:.0} MB/s",
            payload.len(),
            1e6 / rate,
            rate * payload.len() as f64 / 1e6
        );
    }
}

fn seconds(decoder: &Decoder, payload: &[u8]) -> f64 {
    let received_at = EventTime::from_micros(1_772_366_400_000_000);
    let start = Instant::now();
    for _ in 0..EVENTS {
        // a rejection is a result like any other here
        let _ = black_box(decoder.decode(black_box(payload), received_at));
    }
    start.elapsed().as_secs_f64()
}
