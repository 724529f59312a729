//! Events that come after their window's grace, events far ahead, and what is reported final when.

use std::time::Duration;

use clickstream_pipeline::event::EventTime;
use clickstream_producer::generator::GeneratorOptions;

use crate::{
    records::{Click, Placed, after, before, clicks, now},
    stack::{LOOK, Stack, StackOptions},
    watch::end,
};

/// Beyond window, delay and allowed lateness together (1 m + 10 s + 10 m).
const LONG_AGO: Duration = Duration::from_secs(15 * 60);

async fn stack(spec: &str) -> anyhow::Result<Stack> {
    Stack::new(StackOptions {
        partitions: 2,
        spec: spec.to_owned(),
        ..StackOptions::default()
    })
    .await
}

/// Sends enough to set T, then two late events and a resend of the first.
async fn send_late(policy: &str) -> anyhow::Result<Stack> {
    let stack = stack(&format!("  lateEvents:\n    policy: {policy}\n")).await?;
    let processor = stack.start("one")?;
    let present = now();
    let long_ago = before(present, LONG_AGO);
    let mut records: Vec<Placed> = clicks(0..40, present)
        .iter()
        .map(|click| click.on(0))
        .collect();
    let late = clicks(100..102, long_ago);
    records.extend([late[0].on(0), late[1].on(0), late[0].on(0)]);
    // the same time on a partition whose own clock has not come so far is on time
    records.push(Click::new(102, long_ago).on(1));
    stack.place(records).await?;
    stack.drained().await?;
    // every hit that is accepted is in the minutes, and no other
    let counted = if policy == "Merge" { 43 } else { 41 };
    assert_eq!(stack.total("accepted").await?, counted);
    for view in ["agg", "traffic"] {
        let hits = format!("select sum(hits)::bigint from clickstream_{view}_minute");
        assert_eq!(stack.count(&hits).await?, counted);
    }
    end(&processor).await?;
    stack.audit().await?;
    Ok(stack)
}

/// `(late, duplicate, rows of the ledger, stored rows marked late)`.
async fn late_account(stack: &Stack) -> anyhow::Result<(i64, i64, i64, i64)> {
    Ok((
        stack.total("late").await?,
        stack.total("duplicate").await?,
        stack
            .count("select count(*) from clickstream_late_events")
            .await?,
        stack
            .count("select count(*) from clickstream_events where is_late")
            .await?,
    ))
}

#[tokio::test]
async fn late_events_are_merged_into_their_own_window_exactly_once() -> anyhow::Result<()> {
    let stack = send_late("Merge").await?;
    assert_eq!(late_account(&stack).await?, (0, 1, 0, 2));
    assert_eq!(stack.total("merged").await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_log_that_is_read_backwards_loses_nothing_from_the_minutes() -> anyhow::Result<()> {
    let stack = stack("  lateEvents:\n    policy: Merge\n").await?;
    let present = now();
    // a click a second for an hour, the newest first, half of them on each partition
    let log = (0..3_600_u64).map(|second| {
        let at = before(present, Duration::from_secs(second));
        Click::new(second, at).on(i32::from(second % 2 == 1))
    });
    let processor = stack.start("one")?;
    stack.place(log.clone().collect()).await?;
    stack.drained().await?;
    // killed in the middle of the same log again, which is all duplicates now
    end(&processor).await?;
    let processor = stack.start("again")?;
    stack.place(log.collect()).await?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, 3_600);
    assert_eq!(stack.total("duplicate").await?, 3_600);
    assert!(stack.total("merged").await? > 2_000);
    assert_eq!(
        stack
            .count(
                "select count(*) from clickstream_traffic_minute where hits = 60 and visitors > 0"
            )
            .await?,
        59
    );
    let minutes = "select count(*) from (
            select date_bin('1 minute', event_ts, 'epoch') as minute, url, count(*) as hits from clickstream_events group by 1, 2
        ) as stored full join clickstream_agg_minute as counted
          on counted.window_start = stored.minute and counted.url = stored.url and counted.hits = stored.hits
        where stored.hits is null or counted.hits is null";
    assert_eq!(stack.count(minutes).await?, 0);
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn late_events_are_diverted_into_their_ledger() -> anyhow::Result<()> {
    let stack = send_late("Divert").await?;
    assert_eq!(late_account(&stack).await?, (2, 1, 2, 0));
    Ok(())
}

#[tokio::test]
async fn late_events_are_stored_and_marked_if_that_is_the_policy() -> anyhow::Result<()> {
    let stack = send_late("Store").await?;
    assert_eq!(late_account(&stack).await?, (2, 1, 0, 2));
    Ok(())
}

#[tokio::test]
async fn late_events_are_only_counted_if_that_is_the_policy() -> anyhow::Result<()> {
    let stack = send_late("Drop").await?;
    // nothing remembers the first, so its resend is late as well
    assert_eq!(late_account(&stack).await?, (3, 0, 0, 0));
    Ok(())
}

#[tokio::test]
async fn a_backlog_of_an_hour_makes_no_event_late() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let hour = Duration::from_secs(3_600);
    let options = GeneratorOptions {
        rate: 8,
        late: 0.0,
        ..GeneratorOptions::default()
    };
    stack
        .produce_from(options, before(now(), hour), 8 * 3_600)
        .await?;
    let processors = [stack.start("first")?, stack.start("second")?];
    stack.drained().await?;
    assert_eq!(stack.total("late").await?, 0);
    assert!(
        stack
            .count("select count(distinct window_start) from clickstream_agg_minute")
            .await?
            >= 60
    );
    for processor in &processors {
        end(processor).await?;
    }
    stack.audit().await?;
    Ok(())
}

/// Sends 200 events of now and, among them, ten dated this far ahead; `(accepted, rejected)`.
async fn ahead(spec: &str, by: Duration) -> anyhow::Result<(i64, i64)> {
    let stack = stack(spec).await?;
    let processor = stack.start("one")?;
    let present = now();
    let ahead = after(present, by);
    let mut records: Vec<Placed> = Vec::new();
    for number in 0..200_u64 {
        records.push(Click::new(number, present).on(0));
        if number % 20 == 10 {
            records.push(Click::new(10_000 + number, ahead).on(0));
        }
    }
    stack.place(records).await?;
    stack.drained().await?;
    assert_eq!(stack.total("late").await?, 0);
    assert_eq!(
        stack
            .count("select count(*) from clickstream_checkpoints where clock_t > now() + interval '1 hour'")
            .await?,
        0
    );
    end(&processor).await?;
    stack.audit().await?;
    Ok((
        stack.total("accepted").await?,
        stack.total("rejected").await?,
    ))
}

#[tokio::test]
async fn events_dated_fifty_days_ahead_cost_themselves_and_no_other() -> anyhow::Result<()> {
    let fifty_days = Duration::from_secs(50 * 86_400);
    assert_eq!(ahead("", fifty_days).await?, (200, 10));
    Ok(())
}

#[tokio::test]
async fn events_dated_ahead_within_a_wide_guard_make_no_other_event_late() -> anyhow::Result<()> {
    let spec = "  watermark:\n    maxFutureSkew: 24h\n";
    let hours = Duration::from_secs(20 * 3_600);
    assert_eq!(ahead(spec, hours).await?, (210, 0));
    Ok(())
}

async fn final_until(stack: &Stack) -> anyhow::Result<i64> {
    stack
        .count("select coalesce(extract(epoch from final_until) * 1000000, 0) from clickstream_finality")
        .await
}

#[tokio::test]
async fn when_traffic_stops_the_last_minute_is_there_and_becomes_final() -> anyhow::Result<()> {
    let stack = stack("  watermark:\n    idleTimeout: 2s\n").await?;
    let processor = stack.start("one")?;
    let present = now();
    let earlier = before(present, Duration::from_secs(180));
    let mut records: Vec<Placed> = clicks(0..40, earlier)
        .iter()
        .map(|click| click.on(0))
        .collect();
    records.extend(clicks(100..140, present).iter().map(|click| click.on(0)));
    stack.place(records).await?;
    stack.drained().await?;
    // in the view with the commit that took it, and not final before anybody can know
    assert_eq!(
        stack
            .count("select sum(hits) from clickstream_agg_minute")
            .await?,
        80
    );
    stack
        .eventually(
            "the last minute is final",
            "select bool_and(final) from clickstream_agg_minute",
        )
        .await?;
    let reported = final_until(&stack).await?;
    assert!(reported > present.micros(), "{reported}");
    assert_eq!(stack.total("revised").await?, 0);

    // what still comes on time into a final window is taken, counted as revised, and final_until
    // stays
    stack
        .place(
            clicks(200..210, earlier)
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, 90);
    assert_eq!(stack.total("revised").await?, 10);
    assert_eq!(final_until(&stack).await?, reported);
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn the_report_of_finality_never_moves_back() -> anyhow::Result<()> {
    let stack = stack("  watermark:\n    idleTimeout: 1s\n").await?;
    let mut highest = 0;
    let mut number = 0_u64;
    let mut time = before(now(), Duration::from_secs(7_200));
    for round in 0..4 {
        let processor = stack.start(&format!("round-{round}"))?;
        // forward on one partition, back on the other
        for partition in [0, 1] {
            let at = if partition == 0 {
                time
            } else {
                before(time, Duration::from_secs(300))
            };
            stack
                .place(
                    clicks(number..number + 40, at)
                        .iter()
                        .map(|click| click.on(partition))
                        .collect(),
                )
                .await?;
            number += 40;
        }
        let deadline = EventTime::from_micros(time.micros()).micros();
        stack.drained().await?;
        let begun = std::time::Instant::now();
        while final_until(&stack).await? <= deadline {
            anyhow::ensure!(
                begun.elapsed() < crate::stack::PATIENCE,
                "never final: {}",
                processor.log_tail()
            );
            let reported = final_until(&stack).await?;
            assert!(reported >= highest, "{reported} after {highest}");
            highest = reported;
            tokio::time::sleep(LOOK).await;
        }
        highest = final_until(&stack).await?;
        end(&processor).await?;
        assert_eq!(final_until(&stack).await?, highest);
        time = after(time, Duration::from_secs(600));
    }
    stack.audit().await?;
    Ok(())
}
