#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const GENERATION: i64 = 3;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn well() -> Findings {
    let fine = || Finding::yes(Reason::AsSpecified, "fine");
    Findings {
        topics: fine(),
        database: fine(),
        processors: fine(),
        producer: None,
        lag: lag_finding(None, None),
        data_loss: Finding::no(Reason::NoLoss, "none"),
        suspended: false,
        paused: None,
        refused: None,
        in_progress: None,
    }
}

fn but(change: impl FnOnce(&mut Findings)) -> Findings {
    let mut findings = well();
    change(&mut findings);
    findings
}

fn find<'c>(conditions: &'c [Condition], kind: &str) -> Option<&'c Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn status<'c>(conditions: &'c [Condition], kind: &str) -> (&'c str, &'c str) {
    let condition = find(conditions, kind).unwrap();
    (&condition.status, &condition.reason)
}

#[test]
fn a_pipeline_that_has_everything_is_ready() {
    let said = conditions(&well(), &[], GENERATION, at(0));
    assert_eq!(status(&said, "Ready"), ("True", "Ready"));
    assert_eq!(status(&said, "Stalled").0, "False");
    assert_eq!(status(&said, "Reconciling").0, "False");
    assert!(
        said.iter()
            .all(|c| c.observed_generation == Some(GENERATION))
    );
}

#[test]
fn the_first_thing_that_is_missing_is_the_reason() {
    let findings = but(|f| {
        f.database = Finding::no(Reason::Migrating, "runs");
        f.processors = Finding::no(Reason::WaitingForDatabase, "waits");
    });
    let said = conditions(&findings, &[], GENERATION, at(0));
    assert_eq!(status(&said, "Ready"), ("False", "Migrating"));
}

#[test]
fn what_is_not_known_is_not_ready_and_what_is_wrong_says_more() {
    let unknown = || Finding::unknown(Reason::NotReported, "nobody answers");
    let said = conditions(&but(|f| f.database = unknown()), &[], GENERATION, at(0));
    assert_eq!(status(&said, "Ready"), ("Unknown", "NotReported"));
    let findings = but(|f| {
        f.database = unknown();
        f.processors = Finding::no(Reason::PodsFailing, "crash");
    });
    let said = conditions(&findings, &[], GENERATION, at(0));
    assert_eq!(status(&said, "Ready"), ("False", "PodsFailing"));
}

#[test]
fn a_time_moves_only_with_the_status() {
    let first = conditions(&well(), &[], GENERATION, at(0));
    let findings = but(|f| f.topics = Finding::yes(Reason::Queued, "another reason"));
    let second = conditions(&findings, &first, GENERATION + 1, at(50));
    let topics = find(&second, "TopicsReady").unwrap();
    assert_eq!(topics.last_transition_time.0, at(0));
    assert_eq!(
        (topics.reason.as_str(), topics.observed_generation),
        ("Queued", Some(4))
    );
    let gone = but(|f| f.topics = Finding::no(Reason::TopicMissing, "gone"));
    let third = conditions(&gone, &second, GENERATION + 1, at(70));
    assert_eq!(
        find(&third, "TopicsReady").unwrap().last_transition_time.0,
        at(70)
    );
}

#[test]
fn an_outage_shows_at_once_and_in_ready_after_a_minute() {
    let first = conditions(&well(), &[], GENERATION, at(0));
    let away = but(|f| f.database = Finding::outage(Reason::PostgresUnreachable, "away"));
    let second = conditions(&away, &first, GENERATION, at(100));
    assert_eq!(
        status(&second, "DatabaseReady"),
        ("False", "PostgresUnreachable")
    );
    assert_eq!(status(&second, "Ready"), ("True", "Outage"));
    let third = conditions(&away, &second, GENERATION, at(159));
    assert_eq!(status(&third, "Ready").0, "True");
    let fourth = conditions(&away, &third, GENERATION, at(160));
    assert_eq!(status(&fourth, "Ready"), ("False", "PostgresUnreachable"));
    // not ready stays not ready, however the outage goes on
    let fifth = conditions(&away, &fourth, GENERATION, at(161));
    assert_eq!(status(&fifth, "Ready").0, "False");
    let back = conditions(&well(), &fifth, GENERATION, at(170));
    assert_eq!(status(&back, "Ready").0, "True");
}

#[test]
fn a_new_generation_does_not_inherit_readiness() {
    let first = conditions(&well(), &[], GENERATION, at(0));
    let away = but(|f| f.topics = Finding::outage(Reason::KafkaUnreachable, "away"));
    let second = conditions(&away, &first, GENERATION + 1, at(1));
    assert_eq!(status(&second, "Ready").0, "False");
}

#[test]
fn lag_and_data_loss_never_change_ready() {
    let findings = but(|f| {
        f.lag = lag_finding(Some(10), Some(11));
        f.data_loss = Finding::yes(Reason::RecordsLost, "lost");
    });
    let said = conditions(&findings, &[], GENERATION, at(0));
    assert_eq!(status(&said, "Ready").0, "True");
    assert_eq!(status(&said, "LagWithinTarget"), ("False", "Lagging"));
    assert_eq!(status(&said, "DataLossDetected").0, "True");
}

#[test]
fn an_open_transaction_never_changes_ready() {
    let findings = but(|f| f.lag = Finding::no(Reason::OpenTransaction, "open"));
    let said = conditions(&findings, &[], GENERATION, at(0));
    assert_eq!(
        status(&said, "LagWithinTarget"),
        ("False", "OpenTransaction")
    );
    assert_eq!(status(&said, "Ready").0, "True");
    assert_eq!(status(&said, "Reconciling").0, "False");
}

#[test]
fn lag_that_is_not_known_is_unknown() {
    assert_eq!(lag_finding(Some(10), None).truth, Truth::Unknown);
    assert_eq!(lag_finding(None, Some(5)).truth, Truth::Unknown);
    assert_eq!(lag_finding(Some(5), Some(5)).truth, Truth::True);
}

/// What kstatus makes of a resource, and with it Flux, `kubectl wait`, `helm --wait` and others:
/// what is not Current at last is waited for until a time-out.
fn kstatus(conditions: &[Condition]) -> &'static str {
    let is = |kind: &str, wanted: &str| {
        find(conditions, kind).is_some_and(|condition| condition.status == wanted)
    };
    if is("Stalled", "True") {
        "Failed"
    } else if is("Reconciling", "True") || is("Ready", "False") || is("Ready", "Unknown") {
        "InProgress"
    } else {
        "Current"
    }
}

#[test]
fn a_suspended_pipeline_is_what_the_spec_wants_as_soon_as_its_pods_are_stopped() {
    let said = |change: fn(&mut Findings)| {
        let findings = but(|f| {
            f.suspended = true;
            change(f);
        });
        conditions(&findings, &[], GENERATION, at(0))
    };
    let rests = said(|_| {});
    assert_eq!(status(&rests, "Ready"), ("True", "Suspended"));
    assert_eq!(status(&rests, "Suspended").0, "True");
    assert_eq!(kstatus(&rests), "Current");
    let alone = said(|f| {
        f.topics = Finding::outage(Reason::KafkaUnreachable, "away");
        f.database = Finding::unknown(Reason::NotReported, "nobody writes");
    });
    assert_eq!(kstatus(&alone), "Current");
    assert_eq!(status(&alone, "TopicsReady").0, "False");
    let stops = said(|f| {
        f.processors = Finding::no(Reason::RollingOut, "1 of 0");
        f.in_progress = Some("stops".to_owned());
    });
    assert_eq!(status(&stops, "Ready"), ("False", "RollingOut"));
    assert_eq!(kstatus(&stops), "InProgress");
    let refused = said(|f| f.refused = Some(Finding::no(Reason::InvalidSpec, "no")));
    assert_eq!(kstatus(&refused), "Failed");
}

#[test]
fn a_refused_spec_is_stalled_and_never_reconciling() {
    let findings = but(|f| {
        f.refused = Some(Finding::no(Reason::InvalidSpec, "spec.window.size: no"));
        f.in_progress = Some("waiting".to_owned());
    });
    let said = conditions(&findings, &[], GENERATION, at(0));
    assert_eq!(status(&said, "Ready"), ("False", "InvalidSpec"));
    assert_eq!(status(&said, "Stalled"), ("True", "InvalidSpec"));
    assert_eq!(status(&said, "Reconciling").0, "False");
}

#[test]
fn a_producer_counts_only_when_it_is_on() {
    let findings = but(|f| f.producer = Some(Finding::no(Reason::RollingOut, "starts")));
    let said = conditions(&findings, &[], GENERATION, at(0));
    assert_eq!(status(&said, "Ready"), ("False", "RollingOut"));
    assert!(find(&conditions(&well(), &[], 1, at(0)), "ProducerAvailable").is_none());
}
