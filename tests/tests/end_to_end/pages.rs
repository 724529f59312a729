//! Pages that are made by rules, where visitors come from, and bots: in rows and aggregates, under
//! rules that change, and audited.

use crate::{
    progress::SHORT_SESSION,
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

#[tokio::test]
async fn a_flood_of_pages_makes_no_more_rows_than_the_bound_whoever_is_killed() -> anyhow::Result<()>
{
    const BOUND: i64 = 100;
    let stack = Stack::new(StackOptions {
        partitions: 4,
        spec: format!("  events: {{ page: {{ maxPerWindow: {BOUND} }} }}\n"),
        ..StackOptions::default()
    })
    .await?;
    // two windows, 5,000 pages, one of them with the name of all others; every tenth click comes
    // twice
    let at = now();
    let flood: Vec<Placed> = clicks(0..20_000, at)
        .iter()
        .enumerate()
        .flat_map(|(number, click)| {
            let page = match number % 5_000 {
                30 => "(other)".to_owned(),
                page => format!("https://shop.example/{page}"),
            };
            let at = click.at.micros() / 1_000 - i64::from(number / 4 % 2 == 0) * 60_000;
            let json = format!(
                r#"{{"event_id":"{}","user_id":"{}","event_ts":{at},"url":"{page}"}}"#,
                click.id, click.user,
            );
            let partition = i32::try_from(number % 4).unwrap_or_default();
            let times = 1 + usize::from(number % 10 == 0);
            vec![(partition, Some(json.into_bytes())); times]
        })
        .collect();
    let start = |generation: u32| stack.start_with(&format!("p{generation}"), &[SHORT_SESSION]);
    let mut processors = [start(0)?, start(1)?];
    let mut kills = 0;
    for piece in flood.chunks(2_500) {
        let goal = stack.consumed().await? + 300;
        stack.place(piece.to_vec()).await?;
        let reached =
            format!("select coalesce(sum(consumed), 0) >= {goal} from clickstream_checkpoints");
        stack
            .eventually("some of it is committed", &reached)
            .await?;
        let victim = &mut processors[kills % 2];
        victim.kill()?;
        kills += 1;
        *victim = start(1 + u32::try_from(kills)?)?;
    }
    stack.drained().await?;
    stack.ends_clean(&[&processors[0], &processors[1]]).await?;

    assert_eq!(stack.total("accepted").await?, 20_000);
    let hits = "select sum(hits)::bigint from clickstream_agg_minute";
    assert_eq!(stack.count(hits).await?, 20_000);
    let most = "select max(pages)::bigint from (
        select count(*) as pages from clickstream_agg_minute group by window_start) as windows";
    let most = stack.count(most).await?;
    assert!((BOUND..=4 * BOUND + 1).contains(&most), "{most} rows");
    let listed = "select max(pages)::bigint from (
        select sum(octet_length(url_hashes) / 16) as pages from clickstream_admitted_pages
        group by window_start, partition) as parts";
    assert_eq!(stack.count(listed).await?, BOUND);
    let others = "select sum(hits)::bigint from clickstream_agg_minute
        where url = '(other)' and event_name = '' and site is null";
    assert!(stack.count(others).await? > 15_000);
    // a page of that name is a page like any other
    let named = "select sum(hits)::bigint from clickstream_agg_minute
        where url = '(other)' and event_name = 'page_view'";
    assert_eq!(stack.count(named).await?, 4);
    Ok(())
}

#[tokio::test]
async fn what_is_counted_as_other_pages_and_what_limits_leave_out_of_properties_is_told()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 1,
        spec: "  events: { page: { maxPerWindow: 10 }, properties: Store, propertyLimits: { maxKeys: 1 } }\n"
            .to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start_watched("one")?;
    // ten pages of their own, five hits each of fifteen others; of three properties one is kept
    let records = clicks(0..125, now());
    let records = records.iter().enumerate().map(|(number, click)| {
        let json = format!(
            r#"{{"event_id":"{}","user_id":"{}","event_ts":{},"url":"/{}","a":1,"b":2,"c":3}}"#,
            click.id,
            click.user,
            click.at.micros() / 1_000,
            number % 25,
        );
        (0, Some(json.into_bytes()))
    });
    stack.place(records.collect()).await?;
    stack.drained().await?;
    let folded = format!(
        "clickstream_folded_hits_total{{partition=\"0\",topic=\"{}\"}} 75\n",
        stack.topic
    );
    processor.shows("/metrics", &folded).await?;
    processor
        .shows("/metrics", "clickstream_trimmed_properties_total 250\n")
        .await?;
    for said in ["\"trimmed_properties\":250", "\"folded_hits\":75"] {
        processor.shows("/status", said).await?;
    }
    stack.ends_clean(&[&processor.process]).await?;
    let others = "select sum(hits)::bigint from clickstream_agg_minute where url = '(other)'";
    assert_eq!(stack.count(others).await?, 75);
    Ok(())
}
