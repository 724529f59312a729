//! The last lines of a run.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use super::counts::Counts;
use super::step::Report;

/// Prints the table and, as the very last line, `N passed, N failed`.
///
/// # Errors
/// Stdout is closed.
pub fn print(reports: &[Report]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(table(reports).as_bytes())?;
    writeln!(out, "{}", closing_line(reports))?;
    out.flush()
}

fn table(reports: &[Report]) -> String {
    let widest = |report: &Report| report.name.chars().count();
    let width = reports.iter().map(widest).max().unwrap_or_default();
    let mut text = String::from("\n");
    for report in reports {
        let verdict = if report.is_green() { "ok" } else { "RED" };
        let seconds = report.took.as_secs_f64();
        let mut line = format!("{:width$}  {verdict:3}  {seconds:>7.1} s", report.name);
        if report.counts != Counts::default() {
            let Counts {
                passed,
                failed,
                ignored,
            } = report.counts;
            // infallible: writing to a String
            let _ = write!(
                line,
                "  {passed:>4} passed  {failed} failed  {ignored} ignored"
            );
        }
        match &report.outcome {
            Ok(None) => {}
            Ok(Some(remark)) => line = format!("{line}  ({remark})"),
            Err(reason) => line = format!("{line}  ({reason})"),
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Tests over all steps. A step that is red without a failed test (format, a crate that does not
/// compile) counts as one failure, so that "0 failed" always means green.
fn closing_line(reports: &[Report]) -> String {
    let mut sum = Counts::default();
    for report in reports {
        sum += report.counts;
        if !report.is_green() && report.counts.failed == 0 {
            sum.failed += 1;
        }
    }
    format!("{} passed, {} failed", sum.passed, sum.failed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(name: &str, passed: u64, failed: u64, outcome: Result<(), &str>) -> Report {
        Report {
            name: name.to_owned(),
            took: Duration::from_millis(1_500),
            counts: Counts {
                passed,
                failed,
                ignored: 0,
            },
            outcome: outcome.map(|()| None).map_err(str::to_owned),
        }
    }

    #[test]
    fn tests_add_up_over_steps() {
        let reports = [
            report("format", 0, 0, Ok(())),
            report("unit", 12, 0, Ok(())),
            report("integration", 3, 2, Err("exit status: 101")),
        ];
        assert_eq!(closing_line(&reports), "15 passed, 2 failed");
    }

    #[test]
    fn a_red_step_without_tests_is_a_failure() {
        let reports = [report("clippy", 0, 0, Err("exit status: 101"))];
        assert_eq!(closing_line(&reports), "0 passed, 1 failed");
    }

    #[test]
    fn the_table_names_every_step_and_why_one_is_red() {
        let text = table(&[
            report("format", 0, 0, Ok(())),
            report("unit: pure crates", 12, 0, Err("exit status: 101")),
        ]);
        let lines: Vec<&str> = text.trim().lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].starts_with("format") && lines[0].contains("ok") && lines[0].contains("1.5 s")
        );
        assert!(
            lines[1].contains("RED")
                && lines[1].contains("12 passed")
                && lines[1].contains("exit status: 101")
        );
    }
}
