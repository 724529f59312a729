//! Once a second, while at least one page listens, everything is read once and published to all of
//! them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use clickstream_telemetry::client::TrustFiles;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::database::{Core, Database, PAGE_WINDOWS, ReadError, Rules};
use crate::hub::Hub;
use crate::latency::Readings;
use crate::processors::{self, Address, Answer};
use crate::traffic::{Chart, Span, spans};
use crate::view::{self, Flow, Sources};

/// How often everything is read.
const PERIOD: Duration = Duration::from_secs(1);

/// How long the page waits for PostgreSQL before it says that there is no answer.
const DATABASE_PATIENCE: Duration = Duration::from_secs(4);

/// Readings between two of the whole chart: events may come late.
const WHOLE_CHART: u64 = 10;
/// Readings between two of the top pages, which take the most of the server.
const PAGES: u64 = 3;
/// Readings between two of the dead letters.
const DEAD_LETTERS: u64 = 2;
/// Readings between two of the processors' metrics, which are percentiles of a whole minute here.
const LATENCY: u64 = 5;
/// Readings between two of what hardly ever changes.
const RULES: u64 = 10;

/// Reads and publishes.
pub struct Poller {
    hub: Arc<Hub>,
    database: Database,
    trust: TrustFiles,
    addresses: Vec<Address>,
    chart: Chart,
    flow: Flow,
    readings: Readings,
    rules: Option<Rules>,
    gaps: (i64, i64),
    pipeline: Option<String>,
    /// When PostgreSQL last answered, milliseconds since 1970.
    database_good: Option<i64>,
}

type Sections = Vec<(&'static str, String)>;

impl Poller {
    /// A poller that has read nothing yet.
    pub fn new(
        hub: Arc<Hub>,
        database: Database,
        trust: TrustFiles,
        addresses: Vec<Address>,
    ) -> Self {
        Self {
            hub,
            database,
            trust,
            addresses,
            chart: Chart::default(),
            flow: Flow::default(),
            readings: Readings::default(),
            rules: None,
            gaps: (0, 0),
            pipeline: None,
            database_good: None,
        }
    }

    /// Works until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut listeners = self.hub.listeners();
        let work = async {
            // the sender lives in the hub, which we hold
            while listeners.wait_for(|count| *count > 0).await.is_ok() {
                tracing::debug!("somebody listens");
                tokio::select! {
                    () = self.read_on() => {}
                    _ = listeners.wait_for(|count| *count == 0) => {}
                }
                tracing::debug!("nobody listens");
                self.database.close();
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    async fn read_on(&mut self) {
        let mut every_second = tokio::time::interval(PERIOD);
        every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // rates and percentiles are of lately, not of the time in which nobody listened
        self.flow = Flow::default();
        self.readings = Readings::default();
        // counts readings that PostgreSQL answered, so that the first of them reads everything
        let mut answered = 0;
        for reading in 0_u64.. {
            every_second.tick().await;
            let latency = reading.is_multiple_of(LATENCY);
            if self.read(answered, latency).await {
                answered += 1;
            } else {
                answered = 0;
            }
        }
    }

    /// Reads once; whether PostgreSQL answered.
    async fn read(&mut self, answered: u64, latency: bool) -> bool {
        let everything = answered.is_multiple_of(WHOLE_CHART);
        let core = tokio::time::timeout(
            DATABASE_PATIENCE,
            self.database.core(&mut self.chart, everything),
        );
        let client = self.trust.client();
        let answers = processors::ask(&client, &self.addresses, latency);
        let (core, answers) = tokio::join!(core, answers);
        let core = core.unwrap_or_else(|_| {
            self.database.close();
            Err(ReadError::Silent)
        });
        let now = Utc::now().timestamp_millis();
        let mut sections = Sections::new();
        if latency {
            self.latency(&answers, &mut sections);
        }
        let database_error = match core {
            Ok(core) => {
                self.database_good = Some(now);
                self.flow.add(now, core.totals);
                self.details(answered, &core, &mut sections).await;
                put(&mut sections, "flow", &self.flow.section());
                put(
                    &mut sections,
                    "partitions",
                    &view::partitions(&core, self.rules, &answers),
                );
                let windows = self.chart.windows(core.window, core.final_until);
                put(&mut sections, "traffic", &view::traffic(&core, &windows));
                self.pipeline = core.pipeline;
                None
            }
            Err(error) => {
                tracing::debug!(%error, "postgresql does not answer");
                Some(error.to_string())
            }
        };
        put(&mut sections, "cleaned", &view::cleaned(&answers));
        let answers_now = database_error.is_none();
        let sources = view::sources(&Sources {
            now,
            database_good: self.database_good,
            database_error,
            answers: &answers,
            processors_named: !self.addresses.is_empty(),
            pipeline: self.pipeline.as_deref(),
            gaps: self.gaps,
        });
        put(&mut sections, "sources", &sources);
        self.hub.publish(sections);
        answers_now
    }

    /// What is not read every second. A part that cannot be read says why in its place.
    async fn details(&mut self, answered: u64, core: &Core, sections: &mut Sections) {
        if answered.is_multiple_of(RULES) {
            match self.database.rules_and_gaps().await {
                Ok((rules, gaps)) => (self.rules, self.gaps) = (rules, gaps),
                Err(error) => tracing::debug!(%error, "rules cannot be read"),
            }
        }
        if answered.is_multiple_of(DEAD_LETTERS) {
            let letters = self.database.dead_letters().await;
            let section = letters.map_or_else(
                |error| view::unavailable(&error),
                |letters| view::dead_letters(&letters),
            );
            put(sections, "deadLetters", &section);
        }
        if let Some(clock) = core.clock
            && answered.is_multiple_of(PAGES)
        {
            let (shown, _) = spans(clock, core.window, false);
            let span = Span {
                from: shown.to - PAGE_WINDOWS * core.window,
                to: shown.to,
            };
            let windows = self.chart.windows(core.window, None);
            let hits = windows
                .iter()
                .filter(|window| window.start >= span.from)
                .map(|window| window.hits)
                .sum();
            let section = match self.database.pages(span).await {
                Ok(pages) => {
                    let bots = self.database.bots(span).await.ok();
                    view::pages(&pages, hits, bots, PAGE_WINDOWS, core.window)
                }
                Err(error) => view::unavailable(&error),
            };
            put(sections, "pages", &section);
        }
    }

    fn latency(&mut self, answers: &[Answer], sections: &mut Sections) {
        let told = answers.iter().filter_map(|answer| {
            let told = answer.said.as_ref().ok()?;
            Some((answer.address.clone(), told.latency.clone()?))
        });
        self.readings.add(Instant::now(), told);
        put(
            sections,
            "latency",
            &view::latency(self.readings.percentiles()),
        );
    }
}

fn put(sections: &mut Sections, name: &'static str, section: &serde_json::Value) {
    sections.push((name, section.to_string()));
}
