//! What `/metrics` shows is what the database and the log hold, also while one of them is away.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clickstream_processor::metrics::documented;
use clickstream_producer::generator::GeneratorOptions;
use clickstream_testbed::{Kafka, KafkaOptions, PostgresVersion, Proxy, Reply, free_port, shared};

use crate::{
    records::{Click, after, before, now},
    stack::{LOOK, PATIENCE, Stack, StackOptions},
    watch::{Watched, end},
};

/// Series and their values.
pub type Series = BTreeMap<String, f64>;

impl Watched {
    /// All series.
    pub async fn series(&self) -> anyhow::Result<Series> {
        let (code, body) = self.get("/metrics").await?;
        ensure!(code == 200, "{code}: {body}");
        let lines = body.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').context("no value")?;
                Ok((name.to_owned(), value.parse()?))
            })
            .collect()
    }

    /// Waits until the series are as they should be.
    pub async fn until(&self, what: &str, is: impl Fn(&Series) -> bool) -> anyhow::Result<Series> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let series = self.series().await?;
            if is(&series) {
                return Ok(series);
            }
            ensure!(
                Instant::now() < deadline,
                "never: {what}\n{series:#?}\n{}",
                self.process.log_tail()
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The sum of a family's series whose labels hold `part`.
pub fn sum(series: &Series, family: &str, part: &str) -> f64 {
    series
        .iter()
        .filter(|(name, _)| name.split('{').next() == Some(family) && name.contains(part))
        .map(|(_, value)| value)
        .sum()
}

/// The values of a family, one for each partition.
pub fn each(series: &Series, family: &str) -> Vec<f64> {
    series
        .iter()
        .filter(|(name, _)| name.split('{').next() == Some(family))
        .map(|(_, value)| *value)
        .collect()
}

#[tokio::test]
async fn the_metrics_are_what_the_database_and_the_log_hold() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 3,
        spec: "  watermark: { idleTimeout: 2s }\n".to_owned(),
        ..StackOptions::default()
    })
    .await?;
    stack
        .kafka
        .alter_topic(&stack.topic, &[("retention.ms", "86400000")])
        .await?;
    let watched = stack.start_watched("one")?;
    stack.produce(GeneratorOptions::default(), 3_000).await?;
    // tombstones; three events a minute ahead, which is tolerated, and one an hour ahead, which is
    // not
    let mut records = vec![(0, None); 2];
    for number in 0..3 {
        let ahead = after(now(), Duration::from_secs(60));
        records.push(Click::new(number, ahead).on(0));
    }
    records.push(Click::new(9, after(now(), Duration::from_secs(3_600))).on(0));
    stack.place(records).await?;
    stack.drained().await?;
    let consumed = stack.total("consumed").await? as f64;
    let idle = |series: &Series| {
        sum(series, "clickstream_records_total", "") >= consumed
            && each(series, "clickstream_consumer_lag_seconds") == [0.0; 3]
            && sum(series, "clickstream_open_windows", "") == 0.0
            && sum(series, "clickstream_final_until_timestamp_seconds", "") > 0.0
            && each(series, "clickstream_retention_headroom_seconds").len() == 3
            && sum(series, "clickstream_kafka_up", "") == 1.0
    };
    let series = watched
        .until("caught up, idle, and the topic's settings known", idle)
        .await?;

    for outcome in ["accepted", "duplicate", "rejected", "late", "skipped"] {
        assert_eq!(
            sum(
                &series,
                "clickstream_records_total",
                &format!("outcome=\"{outcome}\"")
            ),
            stack.total(outcome).await? as f64,
            "{outcome}"
        );
    }
    let letters = stack
        .count("select count(*) from clickstream_dead_letters")
        .await?;
    assert_eq!(
        sum(&series, "clickstream_records_rejected_total", ""),
        letters as f64
    );
    assert_eq!(
        each(&series, "clickstream_conservation_difference"),
        [0.0; 3]
    );
    assert_eq!(each(&series, "clickstream_consumer_lag_records"), [0.0; 3]);
    assert_eq!(each(&series, "kafka_consumergroup_lag"), [0.0; 3]);
    assert_eq!(
        sum(&series, "kafka_consumergroup_current_offset", ""),
        stack.total("next_offset").await? as f64
    );
    // nothing waits, so a day is left
    assert_eq!(
        each(&series, "clickstream_retention_headroom_seconds"),
        [86_400.0; 3]
    );
    for (skew, expected) in [("tolerated", 3.0), ("rejected", 1.0)] {
        let counted = sum(&series, "clickstream_future_events_total", skew);
        assert!(counted >= expected, "{skew}: {counted}");
    }
    let days = stack
        .count("select count(*) from clickstream_days()")
        .await? as f64;
    assert_eq!(sum(&series, "clickstream_days", ""), days);
    assert_eq!(
        sum(&series, "clickstream_days_changed_total", "created"),
        days
    );
    let windows = stack
        .count("select count(distinct window_start) from clickstream_traffic_parts")
        .await?;
    assert!(windows > 0);
    assert!(sum(&series, "clickstream_filter_entries", "") > 2_000.0);
    assert_eq!(sum(&series, "clickstream_partitions_assigned", ""), 3.0);
    assert_eq!(
        sum(&series, "clickstream_rebalance_gap_seconds_count", ""),
        3.0
    );

    // every metric that is told of is there, but for those that need something that has not
    // happened
    let needs_more = [
        "clickstream_revised_hits_total",
        "clickstream_postgres_errors_total",
        "clickstream_heartbeats_total",
        "clickstream_heartbeat_latency_seconds",
        "clickstream_heartbeat_age_seconds",
        "clickstream_trace_spans_total",
    ];
    for family in documented()? {
        let shown = series.keys().any(|name| {
            let name = name.split('{').next().unwrap_or_default();
            name == family.name || name.strip_suffix("_count") == Some(&family.name)
        });
        assert!(
            shown || needs_more.contains(&family.name.as_str()),
            "{}",
            family.name
        );
    }

    // an event of a window that is final: accepted, since it is on time by the event clock, and
    // counted as revised
    let old = before(now(), Duration::from_secs(120));
    stack.place(vec![Click::new(77, old).on(1)]).await?;
    watched
        .until("a hit of a final window is counted", |series| {
            sum(series, "clickstream_revised_hits_total", "") == 1.0
        })
        .await?;
    end(&watched.process).await?;
    stack.audit().await?;
    Ok(())
}

/// One partition and one processor, which finds PostgreSQL behind a proxy.
async fn watched_through_a_proxy() -> anyhow::Result<(Stack, Proxy, Watched)> {
    let stack = Stack::new(StackOptions {
        partitions: 1,
        ..StackOptions::default()
    })
    .await?;
    let proxy = Proxy::start(([127, 0, 0, 1], stack.postgres.port()).into()).await?;
    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let process = stack.start_through(
        proxy.addr().port(),
        "one",
        &[("CLICKSTREAM_ADMIN_LISTEN", &listen)],
    )?;
    let watched = Watched { process, port };
    Ok((stack, proxy, watched))
}

#[tokio::test]
async fn lag_grows_in_records_and_in_seconds_while_postgresql_is_away() -> anyhow::Result<()> {
    let (stack, proxy, watched) = watched_through_a_proxy().await?;
    stack.produce(GeneratorOptions::default(), 500).await?;
    stack.drained().await?;
    let caught_up = |series: &Series| each(series, "clickstream_consumer_lag_seconds") == [0.0];
    watched.until("caught up", caught_up).await?;

    proxy.refuse().await?;
    proxy.cut();
    stack.produce(GeneratorOptions::default(), 300).await?;
    let away = watched
        .until("300 records wait, and longer with every second", |series| {
            sum(series, "clickstream_sink_up", "") == 0.0
                && each(series, "clickstream_consumer_lag_records") == [300.0]
                && each(series, "clickstream_consumer_lag_seconds")
                    .iter()
                    .all(|seconds| *seconds > 3.0)
        })
        .await?;
    assert_eq!(each(&away, "clickstream_partition_paused"), [1.0]);
    assert!(
        sum(
            &away,
            "clickstream_postgres_errors_total",
            "class=\"connection\""
        ) > 0.0
    );

    proxy.accept().await?;
    watched
        .until("caught up again", |series| {
            caught_up(series) && sum(series, "clickstream_sink_up", "") == 1.0
        })
        .await?;
    stack.drained().await?;
    end(&watched.process).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn lag_is_unknown_while_kafka_is_away() -> anyhow::Result<()> {
    let kafka = Kafka::start(KafkaOptions::default()).await?;
    let postgres = shared::postgres(PostgresVersion::V18).await?;
    let options = StackOptions {
        partitions: 1,
        ..StackOptions::default()
    };
    let stack = Stack::on(kafka, postgres, options).await?;
    let watched = stack.start_watched("one")?;
    stack.produce(GeneratorOptions::default(), 500).await?;
    stack.drained().await?;
    let known = |series: &Series| {
        sum(series, "clickstream_kafka_up", "") == 1.0
            && each(series, "clickstream_consumer_lag_records") == [0.0]
    };
    watched.until("lag is known", known).await?;

    stack.kafka.broker(0).kill()?;
    let away = watched
        .until("lag is not known", |series| {
            sum(series, "clickstream_kafka_up", "") == 0.0
                && each(series, "clickstream_consumer_lag_records").is_empty()
        })
        .await?;
    for family in [
        "clickstream_consumer_lag_seconds",
        "kafka_consumergroup_lag",
    ] {
        assert_eq!(each(&away, family), [0.0; 0], "{family}");
    }
    // the group has not given the partition up yet: the broker's silence alone makes it unknown
    assert_eq!(sum(&away, "clickstream_partitions_assigned", ""), 1.0);
    assert_eq!(each(&away, "kafka_consumergroup_current_offset").len(), 1);
    assert_eq!(sum(&away, "clickstream_sink_up", ""), 1.0);

    stack.kafka.broker(0).restart().await?;
    stack.kafka.wait_ready().await?;
    watched.until("lag is known again", known).await?;
    end(&watched.process).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_flush_is_counted_by_what_became_of_it() -> anyhow::Result<()> {
    let (stack, proxy, watched) = watched_through_a_proxy().await?;
    let flushes = |series: &Series, outcome: &str| {
        let part = format!("outcome=\"{outcome}\"");
        sum(series, "clickstream_flushes_total", &part)
    };
    let mut sent = stack.produce(GeneratorOptions::default(), 200).await?;
    stack.drained().await?;
    let series = watched
        .until("flushes are counted", |series| {
            flushes(series, "committed") > 0.0
        })
        .await?;
    for outcome in ["repeated", "unknown", "failed", "fenced"] {
        assert_eq!(flushes(&series, outcome), 0.0, "{outcome}");
    }

    // the answer to a commit is lost
    proxy.cut_after_match(b"COMMIT", Reply::Drop);
    sent += stack.produce(GeneratorOptions::default(), 100).await?;
    proxy.sprung(PATIENCE).await?;
    stack.drained().await?;
    let lost = watched
        .until("a flush of unknown outcome, and another claim", |series| {
            flushes(series, "unknown") == 1.0
                && sum(series, "clickstream_claims_total", "\"claimed\"") == 2.0
        })
        .await?;
    assert!(
        sum(
            &lost,
            "clickstream_postgres_errors_total",
            "class=\"connection\",remedy=\"reclaim\""
        ) >= 1.0
    );

    // somebody else has claimed the partition, as far as the database knows
    stack
        .client
        .execute(
            "update clickstream_checkpoints set claim_token = gen_random_uuid()",
            &[],
        )
        .await?;
    sent += stack.produce(GeneratorOptions::default(), 100).await?;
    let fenced = watched
        .until("a fenced flush", |series| flushes(series, "fenced") >= 1.0)
        .await?;
    assert!(sum(&fenced, "clickstream_fenced_commits_total", "") >= 1.0);
    stack.drained().await?;
    assert_eq!(stack.total("consumed").await?, i64::try_from(sent)?);
    // the commit whose answer was lost is counted as well, once it is known
    watched
        .until("every record is counted", |series| {
            sum(series, "clickstream_records_total", "") == sent as f64
        })
        .await?;
    end(&watched.process).await?;
    stack.audit().await?;
    Ok(())
}
