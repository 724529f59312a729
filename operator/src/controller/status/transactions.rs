//! Kafka transactions that stay open: what lies behind one is not given out, however long that
//! takes. Pure.

use std::collections::BTreeMap;

use clickstream_protocol::conditions::Reason;
use clickstream_protocol::status::ProcessorStatus;

use super::{conditions::Finding, numbers::newest};

/// From here on a transaction is worth a word, in seconds. Kafka's own default for a producer
/// (`transaction.timeout.ms`) is 60: one that is open twice as long is not about to end.
const OPEN_TOO_LONG: f64 = 120.0;

/// What is to be said while a partition waits for a transaction that has been open for too long;
/// `reports` are those of each target. Nothing when none waits, or none is known to.
pub fn open_finding(bootstrap_servers: &str, reports: &[Vec<ProcessorStatus>]) -> Option<Finding> {
    // targets read the same partitions: a transaction that holds back two of them is one
    let mut open: BTreeMap<(&str, i32), f64> = BTreeMap::new();
    for partition in reports.iter().flat_map(|reports| newest(reports)) {
        let seconds = partition.open_transaction_seconds.unwrap_or(0.0);
        if seconds >= OPEN_TOO_LONG {
            let longest = open
                .entry((&partition.topic, partition.partition))
                .or_insert(seconds);
            *longest = longest.max(seconds);
        }
    }
    let ((topic, partition), seconds) = open.first_key_value()?;
    // the first one of the list: any other server may be as good, and the message has a length
    let server = bootstrap_servers.split(',').next().unwrap_or_default();
    let count = match open.len() {
        1 => "1 partition".to_owned(),
        more => format!("{more} partitions"),
    };
    Some(Finding::no(
        Reason::OpenTransaction,
        format!(
            "records of {count} wait behind a Kafka transaction that is still open; the first: {topic}/{partition}, for {:.0} minutes. Its producer must end it, or Kafka will after the producer's transaction.timeout.ms. To see whose it is: kafka-transactions.sh --bootstrap-server {server} describe-producers --topic {topic} --partition {partition}; if find-hanging --topic {topic} lists it, nobody ends it: abort it. Runbook: HangingTransaction",
            (seconds / 60.0).floor(),
        ),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::json;

    use super::*;
    use crate::controller::status::conditions::Truth;

    /// A processor that holds these, each as topic, partition, epoch and seconds.
    fn processor(partitions: &[(&str, i32, i64, Option<f64>)]) -> ProcessorStatus {
        let partitions: Vec<_> = partitions
            .iter()
            .map(|(topic, partition, epoch, seconds)| {
                let mut report = json!({ "topic": topic, "partition": partition, "epoch": epoch });
                // as processors have it: absent while nothing holds the partition back
                if let Some(seconds) = seconds {
                    report["open_transaction_seconds"] = json!(seconds);
                }
                report
            })
            .collect();
        serde_json::from_value(json!({ "state": "running", "partitions": partitions })).unwrap()
    }

    fn found(reports: &[Vec<ProcessorStatus>]) -> Option<Finding> {
        open_finding("kafka-0.kafka:9092,kafka-1.kafka:9092", reports)
    }

    #[test]
    fn a_transaction_is_said_from_two_minutes_on() {
        let after = |seconds| found(&[vec![processor(&[("clicks", 0, 1, seconds)])]]);
        assert_eq!(after(None), None);
        assert_eq!(after(Some(119.9)), None);
        let said = after(Some(120.0)).unwrap();
        assert_eq!(
            (said.truth, said.reason),
            (Truth::False, Reason::OpenTransaction)
        );
        assert!(!said.outage);
        for part in [
            "records of 1 partition wait behind",
            "the first: clicks/0, for 2 minutes.",
            "transaction.timeout.ms",
            "kafka-transactions.sh --bootstrap-server kafka-0.kafka:9092 describe-producers --topic clicks --partition 0;",
            "find-hanging --topic clicks lists it",
            "abort it",
        ] {
            assert!(said.message.contains(part), "{part}: {}", said.message);
        }
    }

    #[test]
    fn the_message_moves_once_a_minute() {
        let after = |seconds| found(&[vec![processor(&[("clicks", 0, 1, Some(seconds))])]]);
        assert_eq!(after(420.1), after(479.9));
        assert_ne!(after(479.9), after(480.0));
    }

    #[test]
    fn partitions_are_counted_once_for_all_targets_and_the_first_is_named() {
        let warehouse = vec![
            processor(&[("views", 0, 1, Some(4000.0)), ("clicks", 7, 1, Some(250.0))]),
            processor(&[("clicks", 3, 1, None)]),
        ];
        let lake = vec![processor(&[
            ("clicks", 7, 1, Some(310.0)),
            ("clicks", 3, 1, Some(60.0)),
        ])];
        let said = found(&[warehouse, lake]).unwrap().message;
        assert!(
            said.contains("of 2 partitions") && said.contains("clicks/7, for 5 minutes"),
            "{said}"
        );
    }

    #[test]
    fn of_two_owners_the_newer_one_speaks_for_the_partition() {
        let old = processor(&[("clicks", 0, 4, Some(900.0))]);
        let new = processor(&[("clicks", 0, 5, None)]);
        assert_eq!(found(&[vec![old, new]]), None);
    }

    #[test]
    fn the_message_is_not_cut_off_with_usual_names() {
        let topic = "shop.production.clickstream.web.v2";
        let said = found(&[vec![processor(&[(topic, 120, 1, Some(86_400.0))])]]).unwrap();
        assert!(said.message.len() <= 512, "{}", said.message.len());
    }
}
