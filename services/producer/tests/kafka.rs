//! The program against a real broker: what it says it sent is what lies in the log.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use clickstream_pipeline::event::EventTime;
use clickstream_producer::generator::{Generator, GeneratorOptions};
use clickstream_testbed::{Kafka, KafkaOptions, shared, unique_name};
use support::{Run, Stored, file, stored};

const PARTITIONS: i32 = 3;

async fn topic(kafka: &Kafka) -> String {
    let topic = unique_name("clicks");
    kafka.create_topic(&topic, PARTITIONS, &[]).await.unwrap();
    topic
}

fn by_key(
    records: impl IntoIterator<Item = (String, Option<Vec<u8>>)>,
) -> BTreeMap<String, Vec<Option<Vec<u8>>>> {
    let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (key, payload) in records {
        keys.entry(key).or_default().push(payload);
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_records_lie_in_the_log_byte_for_byte_and_in_order_by_key() {
    let kafka = shared::kafka().await.unwrap();
    let topic = topic(kafka).await;
    let args = [
        "--as-fast-as-possible",
        "--count",
        "5000",
        "--seed",
        "5",
        "--malformed",
        "0.2",
    ];
    let base = ["--base-time", "2026-01-01T00:00:00Z"];
    let run = Run::start(
        "generate",
        &kafka.bootstrap_servers(),
        &topic,
        &[&args[..], &base].concat(),
    );
    let (status, summary, log) = run.end().await;
    assert!(status.success(), "{log}");
    assert_eq!(
        (
            &summary["sent"],
            &summary["acknowledged"],
            &summary["failed"]
        ),
        (&5000.into(), &5000.into(), &0.into())
    );

    let options = GeneratorOptions {
        seed: 5,
        malformed: 0.2,
        ..GeneratorOptions::default()
    };
    let expected = Generator::new(options, EventTime::from_micros(1_767_225_600_000_000))
        .unwrap()
        .take(5_000);
    let expected = by_key(expected.map(|record| (record.key, Some(record.payload))));
    let records = stored(kafka, &topic, PARTITIONS).await;
    assert!(
        by_key(
            records
                .into_iter()
                .map(|record| (record.key, record.payload))
        ) == expected
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_named_and_not_created() {
    let kafka = shared::kafka().await.unwrap();
    let topic = unique_name("absent");
    let (status, _, log) = Run::start(
        "generate",
        &kafka.bootstrap_servers(),
        &topic,
        &["--count", "1"],
    )
    .end()
    .await;
    assert_eq!(status.code(), Some(1));
    assert!(
        log.contains(&format!("error: topic `{topic}` does not exist")),
        "{log}"
    );
    assert!(
        kafka.offsets(&topic, 0).await.is_err(),
        "the topic was created"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_run_with_everything_sent_acknowledged() {
    let kafka = shared::kafka().await.unwrap();
    let topic = topic(kafka).await;
    let run = Run::start(
        "generate",
        &kafka.bootstrap_servers(),
        &topic,
        &["--rate", "2000"],
    );
    run.acknowledges().await;
    run.terminate();
    let (status, summary, log) = run.end().await;
    assert!(status.success(), "{log}");
    assert_eq!(summary["interrupted"], true);
    assert_eq!(summary["sent"], summary["acknowledged"]);
    let records = stored(kafka, &topic, PARTITIONS).await.len();
    assert!(records > 1_000);
    assert_eq!(summary["acknowledged"], records);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_costs_schedule_and_no_record() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let topic = topic(&kafka).await;
    let args = [
        "--rate",
        "1000",
        "--count",
        "8000",
        "--queue-memory",
        "256Ki",
    ];
    let run = Run::start("generate", &kafka.bootstrap_servers(), &topic, &args);
    run.acknowledges().await;
    kafka.broker(0).stop_signal().unwrap();
    // 256 KiB hold about a second of records; the lag shows once they are full
    run.lags(1_000).await;
    kafka.broker(0).continue_signal().unwrap();
    let (status, summary, log) = run.end().await;
    assert!(status.success(), "{log}");
    assert_eq!(
        (&summary["acknowledged"], &summary["failed"]),
        (&8000.into(), &0.into())
    );
    assert!(
        summary["max_schedule_lag_ms"].as_u64().unwrap() > 1_000,
        "{summary}"
    );
    assert_eq!(stored(&kafka, &topic, PARTITIONS).await.len(), 8_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_nobody_acknowledges_fail_the_run() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let topic = topic(&kafka).await;
    let args = ["--rate", "500", "--for", "6s", "--delivery-timeout", "2s"];
    let run = Run::start("generate", &kafka.bootstrap_servers(), &topic, &args);
    run.acknowledges().await;
    kafka.broker(0).kill().unwrap();
    let (status, summary, log) = run.end().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert_eq!(summary["sent"], 3_000);
    let (acknowledged, failed) = (
        summary["acknowledged"].as_u64().unwrap(),
        summary["failed"].as_u64().unwrap(),
    );
    assert!(acknowledged > 0 && failed > 0, "{summary}");
    assert_eq!(acknowledged + failed, 3_000);
    assert!(summary["error"].is_string(), "{summary}");
}

const LOG: &str = r#"192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 17 "-" "curl/8"
192.0.2.2 - - [17/May/2015:10:05:33 +0000] "GET /b HTTP/1.1" 200 17 "-" "curl/8"
this line is broken, and says something personal
192.0.2.1 - - [17/May/2015:10:06:03 +0000] "GET /c HTTP/1.1" 200 17 "-" "curl/8"
"#;

fn events(records: &[Stored]) -> Vec<serde_json::Value> {
    records
        .iter()
        .map(|record| serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_log_is_accounted_line_by_line() {
    let kafka = shared::kafka().await.unwrap();
    let topic = topic(kafka).await;
    let path = file("access.log", LOG);
    let args = ["--speed", "60", "--shift-to-now", path.to_str().unwrap()];
    let before = chrono::Utc::now();
    let run = Run::start("replay", &kafka.bootstrap_servers(), &topic, &args);
    let (status, summary, log) = run.end().await;
    assert!(status.success(), "{log}");
    assert_eq!(
        (&summary["lines"], &summary["unparsable"], &summary["sent"]),
        (&4.into(), &1.into(), &3.into())
    );
    // a minute, sixty times faster
    assert!(
        summary["elapsed_ms"].as_u64().unwrap() >= 1_000,
        "{summary}"
    );
    assert!(
        log.contains("replay: 3 events of 2015-05-17T10:05:03Z to 2015-05-17T10:06:03Z")
            && log.contains("at this pace the replay takes 1 s"),
        "{log}"
    );
    let reason = &summary["reasons"][0];
    let example = reason["examples"][0].as_str().unwrap();
    assert!(reason["lines"] == 1 && example.ends_with("access.log:3"));
    assert!(!log.contains("personal"), "{log}");
    let events = events(&stored(kafka, &topic, PARTITIONS).await);
    let times: Vec<chrono::DateTime<chrono::Utc>> = events
        .iter()
        .map(|event| event["event_ts"].as_str().unwrap().parse().unwrap())
        .collect();
    let newest = times.iter().max().unwrap();
    assert!(
        *newest >= before && *newest <= chrono::Utc::now(),
        "{newest}"
    );
    assert_eq!((*newest - times.iter().min().unwrap()).num_seconds(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_replay_sends_the_same_events_and_keys() {
    let kafka = shared::kafka().await.unwrap();
    let (first, second) = (topic(kafka).await, topic(kafka).await);
    let path = file("access.log", LOG);
    for topic in [&first, &second] {
        let args = ["--speed", "max", path.to_str().unwrap()];
        assert!(
            Run::start("replay", &kafka.bootstrap_servers(), topic, &args)
                .end()
                .await
                .0
                .success()
        );
    }
    assert_eq!(
        stored(kafka, &first, PARTITIONS).await,
        stored(kafka, &second, PARTITIONS).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_which_less_than_half_is_understood_fails_the_run() {
    let kafka = shared::kafka().await.unwrap();
    let topic = topic(kafka).await;
    let line = LOG.lines().next().unwrap();
    for (log, sent) in [(format!("{line}\nx\ny\n"), 1), ("x\ny\n".to_owned(), 0)] {
        let path = file("access.log", log);
        let args = ["--speed", "max", path.to_str().unwrap()];
        let (status, summary, said) =
            Run::start("replay", &kafka.bootstrap_servers(), &topic, &args)
                .end()
                .await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert_eq!(summary["acknowledged"], sent);
        assert!(said.contains(&format!("{sent} of {} lines were understood", sent + 2)));
        assert!(said.contains("--format"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_log_are_sent_and_named() {
    use std::io::Write as _;
    let kafka = shared::kafka().await.unwrap();
    let topic = topic(kafka).await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(LOG.as_bytes()).unwrap();
    let packed = file("access.log.1.gz", encoder.finish().unwrap());
    let path = file("access.log.1", LOG);
    let args = [path.to_str().unwrap(), packed.to_str().unwrap()];
    let (status, summary, log) = Run::start("replay", &kafka.bootstrap_servers(), &topic, &args)
        .end()
        .await;
    assert!(status.success(), "{log}");
    assert_eq!(
        (&summary["acknowledged"], &summary["lines"]),
        (&6.into(), &8.into())
    );
    let copies = summary["copies"].as_str().unwrap();
    let said = "access.log.1.gz: the same 4 lines. Equal lines are events of their own, so all 6";
    assert!(copies.contains(said), "{copies}");
    let stored = stored(kafka, &topic, PARTITIONS).await;
    let ids: BTreeSet<_> = events(&stored)
        .iter()
        .map(|event| event["event_id"].to_string())
        .collect();
    assert_eq!(ids.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_log_whose_times_cannot_be_read_nothing_is_sent() {
    let kafka = shared::kafka().await.unwrap();
    let topic = topic(kafka).await;
    let csv = "When,Page\n11/20/2026 10:00:01,/a\n11/20/2026 10:00:02,/b\n";
    let path = file("visits.csv", csv);
    for speed in ["max", "60"] {
        let map = "event_ts=When,url=Page";
        let args = ["--speed", speed, "--map", map, path.to_str().unwrap()];
        let (status, summary, log) =
            Run::start("replay", &kafka.bootstrap_servers(), &topic, &args)
                .end()
                .await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("event_ts (`When` in the log)"), "{log}");
        assert_eq!(
            (&summary["sent"], &summary["lines"]),
            (&0.into(), &3.into())
        );
    }
    assert!(stored(kafka, &topic, PARTITIONS).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_in_the_middle_of_its_compression_fails_the_run_after_its_lines() {
    use std::io::Write as _;
    let kafka = shared::kafka().await.unwrap();
    let topic = topic(kafka).await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(LOG.as_bytes()).unwrap();
    let mut bytes = encoder.finish().unwrap();
    bytes.truncate(bytes.len() - 6);
    let path = file("access.log.gz", bytes);
    let args = ["--speed", "max", path.to_str().unwrap()];
    let (status, summary, log) = Run::start("replay", &kafka.bootstrap_servers(), &topic, &args)
        .end()
        .await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert_eq!(
        (&summary["acknowledged"], &summary["lines"]),
        (&3.into(), &4.into())
    );
    assert!(
        summary["error"]
            .as_str()
            .unwrap()
            .contains("damaged or cut off behind line 4; gzip -dc"),
        "{summary}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_replay_that_waits_for_its_input() {
    use std::io::Write as _;
    let kafka = shared::kafka().await.unwrap();
    let topic = topic(kafka).await;
    let path = file("pipe", "");
    std::fs::remove_file(&path).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    let args = ["--speed", "max", path.to_str().unwrap()];
    let run = Run::start("replay", &kafka.bootstrap_servers(), &topic, &args);
    // opening waits for the reader; what is not closed has no end
    let mut pipe =
        tokio::task::spawn_blocking(move || std::fs::File::options().write(true).open(path))
            .await
            .unwrap()
            .unwrap();
    pipe.write_all(LOG.as_bytes()).unwrap();
    run.acknowledges().await;
    run.terminate();
    let (status, summary, log) = run.end().await;
    assert!(status.success(), "{log}");
    assert_eq!(
        (&summary["lines"], &summary["acknowledged"]),
        (&4.into(), &3.into())
    );
    drop(pipe);
}
