//! How much of what was counted could be compared, and whether that is enough to call it proven.

use clickstream_pipeline::checkpoint::Counters;
use clickstream_protocol::exit;
use serde::Serialize;

use super::{anchors::Start, snapshot::Progress, tally::Tally};

/// What an audit comes to.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing differs, and everything that can still be compared was compared.
    Clean,
    /// Something differs.
    Differs,
    /// Nothing differs, but some part could not be compared at all.
    NotProven,
}

/// What was compared of one partition.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Coverage {
    /// Records whose verdict was recomputed and compared.
    pub records_compared: i64,
    /// Records that the checkpoint counts.
    pub records_counted: i64,
    /// Windows whose traffic was recomputed and compared.
    pub windows_compared: u64,
    /// Windows that have traffic.
    pub windows_stored: u64,
}

impl Outcome {
    /// A difference is more than a doubt.
    pub fn of(differences: u64, doubts: &[String]) -> Self {
        match (differences, doubts) {
            (0, []) => Self::Clean,
            (0, _) => Self::NotProven,
            _ => Self::Differs,
        }
    }

    /// The code that the process exits with, beside 1 for an audit that could not be done.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Differs => exit::DIFFERENCES,
            Self::NotProven => exit::NOT_PROVEN,
        }
    }
}

impl Coverage {
    /// Puts it together from what was counted and what was read.
    pub fn new(counted: &Counters, tally: &Tally, compared: u64, stored: u64) -> Self {
        Self {
            records_compared: tally.consumed + tally.skipped - tally.undecided,
            records_counted: counted.consumed + counted.skipped,
            // windows may have come since they were counted
            windows_compared: compared.min(stored),
            windows_stored: stored,
        }
    }

    /// Why the partition is not proven, if it is not. What Kafka's retention has taken is no reason
    /// as long as something is left: the anchors vouch for the totals below, and the tables are
    /// checked against those.
    pub fn doubts(&self, progress: &Progress, start: &Start, tally: &Tally) -> Vec<String> {
        let (topic, partition) = (&progress.topic, progress.tp.partition);
        let (counted, log_start) = (self.records_counted, start.log_start);
        let mut doubts = Vec::new();
        if counted > 0 && self.records_compared == 0 {
            let read = tally.consumed + tally.skipped;
            let why = if start.anchor.is_none() {
                format!(
                    "no anchor lies in the log, which begins at {log_start}: none of its {counted} records was compared"
                )
            } else if read == 0 {
                format!(
                    "the log, which begins at {log_start}, holds none of its {counted} records any more"
                )
            } else {
                format!(
                    "all {read} records that the log holds are of days that retention has dropped"
                )
            };
            doubts.push(format!("{topic}[{partition}]: {why}"));
        }
        if let Some(lost) = &start.lost {
            doubts.push(format!(
                "{topic}[{partition}]: offsets {} to {} are in the log, but no anchor lies below them: they were not compared",
                lost.start, lost.end
            ));
        }
        if self.windows_stored > 0 && self.windows_compared == 0 {
            doubts.push(format!(
                "{topic}[{partition}]: none of its {} windows could be compared, since the rows behind them have expired",
                self.windows_stored
            ));
        }
        doubts
    }
}

/// A part of a whole in per cent, rounded down, so that only all of it is 100.
pub fn share(part: i128, whole: i128) -> String {
    if part >= whole {
        return "100 %".to_owned();
    }
    let hundredths = (part.max(0) * 10_000).checked_div(whole).unwrap_or(0);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_more_than_a_doubt() {
        let doubts = ["a part".to_owned()];
        let codes = [(0, &[][..]), (2, &[]), (2, &doubts), (0, &doubts)]
            .map(|(differences, doubts)| Outcome::of(differences, doubts).exit_code());
        assert_eq!(codes, [0, 3, 3, 4]);
    }

    #[test]
    fn only_all_of_it_is_a_hundred_per_cent() {
        assert_eq!(share(0, 0), "100 %");
        assert_eq!(share(3, 3), "100 %");
        assert_eq!(share(999_999, 1_000_000), "99.99 %");
        assert_eq!(share(1, 8), "12.50 %");
        assert_eq!(share(0, 8), "0.00 %");
        assert_eq!(share(-1, 8), "0.00 %");
    }
}
