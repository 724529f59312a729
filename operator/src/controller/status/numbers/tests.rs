#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::*;

fn report(topic: &str, partition: i32, epoch: i64, lag: Option<i64>) -> PartitionReport {
    PartitionReport {
        topic: topic.to_owned(),
        partition,
        epoch,
        lag,
        ..PartitionReport::default()
    }
}

fn processor(partitions: Vec<PartitionReport>) -> ProcessorStatus {
    ProcessorStatus {
        partitions,
        ..ProcessorStatus::default()
    }
}

#[test]
fn of_two_owners_the_newer_one_speaks_for_the_partition() {
    let reports = [
        processor(vec![report("clicks", 0, 2, Some(5))]),
        processor(vec![
            report("clicks", 0, 3, Some(0)),
            report("clicks", 1, 1, Some(1)),
        ]),
    ];
    let lags: Vec<_> = newest(&reports)
        .iter()
        .map(|partition| partition.lag)
        .collect();
    assert_eq!(lags, [Some(0), Some(1)]);
}

#[test]
fn a_lag_that_is_not_known_is_worse_than_any_and_none_at_all_is_not_listed() {
    let reports = [processor(vec![
        report("clicks", 0, 1, Some(0)),
        report("clicks", 1, 1, Some(9)),
        report("clicks", 2, 1, None),
        report("clicks", 3, 1, Some(70)),
    ])];
    let partitions: Vec<_> = worst(&newest(&reports))
        .iter()
        .map(|p| p.partition)
        .collect();
    assert_eq!(partitions, [2, 3, 1]);
}

#[test]
fn a_thousand_partitions_on_eight_targets_fit_the_status() {
    let reports = [processor(
        (0..1000)
            .map(|n| report(&"t".repeat(200), n, 1, Some(1 << 40)))
            .collect(),
    )];
    let target = TargetStatus {
        name: "t".repeat(20),
        worst_partitions: worst(&newest(&reports)),
        ..TargetStatus::default()
    };
    assert_eq!(target.worst_partitions.len(), WORST);
    let status = ClickstreamPipelineStatus {
        targets: vec![target; 8],
        ..ClickstreamPipelineStatus::default()
    };
    // long topic names; with usual ones it is a tenth
    assert!(serde_json::to_string(&status).unwrap().len() < 24 << 10);
}

#[test]
fn numbers_and_times_alone_are_no_news() {
    let before = ClickstreamPipelineStatus {
        lag: Some(5),
        targets: vec![TargetStatus {
            name: "a".to_owned(),
            consumed: Some(10),
            observed_time: time(Some("2026-01-01T00:00:00Z")),
            ..TargetStatus::default()
        }],
        ..ClickstreamPipelineStatus::default()
    };
    let mut after = before.clone();
    after.targets[0].observed_time = time(Some("2026-01-01T00:00:30Z"));
    assert_eq!(without_times(&before), without_times(&after));
    after.lag = Some(6);
    after.targets[0].consumed = Some(11);
    assert_ne!(without_times(&before), without_times(&after));
    assert_eq!(without_numbers(&before), without_numbers(&after));
    after.targets[0].conserved = Some(false);
    assert_ne!(without_numbers(&before), without_numbers(&after));
}

#[test]
fn minutes_of_an_open_transaction_are_no_news_and_its_beginning_is() {
    let said = |reason: &str, message: &str| ClickstreamPipelineStatus {
        conditions: vec![Condition {
            type_: "LagWithinTarget".to_owned(),
            status: "False".to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }],
        ..ClickstreamPipelineStatus::default()
    };
    let two = said("OpenTransaction", "for 2 minutes");
    let three = said("OpenTransaction", "for 3 minutes");
    assert_eq!(without_numbers(&two), without_numbers(&three));
    assert_ne!(without_times(&two), without_times(&three));
    let lagging = said("Lagging", "2 records behind");
    assert_ne!(without_numbers(&lagging), without_numbers(&two));
}

#[test]
fn times_are_kept_in_whole_seconds_as_the_api_returns_them() {
    let time = time(Some("2026-01-01T00:00:00.987Z")).unwrap();
    assert_eq!(serde_json::to_value(time).unwrap(), "2026-01-01T00:00:00Z");
}
