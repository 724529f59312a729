//! The data path where no IPv4 address exists at all.

use std::{io::ErrorKind, net::TcpListener, time::Instant};

use anyhow::ensure;
use clickstream_testbed::{free_port, loopback};

use crate::{
    load::Load,
    stack::{LOOK, PATIENCE, Stack, StackOptions},
    watch::{Watched, end},
};

#[tokio::test]
async fn producer_processor_and_audit_need_no_ipv4() -> anyhow::Result<()> {
    if loopback::again_without_ipv4("ipv6_only::producer_processor_and_audit_need_no_ipv4").await? {
        return Ok(());
    }
    let refused = TcpListener::bind("127.0.0.1:0").map_err(|error| error.kind());
    ensure!(
        matches!(refused, Err(ErrorKind::AddrNotAvailable)),
        "{refused:?}"
    );

    let stack = Stack::new(StackOptions::default()).await?;
    ensure!(stack.kafka.bootstrap_servers().starts_with("[::1]:"));
    ensure!(stack.postgres.host() == "::1");
    // as pods listen
    let port = free_port()?;
    let everywhere = format!("[::]:{port}");
    let listen = [("CLICKSTREAM_ADMIN_LISTEN", everywhere.as_str())];
    let processor = Watched {
        process: stack.start_with("processor", &listen)?,
        port,
    };
    let of_producer = free_port()?;
    let everywhere = format!("[::]:{of_producer}");
    let load = Load::start(&stack, 2_000, &["--admin-listen", &everywhere]).await?;

    for (port, process) in [(port, &processor.process), (of_producer, load.process())] {
        let url = format!("http://[::1]:{port}/readyz");
        let begun = Instant::now();
        while stack.probe(&url).await?.0 != 0 {
            ensure!(begun.elapsed() < PATIENCE, "{url}: {}", process.log_tail());
            tokio::time::sleep(LOOK).await;
        }
    }
    for (path, text) in [
        ("/livez", ""),
        ("/status", "\"state\":\"running\""),
        ("/metrics", "clickstream_"),
    ] {
        let code = processor.shows(path, text).await?;
        ensure!(code == 200, "{path} answers {code}");
    }
    stack
        .eventually(
            "events are stored",
            "select count(*) > 1000 from clickstream_events",
        )
        .await?;

    let sent = load.finish().await?;
    stack.drained().await?;
    let consumed = "select sum(consumed) from clickstream_checkpoints";
    ensure!(stack.count(consumed).await? == sent);
    end(&processor.process).await?;
    stack.audit().await?;
    Ok(())
}
