//! `cargo xtask faults`: everything that is broken on purpose, as a table whose rows can be run.
//!
//! ```text
//! rows ──> their tests, compiled as `cargo xtask test` does ──> once for each seed ──> a line for each row
//! ```
//! A row says what happens and what must hold; its tests are those of the repository, which audit by
//! themselves. What has no test says why.

mod list;
mod round;
mod rows;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clickstream_tools::workspace_root;

use self::round::Round;
pub(crate) use self::rows::rows;
use self::rows::{Row, SOAK};
use crate::args::FaultsArgs;
use crate::steps::Steps;
use crate::test::programs::{self, TestProgram};
use crate::test::step;
use crate::test::workspace::Workspace;

/// Prints the rows, or runs them; red when one of them is.
///
/// # Errors
/// The tests cannot be compiled, the folder of the logs cannot be written, or stdout is closed. A red row is no error.
pub fn run(args: &FaultsArgs) -> anyhow::Result<ExitCode> {
    let chosen = chosen(args);
    if args.list {
        say(&list::text(&chosen))?;
        return Ok(ExitCode::SUCCESS);
    }
    let workspace = Workspace::read()?;
    let (report, programs) = programs::compile(true, &workspace);
    if let Err(error) = report.outcome {
        anyhow::bail!("{error}");
    }
    step::servers()?;
    let logs = workspace_root().join("target/faults");
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let steps = Steps::new();
    let begun = Instant::now();
    let mut tally = Tally::default();
    for row in chosen {
        if row.tests.is_empty() {
            tally.left_out += 1;
            say(&format!(
                "{:<4} {:<64} not run: {}\n",
                row.name(),
                row.what,
                row.without
            ))?;
            continue;
        }
        let outcome = rounds(row, args, &programs, &logs, &steps);
        say(&format!("{}\n", outcome.line(row)))?;
        match outcome.red {
            None => tally.held += 1,
            Some(_) => tally.red += 1,
        }
    }
    say(&format!("{}\n", tally.line(begun.elapsed())))?;
    Ok(if tally.red == 0 && tally.held > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Writes to standard output at once: progress is on the other stream.
fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The rows that are asked for, in the order of their numbers.
fn chosen(args: &FaultsArgs) -> Vec<&'static Row> {
    let wanted = |row: &&Row| match args.soak {
        Some(_) => row.number == SOAK,
        None if args.quick => row.quick,
        None => args.only.is_empty() || args.only.contains(&row.number),
    };
    rows().filter(wanted).collect()
}

/// What came of a row.
struct Outcome {
    rounds: u64,
    of: u64,
    took: Duration,
    /// Why it is red, and how to see it again.
    red: Option<String>,
}

impl Outcome {
    fn line(&self, row: &Row) -> String {
        let verdict = if self.red.is_none() { "ok" } else { "RED" };
        let rounds = format!("{}/{}", self.rounds, self.of);
        let mut line = format!(
            "{:<4} {:<64} {rounds:>7}  {verdict:<3} {:>7.1} s",
            row.name(),
            row.what,
            self.took.as_secs_f64()
        );
        if let Some(why) = &self.red {
            for part in why.lines() {
                // infallible: writing to a String
                let _ = write!(line, "\n       {part}");
            }
        }
        line
    }
}

/// Every round of a row, up to the first that is red.
fn rounds(
    row: &Row,
    args: &FaultsArgs,
    programs: &[TestProgram],
    logs: &std::path::Path,
    steps: &Steps,
) -> Outcome {
    let step = steps.begin(&row.name());
    let begun = Instant::now();
    let mut outcome = Outcome {
        rounds: 0,
        of: args.seeds,
        took: Duration::ZERO,
        red: None,
    };
    for seed in args.seed..args.seed + args.seeds {
        let round = Round {
            row,
            seed,
            soak: args.soak,
            logs,
        };
        let note = format!(
            "round {} of {}: {}",
            seed - args.seed + 1,
            args.seeds,
            row.what
        );
        if let Err(error) = round.run(programs, |doing| step.note(&format!("{note}; {doing}"))) {
            outcome.red = Some(format!("{error:#}\nagain: {}", round.command()));
            break;
        }
        outcome.rounds += 1;
    }
    outcome.took = begun.elapsed();
    outcome
}

/// Rows by what came of them.
#[derive(Default)]
struct Tally {
    held: usize,
    red: usize,
    left_out: usize,
}

impl Tally {
    fn line(&self, took: Duration) -> String {
        let Self {
            held,
            red,
            left_out,
        } = self;
        let seconds = took.as_secs_f64();
        format!("{held} held, {red} red, {left_out} not run on one machine, {seconds:.0} s")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use clap::Parser as _;

    use super::*;
    use crate::args::{Command, Xtask};

    fn chosen_by(words: &[&str]) -> Vec<u8> {
        let given = [&["cargo xtask", "faults"], words].concat();
        let Command::Faults(args) = Xtask::try_parse_from(given).unwrap().command else {
            panic!("another command");
        };
        chosen(&args).iter().map(|row| row.number).collect()
    }

    #[test]
    fn rows_are_chosen_by_number_by_time_or_all() {
        assert_eq!(chosen_by(&["--only", "F21,f7"]), [7, 21]);
        assert_eq!(chosen_by(&["--soak", "30m"]), [51]);
        assert_eq!(chosen_by(&[]).len(), 52);
        let quick = chosen_by(&["--quick"]).len();
        assert!(quick > 5 && quick < 52, "{quick}");
    }

    #[test]
    fn wrong_words_are_refused_before_anything_is_compiled() {
        for words in [
            &["--only", "F53"][..],
            &["--only", "F1", "--quick"],
            &["--soak", "30m", "--quick"],
            &["--soak", "long"],
            &["--seeds", "0"],
            &["--list", "--quick"],
        ] {
            let given = [&["cargo xtask", "faults"], words].concat();
            let refused = Xtask::try_parse_from(&given).map(|_| ()).unwrap_err();
            assert_eq!(refused.exit_code(), 2, "{given:?}");
        }
    }

    #[test]
    fn a_red_row_says_why_and_how_to_see_it_again() {
        let row = rows().next().unwrap();
        let outcome = Outcome {
            rounds: 2,
            of: 20,
            took: Duration::from_millis(1_500),
            red: Some("kills: exit status: 101\nagain: this".to_owned()),
        };
        let text = outcome.line(row);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("F1 ") && lines[0].contains("2/20  RED     1.5 s"));
        assert!(lines[2].trim_start().starts_with("again: "));
    }
}
