//! The same resource in two clusters on one Kafka: staging beside production, blue and green, a
//! cluster that was restored.

use clickstream_producer::generator::GeneratorOptions;

use crate::{
    records::{clicks, now},
    stack::{Stack, StackOptions},
    watch::end,
};

#[tokio::test]
async fn each_of_two_clusters_with_the_same_names_gets_every_event() -> anyhow::Result<()> {
    let production = Stack::new(StackOptions::default()).await?;
    let staging = production
        .twin(
            "3f2a9c1b-7d4e-4a52-9c0e-0d6a5b1f2c3d",
            StackOptions::default(),
        )
        .await?;
    let processors = [production.start("one")?, staging.start("one")?];
    let sent = production
        .produce(GeneratorOptions::default(), 2_000)
        .await?;
    for stack in [&production, &staging] {
        stack.drained().await?;
        assert_eq!(stack.total("consumed").await?, i64::try_from(sent)?);
    }
    for processor in &processors {
        end(processor).await?;
    }
    production.audit().await?;
    staging.audit().await?;
    Ok(())
}

/// Until each processor of the version before is replaced, both are in one group, and no partition
/// has two owners.
#[tokio::test]
async fn a_target_that_read_already_keeps_the_name_of_its_group() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let group = |log: &str| {
        let mut lines = log.lines().filter(|line| line.contains("processor starts"));
        let line = lines
            .next_back()
            .expect("it says what it starts with")
            .to_owned();
        serde_json::from_str::<serde_json::Value>(&line)
            .ok()
            .and_then(|line| Some(line["group"].as_str()?.to_owned()))
            .unwrap_or(line)
    };
    let processor = stack.start("one")?;
    let records = clicks(0..100, now());
    stack
        .place(records.iter().map(|click| click.on(0)).collect())
        .await?;
    stack.drained().await?;
    let with_cluster = group(&processor.log_tail());
    end(&processor).await?;
    assert!(with_cluster.contains(".main.local"), "{with_cluster}");

    // as the migration leaves a target that has checkpoints
    stack
        .client
        .batch_execute("update clickstream.clickstream_schema set plain_group_of = cluster")
        .await?;
    let processor = stack.start("two")?;
    stack
        .place(records.iter().map(|click| click.on(1)).collect())
        .await?;
    stack.drained().await?;
    let plain = group(&processor.log_tail());
    end(&processor).await?;
    assert!(
        plain.contains(".main") && !plain.contains(".main.local"),
        "{plain}"
    );
    stack.audit().await?;
    Ok(())
}
