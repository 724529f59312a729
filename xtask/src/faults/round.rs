//! One round of a row: its test programs, each with a log of its own and a bound in time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::rows::Row;
use crate::test::counts::Counts;
use crate::test::programs::TestProgram;

/// How long the tests of a row may take together, beside the time of a soak. Each has shorter
/// bounds of its own.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How often a test program is asked whether it has ended.
const POLL: Duration = Duration::from_millis(100);
/// Seeds of the simulation in one round.
const SIMULATED: u64 = 2_000;

/// One round.
pub struct Round<'a> {
    /// What is run.
    pub row: &'a Row,
    /// The round's seed, for tests that take one.
    pub seed: u64,
    /// How long a soak lasts, where it is not up to the test.
    pub soak: Option<Duration>,
    /// The folder of the logs.
    pub logs: &'a Path,
}

impl Round<'_> {
    /// Runs every test of the row; `doing` hears what is being done.
    ///
    /// # Errors
    /// A test is red, or is not there; the message says which, and where its log is.
    pub fn run(&self, programs: &[TestProgram], doing: impl Fn(&str)) -> anyhow::Result<()> {
        let mut targets: Vec<&str> = self.row.tests.iter().map(|test| test.target).collect();
        targets.sort_unstable();
        targets.dedup();
        for target in targets {
            let program = programs.iter().find(|program| program.is_test(target));
            let program = program.with_context(|| format!("no test program {target}"))?;
            let tests = self.row.tests.iter().filter(|test| test.target == target);
            let names: Vec<&str> = tests.map(|test| test.name).collect();
            self.program(program, target, &names, &doing)?;
        }
        Ok(())
    }

    /// What to type to see the round again.
    pub fn command(&self) -> String {
        match self.soak {
            Some(time) => {
                let time = humantime::format_duration(time)
                    .to_string()
                    .replace(' ', "");
                format!("cargo xtask faults --soak {time} --seed {}", self.seed)
            }
            None => format!(
                "cargo xtask faults --only {} --seed {}",
                self.row.name(),
                self.seed
            ),
        }
    }

    fn program(
        &self,
        program: &TestProgram,
        target: &str,
        names: &[&str],
        doing: &impl Fn(&str),
    ) -> anyhow::Result<()> {
        let log = self.log(target);
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&program.path);
        command
            .current_dir(&program.folder)
            .args(["--exact", "--include-ignored", "--nocapture"])
            .args(names)
            .env("CLICKSTREAM_FAULT_SEED", self.seed.to_string())
            .env("CLICKSTREAM_SIM_FIRST", (self.seed * SIMULATED).to_string())
            .env("CLICKSTREAM_SIM_SEEDS", SIMULATED.to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        if let Some(time) = self.soak {
            command.env("CLICKSTREAM_SOAK_SECONDS", time.as_secs().to_string());
        }
        let ended = self.bounded(command, &log, doing);
        let said = fs::read(&log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        verdict(ended, &said, names.len())
            .with_context(|| format!("{target}: log: {}", log.display()))?;
        // of what held, nothing is kept
        fs::remove_file(&log).ok();
        Ok(())
    }

    /// Runs it to its end, and ends it where it does not end by itself; what it has started ends
    /// with it.
    #[expect(
        clippy::disallowed_methods,
        reason = "the end of a child is asked for from time to time, and no runtime runs here"
    )]
    fn bounded(
        &self,
        mut command: Command,
        log: &Path,
        doing: &impl Fn(&str),
    ) -> anyhow::Result<ExitStatus> {
        let mut child = command.spawn().context("cannot start the test program")?;
        let patience = PATIENCE + self.soak.unwrap_or_default();
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > patience {
                child.kill()?;
                child.wait()?;
                bail!("still runs after {} s and was ended", patience.as_secs());
            }
            let last = last_line(log);
            doing(&format!("{} s{last}", begun.elapsed().as_secs()));
            sleep(POLL);
        }
    }

    fn log(&self, target: &str) -> PathBuf {
        let name = format!("{}-{target}-seed-{}.log", self.row.name(), self.seed);
        self.logs.join(name)
    }
}

/// What the program said last, as far as it tells anything.
fn last_line(log: &Path) -> String {
    let said = fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(400)..]).into_owned();
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    last.map(|line| format!(": {}", line.trim().chars().take(80).collect::<String>()))
        .unwrap_or_default()
}

/// Green only where every test that was asked for has run: a name that has changed is no success.
fn verdict(ended: anyhow::Result<ExitStatus>, said: &str, tests: usize) -> anyhow::Result<()> {
    let status = ended?;
    let counts = said.lines().filter_map(Counts::of_closing_line).next_back();
    let counts = counts.unwrap_or_default();
    // where the testbed has left what its servers wrote
    let kept: String = said
        .lines()
        .filter(|line| line.starts_with("testbed: "))
        .map(|line| format!("; {line}"))
        .collect();
    let failed: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.contains("::") && !line.contains(' '))
        .collect();
    ensure!(
        status.success(),
        "{status}, {} failed {}{kept}",
        counts.failed,
        failed.join(", ")
    );
    ensure!(
        counts.passed == tests as u64,
        "{} of {tests} tests have run: has one another name?",
        counts.passed
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use std::os::unix::process::ExitStatusExt as _;

    use super::*;
    use crate::faults::rows;

    const GREEN: &str =
        "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out";

    #[test]
    fn a_test_that_did_not_run_is_no_success() {
        let ended = || Ok(ExitStatus::from_raw(0));
        verdict(ended(), GREEN, 2).unwrap();
        let refused = verdict(ended(), GREEN, 3).unwrap_err().to_string();
        assert_eq!(refused, "2 of 3 tests have run: has one another name?");
        assert!(verdict(ended(), "", 1).is_err());
    }

    #[test]
    fn a_red_test_is_named_with_what_is_kept_of_it() {
        let said = "testbed: data and logs of the servers are kept in /somewhere\nfailures:\n    kills::one\n\n\
                    test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 4 filtered out";
        let ended = Ok(ExitStatus::from_raw(101 << 8));
        let refused = verdict(ended, said, 2).unwrap_err().to_string();
        for word in ["101", "1 failed kills::one", "kept in /somewhere"] {
            assert!(refused.contains(word), "{refused}");
        }
    }

    #[test]
    fn the_command_that_repeats_a_round_names_its_seed() {
        let row = rows().find(|row| row.number == rows::SOAK).unwrap();
        let mut round = Round {
            row,
            seed: 7,
            soak: None,
            logs: Path::new("."),
        };
        assert_eq!(round.command(), "cargo xtask faults --only F51 --seed 7");
        round.soak = Some(Duration::from_secs(5_400));
        assert_eq!(round.command(), "cargo xtask faults --soak 1h30m --seed 7");
    }
}
