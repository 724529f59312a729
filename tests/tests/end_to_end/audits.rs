//! What an audit says to a person, and which documents it takes.

use std::time::Duration;

use anyhow::ensure;
use clickstream_testbed::unique_name;

use crate::{
    commands::{changed, processor, refused},
    records::{before, clicks, now},
    stack::{Stack, StackOptions},
    watch::end,
};

/// Forty minutes of clicks on partition 0, drained.
async fn filled(options: StackOptions, clicks_in_it: u64) -> anyhow::Result<Stack> {
    let stack = Stack::new(options).await?;
    let processor = stack.start("one")?;
    let records = clicks(0..clicks_in_it, now());
    stack
        .place(records.iter().map(|click| click.on(0)).collect())
        .await?;
    stack.drained().await?;
    end(&processor).await?;
    Ok(stack)
}

/// The lines of a report of a target that differs.
async fn differs(stack: &Stack) -> anyhow::Result<Vec<String>> {
    let (code, said) = stack.command(&["audit"]).await?;
    ensure!(code == 3, "audit exits with {code}: {said}");
    Ok(said.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn the_verdict_comes_first_and_thousands_of_differences_stay_readable() -> anyhow::Result<()>
{
    let stack = filled(StackOptions::default(), 4_000).await?;
    let (code, said) = stack.command(&["audit"]).await?;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.starts_with("audit clean: 4000 records of 4 partitions, "),
        "{said}"
    );
    let lost = async |rows: i64| {
        stack
            .client
            .execute(
                "delete from clickstream_events where source_offset in (
                    select source_offset from clickstream_events order by 1 limit $1)",
                &[&rows],
            )
            .await
    };
    assert_eq!(lost(3).await?, 3);
    let lines = differs(&stack).await?;
    assert_eq!(
        lines[0],
        "audit found 4 differences in 4000 records of 4 partitions: 3 missing_row, 1 counter_differs"
    );
    let of =
        |lines: &[String], kind: &str| lines.iter().filter(|line| line.starts_with(kind)).count();
    assert_eq!(of(&lines, "missing_row"), 3, "{lines:#?}");

    assert_eq!(lost(2_997).await?, 2_997);
    let lines = differs(&stack).await?;
    assert_eq!(
        lines[0],
        "audit found 3001 differences in 4000 records of 4 partitions: 3000 missing_row, 1 counter_differs"
    );
    assert_eq!(of(&lines, "counter_differs"), 1, "{lines:#?}");
    assert!(
        lines.contains(&"… and 2990 more of missing_row".to_owned()),
        "{lines:#?}"
    );
    assert!(lines.len() < 40, "{lines:#?}");
    Ok(())
}

/// Hits that came after their window was final are counted in the window, in the checkpoint and in
/// the view: none of it can be changed alone.
#[tokio::test]
async fn hits_of_final_windows_are_audited() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        spec: "  watermark:\n    idleTimeout: 1s\n".to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start("one")?;
    let earlier = before(now(), Duration::from_secs(180));
    let on = |partition: i32, numbers: std::ops::Range<u64>| {
        clicks(numbers, earlier)
            .iter()
            .map(|click| click.on(partition))
            .collect::<Vec<_>>()
    };
    stack.place([on(0, 0..40), on(1, 40..80)].concat()).await?;
    stack.drained().await?;
    stack
        .eventually(
            "what was received is final",
            "select count(*) > 0 and bool_and(final) from clickstream_traffic_minute",
        )
        .await?;
    stack.place([on(0, 80..85), on(1, 85..90)].concat()).await?;
    stack.drained().await?;
    assert_eq!(stack.total("revised").await?, 10);
    end(&processor).await?;
    stack.audit().await?;

    let of_a_window =
        "update clickstream_traffic_parts set revised = revised %s where partition = 0";
    let of_a_partition =
        "update clickstream_checkpoints set revised = revised %s where partition = 0";
    for (change, words) in [
        (
            of_a_window.replace("%s", "- 1"),
            "checkpoint: revised 5, but 4 in all windows",
        ),
        (
            of_a_window.replace("%s", "+ 1"),
            "checkpoint: revised 5, but 6 in all windows",
        ),
        (of_a_window.replace("%s", "+ 41"), "revised: 46 of 45 hits"),
        (of_a_window.replace("%s", "- 6"), "revised: -1 of 45 hits"),
        (
            of_a_partition.replace("%s", "+ 1"),
            "checkpoint: revised 6, but 5 in all windows",
        ),
        (
            "update clickstream_finality set final_until = final_until - interval '1 hour'"
                .to_owned(),
            "5 hits came after the window was final, but final_until is",
        ),
        (
            "update clickstream_finality set final_until = null".to_owned(),
            "final_until is none: did it move back?",
        ),
    ] {
        let saved = "create table saved_parts as table clickstream_traffic_parts;
            create table saved_points as table clickstream_checkpoints;
            create table saved_final as table clickstream_finality";
        let restored =
            "truncate clickstream_traffic_parts, clickstream_checkpoints, clickstream_finality;
            insert into clickstream_traffic_parts table saved_parts;
            insert into clickstream_checkpoints table saved_points;
            insert into clickstream_finality table saved_final;
            drop table saved_parts, saved_points, saved_final";
        stack.client.batch_execute(saved).await?;
        stack.client.execute(&change, &[]).await?;
        let lines = differs(&stack).await?;
        ensure!(
            lines
                .iter()
                .any(|line| line.starts_with("revised_differs") && line.contains(words)),
            "{change}: {lines:#?}"
        );
        stack.client.batch_execute(restored).await?;
    }
    stack.audit().await?;
    Ok(())
}

/// What the schema remembers of its pipeline is compared before anything else; the error says which
/// field, and what to do.
#[tokio::test]
async fn the_document_of_another_pipeline_is_refused() -> anyhow::Result<()> {
    let stack = filled(StackOptions::one_role(), 200).await?;
    let processor = processor().await?;
    let other = unique_name("other");
    stack.kafka.create_topic(&other, 1, &[]).await?;
    let topic = format!("  - name: {}\n", stack.topic);
    let take = "take the document";
    for (from, to, words) in [
        (
            "metadata:\n  name: ",
            "metadata:\n  name: x-",
            vec!["metadata.name is x-", "belongs to pipeline default/", take],
        ),
        (
            "metadata:\n",
            "metadata:\n  namespace: shop\n",
            vec![
                "metadata.namespace is shop",
                "belongs to pipeline default/",
                take,
            ],
        ),
        (
            &topic,
            &format!("  - name: {other}\n"),
            vec!["spec.topics has ", "was filled from", take],
        ),
        (
            "    schema: clickstream\n",
            "    schema: clickstream\n  window: {size: 5m}\n",
            vec![
                "spec.window.size is 300000000 µs, but schema \"clickstream\" holds windows of 60000000 µs",
                "put the old size back",
            ],
        ),
    ] {
        let document = changed(&stack, &[(from, to)])?;
        refused(
            &processor,
            &format!("audit --pipeline {document}"),
            1,
            &words,
        )
        .await?;
    }
    let document = stack.document.display();
    let elsewhere = format!("audit --cluster elsewhere --pipeline {document}");
    let words = ["--cluster is elsewhere", "of cluster local", "or none"];
    refused(&processor, &elsewhere, 1, &words).await?;

    // a topic of the same name that is another one
    stack
        .client
        .batch_execute("update clickstream_topics set kafka_topic_id = 'another'")
        .await?;
    let words = ["topic id is", "was filled from another", "made anew"];
    refused(
        &processor,
        &format!("audit --pipeline {document}"),
        1,
        &words,
    )
    .await?;
    Ok(())
}

/// A copy in an auditor's hands knows neither the cluster nor always the namespace, and rules
/// change in the life of a pipeline.
#[tokio::test]
async fn a_copy_of_the_document_goes_on_working_whatever_may_change() -> anyhow::Result<()> {
    let stack = filled(StackOptions::one_role(), 200).await?;
    let processor = processor().await?;
    let more = unique_name("more");
    stack.kafka.create_topic(&more, 1, &[]).await?;
    // as it was applied by an operator, in a namespace
    stack
        .client
        .batch_execute(
            "update clickstream_schema set owner = replace(owner, 'default/', 'shop/'), cluster = '3f2a9c1b-7d4e-4a52-9c0e-0d6a5b1f2c3d'",
        )
        .await?;
    let end = "    schema: clickstream\n";
    let topic = format!("  - name: {}\n    management: External\n", stack.topic);
    for (from, to) in [
        (end, end.to_owned()),
        ("metadata:\n", "metadata:\n  namespace: shop\n".to_owned()),
        (
            end,
            format!(
                "{end}  lateEvents: {{policy: Drop, allowedLateness: 1h}}\n  watermark: {{delay: 1m}}\n"
            ),
        ),
        (
            &topic,
            format!("{topic}  - name: {more}\n    management: External\n"),
        ),
        ("  - name: main\n", "  - name: audited\n".to_owned()),
    ] {
        let document = changed(&stack, &[(from, &to)])?;
        let audit = format!("audit --pipeline {document}");
        refused(&processor, &audit, 0, &[]).await?;
    }
    Ok(())
}
