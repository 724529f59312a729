//! The orderly end: nothing that was produced is left behind, and the proof of it.

use std::io::{self, Write as _};
use std::process::{ExitCode, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clickstream_pipeline::checkpoint::Counters;
use clickstream_protocol::{
    exit::{DIFFERENCES, NOT_PROVEN},
    output,
};

use super::pages;
use super::prepare::{Pipeline, Position};
use super::screen;
use super::traffic::{Account, Traffic};
use crate::checkpoints;
use xtask::args::UpArgs;
use xtask::steps::Steps;

/// How long the lag may stay as it is before draining is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Exit codes of an audit that has come to an end.
const OUTCOMES: [u8; 2] = [DIFFERENCES, NOT_PROVEN];

/// Stops the producer, drains, audits, stops the processors and prints the account.
///
/// # Errors
/// One of these cannot be done. Differences, and what is not proven, are an exit code.
pub async fn run(
    args: &UpArgs,
    steps: &Steps,
    pipeline: &Pipeline,
    before: &Position,
    traffic: Option<Traffic>,
) -> anyhow::Result<ExitCode> {
    let account = match traffic {
        Some(traffic) => Some(traffic.stop().await?),
        None => None,
    };
    let step = steps.begin("drain");
    let after = step
        .during(drained(pipeline, |lag| step.note(&lag)), |_| {
            "lag 0".to_owned()
        })
        .await?;
    let step = steps.begin("audit");
    let audit = step
        .during(audit(pipeline), |output| output.status.to_string())
        .await?;
    pipeline.stop_processors().await?;

    let sum = Sum::new(before, &after, account.as_ref());
    let mut out = output::stdout();
    out.write_all(&audit.stdout)?;
    out.write_all(b"\n")?;
    out.write_all(sum.text(account.as_ref()).as_bytes())?;
    let top = pages::overall(&pipeline.database).await?;
    writeln!(out, "\ntop pages\n{}", screen::pages(&top))?;
    if args.kafka.is_some() || args.postgres.is_some() || args.keep {
        let schema = &pipeline.document.target().schema;
        writeln!(out, "kept: topic {}, schema {schema}", pipeline.log.topic())?;
    }
    out.flush()?;
    if !audit.status.success() {
        io::stderr().write_all(&audit.stderr)?;
        let outcome = OUTCOMES
            .into_iter()
            .find(|code| audit.status.code() == Some(i32::from(*code)));
        return Ok(ExitCode::from(outcome.unwrap_or(1)));
    }
    Ok(if sum.adds_up() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERENCES)
    })
}

/// Waits until every partition's checkpoint is at the log's end.
async fn drained(pipeline: &Pipeline, note: impl Fn(String)) -> anyhow::Result<Position> {
    let (mut best, mut since) = (i64::MAX, Instant::now());
    loop {
        let position = pipeline.position().await?;
        let lag = position.lag();
        if lag == 0 {
            return Ok(position);
        }
        if lag < best {
            (best, since) = (lag, Instant::now());
        }
        if let Some((name, status)) = pipeline.ended_processor()? {
            bail!(
                "{name} ended by itself ({status}); the end of its log:\n{}",
                pipeline.log_tail(&name)
            );
        }
        if since.elapsed() >= PATIENCE {
            let name = "processor-1";
            bail!(
                "{lag} records are not in PostgreSQL, unchanged for {PATIENCE:?}; the end of {name}'s log:\n{}",
                pipeline.log_tail(name)
            );
        }
        note(format!("{} records left", screen::count(lag)));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn audit(pipeline: &Pipeline) -> anyhow::Result<Output> {
    let mut command = pipeline
        .document
        .command(&pipeline.binaries.processor, "audit");
    command.output().await.context("cannot run the audit")
}

/// What came in and what became of it.
struct Sum {
    in_log: i64,
    counts: Counters,
    acknowledged: Option<i64>,
}

impl Sum {
    fn new(before: &Position, after: &Position, account: Option<&Account>) -> Self {
        Self {
            in_log: after.produced() - before.produced(),
            counts: checkpoints::total(&after.checkpoints)
                - checkpoints::total(&before.checkpoints),
            acknowledged: account.map(|account| account.acknowledged),
        }
    }

    /// Every record of the log has one verdict, and what the producer was promised is in the log
    /// (others may write the topic too).
    fn adds_up(&self) -> bool {
        self.counts.conserved()
            && self.counts.consumed + self.counts.skipped == self.in_log
            && self
                .acknowledged
                .is_none_or(|acknowledged| acknowledged <= self.in_log)
    }

    fn text(&self, account: Option<&Account>) -> String {
        let Counters {
            accepted,
            duplicate,
            rejected,
            late,
            skipped,
            ..
        } = self.counts;
        let number = screen::count;
        let mut text = String::new();
        if let Some(account) = account {
            if account.lines > 0 {
                text = format!(
                    "{} lines: {} unparsable, {} no clicks\n",
                    number(account.lines as i64),
                    number(account.unparsable as i64),
                    number(account.skipped as i64)
                );
            }
            text.push_str(&format!(
                "produced {} (acknowledged; {} failed; at most {} ms behind schedule)\n",
                number(account.acknowledged),
                number(account.failed),
                account.max_schedule_lag_ms
            ));
        }
        let verdict = if self.adds_up() {
            "adds up"
        } else {
            "DOES NOT ADD UP"
        };
        text.push_str(&format!(
            "in the log {} = accepted {} + duplicate {} + rejected {} + late {} + skipped {}: {verdict}\n",
            number(self.in_log),
            number(accepted),
            number(duplicate),
            number(rejected),
            number(late),
            number(skipped)
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(in_log: i64, acknowledged: i64) -> Sum {
        let counts = Counters {
            consumed: 9,
            accepted: 5,
            duplicate: 2,
            rejected: 1,
            late: 1,
            skipped: 1,
            ..Counters::default()
        };
        Sum {
            in_log,
            counts,
            acknowledged: Some(acknowledged),
        }
    }

    #[test]
    fn every_record_has_one_verdict() {
        assert!(sum(10, 10).adds_up());
        assert!(!sum(11, 10).adds_up());
        assert!(!sum(9, 9).adds_up());
    }

    #[test]
    fn what_was_acknowledged_must_be_in_the_log() {
        assert!(!sum(10, 11).adds_up());
        assert!(sum(10, 8).adds_up(), "somebody else writes the topic too");
    }
}
