//! Wiring of `run`: what is opened in which order, and closed in the opposite one.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use clickstream_pipeline::{
    engine::Engine,
    spec::{ClickstreamPipeline, Secrets, TargetSpec},
};
use clickstream_protocol::annotations::CREATED_TOPICS;
use clickstream_telemetry::{
    admin::{self, AdminArgs},
    metrics, shutdown,
};
use rand::Rng;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    document::Document,
    gauges::Present,
    heartbeat::Heart,
    kafka::{ConsumerSettings, Identity, Source, describe, watch_retention},
    metrics::{Gauges, HeartbeatMetrics, RulesMetrics, SourceMetrics, WriterMetrics},
    opening::{self, Opened, Opening},
    rules::Follower,
    runner::{Writer, WriterSettings},
    shared::{BufferLimits, Shared},
    sink::{Owner, Topics},
    status::ProcessorHealth,
    upkeep::Upkeep,
};

/// Runs a processor until it is told to stop.
///
/// # Errors
/// What is wrong with the target, the topics or the settings; or why the process could not go on.
/// Nothing is lost either way: the next start continues where the database stands.
pub async fn run(
    document: Document,
    target: TargetSpec,
    secrets: Box<dyn Secrets + Send + Sync>,
    cluster: &str,
    owner: String,
    rack: Option<&str>,
    admin: &AdminArgs,
) -> anyhow::Result<()> {
    let pipeline = document.pipeline.clone();
    let schema_owner = Owner::new(&pipeline, cluster);
    if cfg!(feature = "unsafe-baseline") {
        warn!("this build has no fence and no filter: for measurements only");
    }
    let semantic = pipeline.semantic();
    let stop = shutdown::signal().context("cannot listen for signals")?;
    let registry = metrics::registry("processor")?;
    let source_metrics = SourceMetrics::register(&registry)?;
    let is_asked = admin.admin_listen.is_some();
    let writer_metrics = WriterMetrics::register(&registry, is_asked)?;
    let gauges = Gauges::register(&registry)?;
    let rules_metrics = RulesMetrics::register(&registry)?;
    let beating = &pipeline.spec.heartbeat;
    let beats = match beating.enabled {
        true => Some(HeartbeatMetrics::register(&registry)?),
        false => None,
    };
    let health = Arc::new(ProcessorHealth::new(
        owner.clone(),
        schema_owner.pipeline.clone(),
        target.name.clone(),
    ));
    let admin_stop = CancellationToken::new();
    if let Some(addr) = admin.admin_listen {
        let (guard, health) = (admin.guard()?, Arc::clone(&health));
        let server =
            admin::serve_guarded(addr, guard, registry, health, admin_stop.clone()).await?;
        info!(addr = %server.local_addr(), "admin server listens");
    }

    let mut consumer = ConsumerSettings::new(&pipeline, &owner, secrets.as_ref())?;
    if let Some(rack) = rack {
        info!(
            rack,
            "replicas in the same rack are read from, where the brokers name them"
        );
        consumer.stand_in(rack);
    }
    let described = {
        let consumer = consumer.clone();
        tokio::task::spawn_blocking(move || describe(&consumer))
    };
    let postgres = target.connection_settings(secrets.as_ref())?;
    let connected = opening::connect(&postgres, &target.schema, &owner, &stop);
    let (described, connected) = tokio::join!(described, connected);
    let described = described.context("asking the brokers")??;
    consumer.fit_queues(&described.topics);
    let Some(connection) = connected? else {
        return Ok(());
    };
    let opening = Opening {
        postgres: &postgres,
        target: &target,
        schema_owner: &schema_owner,
        semantic: &semantic,
        owner: &owner,
        described: &described,
        created_topics: &created_topics(&pipeline),
    };
    let Some(Opened {
        sink,
        group,
        topics: registered,
    }) = opening.open(connection, &stop).await?
    else {
        return Ok(());
    };
    consumer.join(group);
    let identity = Identity::new(&registered.ids, &described);
    let topics = registered.numbers;

    let flush = &pipeline.spec.processor.flush;
    let limits = BufferLimits {
        rows: flush.max_rows as usize,
        bytes: flush.max_bytes.as_len(),
    };
    let engine = Engine::new(
        &semantic,
        pipeline.spec.processor.filter_memory.as_len(),
        rand::rng().next_u64(),
    );
    let shared = Arc::new(Shared::new(engine, limits));
    health.started(Arc::clone(&shared), topics.clone());
    let upkeep = Upkeep {
        postgres: postgres.clone(),
        schema: target.schema.clone(),
        owner: owner.clone(),
        retention: target.retention.clone(),
        shared: Arc::clone(&shared),
        idle_timeout_micros: pipeline.spec.watermark.idle_timeout.micros(),
        metrics: writer_metrics.clone(),
    };
    let writer = Writer::new(
        WriterSettings {
            postgres,
            schema: target.schema.clone(),
            durability: target.durability,
            idle_timeout_micros: pipeline.spec.watermark.idle_timeout.micros(),
            owner: owner.clone(),
            topics: topics.clone(),
            beats: beats.clone(),
        },
        Arc::clone(&shared),
        writer_metrics,
        sink,
    );
    let mut beside = JoinSet::new();
    beside.spawn(upkeep.run(stop.child_token()));
    let follower = Follower::new(document, Arc::clone(&shared), rules_metrics);
    beside.spawn(follower.run(stop.child_token()));
    if is_asked {
        let present = Present {
            shared: Arc::clone(&shared),
            topics: topics.clone(),
            group: consumer.group.clone(),
            beats: beats.is_some(),
        };
        beside.spawn(present.keep(gauges, admin_stop.clone()));
        beside.spawn(watch_retention(
            consumer.connection.clone(),
            consumer.topics.clone(),
            Arc::clone(&shared),
            admin_stop.clone(),
        ));
    }
    if let Some(beats) = &beats {
        let heart = Heart::new(
            &consumer.connection,
            beating.interval.to_std(),
            Arc::clone(&shared),
            topics.clone(),
            beats,
        )
        .context("spec.kafka: librdkafka refuses these settings")?;
        // no more of them once the partitions are being given back
        beside.spawn(heart.beat(stop.child_token()));
    }
    info!(
        owner,
        pipeline = schema_owner.pipeline,
        target = target.name,
        group = consumer.group,
        "processor starts"
    );
    let ended = work(
        consumer,
        topics,
        identity,
        shared,
        source_metrics,
        writer,
        stop,
    )
    .await;
    admin_stop.cancel();
    ended
}

/// The topics that the operator names as made by it.
fn created_topics(pipeline: &ClickstreamPipeline) -> Vec<&str> {
    let annotations = &pipeline.metadata.annotations;
    annotations
        .get(CREATED_TOPICS)
        .map(|names| names.split(',').collect())
        .unwrap_or_default()
}

/// The reading thread and the writing task; when one ends, the other is told to.
async fn work(
    consumer: ConsumerSettings,
    topics: Topics,
    identity: Identity,
    shared: Arc<Shared>,
    source_metrics: SourceMetrics,
    writer: Writer,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let stop_reading = stop.child_token();
    let stop_writing = CancellationToken::new();
    let mut writing = tokio::spawn({
        let stop = stop_writing.clone();
        async move { writer.run(&stop).await }
    });
    let decoded = source_metrics.decoded.clone();
    let (read_ended, mut reading) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("kafka".to_owned())
        .spawn({
            let (stop, shared) = (stop_reading.clone(), Arc::clone(&shared));
            move || {
                let ended = Source::new(
                    &consumer,
                    topics,
                    identity,
                    Arc::clone(&shared),
                    source_metrics,
                )
                .and_then(|source| source.run(&stop));
                shared.with(|state| state.stopped = true);
                // the receiver is gone only when the process ends
                let _ = read_ended.send(ended);
            }
        })?;

    tokio::select! {
        read = &mut reading => {
            stop_writing.cancel();
            let wrote = writing.await.context("the writing task ended abnormally")?;
            read.context("the reading thread ended abnormally")??;
            wrote?;
            if shared.with(|state| state.sink_healthy) {
                info!(decoded = decoded.get(), "stopped; everything that was read is committed");
            } else {
                warn!(
                    decoded = decoded.get(),
                    "stopped while postgresql was away; what was read and is not committed will be read again"
                );
            }
            Ok(())
        }
        wrote = &mut writing => {
            stop_reading.cancel();
            let fault = wrote.context("the writing task ended abnormally")?;
            shared.with(|state| state.sink_healthy = false);
            shared.notify_reader();
            // leaves the group in good order if it can, so that the partitions move on at once
            if tokio::time::timeout(Duration::from_secs(5), reading).await.is_err() {
                warn!("the reading thread did not end in time");
            }
            fault?;
            Ok(())
        }
    }
}
