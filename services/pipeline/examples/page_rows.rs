//! Prints how many rows of aggregates a log takes by page and by URL, and of how many events the
//! user agent is a signal for a program. Each line that it reads is a time in seconds since 1970, a
//! tab, a URL, a tab and a user agent; others are left out.
//!
//! `cargo run -p clickstream-pipeline --example page_rows -- RULES WINDOW_SECONDS < urls.tsv`,
//! where RULES are as anchors have them: `{"trailing_slash":"Remove","fragment":"Remove"}`

#![expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]

use std::collections::HashSet;
use std::io::{self, BufRead as _};

use clickstream_pipeline::bots::BotList;
use clickstream_pipeline::event::EventTime;
use clickstream_pipeline::settle::page_hash;
use clickstream_pipeline::spec::SemanticSpec;
use clickstream_pipeline::window::TumblingWindow;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let rules = args.next().ok_or("no rules")?;
    let window: i64 = args.next().ok_or("no window")?.parse()?;
    let mut spec = SemanticSpec::default();
    spec.events.derived.page = Some(serde_json::from_str(&rules)?);
    spec.events.derived.bots = Some(BotList::NEWEST);
    let decoder = spec.decoder();
    let windows = TumblingWindow::new(window * 1_000_000);
    let (mut by_url, mut by_page) = (HashSet::new(), HashSet::new());
    let (mut urls, mut pages) = (HashSet::new(), HashSet::new());
    let (mut hits, mut bots) = (0_u64, 0_u64);
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut parts = line.split('\t');
        let Ok(seconds) = parts.next().unwrap_or_default().parse::<i64>() else {
            continue;
        };
        let event = json!({
            "event_id": "0198f2c4-7d1e-7a31-9c55-2f6b8f0d4e11",
            "user_id": 1,
            "event_ts": seconds,
            "url": parts.next().unwrap_or_default(),
            "user_agent": parts.next().unwrap_or_default(),
        })
        .to_string();
        let received_at = EventTime::from_micros(seconds * 1_000_000);
        let Ok(event) = decoder.decode(event.as_bytes(), received_at) else {
            continue;
        };
        let derived = event.derived.as_deref();
        let page = derived.and_then(|derived| derived.page.as_deref());
        let page = page_hash(page.unwrap_or(&event.url), None, event.site.as_deref());
        let url = page_hash(&event.url, None, None);
        let window = windows.containing(event.event_ts).start;
        by_url.insert((window, url));
        by_page.insert((window, page));
        urls.insert(url);
        pages.insert(page);
        hits += 1;
        bots += u64::from(derived.is_some_and(|derived| derived.bot != 0));
    }
    let (of_url, of_page) = (by_url.len(), by_page.len());
    let ratio = of_page as f64 / of_url as f64;
    println!("{hits} events, {bots} of them with a signal for a program");
    println!("{} URLs, {} pages", urls.len(), pages.len());
    println!("rows: {of_url} by URL, {of_page} by page: {ratio:.3}");
    Ok(())
}
