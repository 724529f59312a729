//! Figures, their medians, and how they are reported.

use std::fmt::Write as _;

use serde::Serialize;

use super::machine::Machine;

/// A run in which others used more than this part of the CPU is marked.
const BUSY: f64 = 0.10;

/// Said of a figure that is worse than its floor.
const MISSED: &str = "MISSED";

/// The reports of one benchmark.
#[derive(Debug, Serialize)]
pub struct Report {
    benchmark: &'static str,
    command: String,
    machine: Machine,
    figures: Vec<Figure>,
}

/// Something that was measured several times.
#[derive(Debug, Serialize)]
pub struct Figure {
    name: String,
    unit: &'static str,
    median: f64,
    runs: Vec<Run>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aim: Option<Aim>,
}

/// One measurement.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// What was measured, in the figure's unit.
    pub value: f64,
    /// The part of the machine's CPU that other programs used meanwhile, 0 to 1.
    pub foreign_cpu: f64,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Aim {
    floor: f64,
    goal: f64,
    more_is_better: bool,
}

impl Aim {
    /// At least `floor`, better `goal`.
    pub const fn at_least(floor: f64, goal: f64) -> Self {
        Self {
            floor,
            goal,
            more_is_better: true,
        }
    }

    /// At most `floor`, better `goal`.
    pub const fn at_most(floor: f64, goal: f64) -> Self {
        Self {
            floor,
            goal,
            more_is_better: false,
        }
    }

    fn verdict(self, value: f64) -> &'static str {
        let reached = |aim: f64| {
            if self.more_is_better {
                value >= aim
            } else {
                value <= aim
            }
        };
        match (reached(self.floor), reached(self.goal)) {
            (_, true) => "goal",
            (true, false) => "ok",
            (false, false) => MISSED,
        }
    }
}

impl Figure {
    /// A figure of at least one run.
    pub fn new(
        name: impl Into<String>,
        unit: &'static str,
        runs: Vec<Run>,
        aim: Option<Aim>,
    ) -> Self {
        let mut values: Vec<f64> = runs.iter().map(|run| run.value).collect();
        Self {
            name: name.into(),
            unit,
            median: median(&mut values),
            runs,
            aim,
        }
    }

    /// What each run of `runs` says of `value`.
    pub fn of<T>(
        name: impl Into<String>,
        unit: &'static str,
        runs: &[T],
        aim: Option<Aim>,
        value: impl Fn(&T) -> Run,
    ) -> Self {
        Self::new(name, unit, runs.iter().map(value).collect(), aim)
    }
}

impl Report {
    /// A report of what this process was asked to measure.
    pub fn new(benchmark: &'static str, machine: Machine, figures: Vec<Figure>) -> Self {
        let args: Vec<String> = std::env::args().skip(1).collect();
        Self {
            benchmark,
            command: format!("cargo xtask {}", args.join(" ")),
            machine,
            figures,
        }
    }

    /// The benchmark's name.
    pub fn benchmark(&self) -> &'static str {
        self.benchmark
    }

    /// Whether one of the figures is worse than its floor.
    pub fn misses_a_floor(&self) -> bool {
        let missed = |figure: &Figure| figure.aim.map(|aim| aim.verdict(figure.median));
        self.figures
            .iter()
            .any(|figure| missed(figure) == Some(MISSED))
    }

    /// The report for people.
    pub fn table(&self) -> String {
        let width = self
            .figures
            .iter()
            .map(|figure| figure.name.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = format!(
            "\n{}: {}\n{}\n\n",
            self.benchmark, self.command, self.machine
        );
        // infallible: writing to a String
        let _ = writeln!(
            text,
            "{:width$}  {:>12} {:<10} {:>9} {:>9}  {:6}  runs (* others used more than 10 % of the CPU)",
            "", "median", "", "floor", "goal", ""
        );
        for figure in &self.figures {
            let (floor, goal, verdict) = match figure.aim {
                Some(aim) => (
                    number(aim.floor),
                    number(aim.goal),
                    aim.verdict(figure.median),
                ),
                None => (String::new(), String::new(), ""),
            };
            let runs: Vec<String> = figure.runs.iter().map(Run::shown).collect();
            let _ = writeln!(
                text,
                "{:width$}  {:>12} {:<10} {floor:>9} {goal:>9}  {verdict:6}  {}",
                figure.name,
                number(figure.median),
                figure.unit,
                runs.join(" ")
            );
        }
        text
    }
}

impl Run {
    fn shown(&self) -> String {
        let mark = if self.foreign_cpu > BUSY {
            format!("*{:.0}%", self.foreign_cpu * 100.0)
        } else {
            String::new()
        };
        format!("{}{mark}", number(self.value))
    }
}

/// The middle value; of an even number of values the mean of the two in the middle. 0 without any.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Three significant digits or whole thousands.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1e4 => format!("{:.1}k", value / 1e3),
        medium if medium >= 100.0 => format!("{value:.0}"),
        small if small >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
    }

    #[test]
    fn an_aim_tells_floor_from_goal_in_both_directions() {
        let rate = Aim::at_least(0.5, 0.7);
        assert_eq!(
            [0.4, 0.5, 0.7].map(|value| rate.verdict(value)),
            ["MISSED", "ok", "goal"]
        );
        let time = Aim::at_most(40.0, 15.0);
        assert_eq!(
            [41.0, 40.0, 15.0].map(|value| time.verdict(value)),
            ["MISSED", "ok", "goal"]
        );
    }

    #[test]
    fn a_run_beside_foreign_work_is_marked() {
        assert_eq!(
            Run {
                value: 1.0,
                foreign_cpu: 0.2
            }
            .shown(),
            "1.00*20%"
        );
        assert_eq!(
            Run {
                value: 1.0,
                foreign_cpu: 0.1
            }
            .shown(),
            "1.00"
        );
    }
}
