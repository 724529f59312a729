//! What a page that somebody looks at costs the processor, at 10,000 events a second.
//!
//! Stretches with and without a listener take turns within one run, so that what else happens on
//! the machine meets both alike. The listener reads the stream of events as a browser does; drawing
//! happens in the browser and costs nobody here.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clickstream_telemetry::probe::probe;
use clickstream_testbed::{Process, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::figure::{Aim, Figure, Run};
use super::load::{Load, cpu_seconds};
use super::stand::{PARTITIONS, Stand, Trial};
use xtask::args::BenchArgs;

/// Events a second.
const RATE: u64 = 10_000;

/// What does not count: connections open, plans are made, pages are read.
const WARM_UP: Duration = Duration::from_secs(5);

/// Percentage points of one core: a status a second, and the metrics every five.
const AIM: Aim = Aim::at_most(1.0, 0.5);

struct Stretch {
    /// Of one core, in percent.
    processor: f64,
    console: f64,
    /// Bytes a second to the page.
    bytes: f64,
    foreign_cpu: f64,
}

struct Pair {
    alone: Stretch,
    watched: Stretch,
}

/// Pairs of stretches, as many as asked.
///
/// # Errors
/// A program does not start, or ends.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let log = stand.topic().await?;
    let trial = stand.trial(log.topic()).await?;
    let admin = format!("127.0.0.1:{}", free_port()?);
    let processor = trial.processor_with_admin(&admin)?;
    trial
        .wait(&processor, Duration::from_millis(10), |progress| {
            progress.claimed == i64::from(PARTITIONS)
        })
        .await?;
    let producer = producer(stand, &trial)?;
    let (console, page) = console(stand, &trial, &admin).await?;
    tokio::time::sleep(WARM_UP).await;
    let mut pairs = Vec::new();
    for round in 1..=args.runs {
        let alone = stretch(args.period, &processor, &console, None).await?;
        let listener = Listener::start(&page).await?;
        let watched = stretch(args.period, &processor, &console, Some(&listener)).await?;
        drop(listener);
        eprintln!(
            "{round}: processor {:.2} % of a core alone, {:.2} % watched; console {:.2} %; {:.1} kB/s to the page; others' CPU {:.0} %",
            alone.processor,
            watched.processor,
            watched.console,
            watched.bytes / 1e3,
            watched.foreign_cpu * 100.0
        );
        pairs.push(Pair { alone, watched });
    }
    if let Some(status) = producer.exited()? {
        bail!(
            "the producer ended ({status}); the end of its log:\n{}",
            producer.log_tail()
        );
    }
    producer.terminate()?;
    producer.wait(Duration::from_secs(30)).await?;
    drop(console);
    trial.end(Some(processor)).await?;
    let of = |name: &str, unit, aim, value: fn(&Pair) -> f64| {
        Figure::of(name, unit, &pairs, aim, |pair| Run {
            value: value(pair),
            foreign_cpu: pair.alone.foreign_cpu.max(pair.watched.foreign_cpu),
        })
    };
    Ok(vec![
        of("processor's CPU, nobody looks", "%", None, |pair| {
            pair.alone.processor
        }),
        of("processor's CPU, a page listens", "%", None, |pair| {
            pair.watched.processor
        }),
        of(
            "what the page costs the processor",
            "%",
            Some(AIM),
            |pair| pair.watched.processor - pair.alone.processor,
        ),
        of("console's own CPU", "%", None, |pair| pair.watched.console),
        of("to the page", "kB/s", None, |pair| pair.watched.bytes / 1e3),
    ])
}

async fn stretch(
    period: Duration,
    processor: &Process,
    console: &Process,
    listener: Option<&Listener>,
) -> anyhow::Result<Stretch> {
    let used = || anyhow::Ok((cpu_seconds(processor.pid())?, cpu_seconds(console.pid())?));
    let (load, begun, before) = (Load::now()?, Instant::now(), used()?);
    let told = listener.map_or(0, Listener::bytes);
    tokio::time::sleep(period).await;
    let (after, seconds) = (used()?, begun.elapsed().as_secs_f64());
    let told = listener.map_or(0, Listener::bytes) - told;
    if listener.is_some() && told == 0 {
        bail!(
            "the page was told nothing; the end of the console's log:\n{}",
            console.log_tail()
        );
    }
    Ok(Stretch {
        processor: (after.0 - before.0) / seconds * 100.0,
        console: (after.1 - before.1) / seconds * 100.0,
        bytes: told as f64 / seconds,
        foreign_cpu: load.foreign_since()?,
    })
}

fn producer(stand: &Stand, trial: &Trial) -> anyhow::Result<Process> {
    let mut command = trial
        .document
        .command(&stand.binaries().producer, "generate");
    command.args(["--rate", &RATE.to_string()]);
    Process::spawn(command.as_std(), "producer")
}

async fn console(
    stand: &Stand,
    trial: &Trial,
    processor: &str,
) -> anyhow::Result<(Process, String)> {
    let program = stand.binaries().console.as_ref();
    let program = program.context("--binaries: there is no clickstream-console in this folder")?;
    let (page, admin) = (
        format!("127.0.0.1:{}", free_port()?),
        format!("127.0.0.1:{}", free_port()?),
    );
    let mut command = Command::new(program);
    command
        .args(["run", "--listen", &page, "--admin-listen", &admin])
        .args(["--schema", &trial.document.target().schema])
        .args(["--processors", &format!("http://{processor}")])
        .env("CLICKSTREAM_CONSOLE_DATABASE", &trial.url)
        .env("PGSSLMODE", "disable");
    let process = Process::spawn(&command, "console")?;
    probe(
        &format!("http://{admin}/readyz"),
        None,
        Duration::from_secs(20),
    )
    .await?;
    Ok((process, page))
}

/// Reads the stream until it is dropped.
struct Listener {
    bytes: Arc<AtomicU64>,
    reading: JoinHandle<()>,
}

impl Listener {
    async fn start(page: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(page).await?;
        let question = format!("GET /events HTTP/1.1\r\nhost: {page}\r\n\r\n");
        stream.write_all(question.as_bytes()).await?;
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                counter.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
        Ok(Self { bytes, reading })
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
