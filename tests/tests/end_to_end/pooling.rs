//! PgBouncer between a processor and its database.

use std::{fs, process::Command, time::Instant};

use anyhow::ensure;
use clickstream_testbed::{
    Process, free_port, server_dir,
    tools::{self, Tool},
};
use tokio::net::TcpStream;

use crate::{
    commands::{REFUSAL, changed, processor, refused},
    records::{clicks, now},
    stack::{LOOK, Stack, StackOptions},
    watch::end,
};

/// PgBouncer in front of the stack's PostgreSQL, pooling in this way; the process and its port.
async fn pgbouncer(stack: &Stack, mode: &str) -> anyhow::Result<(Process, u16)> {
    tokio::task::spawn_blocking(|| tools::ensure(&[Tool::PgBouncer])).await??;
    let port = free_port()?;
    let settings = server_dir("pgbouncer")?.join("pgbouncer.ini");
    fs::write(
        &settings,
        format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {mode}\n",
            stack.postgres.port()
        ),
    )?;
    let mut command = Command::new("pgbouncer");
    // it refuses to be root, and takes this for a wish only if it is
    command.args(["-u", "nobody"]).arg(&settings);
    let process = Process::spawn(&command, "pgbouncer")?;
    let deadline = Instant::now() + REFUSAL;
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        ensure!(Instant::now() < deadline, "{}", process.log_tail());
        tokio::time::sleep(LOOK).await;
    }
    Ok((process, port))
}

#[tokio::test]
async fn a_proxy_that_pools_by_transaction_is_refused_and_one_that_pools_by_session_is_not()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::one_role()).await?;
    let processor = processor().await?;
    let own = format!("      port: {}\n", stack.postgres.port());
    for mode in ["transaction", "statement"] {
        let (_pooler, port) = pgbouncer(&stack, mode).await?;
        let document = changed(&stack, &[(&own, &format!("      port: {port}\n"))])?;
        for command in ["run", "migrate"] {
            let words = [format!("127.0.0.1:{port}"), "pool".to_owned()];
            let words = words.each_ref().map(String::as_str);
            refused(
                &processor,
                &format!("{command} --pipeline {document}"),
                1,
                &words,
            )
            .await?;
        }
    }
    assert_eq!(
        stack
            .count("select count(*) from clickstream_checkpoints")
            .await?,
        0
    );

    let (_pooler, port) = pgbouncer(&stack, "session").await?;
    let running = stack.start_through(port, "pooled", &[])?;
    stack
        .place(
            clicks(0..100, now())
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    stack.drained().await?;
    end(&running).await?;
    stack.audit().await?;
    Ok(())
}
