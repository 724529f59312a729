//! Spans in a real Collector: from the producer over the record's header to the commit.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clickstream_producer::generator::GeneratorOptions;
use clickstream_testbed::{CollectedSpan, Collector, Process, build_binary};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use crate::{
    records::{Click, now},
    stack::{PATIENCE, Stack, StackOptions},
};

const PRODUCER: &str = "clickstream-producer";
const PROCESSOR: &str = "clickstream-processor";

/// A Collector; `None`, with a notice, where none can be had. In CI that is an error.
async fn collector() -> anyhow::Result<Option<Collector>> {
    if !Collector::can_be_had() && std::env::var_os("CI").is_none() {
        eprintln!("skipped: no OpenTelemetry Collector, and no `go` to build one");
        return Ok(None);
    }
    Collector::start().await.map(Some)
}

/// The variables of a process that is traced; spans arrive soon after they end.
fn traced<'a>(endpoint: &'a str, sampler: &'a str, ratio: &'a str) -> [(&'static str, &'a str); 4] {
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_TRACES_SAMPLER", sampler),
        ("OTEL_TRACES_SAMPLER_ARG", ratio),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ]
}

/// Runs a producer to its end.
async fn produce(stack: &Stack, count: u32, env: &[(&str, &str)]) -> anyhow::Result<Process> {
    let program = tokio::task::spawn_blocking(|| build_binary(PRODUCER)).await??;
    let mut command = Command::new(program);
    command
        .args(["generate", "--as-fast-as-possible", "--bootstrap-servers"])
        .arg(stack.kafka.bootstrap_servers())
        .args(["--topic", &stack.topic, "--count", &count.to_string()])
        .args(["--duplicates", "0", "--late", "0", "--malformed", "0"])
        .envs(env.iter().copied());
    let producer = Process::spawn(&command, "producer")?;
    let status = producer.wait(PATIENCE).await?;
    ensure!(status.success(), "{status}: {}", producer.log_tail());
    Ok(producer)
}

/// How many records of the topic's log have headers, and how many it holds.
fn headers_in_log(stack: &Stack, records: usize) -> anyhow::Result<(usize, usize)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka.bootstrap_servers())
        .set("group.id", format!("{}-reader", stack.topic))
        .create()?;
    let mut from_start = TopicPartitionList::new();
    from_start.add_partition_offset(&stack.topic, 0, Offset::Beginning)?;
    consumer.assign(&from_start)?;
    let (mut with, mut all) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    while all < records {
        ensure!(Instant::now() < deadline, "only {all} records");
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            all += 1;
            with += usize::from(record?.headers().is_some());
        }
    }
    Ok((with, all))
}

fn named<'s>(spans: &'s [CollectedSpan], service: &str, name: &str) -> Vec<&'s CollectedSpan> {
    spans
        .iter()
        .filter(|span| span.service() == service && span.name == name)
        .collect()
}

#[tokio::test]
async fn one_trace_leads_from_the_producer_to_the_commit() -> anyhow::Result<()> {
    let Some(collector) = collector().await? else {
        return Ok(());
    };
    let endpoint = collector.endpoint();
    let stack = Stack::new(StackOptions {
        partitions: 1,
        ..StackOptions::default()
    })
    .await?;
    // one record in a hundred is sampled, and the processor follows what the producer decided; all
    // of them fit one flush
    let producer = produce(
        &stack,
        1_000,
        &traced(&endpoint, "parentbased_traceidratio", "0.01"),
    )
    .await?;
    let send = format!("send {}", stack.topic);
    let sent = collector
        .until("the producer's spans", |spans| {
            let sent: Vec<CollectedSpan> =
                named(spans, PRODUCER, &send).into_iter().cloned().collect();
            (!sent.is_empty()).then_some(sent)
        })
        .await
        .map_err(|error| error.context(producer.log_tail()))?;
    assert!(
        sent.iter()
            .all(|span| span.kind == "Producer" && span.parent.is_empty())
    );
    assert!(
        sent.iter()
            .all(|span| span.attribute("messaging.kafka.offset").is_some())
    );
    let (with, all) = headers_in_log(&stack, 1_000)?;
    assert_eq!(
        (with, all),
        (sent.len(), 1_000),
        "a header for each span and for nothing else"
    );
    // 10 expected, standard deviation 3
    assert!((1..=32).contains(&with), "{with}");

    let variables = traced(&endpoint, "parentbased_traceidratio", "0");
    let mut env = variables.to_vec();
    env.push(("CLICKSTREAM_LOG_FORMAT", "json"));
    let processor = stack.start_with("traced", &env)?;
    stack.drained().await?;
    let process = format!("process {}", stack.topic);
    let (flushes, processed) = collector
        .until("the processor's spans", |spans| {
            let flushes: Vec<CollectedSpan> = named(spans, PROCESSOR, "flush")
                .into_iter()
                .cloned()
                .collect();
            let processed: Vec<CollectedSpan> = named(spans, PROCESSOR, &process)
                .into_iter()
                .cloned()
                .collect();
            let linked: usize = flushes.iter().map(|flush| flush.links.len()).sum();
            (linked == sent.len() && processed.len() == sent.len()).then_some((flushes, processed))
        })
        .await
        .map_err(|error| error.context(processor.log_tail()))?;
    let spans = collector.spans();
    for flush in &flushes {
        // the flush belongs to the trace of its first event, whose way leads from `send` over
        // `process`
        let parent = processed
            .iter()
            .find(|span| span.id == flush.parent)
            .context("no parent")?;
        let origin = sent
            .iter()
            .find(|span| span.id == parent.parent)
            .context("no sender")?;
        assert_eq!(
            (&flush.trace, &parent.trace),
            (&origin.trace, &origin.trace)
        );
        assert!(
            flush
                .links
                .contains(&(origin.trace.clone(), origin.id.clone()))
        );
        // and its steps are in it
        let steps: Vec<&str> = spans
            .iter()
            .filter(|span| span.parent == flush.id)
            .map(|span| span.name.as_str())
            .collect();
        for step in [
            "begin",
            "fence",
            "aggregates",
            "sketches",
            "advance",
            "commit",
        ] {
            assert!(steps.contains(&step), "{step}: {steps:?}");
        }
        assert!(
            steps.contains(&"copy") || steps.contains(&"insert"),
            "{steps:?}"
        );
    }
    for span in &processed {
        assert_eq!(
            span.attribute("messaging.destination.name"),
            Some(stack.topic.as_str())
        );
        let group = span.attribute("messaging.consumer.group.name");
        assert!(group.is_some_and(|group| !group.is_empty()));
        let origin = sent
            .iter()
            .find(|sent| sent.id == span.parent)
            .context("no sender")?;
        assert_eq!(origin.trace, span.trace);
        assert_eq!(
            origin.attribute("messaging.kafka.offset"),
            span.attribute("messaging.kafka.offset")
        );
        assert!(flushes.iter().any(|flush| {
            span.links
                .contains(&(flush.trace.clone(), flush.id.clone()))
        }));
    }
    stack.ends_clean(&[&processor]).await
}

#[tokio::test]
async fn by_default_rebalances_and_claims_are_traced_and_hardly_any_event() -> anyhow::Result<()> {
    let Some(collector) = collector().await? else {
        return Ok(());
    };
    let endpoint = collector.endpoint();
    let stack = Stack::new(StackOptions::default()).await?;
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
        ("OTEL_SERVICE_NAME", "shop"),
    ];
    let processor = stack.start_with("sampled", &env)?;
    produce(&stack, 1_000, &env[..1]).await?;
    stack.drained().await?;
    // what has not been sent yet is sent at the end
    stack.ends_clean(&[&processor]).await?;
    let names = |spans: &[CollectedSpan]| {
        ["rebalance", "claim"]
            .iter()
            .all(|name| !named(spans, "shop", name).is_empty())
            .then(|| spans.to_vec())
    };
    let spans = collector.until("rebalance and claim", names).await?;
    let claim = named(&spans, "shop", "claim")[0];
    assert_eq!(
        claim
            .resource
            .get("deployment.environment.name")
            .map(String::as_str),
        Some("test")
    );
    // one in ten thousand of a thousand
    assert!(named(&spans, PRODUCER, &format!("send {}", stack.topic)).len() <= 3);
    Ok(())
}

#[tokio::test]
async fn headers_that_outsiders_write_change_no_row_and_raise_no_error() -> anyhow::Result<()> {
    let Some(collector) = collector().await? else {
        return Ok(());
    };
    let endpoint = collector.endpoint();
    let stack = Stack::new(StackOptions {
        partitions: 1,
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start_with(
        "hostile",
        &traced(&endpoint, "parentbased_traceidratio", "0"),
    )?;
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let long = "00-".repeat(30_000);
    let values: [&[u8]; 7] = [
        b"",
        b"\xff\xfe\x00",
        b"00-00000000000000000000000000000000-0000000000000000-01",
        b"zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-０１".as_bytes(),
        long.as_bytes(),
        good.as_bytes(),
    ];
    let kafka: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka.bootstrap_servers())
        .create()?;
    let mut sent = 0_u64;
    for round in 0..50_u64 {
        for value in values {
            let click = Click::new(sent, now()).json();
            let mut headers = OwnedHeaders::new().insert(Header {
                key: "traceparent",
                value: Some(value),
            });
            if round % 2 == 0 {
                headers = headers.insert(Header {
                    key: "tracestate",
                    value: Some(value),
                });
            }
            if round % 10 == 9 {
                // twice the same: nobody can say which is meant
                headers = headers.insert(Header {
                    key: "traceparent",
                    value: Some(good.as_bytes()),
                });
            }
            let record = BaseRecord::<(), [u8]>::to(&stack.topic)
                .payload(&click)
                .headers(headers);
            kafka.send(record).map_err(|(error, _)| error)?;
            sent += 1;
        }
    }
    kafka.flush(PATIENCE)?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, i64::try_from(sent)?);
    stack.ends_clean(&[&processor]).await?;
    assert!(
        !processor.log().contains("WARN") && !processor.log().contains("ERROR"),
        "{}",
        processor.log()
    );
    let spans = collector.spans();
    let links: Vec<usize> = named(&spans, PROCESSOR, "flush")
        .iter()
        .map(|span| span.links.len())
        .collect();
    assert!(links.iter().sum::<usize>() > 0, "the good one was followed");
    assert!(links.iter().all(|links| *links <= 32), "{links:?}");
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_costs_one_warning_and_nothing_else() -> anyhow::Result<()> {
    let Some(collector) = collector().await? else {
        return Ok(());
    };
    let endpoint = collector.endpoint();
    collector.process().kill()?;
    let stack = Stack::new(StackOptions::default()).await?;
    let mut env = traced(&endpoint, "always_on", "1").to_vec();
    env.push(("OTEL_EXPORTER_OTLP_TIMEOUT", "500"));
    env.push(("OTEL_BSP_MAX_QUEUE_SIZE", "64"));
    let processor = stack.start_with("alone", &env)?;
    let sent = stack.produce(GeneratorOptions::default(), 10_000).await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, i64::try_from(sent)?);
    // a request has failed by now, or does so at the end
    processor.terminate()?;
    let status = processor.wait(Duration::from_secs(20)).await?;
    ensure!(status.success(), "{status}: {}", processor.log_tail());
    let log = processor.log();
    assert_eq!(log.matches("spans cannot be exported").count(), 1, "{log}");
    let warnings = log
        .lines()
        .filter(|line| line.contains("WARN") && line.contains("span"));
    assert_eq!(warnings.count(), 1, "{log}");
    Ok(())
}

#[tokio::test]
async fn a_collector_that_hangs_holds_neither_the_data_nor_the_end_up() -> anyhow::Result<()> {
    let Some(collector) = collector().await? else {
        return Ok(());
    };
    let endpoint = collector.endpoint();
    collector.process().stop_signal()?;
    let stack = Stack::new(StackOptions::default()).await?;
    let processor = stack.start_with("patient", &traced(&endpoint, "always_on", "1"))?;
    let sent = stack.produce(GeneratorOptions::default(), 10_000).await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, i64::try_from(sent)?);
    // well before a request is given up, which takes 10 s
    stack.ends_clean(&[&processor]).await?;
    assert!(
        processor
            .log()
            .contains("the last spans were not taken in time"),
        "{}",
        processor.log()
    );
    Ok(())
}

#[tokio::test]
async fn a_variable_that_cannot_be_followed_ends_the_start_with_its_name() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let env = traced("http://127.0.0.1:4318", "now_and_then", "1");
    let processor = stack.start_with("wrong", &env)?;
    let status = processor.wait(PATIENCE).await?;
    assert_eq!(status.code(), Some(1));
    assert!(
        processor.log().contains("OTEL_TRACES_SAMPLER"),
        "{}",
        processor.log()
    );
    Ok(())
}
