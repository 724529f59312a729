//! What a migration reports: the operator's only way to know the database.

use serde::{Deserialize, Serialize};

/// Kubernetes keeps the last 4,096 bytes of what a pod leaves behind; JSON without its beginning is
/// no report.
pub const LONGEST_REPORT: usize = 4096;

/// Version of the tables that this release's migrations bring.
pub const SCHEMA_VERSION: i32 = 15;

/// What is there after a migration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationReport {
    /// Version of the tables.
    pub schema_version: Option<i32>,
    /// The consumer group of the target's processors.
    pub consumer_group: Option<String>,
    /// Topics that the schema was filled from.
    pub topics: Vec<ReportedTopic>,
    /// Readers that do not exist, with the SQL to type when they do.
    pub missing_readers: Vec<MissingReader>,
}

/// A topic that the schema was filled from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedTopic {
    /// Its name.
    pub name: String,
    /// Its id then.
    pub id: Option<String>,
    /// Whether this pipeline made it.
    #[serde(default)]
    pub created: bool,
}

/// A role that was to read and does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingReader {
    /// The role.
    pub role: String,
    /// What to type once it exists. Empty where it is what was said of the role before but for the
    /// name, or would not fit.
    #[serde(default)]
    pub sql: String,
}

/// A report that cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The names of the topics alone are too long.
    #[error(
        "the report is longer than the {LONGEST_REPORT} bytes that Kubernetes keeps: {topics} topics with shorter names would fit"
    )]
    TooLong {
        /// How many topics it names.
        topics: usize,
    },
    /// It cannot be written as JSON.
    #[error("the report cannot be written")]
    Json(#[from] serde_json::Error),
}

impl MigrationReport {
    /// As JSON of at most [`LONGEST_REPORT`] bytes. It names the topics that the pipeline reads, of
    /// all that the schema knows; then the SQL for missing readers is left out, and then the last
    /// of the readers, who are looked for again when the first ones are there.
    ///
    /// # Errors
    /// The names of the topics alone are longer.
    pub fn fitted<'t>(
        mut self,
        read: impl Iterator<Item = &'t str>,
    ) -> Result<String, ReportError> {
        let read: Vec<_> = read.collect();
        self.topics
            .retain(|topic| read.contains(&topic.name.as_str()));
        let mut text = serde_json::to_string(&self)?;
        if text.len() > LONGEST_REPORT {
            for missing in &mut self.missing_readers {
                missing.sql.clear();
            }
            text = serde_json::to_string(&self)?;
        }
        while text.len() > LONGEST_REPORT && self.missing_readers.len() > 1 {
            self.missing_readers.pop();
            text = serde_json::to_string(&self)?;
        }
        if text.len() > LONGEST_REPORT {
            let topics = self.topics.len();
            return Err(ReportError::TooLong { topics });
        }
        Ok(text)
    }

    /// From what a migration's container left behind. An image that reports nothing is an older
    /// one, which has migrated all the same; one whose report is cut off or garbled has reported
    /// nothing that could be relied on.
    ///
    /// # Errors
    /// It is no report.
    pub fn parse(message: &str) -> Result<Self, serde_json::Error> {
        if message.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(message)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::{Value, json};

    use super::*;

    fn report(topics: usize, readers: usize) -> MigrationReport {
        let topics = (0..topics).map(|n| ReportedTopic {
            name: format!("clicks-of-{n:03}-{}", "x".repeat(80)),
            id: Some("AAAAAAAAAAAAAAAAAAAAAA".to_owned()),
            created: true,
        });
        let readers = (0..readers).map(|n| MissingReader {
            role: format!("{n:063}"),
            sql: "s".repeat(300),
        });
        MigrationReport {
            schema_version: Some(11),
            consumer_group: Some("shop.shop.main.0123456789ab".to_owned()),
            topics: topics.collect(),
            missing_readers: readers.collect(),
        }
    }

    fn fitted(report: MigrationReport, read: usize) -> Value {
        let names: Vec<_> = report
            .topics
            .iter()
            .map(|topic| topic.name.clone())
            .collect();
        let text = report
            .fitted(names.iter().take(read).map(String::as_str))
            .unwrap();
        assert!(text.len() <= LONGEST_REPORT, "{}", text.len());
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

    #[test]
    fn half_a_report_is_none_and_no_report_is_that_of_an_older_image() {
        let parsed = MigrationReport::parse;
        let topics: Vec<_> = (0..60)
            .map(|n| json!({ "name": format!("clicks-of-{n:064}"), "id": null, "created": true }))
            .collect();
        let whole = json!({ "schemaVersion": 11, "topics": topics }).to_string();
        assert_eq!(parsed(&whole).unwrap().topics.len(), 60);
        // as the kubelet keeps it
        assert!(whole.len() > 5 << 10);
        parsed(&whole[whole.len() - 4096..]).unwrap_err();
        assert_eq!(parsed(" \n").unwrap(), MigrationReport::default());
    }

    #[test]
    fn it_is_written_and_read_as_the_first_release_does() {
        let now = MigrationReport {
            schema_version: Some(3),
            topics: vec![ReportedTopic {
                name: "clicks".to_owned(),
                id: None,
                created: false,
            }],
            missing_readers: vec![MissingReader {
                role: "bi".to_owned(),
                sql: "grant".to_owned(),
            }],
            ..MigrationReport::default()
        };
        let before = json!({
            "schemaVersion": 3,
            "topics": [{ "name": "clicks", "id": null, "created": false }],
            "missingReaders": [{ "role": "bi", "sql": "grant" }],
        });
        assert_eq!(MigrationReport::parse(&before.to_string()).unwrap(), now);
        // it knows no group, and would ignore one
        let mut written = serde_json::to_value(&now).unwrap();
        written.as_object_mut().unwrap().remove("consumerGroup");
        assert_eq!(written, before);
    }
}
