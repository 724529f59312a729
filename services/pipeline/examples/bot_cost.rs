//! Prints what it costs to mark bots: nanoseconds for each event of a log, decoded with and
//! without, and how many user agents had to be looked at. Each line that it reads is a user agent.
//!
//! `cargo run --release -p clickstream-pipeline --example bot_cost < agents.txt`

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the figures are what this program is for, and it is no part of the core"
)]

use std::collections::HashSet;
use std::io::{self, BufRead as _};
use std::time::Instant;

use clickstream_pipeline::bots::{BotList, signals};
use clickstream_pipeline::event::EventTime;
use clickstream_pipeline::spec::SemanticSpec;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let agents: Vec<String> = io::stdin().lock().lines().collect::<Result<_, _>>()?;
    let event = |agent: &String| {
        json!({
            "event_id": "0198f2c4-7d1e-7a31-9c55-2f6b8f0d4e11",
            "user_id": 1,
            "event_ts": 1_772_366_398_123_u64,
            "url": "https://shop.example/product/42?utm_source=newsletter",
            "referrer": "https://search.example/q",
            "user_agent": agent,
        })
        .to_string()
    };
    let events: Vec<String> = agents.iter().map(event).collect();
    let received_at = EventTime::from_micros(1_772_366_400_000_000);
    let mut spec = SemanticSpec::default();
    let plain = spec.decoder();
    spec.events.derived.bots = Some(BotList::NEWEST);
    let begun = Instant::now();
    std::hint::black_box(signals(BotList::NEWEST, Some("first")));
    println!("{:?} to compile the list", begun.elapsed());
    let marking = spec.decoder();
    for round in 1..=3 {
        for (name, decoder) in [("plain", &plain), ("marking", &marking)] {
            let (begun, mut marked) = (Instant::now(), 0_u64);
            for event in &events {
                let event = decoder.decode(event.as_bytes(), received_at);
                let derived = event.ok().and_then(|event| event.derived);
                marked += u64::from(derived.is_some_and(|derived| derived.bot != 0));
            }
            let nanoseconds = begun.elapsed().as_nanos() / events.len().max(1) as u128;
            println!("round {round}: {name}: {nanoseconds} ns an event, {marked} marked");
        }
    }
    let distinct: HashSet<&String> = agents.iter().collect();
    let begun = Instant::now();
    let marked = distinct
        .iter()
        .filter(|agent| signals(BotList::NEWEST, Some(agent)) != 0)
        .count();
    let nanoseconds = begun.elapsed().as_nanos() / distinct.len().max(1) as u128;
    println!(
        "{} agents, {marked} marked, {nanoseconds} ns to look at one",
        distinct.len()
    );
    Ok(())
}
