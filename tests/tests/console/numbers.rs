//! What the page shows is what the tables hold.

use clickstream_testbed::{browser::Browser, free_port};

use crate::{
    load::Load,
    records::{Click, now},
    stage::{Stage, is_clean, open, shows, written},
};

/// More of everything that is no ordinary event than there is in real traffic.
const MIXED: [&str; 6] = [
    "--duplicates",
    "0.05",
    "--malformed",
    "0.03",
    "--late",
    "0.02",
];

#[tokio::test]
async fn the_page_shows_the_numbers_of_the_tables_and_they_add_up() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let port = free_port()?;
    let _console = stage.console(port).await?;
    let browser = Browser::start().await?;
    let page = open(&browser, port).await?;
    // before the first event
    shows(&page, "#chart .empty", "No events yet").await?;
    shows(&page, "#letters", "None.").await?;

    let load = Load::start(&stage.stack, 400, &MIXED).await?;
    page.wait_for(
        "document.querySelectorAll('.bar').length > 0",
        crate::stage::PATIENCE,
    )
    .await?;
    shows(&page, "#letters table", "@").await?;
    page.wait_for(
        "/\\d ms|\\d s/.test(document.querySelectorAll('.tile .value')[3].textContent)",
        crate::stage::PATIENCE,
    )
    .await?;
    let sent = load.finish().await?;
    stage.stack.drained().await?;

    let total = async |column: &str| {
        let query = format!("select coalesce(sum({column}), 0) from clickstream_checkpoints");
        stage.count(&query).await
    };
    let consumed = total("consumed").await?;
    assert_eq!(consumed, sent);
    let equation = format!(
        "{} read = {} accepted + {} duplicate + {} rejected + {} late",
        written(consumed),
        written(total("accepted").await?),
        written(total("duplicate").await?),
        written(total("rejected").await?),
        written(total("late").await?),
    );
    shows(&page, "#flow .equation", &equation).await?;
    shows(&page, "#flow .holds", "adds up").await?;

    // the bars are the windows of the view, one for one
    page.eval("document.querySelector('#chart-table').open = true")
        .await?;
    let windows = stage
        .stack
        .client
        .query(
            "select to_char(window_start at time zone 'UTC', 'HH24:MI'), hits, visitors, sessions from clickstream_traffic_minute \
             order by window_start desc",
            &[],
        )
        .await?;
    for (at, row) in windows.iter().take(60).enumerate() {
        let line = format!(
            "{}{}{}{}",
            row.get::<_, String>(0),
            written(row.get(1)),
            written(row.get(2)),
            written(row.get(3))
        );
        let row = format!("#chart-table tbody tr:nth-child({})", at + 1);
        shows(&page, &row, &line).await?;
    }

    let top = stage
        .stack
        .client
        .query_one(
            "select sum(hits)::bigint from clickstream_agg_minute
             where window_start >= (select date_trunc('minute', max(clock_t)) from clickstream_checkpoints) - interval '4 minutes'
             group by url order by 1 desc limit 1",
            &[],
        )
        .await?;
    shows(&page, "#pages li .number", &written(top.get(0))).await?;

    // the processor has seen the end of the log, and the page says so
    shows(&page, "#tiles", "Lag0records, 4 partitions").await?;
    for row in stage
        .stack
        .client
        .query(
            "select partition, next_offset from clickstream_checkpoints order by partition",
            &[],
        )
        .await?
    {
        let (partition, next): (i32, i64) = (row.get(0), row.get(1));
        let line = format!("#partitions tbody tr:nth-child({})", partition + 1);
        shows(&page, &line, &written(next)).await?;
    }

    let newest = stage
        .stack
        .client
        .query_one(
            "select reason, detail from clickstream_dead_letters order by received_at desc, topic, partition, source_offset desc limit 1",
            &[],
        )
        .await?;
    shows(&page, "#letters tbody tr", newest.get(0)).await?;
    shows(&page, "#letters tbody tr", newest.get(1)).await?;

    // programs, one of which did not know its address: what a field lacked, and how many hits are
    // theirs
    shows(&page, "#cleaned", "None.").await?;
    let bots = "select sum(bot_hits)::bigint from clickstream_traffic_minute";
    let without_agent = stage.count(bots).await?;
    let crawls = (0..30).map(|number| {
        let json = Click::new(4_000_000 + number, now()).json();
        let more: &[u8] = match number {
            0 => br#","ip":"-","user_agent":"curl/8.7.1"}"#,
            _ => br#","user_agent":"Googlebot/2.1"}"#,
        };
        (
            format!("program-{number}"),
            Some([&json[..json.len() - 1], more].concat()),
        )
    });
    stage.stack.send(crawls.collect()).await?;
    stage.stack.drained().await?;
    // some of the traffic has no user agent
    assert_eq!(stage.count(bots).await?, without_agent + 30);
    shows(&page, "#cleaned tbody tr", "ipempty1").await?;
    shows(&page, "#pages-note", "% by programs").await?;

    is_clean(&page, port)?;
    Ok(())
}

#[tokio::test]
async fn the_page_itself_is_small() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let load = Load::start(&stage.stack, 200, &MIXED).await?;
    let port = free_port()?;
    let _console = stage.console(port).await?;
    let browser = Browser::start().await?;
    let page = open(&browser, port).await?;
    shows(&page, "#flow .holds", "adds up").await?;
    let bytes = page.bytes_received();
    eprintln!("the page with its first data: {bytes} bytes");
    assert!(bytes < 200_000, "{bytes} bytes");
    load.finish().await?;
    Ok(())
}
