//! What can be measured only with pods: how long events stay invisible while processors are
//! replaced, and what more processors bring when each has a fifth of a core.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clickstream_testbed::unique_name;
use serde_json::{Value, json};

use super::faults;
use crate::kind::pipeline::Pipeline;
use crate::kind::stack::{NAMESPACE, RELEASE, kubectl, rolled_out};
use xtask::steps::Steps;

/// Events a second while processors are replaced.
const RATE: i64 = 1_000;

/// How long the checkpoints are watched: from before the replacement until well after it.
const WATCHED: Duration = Duration::from_secs(60);

/// Records to catch up with, per processor: 27 s at 60,000 a second, the most that a fifth of a
/// core was seen to do.
const BACKLOG: i64 = 1_600_000;

/// As in the other benchmarks: with the quickstart's 2 GB a checkpoint falls due every twenty
/// seconds, into one measurement and not into another.
const ROOM_FOR_WAL: [&str; 3] = [
    "alter system set max_wal_size = '8GB'",
    "alter system set checkpoint_timeout = '15min'",
    "select pg_reload_conf()",
];

/// How long the catching up is measured.
const MEASURED: Duration = Duration::from_secs(20);

/// Annotation by which new pods are told from old ones.
const MARK: &str = "example.com/rolled";

/// CPU of a capped processor.
const CAP: &str = "200m";

/// Replaces the processors under load, and tells the longest time for which a partition made no
/// progress.
///
/// Every partition takes several hundred events a second, so an event is invisible for that time at
/// most and for a few milliseconds less.
pub async fn rolling_update(pipeline: &Pipeline<'_>, steps: &Steps) -> anyhow::Result<()> {
    let change = json!({ "spec": { "producer": { "rate": RATE } } });
    pipeline.patch(&change).await?;
    pipeline.moves_by(5 * RATE).await?;
    pipeline.ready(steps).await?;

    let step = steps.begin("rolling");
    // another one each time: a cluster that was kept has had the last one
    let mark = unique_name("rolled");
    let update = async {
        let watch = longest_stillness(pipeline);
        let replace = async {
            // the watch has begun by then, and sees how it is without a replacement
            tokio::time::sleep(Duration::from_secs(5)).await;
            let since = Instant::now();
            let roll = json!({ "spec": { "processor": { "annotations": { MARK: mark } } } });
            pipeline.patch(&roll).await?;
            wait_for_new_pods(pipeline, &mark).await?;
            Ok(since.elapsed())
        };
        tokio::try_join!(watch, replace)
    };
    step.during(update, |(stillness, took)| {
        format!(
            "all processors replaced in {:.1} s under {RATE} events/s; no partition stood still for longer than {stillness:.2} s",
            took.as_secs_f64()
        )
    })
    .await?;
    Ok(())
}

async fn wait_for_new_pods(pipeline: &Pipeline<'_>, mark: &str) -> anyhow::Result<()> {
    let since = Instant::now();
    loop {
        let deployment = pipeline.deployment().await?;
        let (status, spec) = (&deployment["status"], &deployment["spec"]);
        let rolled = spec["template"]["metadata"]["annotations"][MARK] == mark;
        let whole = status["observedGeneration"] == deployment["metadata"]["generation"];
        let all = &spec["replicas"];
        if rolled && whole && &status["updatedReplicas"] == all && &status["replicas"] == all {
            return Ok(());
        }
        pipeline.patience(since, "processors are replaced").await?;
    }
}

/// In seconds, as PostgreSQL itself sees the checkpoints move.
async fn longest_stillness(pipeline: &Pipeline<'_>) -> anyhow::Result<f64> {
    let checkpoints = format!("{}.clickstream_checkpoints", pipeline.schema());
    let sql = format!(
        "create function pg_temp.longest_stillness() returns jsonb language plpgsql volatile as $$
         declare
             until constant timestamptz := clock_timestamp() + interval '{seconds} seconds';
         begin
             create temporary table seen on commit drop as
                 select topic, partition, next_offset, clock_timestamp() as moved_at, 0::float8 as longest from {checkpoints};
             while clock_timestamp() < until loop
                 perform pg_sleep(0.02);
                 update seen set
                     longest = greatest(longest, extract(epoch from clock_timestamp() - moved_at)),
                     moved_at = case when c.next_offset > seen.next_offset then clock_timestamp() else moved_at end,
                     next_offset = c.next_offset
                 from {checkpoints} c where c.topic = seen.topic and c.partition = seen.partition;
             end loop;
             return (select to_jsonb(max(longest)) from seen);
         end $$;
         select pg_temp.longest_stillness()",
        seconds = WATCHED.as_secs()
    );
    pipeline
        .query(&sql)
        .await?
        .as_f64()
        .context("no partition has a checkpoint")
}

/// Catches up with 1, 2 and 4 processors of a fifth of a core each; prints the rates and how they
/// compare.
pub async fn capped_drain(pipeline: &Pipeline<'_>, steps: &Steps) -> anyhow::Result<()> {
    let operator = format!("deployment/{RELEASE}");
    let cluster = pipeline.cluster();
    faults::producer_off(pipeline, steps).await?;
    let capped = json!({ "spec": {
        "processor": { "resources": { "limits": { "cpu": CAP } } },
        "producer": { "enabled": true, "rate": 1_000_000 },
    } });
    pipeline.patch(&capped).await?;
    pipeline.moves_by(RATE).await?;
    pipeline.statements(&ROOM_FOR_WAL).await?;
    // from here on nobody but us decides how many pods there are
    kubectl(
        cluster,
        &["-n", NAMESPACE, "scale", &operator, "--replicas=0"],
    )
    .await?;
    let mut first = None;
    for processors in [1, 2, 4] {
        let step = steps.begin("capped");
        let rate = step
            .during(caught_up_by(pipeline, processors), |rate: &f64| {
                let base = *first.get_or_insert(*rate);
                format!(
                    "{processors} processors of {CAP} CPU: {:.0} k records/s, {:.2} times one",
                    rate / 1_000.0,
                    rate / base
                )
            })
            .await;
        rate?;
    }
    let off = json!({ "spec": { "producer": { "enabled": false } } });
    pipeline.patch(&off).await?;
    let uncapped = json!({ "spec": { "processor": { "resources": Value::Null } } });
    pipeline.patch(&uncapped).await?;
    kubectl(
        cluster,
        &["-n", NAMESPACE, "scale", &operator, "--replicas=1"],
    )
    .await?;
    rolled_out(cluster, &operator).await?;
    pipeline.ready(steps).await.map(|_| ())
}

/// Records a second.
async fn caught_up_by(pipeline: &Pipeline<'_>, processors: u32) -> anyhow::Result<f64> {
    pipeline.scale_deployment("processor", 0).await?;
    pipeline.gone("processor").await?;
    let before = pipeline.counts().await?;
    let wanted = before.consumed + before.skipped + BACKLOG * i64::from(processors);
    pipeline.scale_deployment("producer", 1).await?;
    let since = Instant::now();
    while pipeline.produced().await? < wanted {
        pipeline.patience(since, "a backlog is produced").await?;
    }
    pipeline.scale_deployment("producer", 0).await?;
    pipeline.gone("producer").await?;
    let end = pipeline.produced().await?;

    // what earlier measurements have left behind is not this one's
    pipeline.statements(&["checkpoint"]).await?;
    pipeline.scale_deployment("processor", processors).await?;
    let since = Instant::now();
    loop {
        let deployment = pipeline.deployment().await?;
        if deployment["status"]["readyReplicas"] == json!(processors) {
            break;
        }
        pipeline.patience(since, "capped processors start").await?;
    }
    pipeline.moves_by(BACKLOG / 20).await?;
    let (rate, consumed) = rate(pipeline).await?;
    ensure!(
        consumed < end,
        "the backlog ended within the {MEASURED:?} that were measured: make it larger"
    );
    Ok(rate)
}

/// Records a second over [`MEASURED`], and where the sum of the checkpoints stood then.
async fn rate(pipeline: &Pipeline<'_>) -> anyhow::Result<(f64, i64)> {
    let checkpoints = format!("{}.clickstream_checkpoints", pipeline.schema());
    let sql = format!(
        "create function pg_temp.rate() returns jsonb language plpgsql volatile as $$
         declare
             began constant timestamptz := clock_timestamp();
             before constant bigint := (select sum(next_offset) from {checkpoints});
             after bigint;
         begin
             perform pg_sleep({seconds});
             after := (select sum(next_offset) from {checkpoints});
             return jsonb_build_array((after - before) / extract(epoch from clock_timestamp() - began), after);
         end $$;
         select pg_temp.rate()",
        seconds = MEASURED.as_secs()
    );
    let said = pipeline.query(&sql).await?;
    let rate = said[0].as_f64().context("no rate")?;
    Ok((rate, said[1].as_i64().context("no position")?))
}
