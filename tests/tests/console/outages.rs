//! PostgreSQL, processors and the console itself go away and come back.

use std::net::SocketAddr;

use clickstream_testbed::{Proxy, browser::Browser, free_port};

use crate::{
    load::Load,
    stage::{PATIENCE, Stage, open, shows, text},
};

const LIVE: &str = "document.querySelector('#state').dataset.state === 'live'";

#[tokio::test]
async fn postgresql_that_is_away_is_said_and_the_page_heals_alone() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let load = Load::start(&stage.stack, 200, &[]).await?;
    let server = SocketAddr::from(([127, 0, 0, 1], stage.stack.postgres.port()));
    let proxy = Proxy::start(server).await?;
    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let _console = stage
        .console_with(&["--listen", &listen], proxy.addr().port())
        .await?;
    let browser = Browser::start().await?;
    let page = open(&browser, port).await?;
    shows(&page, "#flow .holds", "adds up").await?;

    proxy.refuse().await?;
    proxy.cut();
    shows(&page, "#banner", "PostgreSQL: ").await?;
    shows(&page, "#banner", "the last good data, of ").await?;
    assert_eq!(text(&page, "#state-text").await?, "PostgreSQL is away");
    let before = text(&page, "#flow .equation").await?;
    assert!(before.contains("read ="), "the last data stays: {before}");
    proxy.accept().await?;
    page.wait_for(LIVE, PATIENCE).await?;
    page.wait_for("document.querySelector('#banner').hidden", PATIENCE)
        .await?;

    // the other way to be away: the connection is there, and nothing comes
    proxy.stall();
    shows(&page, "#banner", "does not answer").await?;
    proxy.resume();
    page.wait_for(LIVE, PATIENCE).await?;
    load.finish().await?;
    stage.stack.drained().await?;
    let consumed = stage
        .count("select sum(consumed) from clickstream_checkpoints")
        .await?;
    shows(&page, "#flow .equation", &crate::stage::written(consumed)).await?;
    Ok(())
}

#[tokio::test]
async fn a_console_that_restarts_has_its_pages_back_and_processors_that_are_away_are_named()
-> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let load = Load::start(&stage.stack, 100, &[]).await?;
    let port = free_port()?;
    let console = stage.console(port).await?;
    let browser = Browser::start().await?;
    let page = open(&browser, port).await?;
    shows(&page, "#flow .holds", "adds up").await?;
    page.eval("window.same = true").await?;

    console.terminate()?;
    let status = console.wait(PATIENCE).await?;
    assert!(status.success(), "{status}: {}", console.log_tail());
    shows(&page, "#banner", "The console does not answer").await?;
    let _console = stage.console(port).await?;
    page.wait_for(LIVE, PATIENCE).await?;
    assert_eq!(
        page.eval("window.same").await?,
        true,
        "without loading the page anew"
    );

    load.finish().await?;
    stage.stack.drained().await?;
    let consumed = stage
        .count("select sum(consumed) from clickstream_checkpoints")
        .await?;
    shows(&page, "#flow .equation", &crate::stage::written(consumed)).await?;

    let Stage {
        processor,
        processor_admin,
        ..
    } = stage;
    processor.kill()?;
    shows(
        &page,
        "#partitions-note",
        &format!("0 processors, 127.0.0.1:{processor_admin}: cannot connect"),
    )
    .await?;
    shows(&page, "#tiles", "not known").await?;
    Ok(())
}
