//! The operator on a real kube-apiserver with etcd and a real Kafka: how soon a pipeline is there,
//! alone and among a thousand, what it costs when nothing happens, and how soon it goes on after
//! the API server was away.

mod cluster;
mod users;

use std::path::Path;
use std::time::{Duration, Instant};

use self::cluster::Cluster;
use super::figure::{Aim, Figure, Run};
use super::load::{self, Load};
use crate::binaries;
use xtask::args::BenchArgs;

/// Pipelines that are made one after the other.
const SINGLES: u32 = 100;
/// How long nothing may be written before it counts as rest.
const REST: Duration = Duration::from_secs(10);
/// How long writes at rest are counted.
const STEADY: Duration = Duration::from_secs(60);
/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(5);

/// What one round measures.
struct Round {
    /// Created until the processors' Deployment is there, seconds.
    p50: Run,
    p99: Run,
    /// So many at once until all children are applied, and until all are Ready, seconds.
    batches: Vec<(u32, Run, Run)>,
    /// Writes within a minute at rest.
    writes: Run,
    /// Requests a second at rest, of the operator alone.
    requests: Run,
    /// With all pipelines.
    threads: Run,
    files: Run,
    /// Resident memory with all pipelines, and its peak, MiB.
    memory: Run,
    peak: Run,
    /// From the API server's return to children of a pipeline that was created then, seconds.
    recovery: Run,
}

/// A pipeline that is made by itself.
fn single(number: u32) -> String {
    format!("alone-{number}")
}

/// Each round has servers of its own.
///
/// # Errors
/// A server or the operator fails, or nothing moves for minutes.
pub async fn run(args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let program = binaries::folder(args.binaries.as_deref())?.join("clickstream-operator");
    let mut rounds = Vec::new();
    for number in 1..=args.runs {
        let round = round(&program, args).await?;
        eprintln!(
            "{number}: {:.2} s alone, {:.0} MiB, {:.0} writes and {:.1} requests/s at rest, {:.1} s after the API server came back",
            round.p50.value,
            round.memory.value,
            round.writes.value,
            round.requests.value,
            round.recovery.value
        );
        rounds.push(round);
    }
    Ok(figures(&rounds, args.kafka_users))
}

fn figures(rounds: &[Round], users: bool) -> Vec<Figure> {
    let memory = if users {
        Aim::at_most(256.0, 96.0)
    } else {
        Aim::at_most(150.0, 60.0)
    };
    let mut figures = vec![
        Figure::of(
            "created to children applied, p50",
            "s",
            rounds,
            Some(Aim::at_most(1.0, 0.2)),
            |round| round.p50,
        ),
        Figure::of(
            "created to children applied, p99",
            "s",
            rounds,
            Some(Aim::at_most(3.0, 0.8)),
            |round| round.p99,
        ),
    ];
    let batches = rounds.first().map_or(0, |round| round.batches.len());
    for index in 0..batches {
        let count = rounds[0].batches[index].0;
        let aim = match count {
            100 => Some(Aim::at_most(30.0, 8.0)),
            1000 => Some(Aim::at_most(300.0, 60.0)),
            _ => None,
        };
        figures.push(Figure::of(
            format!("{count} at once, children applied"),
            "s",
            rounds,
            None,
            |round| round.batches[index].1,
        ));
        figures.push(Figure::of(
            format!("{count} at once, Ready"),
            "s",
            rounds,
            aim,
            |round| round.batches[index].2,
        ));
    }
    figures.extend([
        Figure::of(
            "writes in a minute at rest",
            "",
            rounds,
            Some(Aim::at_most(0.0, 0.0)),
            |round| round.writes,
        ),
        Figure::of(
            "requests to the API server at rest",
            "/s",
            rounds,
            Some(Aim::at_most(20.0, 5.0)),
            |round| round.requests,
        ),
        Figure::of(
            "resident memory with all pipelines",
            "MiB",
            rounds,
            Some(memory),
            |round| round.memory,
        ),
        Figure::of("peak memory", "MiB", rounds, None, |round| round.peak),
        Figure::of("threads", "", rounds, None, |round| round.threads),
        Figure::of("open files", "", rounds, None, |round| round.files),
        Figure::of(
            "API server back to children applied",
            "s",
            rounds,
            Some(Aim::at_most(60.0, 10.0)),
            |round| round.recovery,
        ),
    ]);
    figures
}

async fn round(program: &Path, args: &BenchArgs) -> anyhow::Result<Round> {
    let most = args.pipelines;
    let mut counts = vec![100.min(most), most];
    counts.dedup();
    let of_batch = |count: u32| (0..count).map(move |number| format!("of-{count}-{number}"));
    let users: Vec<_> = ["first", "afterwards"]
        .map(str::to_owned)
        .into_iter()
        .chain((0..SINGLES).map(single))
        .chain(counts.iter().copied().flat_map(of_batch))
        .collect();
    eprintln!("starting Kafka and the Kubernetes API");
    let cluster = Cluster::start(program, args.kafka_users.then_some(&users)).await?;
    // the first topic of a broker that has just started takes seconds, whoever creates it
    cluster.create("first").await?;
    cluster.applied("first").await?;
    let load = Load::now()?;
    let mut singles = Vec::new();
    for number in 0..SINGLES {
        let name = single(number);
        let begun = Instant::now();
        cluster.create(&name).await?;
        singles.push(cluster.applied(&name).await?.duration_since(begun));
    }
    singles.sort();
    let foreign_cpu = load.foreign_since()?;
    let at = |part: f64| {
        let index = (singles.len() as f64 * part) as usize;
        Run {
            value: singles[index.min(singles.len() - 1)].as_secs_f64(),
            foreign_cpu,
        }
    };
    let (p50, p99) = (at(0.5), at(0.99));
    eprintln!("alone: p50 {:.3} s, p99 {:.3} s", p50.value, p99.value);

    let mut batches = Vec::new();
    for count in counts {
        let load = Load::now()?;
        let names: Vec<_> = of_batch(count).collect();
        let begun = Instant::now();
        cluster.create_all(&names).await?;
        eprintln!(
            "{count} created after {:.1} s",
            begun.elapsed().as_secs_f64()
        );
        let applied = cluster.all_applied(&names).await?.duration_since(begun);
        let ready = cluster.all_ready(&names).await?.duration_since(begun);
        let foreign_cpu = load.foreign_since()?;
        let run = |took: Duration| Run {
            value: took.as_secs_f64(),
            foreign_cpu,
        };
        let cpu = load::cpu_seconds(cluster.operator().pid())?;
        eprintln!(
            "{count} at once: applied {:.1} s, Ready {:.1} s; {cpu:.1} CPU seconds of the operator so far",
            applied.as_secs_f64(),
            ready.as_secs_f64()
        );
        batches.push((count, run(applied), run(ready)));
    }

    cluster.rest(REST).await?;
    let load = Load::now()?;
    let before = (cluster.writes().await?, cluster.requests().await?);
    tokio::time::sleep(STEADY).await;
    let writes = cluster.writes().await?.saturating_sub(before.0);
    let requests = (cluster.requests().await? - before.1) / STEADY.as_secs_f64();
    let (threads, files) = cluster.threads_and_files()?;
    let foreign_cpu = load.foreign_since()?;
    let pid = cluster.operator().pid();
    let run = |value: f64| Run { value, foreign_cpu };
    let (memory, peak) = (
        run(load::memory_mib(pid, "VmRSS")?),
        run(load::memory_mib(pid, "VmHWM")?),
    );

    let load = Load::now()?;
    cluster.restart_api(AWAY).await?;
    let back = Instant::now();
    cluster.create("afterwards").await?;
    let recovered = cluster.applied("afterwards").await?.duration_since(back);
    Ok(Round {
        p50,
        p99,
        batches,
        writes: run(writes as f64),
        requests: run(requests),
        threads: run(threads as f64),
        files: run(files as f64),
        memory,
        peak,
        recovery: Run {
            value: recovered.as_secs_f64(),
            foreign_cpu: load.foreign_since()?,
        },
    })
}
