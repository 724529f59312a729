//! Three faults at a time, chosen by a seed, for as long as somebody wants.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{Kafka, KafkaOptions, Postgres, PostgresOptions, Process};
use rand::{RngExt as _, rngs::StdRng};

use crate::{
    dice::dice,
    load::Load,
    progress::SHORT_SESSION,
    stack::{LOOK, PATIENCE, Stack, StackOptions},
};

/// How long it goes on where `CLICKSTREAM_SOAK_SECONDS` says nothing.
const ORDINARY: Duration = Duration::from_secs(60);
/// Records a second.
const RATE: u64 = 2_000;
/// Faults that overlap.
const AT_A_TIME: usize = 3;

/// What can happen, one of a kind at a time.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A processor is killed and started again.
    Kill,
    /// A processor is frozen, at times beyond its session.
    Freeze,
    /// Sessions of processors with PostgreSQL are terminated.
    Terminate,
    /// PostgreSQL crashes, is killed, or is shut down, and comes back.
    Server,
    /// The broker hangs for a while.
    Broker,
    /// One more processor joins and leaves.
    Extra,
}

const FAULTS: [Fault; 6] = [
    Fault::Kill,
    Fault::Freeze,
    Fault::Terminate,
    Fault::Server,
    Fault::Broker,
    Fault::Extra,
];

/// A fault with all that is random about it.
#[derive(Clone, Copy, Debug)]
struct Plan {
    fault: Fault,
    after: Duration,
    lasts: Duration,
    choice: usize,
}

/// Three of different kinds that begin within two seconds of each other.
fn plans(dice: &mut StdRng) -> Vec<Plan> {
    let mut kinds = FAULTS.to_vec();
    let mut plans = Vec::new();
    for _ in 0..AT_A_TIME {
        plans.push(Plan {
            fault: kinds.swap_remove(dice.random_range(0..kinds.len())),
            after: Duration::from_millis(dice.random_range(0..2_000)),
            lasts: Duration::from_millis(dice.random_range(200..6_000)),
            choice: dice.random_range(0..60),
        });
    }
    plans
}

/// What is broken: the processors have places, whoever is in them.
struct Scene {
    stack: Stack,
    places: [Mutex<Process>; 3],
    started: Mutex<u32>,
}

impl Scene {
    fn start(&self) -> anyhow::Result<Process> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        *started += 1;
        let name = format!("p{started}");
        self.stack.start_with(&name, &[SHORT_SESSION])
    }

    fn at<T>(&self, place: usize, act: impl FnOnce(&mut Process) -> T) -> T {
        let mut process = self.places[place % self.places.len()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        act(&mut process)
    }

    async fn happens(&self, plan: Plan) -> anyhow::Result<()> {
        tokio::time::sleep(plan.after).await;
        let place = plan.choice;
        let wait = || tokio::time::sleep(plan.lasts);
        match plan.fault {
            Fault::Kill => {
                self.at(place, |process| process.kill())?;
                wait().await;
                let next = self.start()?;
                self.at(place, |process| *process = next);
            }
            Fault::Freeze => {
                // one that is being killed at the same time cannot be frozen any more
                if self.at(place, |process| process.stop_signal()).is_ok() {
                    wait().await;
                    self.at(place, |process| process.continue_signal()).ok();
                }
            }
            Fault::Terminate => {
                let ends = Instant::now() + plan.lasts;
                while Instant::now() < ends {
                    // the server may be away at the same time
                    if let Ok(client) = self.stack.postgres.connect("postgres").await {
                        let terminate = format!(
                            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'
                             and application_name like 'clickstream-processor%' and pid % 3 = {}",
                            self.stack.database,
                            plan.choice % 3
                        );
                        client.batch_execute(&terminate).await.ok();
                    }
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }
            Fault::Server => {
                let server = &self.stack.postgres;
                match plan.choice % 4 {
                    0 => server.restart_immediate().await?,
                    1 => {
                        server.kill()?;
                        wait().await;
                        server.start_again().await?;
                    }
                    2 => {
                        server.stop().await?;
                        wait().await;
                        server.start_again().await?;
                    }
                    _ => {
                        server.stop_signal()?;
                        wait().await;
                        server.continue_signal()?;
                    }
                }
            }
            Fault::Broker => {
                let broker = self.stack.kafka.broker(0);
                broker.stop_signal()?;
                wait().await;
                broker.continue_signal()?;
            }
            Fault::Extra => {
                let extra = self.start()?;
                wait().await;
                if plan.choice.is_multiple_of(2) {
                    extra.kill()?;
                } else if extra.exited()?.is_none() {
                    extra.terminate()?;
                    extra.wait(PATIENCE).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits until records go on, with a session of the test's own.
    async fn goes_on(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.stack.reconnect().await {
                Ok(()) => break,
                Err(error) => ensure!(Instant::now() < deadline, "{error:#}"),
            }
            tokio::time::sleep(LOOK).await;
        }
        for place in 0..self.places.len() {
            if self.at(place, |process| process.exited())?.is_none() {
                continue;
            }
            let log = self.at(place, |process| process.log());
            let tail = self.at(place, |process| process.log_tail());
            ensure!(
                !log.contains("processor starts"),
                "a processor has ended by itself: {tail}"
            );
            // whoever loses a server in the middle of its start is started again, as Kubernetes
            // does it
            eprintln!(
                "ended while it started: {}",
                tail.lines().last().unwrap_or_default()
            );
            let next = self.start()?;
            self.at(place, |process| *process = next);
        }
        self.stack.moves_by(RATE as i64).await
    }
}

#[tokio::test]
#[ignore = "goes on for CLICKSTREAM_SOAK_SECONDS; cargo xtask faults --soak"]
async fn three_faults_at_a_time_lose_and_double_nothing() -> anyhow::Result<()> {
    let seconds = std::env::var("CLICKSTREAM_SOAK_SECONDS").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    let lasts = seconds.map_or(ORDINARY, Duration::from_secs);
    let mut dice = dice();
    let kafka = Kafka::start(KafkaOptions::default()).await?;
    let postgres = Postgres::start(PostgresOptions::default()).await?;
    let stack = Stack::on(kafka, postgres, StackOptions::default()).await?;
    let duplicates = [
        "--duplicates",
        "0.05",
        "--cross-partition-duplicates",
        "0.5",
    ];
    let load = Load::start(&stack, RATE, &duplicates).await?;
    let start = |name: &str| stack.start_with(name, &[SHORT_SESSION]).map(Mutex::new);
    let places = [start("p1")?, start("p2")?, start("p3")?];
    stack.owned_by(&["p1", "p2", "p3"]).await?;
    let mut scene = Scene {
        stack,
        places,
        started: Mutex::new(3),
    };
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || begun.elapsed() < lasts {
        rounds += 1;
        let plans = plans(&mut dice);
        eprintln!(
            "round {rounds} after {} s: {plans:?}",
            begun.elapsed().as_secs()
        );
        let [one, two, three] = plans[..] else {
            anyhow::bail!("{AT_A_TIME} plans");
        };
        tokio::try_join!(scene.happens(one), scene.happens(two), scene.happens(three))
            .with_context(|| format!("round {rounds}: {plans:?}"))?;
        scene
            .goes_on()
            .await
            .with_context(|| format!("round {rounds}: {plans:?}"))?;
    }
    let sent = load.finish().await?;
    let stack = &scene.stack;
    stack.drained_within(2 * PATIENCE).await?;
    eprintln!("{rounds} rounds, {sent} records");
    assert_eq!(stack.consumed().await?, sent);
    let [one, two, three] = scene.places;
    let last =
        [one, two, three].map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner));
    scene.stack.ends_clean(&last.each_ref()).await
}
