//! What a migration reports, within what Kubernetes keeps of it.

use anyhow::ensure;

use super::Report;

/// Kubernetes keeps the last 4,096 bytes of what a pod leaves behind; JSON without its beginning is no report.
const LONGEST: usize = 4096;

impl Report {
    /// As JSON of at most 4,096 bytes. It names the topics that the pipeline reads, of all that the schema knows; then the SQL for
    /// missing readers is left out, and then the last of the readers, who are looked for again when the first ones are there.
    ///
    /// # Errors
    /// The names of the topics alone are longer.
    pub fn fitted<'t>(mut self, read: impl Iterator<Item = &'t str>) -> anyhow::Result<String> {
        let read: Vec<_> = read.collect();
        self.topics
            .retain(|topic| read.contains(&topic.name.as_str()));
        let mut text = serde_json::to_string(&self)?;
        if text.len() > LONGEST {
            for missing in &mut self.missing_readers {
                missing.forget_sql();
            }
            text = serde_json::to_string(&self)?;
        }
        while text.len() > LONGEST && self.missing_readers.len() > 1 {
            self.missing_readers.pop();
            text = serde_json::to_string(&self)?;
        }
        ensure!(
            text.len() <= LONGEST,
            "the report is longer than the {LONGEST} bytes that Kubernetes keeps: {} topics with shorter names would fit",
            self.topics.len()
        );
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::Value;

    use super::*;
    use crate::migrate::{ReportedTopic, grants::MissingReader};

    fn report(topics: usize, readers: usize) -> Report {
        let topics = (0..topics).map(|n| ReportedTopic {
            name: format!("clicks-of-{n:03}-{}", "x".repeat(80)),
            id: Some("AAAAAAAAAAAAAAAAAAAAAA".to_owned()),
            created: true,
        });
        let readers =
            (0..readers).map(|n| MissingReader::new(&format!("{n:063}"), "s".repeat(300)));
        Report {
            schema_version: 11,
            consumer_group: "shop.shop.main.0123456789ab".to_owned(),
            topics: topics.collect(),
            missing_readers: readers.collect(),
        }
    }

    fn fitted(report: Report, read: usize) -> Value {
        let names: Vec<_> = report
            .topics
            .iter()
            .map(|topic| topic.name.clone())
            .collect();
        let text = report
            .fitted(names.iter().take(read).map(String::as_str))
            .unwrap();
        assert!(text.len() <= LONGEST, "{}", text.len());
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_long_report_is_shortened_and_stays_a_report() {
        let all = fitted(report(400, 64), 16);
        assert_eq!(all["topics"].as_array().unwrap().len(), 16);
        assert_eq!(all["schemaVersion"], 11);
        let readers = all["missingReaders"].as_array().unwrap();
        assert!(!readers.is_empty() && readers.len() < 64);
        assert_eq!(readers[0]["sql"], "");
    }

    #[test]
    fn a_short_report_is_told_whole() {
        let all = fitted(report(2, 2), 2);
        assert_eq!(all["topics"].as_array().unwrap().len(), 2);
        assert_eq!(all["missingReaders"][1]["sql"].as_str().unwrap().len(), 300);
    }

    #[test]
    fn topics_that_do_not_fit_are_an_error_and_not_half_a_list() {
        let mut long = report(16, 0);
        for topic in &mut long.topics {
            topic.name = format!("{}{}", topic.name, "y".repeat(150));
        }
        let names: Vec<_> = long.topics.iter().map(|topic| topic.name.clone()).collect();
        let error = long.fitted(names.iter().map(String::as_str)).unwrap_err();
        assert!(error.to_string().contains("16 topics"), "{error}");
    }
}
