//! A report for people: the verdict first, then what it rests on.
//!
//! However much differs, the text stays within what a person reads: so many differences of each
//! kind, and how many more there are.

use std::{collections::BTreeMap, fmt};

use super::{AuditReport, Difference, Kind, Outcome, PartitionReport};
use crate::audit::coverage::share;

/// Differences of a kind that are shown.
const OF_A_KIND: usize = 10;
/// Doubts that are shown, and notes.
const OF_THE_REST: usize = 20;

const COLUMNS: [&str; 14] = [
    "partition",
    "from",
    "to",
    "rules",
    "consumed",
    "accepted",
    "duplicate",
    "rejected",
    "late",
    "skipped",
    "undecided",
    "differences",
    "of records",
    "of windows",
];

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict())?;
        if !self.differences.is_empty() || !self.not_proven.is_empty() {
            writeln!(f)?;
        }
        let mut kinds: BTreeMap<Kind, Vec<&Difference>> = BTreeMap::new();
        for difference in &self.differences {
            kinds.entry(difference.kind).or_default().push(difference);
        }
        for (kind, differences) in kinds {
            let shown = differences.len().min(OF_A_KIND);
            for difference in &differences[..shown] {
                write!(f, "\n{difference}")?;
            }
            let all = self.differences_by_kind.get(&kind).copied().unwrap_or(0);
            match all.saturating_sub(shown as u64) {
                0 => {}
                more => write!(f, "\n… and {more} more of {}", kind.as_str())?,
            }
        }
        list(f, "not proven", &self.not_proven)?;
        write!(f, "\n\n{}", Table(&self.partitions))?;
        list(f, "note", &self.notes)
    }
}

/// Lines that begin with the same word.
fn list(f: &mut fmt::Formatter<'_>, word: &str, lines: &[String]) -> fmt::Result {
    for line in lines.iter().take(OF_THE_REST) {
        write!(f, "\n{word}: {line}")?;
    }
    match lines.len().saturating_sub(OF_THE_REST) {
        0 => Ok(()),
        more => write!(f, "\n{word}: … and {more} more"),
    }
}

/// Partitions in columns.
struct Table<'a>(&'a [PartitionReport]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![COLUMNS.map(str::to_owned)];
        lines.extend(self.0.iter().map(PartitionReport::cells));
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{:<1$}", line[0], widths[0])?;
            for (cell, width) in line.iter().zip(&widths).skip(1) {
                write!(f, "  {cell:>width$}")?;
            }
        }
        Ok(())
    }
}

impl AuditReport {
    /// The first line.
    fn verdict(&self) -> String {
        let (records, partitions) = (self.compared_records(), self.partitions.len());
        let [reached, behind, unread] = match self.unread() {
            0 => [const { String::new() }; 3],
            count => [
                " up to the offsets that were reached".to_owned(),
                format!("; {count} records behind them are not read yet"),
                format!("; {count} records are not read yet"),
            ],
        };
        match self.outcome {
            Outcome::Clean if self.records_compared >= self.records_counted => format!(
                "audit clean: {records} of {partitions} partitions, {} rows, {}: everything{}{reached} follows from the log{behind}",
                self.rows,
                self.compared_windows(),
                if self.windows_of_older_form == 0 {
                    ""
                } else {
                    " else"
                }
            ),
            Outcome::Clean => format!(
                "audit clean: {records} of {partitions} partitions, {} rows, {}: all that the log still has{reached} follows from it, and the rest adds up{behind}",
                self.rows,
                self.compared_windows()
            ),
            Outcome::NotProven => format!(
                "audit not proven: nothing differs, but only {records} of {partitions} partitions and {} could be compared{unread}",
                self.compared_windows()
            ),
            Outcome::Differs => {
                let kinds: Vec<String> = self
                    .differences_by_kind
                    .iter()
                    .map(|(kind, count)| format!("{count} {}", kind.as_str()))
                    .collect();
                let besides = match self.not_proven.len() {
                    0 => String::new(),
                    doubts => format!("; {doubts} not proven besides"),
                };
                format!(
                    "audit found {} difference{} in {records} of {partitions} partitions: {}{besides}{unread}",
                    self.differences_total,
                    if self.differences_total == 1 { "" } else { "s" },
                    kinds.join(", ")
                )
            }
        }
    }

    fn unread(&self) -> i64 {
        self.partitions.iter().filter_map(|one| one.unread).sum()
    }

    fn compared_records(&self) -> String {
        let (part, whole) = (self.records_compared, self.records_counted);
        if part >= whole {
            format!("{part} records")
        } else {
            let share = share(part.into(), whole.into());
            format!("{part} of {whole} records ({share})")
        }
    }

    fn compared_windows(&self) -> String {
        let (part, whole) = (self.windows, self.windows_stored);
        let compared = if part >= whole {
            format!("{part} windows")
        } else {
            let share = share(part as i128, whole as i128);
            format!("{part} of {whole} windows ({share})")
        };
        match self.windows_of_older_form {
            0 => compared,
            older => format!("{compared}, visitors and sessions of {older} of them left out"),
        }
    }
}

impl PartitionReport {
    fn cells(&self) -> [String; 14] {
        let [of_records, of_windows] = if self.checkpoint {
            [
                share(self.records_compared.into(), self.records_counted.into()),
                share(self.windows_compared.into(), self.windows_stored.into()),
            ]
        } else {
            ["-", "-"].map(str::to_owned)
        };
        [
            format!("{}[{}]", self.topic, self.partition),
            self.from_offset.to_string(),
            self.to_offset.to_string(),
            self.rules.len().to_string(),
            self.consumed.to_string(),
            self.accepted.to_string(),
            self.duplicate.to_string(),
            self.rejected.to_string(),
            self.late.to_string(),
            self.skipped.to_string(),
            self.undecided.to_string(),
            self.differences.to_string(),
            of_records,
            of_windows,
        ]
    }
}

#[cfg(test)]
mod tests {
    use crate::audit::report::Differences;

    use super::*;

    fn report(missing: u64, wrong_hits: u64, doubts: usize) -> AuditReport {
        let mut differences = Differences::default();
        for offset in 0..missing {
            let found = Difference::new(Kind::MissingRow, "accepted, but not stored");
            let offset = i64::try_from(offset).unwrap_or_default();
            differences.add(None, found.of("clicks", 0).at(offset));
        }
        for window in 0..wrong_hits {
            let found = Difference::new(Kind::HitsDiffer, "page /a: stored 1, rows 2");
            differences.add(None, found.in_window(window));
        }
        let not_proven = vec!["clicks[1]: no checkpoint".to_owned(); doubts];
        let outcome = Outcome::of(differences.total(), &not_proven);
        AuditReport {
            outcome,
            clean: outcome == Outcome::Clean,
            snapshot_at: String::new(),
            final_until: None,
            records: 5_000,
            records_compared: 5_000,
            records_counted: 5_000,
            rows: 4_000,
            windows: 60,
            windows_stored: 60,
            windows_of_older_form: 0,
            partitions: Vec::new(),
            differences_total: differences.total(),
            differences_by_kind: differences.by_kind().clone(),
            differences: differences.into_listed(),
            not_proven,
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_few_differences_are_all_shown_behind_the_verdict() {
        let text = report(2, 1, 0).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..5],
            [
                "audit found 3 differences in 5000 records of 0 partitions: 2 missing_row, 1 hits_differ",
                "",
                "missing_row clicks[0]@0: accepted, but not stored",
                "missing_row clicks[0]@1: accepted, but not stored",
                "hits_differ window 0: page /a: stored 1, rows 2",
            ]
        );
    }

    #[test]
    fn thousands_of_differences_and_doubts_are_told_in_a_screenful() {
        let text = report(2_900, 100, 1_000).to_string();
        assert!(
            text.starts_with(
                "audit found 3000 differences in 5000 records of 0 partitions: 2900 missing_row, 100 hits_differ; \
                 1000 not proven besides\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("\n… and 2890 more of missing_row\n"),
            "{text}"
        );
        assert!(text.contains("\n… and 97 more of hits_differ\n"), "{text}");
        assert!(text.contains("\nnot proven: … and 980 more\n"), "{text}");
        assert!(text.lines().count() < 50, "{text}");
    }

    #[test]
    fn a_clean_report_begins_with_the_word() {
        let text = report(0, 0, 0).to_string();
        assert!(
            text.starts_with("audit clean: 5000 records of 0 partitions, 4000 rows, 60 windows: "),
            "{text}"
        );
        let text = report(0, 0, 1).to_string();
        assert!(text.starts_with("audit not proven: "), "{text}");
    }
}
