//! An upgrade of the tables under load: the release before fills them and goes on writing while
//! this one migrates them, is then replaced by it, and is at last started again.
//!
//! ```text
//! before fills ─> events come in ─> migrate, beside a long query ─> before goes on ─> after joins, before leaves ─> audit ─> before again ─> audit
//! ```
//! Owner and writer of the tables are two roles, as in production, and both releases read one and
//! the same document, which says no more than it has to: what a release takes for granted is a part
//! of it.

mod release;
mod target;
mod watch;

use std::time::{Duration, Instant};

use anyhow::ensure;
use clickstream_producer::generator::IdForm;

use self::target::{SCHEMA, Target, finish, leave, traffic};
use self::watch::{Span, Watch};
use super::backlog::{Backlog, Contents, Resends};
use super::figure::{Aim, Figure, Run};
use super::load::Load;
use super::stand::Stand;
use xtask::args::BenchArgs;

/// The part of the stored events that comes late: releases keep them in different tables.
const LATE: f64 = 0.01;

/// How long writers may stand still because tables change, in seconds.
const STANDSTILL: Aim = Aim::at_most(1.0, 0.3);
/// How long a partition may wait for its new owner, in seconds.
const HANDOVER: Aim = Aim::at_most(5.0, 1.0);
/// An audit's exit code.
const CLEAN: Aim = Aim::at_most(0.0, 0.0);

/// One upgrade, however many runs are asked for: it takes minutes, and what it shows is no speed.
///
/// # Errors
/// Something cannot be compiled or started, or a processor dies that should not.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let (from, dir) = (args.from.clone(), stand.dir().to_owned());
    let before = tokio::task::spawn_blocking(move || release::processor(&from, &dir)).await??;
    let contents = Contents {
        records: args.rows,
        ids: IdForm::V7,
        resends: Resends::SamePartition,
    };
    let covered = Duration::from_secs((args.rows / args.rate).max(1));
    let backlog = Backlog::fill_over(stand, contents, covered, LATE).await?;
    let log = &backlog.log;
    let target = Target::prepare(stand, log, before).await?;

    let load = Load::now()?;
    let first = target.start(&target.before, "before")?;
    target.reaches(&[&first], backlog.records).await?;
    target.say("filled").await?;
    let producer = traffic(stand, log, args.rate)?;
    let watch = Watch::start(&target.url, SCHEMA)?;
    tokio::time::sleep(args.period).await;
    let quiet = ended(Instant::now() - args.period);

    let was = target.version().await?;
    let reader = target.reads().await?;
    let begin = Instant::now();
    let (code, said) = target.command(&target.after, "migrate").await?;
    ensure!(code == 0, "migrate: exit code {code}:\n{said}");
    let migration = ended(begin);
    reader.await??;
    let is = target.version().await?;
    ensure!(
        is > was,
        "{} knows no later tables than version {was}: name an older one with --from",
        args.from
    );
    let begin = Instant::now();
    tokio::time::sleep(args.period).await;
    let mixed = ended(begin);

    let begin = Instant::now();
    let second = target.start(&target.after, "after")?;
    target.owns(&second, "after").await?;
    leave(&first).await?;
    target.owns_all(&second, "after").await?;
    tokio::time::sleep(args.period).await;
    let handover = ended(begin);
    let seen = watch.end().await?;
    let foreign_cpu = load.foreign_since()?;
    finish(&producer).await?;
    target.drained(&[&second], &backlog).await?;
    target.say("upgraded").await?;
    let (audit, report) = target.command(&target.after, "audit").await?;
    eprintln!("audit: exit code {audit}\n{report}");

    leave(&second).await?;
    let producer = traffic(stand, log, args.rate)?;
    let works = target.goes_back(args.period).await?;
    let third = target.start(&target.after, "after again")?;
    target.owns_all(&third, "after again").await?;
    finish(&producer).await?;
    target.drained(&[&third], &backlog).await?;
    target.say("forward again").await?;
    let (last_audit, report) = target.command(&target.after, "audit").await?;
    eprintln!("audit: exit code {last_audit}\n{report}");
    leave(&third).await?;

    let figure = |name: &str, unit, value: f64, aim| {
        Figure::new(name, unit, vec![Run { value, foreign_cpu }], aim)
    };
    let seconds = |name: &str, value: Duration, aim| figure(name, "s", value.as_secs_f64(), aim);
    Ok(vec![
        seconds(
            "before: longest time without a commit",
            seen.standstill(quiet),
            None,
        ),
        seconds("migrate, exec to exit", migration.to - migration.from, None),
        seconds(
            "migrate: longest time without a commit",
            seen.standstill(migration),
            Some(STANDSTILL),
        ),
        seconds(
            "migrate: checkpoints locked",
            seen.locked(migration),
            Some(STANDSTILL),
        ),
        seconds(
            "migrate: longest wait of a flush for a lock",
            seen.wait(migration),
            Some(STANDSTILL),
        ),
        seconds(
            "old release on new tables: longest time without a commit",
            seen.standstill(mixed),
            Some(STANDSTILL),
        ),
        seconds(
            "old release on new tables: longest wait for a lock",
            seen.wait(mixed),
            Some(STANDSTILL),
        ),
        seconds(
            "replacement: longest time without progress of a partition",
            seen.standstill_of_a_partition(handover),
            Some(HANDOVER),
        ),
        figure(
            "audit after the upgrade",
            "exit code",
            f64::from(audit),
            Some(CLEAN),
        ),
        figure(
            "old release started again: 1 it works, 0 it refuses",
            "",
            f64::from(u8::from(works)),
            None,
        ),
        figure(
            "audit after going back and forth",
            "exit code",
            f64::from(last_audit),
            Some(CLEAN),
        ),
    ])
}

fn ended(from: Instant) -> Span {
    Span {
        from,
        to: Instant::now(),
    }
}
