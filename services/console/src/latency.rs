//! How long records took, from the buckets that processors count in.
//!
//! A processor's histogram only grows, so what happened lately is the difference of two readings.
//! Readings of several processors add up bucket by bucket.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The histogram that is read: Kafka's time stamp of a record until its commit.
const METRIC: &str = "clickstream_end_to_end_latency_seconds_bucket{";
const SINCE: &str = "since=\"received\"";

/// What "lately" means.
pub const PERIOD: Duration = Duration::from_secs(60);

/// Cumulative counts by upper bound, as Prometheus has them; the last bound is infinite.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram(Vec<(f64, f64)>);

/// The percentiles of a stretch of time, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    /// Records that were counted.
    pub records: f64,
    /// Half of them took at most this long.
    pub p50: f64,
    /// Ninety in a hundred did.
    pub p90: f64,
    /// Ninety-nine in a hundred did.
    pub p99: f64,
}

impl Histogram {
    /// Finds the histogram in a page of metrics. One that is not there is empty; a line that cannot
    /// be read is passed over.
    pub fn parse(page: &str) -> Self {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for line in page.lines() {
            let Some((labels, count)) = line
                .strip_prefix(METRIC)
                .and_then(|rest| rest.rsplit_once("} "))
            else {
                continue;
            };
            if !labels.split(',').any(|label| label == SINCE) {
                continue;
            }
            let bound = labels
                .split(',')
                .find_map(|label| label.strip_prefix("le=\"")?.strip_suffix('"'))
                .and_then(|bound| bound.parse().ok());
            if let (Some(bound), Ok(count)) = (bound, count.trim().parse()) {
                buckets.push((bound, count));
            }
        }
        buckets.retain(|(bound, count)| !bound.is_nan() && count.is_finite());
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self(buckets)
    }

    fn records(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, count)| *count)
    }

    /// What was counted after `before`; everything, if the process has begun anew or counts in
    /// other buckets since.
    fn since(&self, before: Option<&Self>) -> Self {
        let Some(before) = before else {
            return self.clone();
        };
        let comparable = self.0.len() == before.0.len()
            && self
                .0
                .iter()
                .zip(&before.0)
                .all(|(now, then)| now.0.total_cmp(&then.0).is_eq() && now.1 >= then.1);
        if !comparable {
            return self.clone();
        }
        let counted = self.0.iter().zip(&before.0);
        Self(counted.map(|(now, then)| (now.0, now.1 - then.1)).collect())
    }

    fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.clone_from(other);
        } else if self.0.len() == other.0.len() {
            for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
                mine.1 += theirs.1;
            }
        }
    }

    /// The value that a share `q` (0 to 1) of the records does not exceed, as if they were spread
    /// evenly within a bucket; beyond the last finite bound, that bound. None without records.
    fn quantile(&self, q: f64) -> Option<f64> {
        let wanted = q * self.records();
        if self.records() <= 0.0 {
            return None;
        }
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= wanted && *count > below {
                if bound.is_infinite() {
                    return Some(lower);
                }
                return Some(lower + (bound - lower) * (wanted - below) / (count - below));
            }
            if bound.is_finite() {
                (lower, below) = (*bound, *count);
            }
        }
        Some(lower)
    }

    fn percentiles(&self) -> Option<Percentiles> {
        Some(Percentiles {
            records: self.records(),
            p50: self.quantile(0.5)?,
            p90: self.quantile(0.9)?,
            p99: self.quantile(0.99)?,
        })
    }
}

/// The readings of the last [`PERIOD`], by processor.
#[derive(Debug, Default)]
pub struct Readings(BTreeMap<String, VecDeque<(Instant, Histogram)>>);

impl Readings {
    /// Adds the readings of an instant. Processors that are not among them are forgotten.
    pub fn add(&mut self, now: Instant, read: impl IntoIterator<Item = (String, Histogram)>) {
        let mut kept = BTreeMap::new();
        for (processor, histogram) in read {
            let mut readings = self.0.remove(&processor).unwrap_or_default();
            readings.push_back((now, histogram));
            // one reading that is older than the period stays: the difference to it covers the
            // whole period
            while readings.len() > 2 && now.duration_since(readings[1].0) >= PERIOD {
                readings.pop_front();
            }
            kept.insert(processor, readings);
        }
        self.0 = kept;
    }

    /// The percentiles of what was counted between the oldest and the newest readings; a single
    /// reading tells nothing about lately.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let mut sum = Histogram::default();
        for readings in self.0.values().filter(|readings| readings.len() > 1) {
            if let (Some((_, first)), Some((_, last))) = (readings.front(), readings.back()) {
                sum.add(&last.since(Some(first)));
            }
        }
        sum.percentiles()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn page(counts: [u32; 4]) -> String {
        let [a, b, c, all] = counts;
        format!(
            "# HELP clickstream_end_to_end_latency_seconds text\n\
             clickstream_end_to_end_latency_seconds_bucket{{since=\"event\",le=\"0.01\"}} 999\n\
             clickstream_end_to_end_latency_seconds_bucket{{since=\"received\",le=\"0.01\"}} {a}\n\
             clickstream_end_to_end_latency_seconds_bucket{{since=\"received\",le=\"0.1\"}} {b}\n\
             clickstream_end_to_end_latency_seconds_bucket{{since=\"received\",le=\"1\"}} {c}\n\
             clickstream_end_to_end_latency_seconds_bucket{{since=\"received\",le=\"+Inf\"}} {all}\n\
             clickstream_end_to_end_latency_seconds_bucket{{since=\"received\",le=\"x\"}} y\n\
             clickstream_end_to_end_latency_seconds_count{{since=\"received\"}} {all}\n"
        )
    }

    fn readings(pages: &[(&str, u64, [u32; 4])]) -> Readings {
        let begin = Instant::now();
        let mut readings = Readings::default();
        let mut seconds: Vec<u64> = pages.iter().map(|page| page.1).collect();
        seconds.dedup();
        for second in seconds {
            let read = pages.iter().filter(|page| page.1 == second);
            readings.add(
                begin + Duration::from_secs(second),
                read.map(|(name, _, counts)| {
                    ((*name).to_owned(), Histogram::parse(&page(*counts)))
                }),
            );
        }
        readings
    }

    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
    }

    #[test]
    fn a_percentile_lies_within_its_bucket() {
        let found = readings(&[("a", 0, [0, 0, 0, 0]), ("a", 1, [50, 90, 100, 100])])
            .percentiles()
            .unwrap();
        near(found.records, 100.0);
        near(found.p50, 0.01);
        near(found.p90, 0.1);
        near(found.p99, 0.1 + 0.9 * 0.9);
    }

    #[test]
    fn only_what_came_since_the_first_reading_counts() {
        let found = readings(&[
            ("a", 0, [1000, 1000, 1000, 1000]),
            ("a", 5, [1000, 1000, 1010, 1010]),
        ]);
        near(found.percentiles().unwrap().records, 10.0);
        assert_eq!(readings(&[("a", 0, [5, 5, 5, 5])]).percentiles(), None);
    }

    #[test]
    fn processors_add_up() {
        let found = readings(&[
            ("a", 0, [0, 0, 0, 0]),
            ("b", 0, [7, 7, 7, 7]),
            ("a", 1, [10, 10, 10, 10]),
            ("b", 1, [7, 17, 17, 17]),
        ]);
        near(found.percentiles().unwrap().records, 20.0);
    }

    #[test]
    fn a_processor_that_began_anew_counts_from_its_start() {
        let found = readings(&[("a", 0, [90, 90, 90, 90]), ("a", 1, [4, 4, 4, 4])]);
        near(found.percentiles().unwrap().records, 4.0);
    }

    #[test]
    fn what_took_longer_than_the_last_bound_is_told_as_that_bound() {
        let found = readings(&[("a", 0, [0, 0, 0, 0]), ("a", 1, [0, 0, 0, 8])]);
        near(found.percentiles().unwrap().p50, 1.0);
    }

    #[test]
    fn readings_older_than_the_period_are_dropped() {
        let found = readings(&[
            ("a", 0, [0, 0, 0, 0]),
            ("a", 30, [100, 100, 100, 100]),
            ("a", 61, [100, 100, 100, 100]),
            ("a", 100, [103, 103, 103, 103]),
        ]);
        near(found.percentiles().unwrap().records, 3.0);
    }
}
