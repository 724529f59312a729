//! The wiring: settings, connection, admin server, the loop, the account.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, Utc};
use clickstream_pipeline::event::EventTime;
use clickstream_pipeline::spec::{ClickstreamPipeline, SemanticSpec};
use clickstream_protocol::output;
use clickstream_telemetry::{
    Health, Verdict, admin, metrics as telemetry_metrics, probe::probe, shutdown, tracing as traces,
};

use crate::args::{
    Cli, Command, EventArgs, GenerateArgs, InspectArgs, LogArgs, Output, PrintArgs, ReplayArgs,
    ReportArgs, SurveyArgs,
};
use crate::drive::{Drive, EndPatience};
use crate::feed::Feed;
use crate::generator::{Generator, GeneratorOptions};
use crate::inspect::Inspection;
use crate::kafka::{ConnectError, Sender, SenderOptions};
use crate::metrics::Metrics;
use crate::print;
use crate::progress::Progress;
use crate::replay::ReplayOptions;
use crate::replay::input::{InputError, STANDARD_INPUT};
use crate::replay::merge::Reading;
use crate::replay::named_twice::named_twice;
use crate::replay::pace::Speed;
use crate::settings;
use crate::stop::Stop;
use crate::summary::Summary;
use crate::survey::{Observer, Survey};

/// Kubernetes kills after 30 s; what the brokers do not acknowledge in this time is reported as
/// failed.
const PATIENCE_AFTER_SIGNAL: Duration = Duration::from_secs(25);

/// When what `print` shows begins unless told otherwise, so that it shows the same every time:
/// 2026-01-01T00:00:00Z.
const PRINT_BASE: EventTime = EventTime::from_micros(1_767_225_600_000_000);

/// Runs the command.
///
/// # Errors
/// Nothing could be sent; the message says what to change.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // a probe runs every few seconds for as long as a container lives, and has nothing to log
    let _telemetry = match cli.command {
        Command::Probe { .. } => None,
        _ => Some(traces::init(
            "clickstream-producer",
            cli.log_format,
            "info",
        )?),
    };
    match cli.command {
        Command::Generate(args) => generate(args).await,
        Command::Replay(args) => replay(args).await,
        Command::Survey(args) => survey(args),
        Command::Inspect(args) => inspect(args),
        Command::Print(args) => print(&args),
        Command::Probe { url, ca, patience } => {
            probe(&url, ca.as_deref(), patience.to_std()).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn generate(args: GenerateArgs) -> anyhow::Result<ExitCode> {
    let pipeline = settings::pipeline(args.kafka.pipeline.as_deref())?;
    let options = settings::generator(&args.events, pipeline.as_ref());
    let sender = settings::sender(&args.kafka, pipeline.as_ref())?;
    // refuses bad options before anything is connected
    Generator::new(options.clone(), EventTime::MIN)?;
    let paced = !args.as_fast_as_possible;
    let make_feed = move || {
        let back = if paced {
            Duration::ZERO
        } else {
            span(&options, args.count.unwrap_or(0))
        };
        let records =
            Generator::new(options, base_time(&args.events, back))?.take(limit(args.count));
        let end = args
            .duration
            .map_or(Duration::MAX, |duration| duration.to_std());
        Ok(Feed::Generated(Box::new(
            records.take_while(move |record| record.due < end),
        )))
    };
    send(sender, args.report, paced, make_feed).await
}

async fn replay(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let pipeline = settings::pipeline(args.kafka.pipeline.as_deref())?;
    let sender = settings::sender(&args.kafka, pipeline.as_ref())?;
    let files = check(&args)?;
    let paced = args.logs.speed != Speed::Max;
    let (reading, mut options) = reading(args.logs);
    let shift = args.shift_to_now;
    let rules = rules(pipeline.as_ref());
    // how long it takes is in the logs, so they are read once before; a stream comes only once
    let seen = if (paced || shift) && files {
        let (reading, options) = (reading.clone(), options.clone());
        let survey = move || Survey::of(&reading, options, observer(&rules));
        Some(tokio::task::spawn_blocking(survey).await??)
    } else {
        None
    };
    let said = match &seen {
        Some(seen) => seen.to_string(),
        None if paced => "how long it takes is not known: the input is a stream".to_owned(),
        None => "sent as fast as the brokers take them; event times stay as they are".to_owned(),
    };
    writeln!(output::stderr(), "replay: {said}")?;
    if let Some(copies) = seen.as_ref().and_then(|seen| seen.copies.as_ref()) {
        writeln!(output::stderr(), "replay: {copies}")?;
    }
    let make_feed = move || {
        if shift {
            let seen = seen.context("--shift-to-now: the input is a stream")?;
            let newest = seen
                .newest_micros
                .context("--shift-to-now: no line has a time")?;
            let due = i64::try_from(seen.takes.as_micros()).unwrap_or(i64::MAX);
            options.shift_micros = Utc::now()
                .timestamp_micros()
                .saturating_add(due)
                .saturating_sub(newest);
        }
        Ok(Feed::read(reading, options)?)
    };
    send(sender, args.report, paced, make_feed).await
}

/// Shows the first events of logs; nothing is sent.
fn inspect(args: InspectArgs) -> anyhow::Result<ExitCode> {
    let rules = rules(settings::pipeline(args.pipeline.as_deref())?.as_ref());
    are_files(&args.logs.files)?;
    let (reading, options) = reading(args.logs);
    let seen = Inspection::of(&reading, options, &rules)?;
    let mut out = output::stdout();
    seen.write(&mut out)?;
    if let Some(not_understood) = seen.not_understood() {
        bail!("{not_understood}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the logs and says what is in them; nothing is sent.
fn survey(args: SurveyArgs) -> anyhow::Result<ExitCode> {
    let rules = rules(settings::pipeline(args.pipeline.as_deref())?.as_ref());
    are_files(&args.logs.files)?;
    let (reading, options) = reading(args.logs);
    let seen = Survey::of(&reading, options, observer(&rules))?;
    let mut out = output::stdout();
    match args.output {
        Output::Text => {
            writeln!(out, "{seen}")?;
            let mut notes = output::stderr();
            for reason in &seen.reasons {
                writeln!(notes, "  {reason}")?;
            }
            for note in seen.note.iter().chain(&seen.copies) {
                writeln!(notes, "  {note}")?;
            }
        }
        Output::Json => writeln!(out, "{}", serde_json::to_string(&seen)?)?,
    }
    if let Some(not_understood) = seen.not_understood {
        bail!("{not_understood}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The rules of the resource, or the defaults.
fn rules(pipeline: Option<&ClickstreamPipeline>) -> SemanticSpec {
    pipeline.map_or_else(SemanticSpec::default, ClickstreamPipeline::semantic)
}

/// Of a replay that begins now.
fn observer(rules: &SemanticSpec) -> Observer {
    Observer::new(rules, event_time(Utc::now()))
}

/// What is read, and what becomes of it.
fn reading(logs: LogArgs) -> (Reading, ReplayOptions) {
    let reading = Reading {
        paths: logs.files,
        format: logs.format,
        fields: logs.map,
    };
    let options = ReplayOptions {
        speed: logs.speed,
        max_pause: logs.max_pause.map_or(Duration::MAX, |pause| pause.to_std()),
        source: logs.source.unwrap_or_default(),
        base_url: logs.base_url,
        ..ReplayOptions::default()
    };
    (reading, options)
}

/// Connects, sends what the feed has, and reports; `make_feed` runs once the brokers have answered.
async fn send(
    options: SenderOptions,
    report: ReportArgs,
    paced: bool,
    make_feed: impl FnOnce() -> anyhow::Result<Feed> + Send + 'static,
) -> anyhow::Result<ExitCode> {
    let registry = telemetry_metrics::registry("producer")?;
    let metrics = Metrics::register(&registry)?;
    let token = shutdown::signal()?;
    let health = Arc::new(ProducerHealth {
        metrics: metrics.clone(),
        begun: Instant::now(),
        connected: AtomicBool::new(false),
    });
    let (handle, stop) = Stop::new();
    let signal = token.clone();
    let watcher = tokio::spawn(async move {
        signal.cancelled().await;
        drop(handle);
    });
    let server = match report.admin.admin_listen {
        Some(addr) => Some(
            admin::serve_guarded(
                addr,
                report.admin.guard()?,
                registry,
                Arc::clone(&health) as Arc<dyn Health>,
                token.clone(),
            )
            .await?,
        ),
        None => None,
    };
    let patience = EndPatience {
        // the client itself gives records up after the delivery timeout; this is only for its
        // reports to arrive
        finished: options.delivery_timeout + Duration::from_secs(10),
        interrupted: PATIENCE_AFTER_SIGNAL,
    };
    let progress = Progress::new(report.progress);
    let work = move || -> anyhow::Result<Summary> {
        let sender = Sender::connect(&options, &metrics, &stop)?;
        health.connected.store(true, Ordering::Relaxed);
        tracing::info!(topic = options.topic, "sending");
        let feed = make_feed()?;
        Ok(Drive {
            sender: &sender,
            metrics: &metrics,
            stop: &stop,
            progress,
            paced,
            patience,
        }
        .run(feed))
    };
    let outcome = tokio::task::spawn_blocking(work)
        .await
        .context("the sending thread ended unexpectedly")?;
    watcher.abort();
    token.cancel();
    if let Some(server) = server {
        server.stopped().await;
    }
    let summary = match outcome {
        Err(error) if matches!(error.downcast_ref(), Some(ConnectError::Stopped)) => {
            return Ok(ExitCode::SUCCESS);
        }
        outcome => outcome?,
    };
    show(&summary, report.output)?;
    Ok(if summary.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn show(summary: &Summary, output: Output) -> anyhow::Result<()> {
    for error in [&summary.error, &summary.not_understood]
        .into_iter()
        .flatten()
    {
        writeln!(output::stderr(), "error: {error}")?;
    }
    match output {
        Output::Text => writeln!(output::stderr(), "{summary}")?,
        Output::Json => writeln!(output::stdout(), "{}", serde_json::to_string(summary)?)?,
    }
    Ok(())
}

fn print(args: &PrintArgs) -> anyhow::Result<ExitCode> {
    let pipeline = settings::pipeline(args.pipeline.as_deref())?;
    let options = settings::generator(&args.events, pipeline.as_ref());
    let generator = Generator::new(
        options,
        args.events.base_time.map_or(PRINT_BASE, event_time),
    )?;
    let mut out = std::io::BufWriter::new(output::stdout());
    print::write(generator.take(limit(Some(args.count))), &mut out)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Whether all inputs are files; one that is missing, or named twice, is refused.
fn are_files(paths: &[PathBuf]) -> anyhow::Result<bool> {
    let mut files = true;
    for path in paths {
        files &= is_file(path)?;
    }
    if let Some((one, other)) = named_twice(paths) {
        bail!(
            "{} and {}: the same file, so that each of its lines would count twice: name it once",
            one.display(),
            other.display()
        );
    }
    Ok(files)
}

/// Refuses what cannot be read or dated before anything is sent; whether all inputs are files.
fn check(args: &ReplayArgs) -> anyhow::Result<bool> {
    for path in &args.logs.files {
        let file = is_file(path)?;
        ensure!(
            file || !args.shift_to_now,
            "{}: --shift-to-now reads its input twice, and a stream comes only once: name a file",
            path.display()
        );
    }
    let files = are_files(&args.logs.files)?;
    if args.shift_to_now && matches!(args.logs.speed, Speed::Times(times) if times < 1.0) {
        bail!(
            "--shift-to-now with --speed below 1 would date events after the time at which they are sent: use 1 or more"
        );
    }
    Ok(files)
}

/// Whether the path is a file on disk, which has a name worth remembering, rather than a stream.
/// What is missing or cannot be opened is an error before anything is sent.
fn is_file(path: &Path) -> anyhow::Result<bool> {
    if path == Path::new(STANDARD_INPUT) {
        return Ok(false);
    }
    let open_error = |source| InputError::Open {
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(open_error)?;
    ensure!(
        !metadata.is_dir(),
        "{}: is a folder; name the files in it",
        path.display()
    );
    // opening a pipe would take its writer's first bytes away
    if metadata.is_file() {
        File::open(path).map_err(open_error)?;
    }
    Ok(metadata.is_file())
}

fn limit(count: Option<u64>) -> usize {
    count.map_or(usize::MAX, |count| {
        usize::try_from(count).unwrap_or(usize::MAX)
    })
}

/// How long `count` records take at the rate of the options.
fn span(options: &GeneratorOptions, count: u64) -> Duration {
    Duration::from_secs(count / options.rate.max(1))
}

fn base_time(args: &EventArgs, back: Duration) -> EventTime {
    event_time(args.base_time.unwrap_or_else(|| Utc::now() - back))
}

fn event_time(time: DateTime<Utc>) -> EventTime {
    EventTime::from_micros(time.timestamp_micros())
}

struct ProducerHealth {
    metrics: Metrics,
    begun: Instant,
    connected: AtomicBool,
}

impl Health for ProducerHealth {
    fn live(&self) -> Verdict {
        Verdict::Ok
    }

    fn ready(&self) -> Verdict {
        if self.connected.load(Ordering::Relaxed) {
            Verdict::Ok
        } else {
            Verdict::Failing("kafka: not connected yet".to_owned())
        }
    }

    fn status(&self) -> serde_json::Value {
        let lag = Duration::try_from_secs_f64(self.metrics.schedule_lag.get()).unwrap_or_default();
        serde_json::to_value(Summary::take(&self.metrics, lag, self.begun.elapsed()))
            .unwrap_or_default()
    }
}
