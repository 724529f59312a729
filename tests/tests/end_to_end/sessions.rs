//! Sessions with PostgreSQL that end, half end, become slow, or are refused; and a server that
//! takes no writes.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::chown,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{Postgres, PostgresOptions, Process, Proxy, shared};
use rand::RngExt as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_postgres::NoTls;

use crate::{
    dice::dice,
    load::{Load, fault_time},
    stack::{LOOK, PATIENCE, Stack, StackOptions},
    watch::logged,
};

/// Sessions of processors.
const OURS: &str = "pg_stat_activity where datname = current_database() and application_name like 'clickstream-processor%'";
/// The user that the testbed runs PostgreSQL as when it runs as root itself.
const NOBODY: u32 = 65534;
/// What a processor may hold in memory, in a build without optimisation.
pub const MOST_MEMORY_KIB: u64 = 400 * 1024;

async fn own_postgres(settings: &[(&str, &str)]) -> anyhow::Result<Stack> {
    let settings = settings.iter();
    let settings = settings.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let postgres = Postgres::start(PostgresOptions {
        settings: settings.collect(),
        ..PostgresOptions::default()
    })
    .await?;
    Stack::on(shared::kafka().await?, postgres, StackOptions::default()).await
}

/// The most memory that a process has had so far, in KiB.
pub fn peak_memory(process: &Process) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.context("no VmHWM")?.parse()?)
}

/// Waits until the server takes sessions again, and opens the test's own.
async fn back(stack: &mut Stack) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = stack.reconnect().await {
        ensure!(Instant::now() < deadline, "{error:#}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

#[tokio::test]
async fn sessions_that_are_terminated_at_random_lose_and_double_nothing() -> anyhow::Result<()> {
    let mut dice = dice();
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 1_500, &[]).await?;
    let (first, second) = (stack.start("first")?, stack.start("second")?);
    stack.owned_by(&["first", "second"]).await?;
    let ends = Instant::now() + fault_time(Duration::from_secs(6));
    let mut ended = 0;
    while ended < 5 || Instant::now() < ends {
        // the moment is what is random here
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..500))).await;
        let victim = dice.random_range(0..3);
        let terminate = format!(
            "select count(*) filter (where pg_terminate_backend(pid)) from
             (select pid from {OURS} order by backend_start offset {victim} limit 1) as victims"
        );
        ended += stack
            .client
            .query_one(&terminate, &[])
            .await?
            .get::<_, i64>(0);
    }
    stack.moves_by(1_000).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    eprintln!("{ended} sessions, {sent} records");
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&first, &second]).await
}

/// Which direction of every connection a hop closes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    None,
    ToServer,
    ToClient,
}

/// A hop to a port that passes everything on, and closes one direction of all connections when it
/// is told to.
async fn hop(target: u16) -> anyhow::Result<(u16, watch::Sender<Closed>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let (orders, heard) = watch::channel(Closed::None);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else {
                continue;
            };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            for (mut from, mut to, closes) in [
                (from_client, to_server, Closed::ToServer),
                (from_server, to_client, Closed::ToClient),
            ] {
                let mut orders = heard.clone();
                orders.mark_unchanged();
                tokio::spawn(async move {
                    let told = async {
                        while orders.changed().await.is_ok() {
                            if *orders.borrow_and_update() == closes {
                                return;
                            }
                        }
                        std::future::pending().await
                    };
                    tokio::select! {
                        _ = copy(&mut from, &mut to) => {}
                        () = told => {}
                    }
                    to.shutdown().await.ok();
                });
            }
        }
    });
    Ok((port, orders))
}

#[tokio::test]
async fn a_connection_that_is_closed_in_one_direction_is_opened_again() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let (port, orders) = hop(stack.postgres.port()).await?;
    let load = Load::start(&stack, 1_000, &[]).await?;
    let processor = stack.start_through(port, "half", &[])?;
    stack.owned_by(&["half"]).await?;
    let closings = [
        Closed::ToServer,
        Closed::ToClient,
        Closed::ToServer,
        Closed::ToClient,
    ];
    for (before, closed) in closings.into_iter().enumerate() {
        stack.moves_by(500).await?;
        orders.send(closed)?;
        let deadline = Instant::now() + PATIENCE;
        let again = || {
            processor
                .log()
                .matches("partitions are claimed again")
                .count()
        };
        while again() <= before {
            ensure!(
                Instant::now() < deadline,
                "not noticed: {}",
                processor.log_tail()
            );
            tokio::time::sleep(LOOK).await;
        }
    }
    stack.moves_by(500).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&processor]).await
}

#[tokio::test]
async fn a_postgresql_far_away_makes_larger_flushes_and_no_larger_process() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], stack.postgres.port()))).await?;
    let load = Load::start(&stack, 1_500, &[]).await?;
    let processor = stack.start_through(proxy.addr().port(), "far", &[])?;
    stack.owned_by(&["far"]).await?;
    stack.moves_by(1_500).await?;
    // 200 ms for each question and its answer
    proxy.delay(Duration::from_millis(100));
    tokio::time::sleep(fault_time(Duration::from_secs(5))).await;
    stack.moves_by(3_000).await?;
    proxy.delay(Duration::ZERO);
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    let memory = peak_memory(&processor)?;
    assert!(memory < MOST_MEMORY_KIB, "{memory} KiB");
    stack.ends_clean(&[&processor]).await
}

#[tokio::test]
async fn a_server_or_a_session_that_is_killed_is_waited_for() -> anyhow::Result<()> {
    let mut stack = own_postgres(&[]).await?;
    let load = Load::start(&stack, 1_000, &[]).await?;
    let processor = stack.start("waits")?;
    stack.owned_by(&["waits"]).await?;
    for _ in 0..2 {
        stack.moves_by(500).await?;
        stack.postgres.kill()?;
        stack.postgres.start_again().await?;
        back(&mut stack).await?;
        stack.moves_by(500).await?;
        // the server takes a session that dies so for a sign of damaged memory, and ends them all
        let session = stack.count(&format!("select min(pid) from {OURS}")).await?;
        let pid = Pid::from_raw(i32::try_from(session)?).context("no process id")?;
        kill_process(pid, Signal::KILL)?;
        let deadline = Instant::now() + PATIENCE;
        while stack.client.batch_execute("select").await.is_ok() {
            ensure!(Instant::now() < deadline, "no session was ended");
            tokio::time::sleep(LOOK).await;
        }
        back(&mut stack).await?;
    }
    stack.moves_by(500).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&processor]).await
}

#[tokio::test]
async fn a_server_that_is_read_only_is_left_until_it_is_promoted() -> anyhow::Result<()> {
    let mut stack = own_postgres(&[]).await?;
    let load = Load::start(&stack, 500, &[]).await?;
    let watched = stack.start_watched("waits")?;
    stack.owned_by(&["waits"]).await?;
    stack.moves_by(500).await?;
    let folder: String = stack
        .client
        .query_one("show data_directory", &[])
        .await?
        .get(0);
    stack.postgres.stop().await?;
    // the same data as a standby: it answers, and refuses to write
    let signal = PathBuf::from(folder).join("standby.signal");
    fs::write(&signal, "")?;
    // only root may give a file away, and only for root the server runs as somebody else
    chown(&signal, Some(NOBODY), Some(NOBODY)).ok();
    stack.postgres.start_again().await?;
    logged(&watched.process, "it is a standby, or").await?;
    watched.shows("/metrics", "clickstream_sink_up 0").await?;
    back(&mut stack).await?;
    stack.client.batch_execute("select pg_promote()").await?;
    stack.moves_by(500).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&watched.process]).await
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_waited_for() -> anyhow::Result<()> {
    let stack = own_postgres(&[("max_connections", "20")]).await?;
    let load = Load::start(&stack, 500, &[]).await?;
    let watched = stack.start_watched("waits")?;
    stack.owned_by(&["waits"]).await?;
    stack.moves_by(500).await?;
    stack
        .client
        .batch_execute("create role crowd login")
        .await?;
    let url = stack
        .postgres
        .url(&stack.database)
        .replace("postgres@", "crowd@");
    let mut crowd = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let terminate = format!("select pg_terminate_backend(pid) from {OURS}");
        stack.client.batch_execute(&terminate).await?;
        while let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
            tokio::spawn(connection);
            crowd.push(client);
        }
        if watched.process.log().contains("SQLSTATE 53300") {
            break;
        }
        ensure!(Instant::now() < deadline, "{}", watched.process.log_tail());
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(fault_time(Duration::from_secs(2))).await;
    assert!(
        watched.process.exited()?.is_none(),
        "{}",
        watched.process.log_tail()
    );
    drop(crowd);
    stack.moves_by(500).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&watched.process]).await
}

#[tokio::test]
async fn tables_that_somebody_has_locked_are_waited_for() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 500, &[]).await?;
    let processor = stack.start("waits")?;
    stack.owned_by(&["waits"]).await?;
    for table in [
        "clickstream_events",
        "clickstream_agg_lanes",
        "clickstream_checkpoints",
    ] {
        stack.moves_by(500).await?;
        let lock = format!("begin; lock table {table} in access exclusive mode");
        stack.client.batch_execute(&lock).await?;
        tokio::time::sleep(fault_time(Duration::from_secs(2))).await;
        stack.client.batch_execute("rollback").await?;
    }
    stack.moves_by(500).await?;
    assert!(processor.exited()?.is_none(), "{}", processor.log_tail());
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&processor]).await
}

#[tokio::test]
async fn a_flush_that_ends_a_deadlock_is_done_again() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 1_000, &[]).await?;
    let processor = stack.start("victim")?;
    stack.owned_by(&["victim"]).await?;
    stack.moves_by(2_000).await?;
    let foreign = stack.postgres.connect(&stack.database).await?;
    // it does not look for a deadlock itself, so that the flush is the one that is ended
    foreign
        .batch_execute(
            "set search_path = clickstream, pg_catalog; set deadlock_timeout = '10min';
             begin; update clickstream_agg_lanes set hits = hits",
        )
        .await?;
    stack
        .eventually(
            "a flush waits for a row",
            &format!("select exists (select from {OURS} and wait_event_type = 'Lock')"),
        )
        .await?;
    foreign
        .batch_execute("lock table clickstream_checkpoints in access exclusive mode; rollback")
        .await?;
    stack
        .eventually(
            "a deadlock was found",
            "select deadlocks > 0 from pg_stat_database where datname = current_database()",
        )
        .await?;
    stack.moves_by(1_000).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&processor]).await
}

#[tokio::test]
async fn rights_and_tables_that_are_taken_away_are_named_and_the_next_start_goes_on()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 500, &[]).await?;
    let mut processor = stack.start("p0")?;
    stack.owned_by(&["p0"]).await?;
    stack.moves_by(500).await?;
    let writer: String = stack
        .client
        .query_one(&format!("select min(usename::text) from {OURS}"), &[])
        .await?
        .get(0);
    let (owner, events) = (&stack.owner, "clickstream_events");
    let faults = [
        (
            "permission denied for table clickstream_events",
            format!("revoke insert on {events} from {writer}"),
            format!("grant insert on {events} to {writer}"),
        ),
        (
            "SQLSTATE 42P01",
            format!("alter table {events} rename to clickstream_away"),
            format!("alter table clickstream_away rename to {events}"),
        ),
    ];
    for (round, (named, takes, gives)) in faults.into_iter().enumerate() {
        let as_owner = |statement: &str| format!("set role {owner}; {statement}; reset role");
        stack.client.batch_execute(&as_owner(&takes)).await?;
        // waiting would not help: it ends, and whoever starts it again waits longer from time to
        // time
        let status = processor.wait(PATIENCE).await?;
        assert_eq!(status.code(), Some(1), "{}", processor.log_tail());
        ensure!(processor.log().contains(named), "{}", processor.log_tail());
        stack.client.batch_execute(&as_owner(&gives)).await?;
        processor = stack.start(&format!("p{}", round + 1))?;
        stack.moves_by(500).await?;
    }
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&processor]).await
}
