//! *Explain this minute*: by mouse and by keyboard.

use clickstream_testbed::{browser::Browser, free_port};

use crate::{
    load::Load,
    stage::{PATIENCE, Stage, is_clean, open, shows, text, written},
};

#[tokio::test]
async fn a_bar_is_explained_when_it_is_clicked_or_entered() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    // two minutes of the past, so that there are bars to move between
    let ordinary = ["--duplicates", "0", "--malformed", "0", "--late", "0"];
    stage.history(30_000, 250, &ordinary).await?;
    let port = free_port()?;
    let _console = stage.console(port).await?;
    let browser = Browser::start().await?;
    let page = open(&browser, port).await?;
    page.wait_for("document.querySelectorAll('.bar').length > 1", PATIENCE)
        .await?;

    page.click("#chart .bar .area").await?;
    page.wait_for("document.querySelector('#explain tbody')", PATIENCE)
        .await?;
    let rows = stage
        .stack
        .client
        .query(
            "select parts.partition, parts.hits, min(source_offset), max(source_offset), count(*),
                    to_char(parts.window_start at time zone 'UTC', 'HH24:MI')
             from clickstream_traffic_parts as parts join clickstream_events as events
               on source_partition = partition and event_ts >= window_start and event_ts < window_end
             where window_start = (select min(window_start) from clickstream_traffic_parts)
             group by parts.partition, parts.hits, parts.window_start order by 1",
            &[],
        )
        .await?;
    let mut sum = 0;
    for row in &rows {
        let (partition, hits, stored): (i32, i64, i64) = (row.get(0), row.get(1), row.get(4));
        assert_eq!(hits, stored);
        sum += hits;
        let line = format!("#explain tbody tr:nth-child({})", partition + 1);
        let offsets = format!("{} – {}", written(row.get(2)), written(row.get(3)));
        let found = text(&page, &line).await?;
        assert!(
            found.contains(&written(hits)) && found.contains(&offsets),
            "{found}: {offsets}"
        );
    }
    shows(&page, "#explain-title", rows[0].get(5)).await?;
    shows(
        &page,
        "#explain .fact",
        &format!("{} rows in clickstream_events: the same", written(sum)),
    )
    .await?;
    assert_eq!(text(&page, ".fact .value").await?, written(sum));
    shows(&page, "#explain", "would count (for").await?;
    // the heading has the focus, so that a screen reader begins there; Escape gives it back to the
    // bar
    assert_eq!(
        page.eval("document.activeElement.id").await?,
        "explain-title"
    );
    page.press("Escape").await?;
    assert_eq!(
        page.eval("document.querySelector('#explain').hidden")
            .await?,
        true
    );

    let focused = "document.activeElement.getAttribute('aria-label')";
    let first = page.eval(focused).await?;
    page.press("ArrowRight").await?;
    let second = page.eval(focused).await?;
    assert_ne!(first, second);
    page.press("ArrowLeft").await?;
    assert_eq!(page.eval(focused).await?, first);
    page.press("End").await?;
    page.press("Home").await?;
    page.press("Enter").await?;
    page.wait_for("document.querySelector('#explain tbody')", PATIENCE)
        .await?;
    assert_eq!(text(&page, ".fact .value").await?, written(sum));
    is_clean(&page, port)?;
    Ok(())
}

#[tokio::test]
async fn the_keyboard_reaches_the_chart_and_stays_where_it_is_while_bars_come() -> anyhow::Result<()>
{
    let stage = Stage::new().await?;
    let load = Load::start(&stage.stack, 200, &[]).await?;
    let port = free_port()?;
    let _console = stage.console(port).await?;
    let browser = Browser::start().await?;
    let page = open(&browser, port).await?;
    page.wait_for("document.querySelectorAll('.bar').length > 0", PATIENCE)
        .await?;
    let on_bar = "document.activeElement.classList.contains('bar')";
    for _ in 0..4 {
        page.press("Tab").await?;
        if page.eval(on_bar).await? == true {
            break;
        }
    }
    assert_eq!(page.eval(on_bar).await?, true);
    let label = page
        .eval("document.activeElement.getAttribute('aria-label')")
        .await?;
    // the same bar, with more in it
    page.wait_for(
        &format!("document.activeElement.getAttribute('aria-label') !== {label} && {on_bar}"),
        PATIENCE,
    )
    .await?;
    load.finish().await?;
    Ok(())
}
