//! Pages that are made by rules, where visitors come from, and bots: in rows and aggregates, under
//! rules that change, and audited.

use crate::{
    records::{Click, Placed, clicks, now},
    rules::{Document, followed},
    stack::{Stack, StackOptions},
};

/// Rules of all three kinds.
const RULES: &str = "  events: { page: { queryKeys: [lang], templates: [\"/item/:id\"] }, acquisition: Store, bots: Mark }\n";

/// A click on one of five items, each time by another URL; every fourth is a program's.
fn varied(click: &Click, number: usize) -> Placed {
    let agent = [
        "Mozilla/5.0 (X11)",
        "Googlebot/2.1",
        "Opera/9.80",
        "curl/8.7.1 HeadlessChrome/124",
    ][number % 4];
    let json = format!(
        r#"{{"event_id":"{}","user_id":"{}","event_ts":{},"url":"HTTPS:\/\/User@Shop.Example:443\/item\/{}\/?session={number}&lang=de&utm_source=news+{}#top","referrer":"https://Search.Example/q?{number}","user_agent":"{agent}"}}"#,
        click.id,
        click.user,
        click.at.micros() / 1_000,
        number % 5,
        number % 2,
    );
    (0, Some(json.into_bytes()))
}

fn placed(clicks: &[Click]) -> Vec<Placed> {
    let numbered = clicks.iter().enumerate();
    numbered
        .map(|(number, click)| varied(click, number))
        .collect()
}

impl Stack {
    /// Windows and pages whose aggregates are not what grouping the rows gives, either way.
    async fn pages_that_differ(&self) -> anyhow::Result<i64> {
        let rows = "select date_trunc('minute', event_ts) as minute, coalesce(page, url) as page, event_name, site,
                           count(*)::bigint as hits, (count(*) filter (where bot <> 0))::bigint as bot_hits
                    from clickstream_events group by 1, 2, 3, 4";
        let pages = "select window_start, url, event_name, site, hits, bot_hits from clickstream_agg_minute";
        self.count(&format!(
            "select count(*) from (({rows} except {pages}) union all ({pages} except {rows})) as differing"
        ))
        .await
    }
}

#[tokio::test]
async fn hits_are_counted_by_pages_that_rules_make_and_rows_keep_their_urls() -> anyhow::Result<()>
{
    let stack = Stack::new(StackOptions {
        partitions: 1,
        spec: RULES.to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start("one")?;
    // by insert at first, whatever it holds; by COPY once the processor knows what is new
    let at = now();
    for numbers in [0..40, 100..300] {
        stack.place(placed(&clicks(numbers, at))).await?;
        stack.drained().await?;
    }
    stack.ends_clean(&[&processor]).await?;

    let count = async |what: &str| {
        stack
            .count(&format!(
                "select count(*) from clickstream_events where {what}"
            ))
            .await
    };
    assert_eq!(
        count("page = 'https://shop.example/item/:id?lang=de' and site = 'shop.example'").await?,
        240
    );
    assert_eq!(
        count("url like 'HTTPS://User@Shop.Example:443/item/%#top'").await?,
        240
    );
    assert_eq!(
        count("utm_source = 'news 1' and utm_medium is null").await?,
        120
    );
    assert_eq!(count("referrer_host = 'search.example'").await?, 240);
    for (bot, events) in [(0, 120), (1, 60), (5, 60)] {
        assert_eq!(count(&format!("bot = {bot}")).await?, events, "{bot}");
    }
    assert_eq!(stack.pages_that_differ().await?, 0);
    let one = "select sum(hits)::bigint from clickstream_agg_minute
        where url = 'https://shop.example/item/:id?lang=de'";
    assert_eq!(stack.count(one).await?, 240);
    let bots = "select sum(bot_hits)::bigint from clickstream_traffic_minute";
    assert_eq!(stack.count(bots).await?, 120);
    assert_eq!(
        stack
            .count("select max(urls)::bigint from clickstream_traffic_minute")
            .await?,
        1
    );
    Ok(())
}

#[tokio::test]
async fn rules_for_pages_that_come_change_and_go_count_each_record_by_those_at_its_offset()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 1,
        ..StackOptions::default()
    })
    .await?;
    let document = Document::of(&stack)?;
    let processor = stack.start("one")?;
    let at = now();
    let templates = "  events: { page: { templates: [\"/item/:id\"] } }\n";
    for (step, spec) in (0..).zip(["", templates, RULES, ""]) {
        if step > 0 {
            document.says(spec)?;
            followed(&processor, step).await?;
        }
        let first = 1_000 * step as u64;
        stack.place(placed(&clicks(first..first + 100, at))).await?;
        stack.drained().await?;
    }
    stack.ends_clean(&[&processor]).await?;

    assert_eq!(stack.pages_that_differ().await?, 0);
    let pages = "select count(*) from clickstream_events where page ";
    assert_eq!(stack.count(&format!("{pages} is null")).await?, 200);
    for page in [
        "https://shop.example/item/:id",
        "https://shop.example/item/:id?lang=de",
    ] {
        assert_eq!(
            stack.count(&format!("{pages} = '{page}'")).await?,
            100,
            "{page}"
        );
    }
    let total = "select sum(hits)::bigint from clickstream_agg_minute";
    assert_eq!(stack.count(total).await?, stack.total("accepted").await?);
    assert_eq!(
        stack
            .count("select sum(bot_hits)::bigint from clickstream_agg_minute")
            .await?,
        50
    );
    Ok(())
}
