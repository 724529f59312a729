//! How the page looks: in both themes, on a telephone, and to those who do not see it.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use clickstream_pipeline::event::EventTime;
use clickstream_producer::generator::{Generator, GeneratorOptions};
use clickstream_testbed::{
    browser::{Browser, Page},
    free_port, server_dir,
};

use crate::{
    load::Load,
    stage::{PATIENCE, Stage, is_clean, open, producer, shows, visit},
};

/// Windows and themes that are looked at.
const VIEWS: [(&str, u32, u32, bool, bool); 5] = [
    ("light", 1280, 900, false, false),
    ("dark", 1280, 900, false, true),
    ("phone", 390, 844, true, false),
    ("phone-dark", 390, 844, true, true),
    ("tablet", 820, 1180, false, false),
];

/// Pictures go into this folder, if it is set; those of the docs were made with it
/// (docs/console.md).
fn pictures() -> Option<PathBuf> {
    std::env::var_os("CLICKSTREAM_PICTURES").map(PathBuf::from)
}

async fn fits(page: &Page, name: &str) -> anyhow::Result<()> {
    let over = page
        .eval("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        .await?;
    ensure!(over == 0, "{name}: {over} pixels wider than the window");
    // nothing is cut off inside of a panel either
    let cut = page
        .eval(
            "[...document.querySelectorAll('main *')].filter((node) => !node.closest('.unseen, svg') && node.className !== 'url' \
             && node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).display !== 'inline') \
             .map((node) => `${node.tagName}.${node.className}: ${node.textContent.slice(0, 60)}`)",
        )
        .await?;
    ensure!(cut == serde_json::json!([]), "{name}: cut off: {cut}");
    Ok(())
}

async fn accessible(page: &Page, name: &str) -> anyhow::Result<()> {
    match page.inaccessible().await? {
        Some(found) => ensure!(found.is_empty(), "{name}: {found:#?}"),
        None => {
            ensure!(std::env::var_os("CI").is_none(), "axe-core needs npm");
            eprintln!("skipped: axe-core needs npm");
        }
    }
    Ok(())
}

/// Sixty-five minutes of made-up traffic that rises and falls around `rate` events a second, with a
/// dent where a shop was closed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a shape, no figures"
)]
fn hour(rate: f64) -> anyhow::Result<Vec<(String, Option<Vec<u8>>)>> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let now = i64::try_from(now.as_micros())?;
    let mut records = Vec::new();
    for minute in 0..65_u64 {
        let at = minute as f64;
        let waves =
            1.0 + 0.28 * (at / 11.0).sin() + 0.12 * (at / 3.1).cos() + 0.05 * (at * 2.7).sin();
        let dent = if (22..25).contains(&minute) {
            0.35
        } else {
            1.0
        };
        let rate = (rate * waves * dent).max(1.0) as u64;
        let begins = now - i64::try_from(65 - minute)? * 60_000_000;
        let options = GeneratorOptions {
            seed: minute,
            rate,
            ..GeneratorOptions::default()
        };
        let minute = Generator::new(options, EventTime::from_micros(begins))?
            .take(usize::try_from(rate * 60)?)
            .map(|record| (record.key, Some(record.payload)));
        records.extend(minute);
    }
    Ok(records)
}

/// Nothing overflows and everybody can use the page, in each of [`VIEWS`]; pictures are named after
/// `what`.
async fn looks_good_in_every_view(page: &Page, what: &str) -> anyhow::Result<()> {
    for (name, width, height, mobile, dark) in VIEWS {
        page.viewport(width, height, mobile).await?;
        page.dark(dark).await?;
        page.eval("new Promise((done) => setTimeout(done, 300))")
            .await?;
        fits(page, name).await?;
        accessible(page, name).await?;
        if let Some(folder) = pictures() {
            page.screenshot(&folder.join(format!("{what}-{name}.png")))
                .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_view_fits_its_window_and_is_accessible() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    // an hour of history, dated so that it ends now; for pictures with more in it
    let rate: f64 = if pictures().is_some() { 60.0 } else { 15.0 };
    // built before the hour ends, so that what is produced from now on joins it
    producer().await?;
    stage.stack.send(hour(rate)?).await?;
    stage.stack.drained().await?;
    let load = Load::start(&stage.stack, 60, &[]).await?;
    let port = free_port()?;
    let _console = stage.console(port).await?;
    let browser = Browser::start().await?;
    let page = open(&browser, port).await?;
    shows(&page, "#letters table", "@").await?;
    page.wait_for("document.querySelectorAll('.bar').length > 50", PATIENCE)
        .await?;
    if pictures().is_some() {
        // two whole minutes of what is produced now
        tokio::time::sleep(Duration::from_secs(150)).await;
    }
    looks_good_in_every_view(&page, "console").await?;
    for (name, width, height, mobile, dark) in VIEWS {
        page.viewport(width, height, mobile).await?;
        page.dark(dark).await?;
        page.click("#chart .bar:nth-child(41) .area").await?;
        page.wait_for("document.querySelector('#explain tbody')", PATIENCE)
            .await?;
        page.eval("document.querySelector('#explain details').open = true")
            .await?;
        fits(&page, &format!("{name}, explained")).await?;
        accessible(&page, &format!("{name}, explained")).await?;
        if let Some(folder) = pictures() {
            page.eval("scrollTo(0, 0)").await?;
            page.screenshot(&folder.join(format!("console-explain-{name}.png")))
                .await?;
        }
    }
    load.finish().await?;
    is_clean(&page, port)
}

#[tokio::test]
async fn a_pipeline_without_traffic_has_a_page_too() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let port = free_port()?;
    let _console = stage.console(port).await?;
    let browser = Browser::start().await?;
    let page = open(&browser, port).await?;
    shows(&page, "#partitions table", "processor").await?;
    looks_good_in_every_view(&page, "console-empty").await?;
    is_clean(&page, port)
}

#[tokio::test]
async fn the_form_for_the_token_fits_and_is_accessible() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let file = server_dir("token")?.join("token");
    std::fs::write(&file, "0123456789abcdef")?;
    let file = file.display().to_string();
    let args = ["--listen", &listen, "--token-file", &file];
    let _console = stage
        .console_with(&args, stage.stack.postgres.port())
        .await?;
    let browser = Browser::start().await?;
    let page = browser.page().await?;
    visit(&page, &format!("http://{listen}/")).await?;
    shows(&page, "label", "Token").await?;
    for (name, width, height, mobile, dark) in VIEWS {
        page.viewport(width, height, mobile).await?;
        page.dark(dark).await?;
        fits(&page, name).await?;
        accessible(&page, name).await?;
        if let Some(folder) = pictures() {
            page.screenshot(&folder.join(format!("console-token-{name}.png")))
                .await?;
        }
    }
    Ok(())
}
