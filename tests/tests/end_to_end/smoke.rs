//! The first thing that has to be true.

use clickstream_producer::generator::GeneratorOptions;
use clickstream_testbed::PostgresVersion;

use crate::stack::{Stack, StackOptions};

async fn every_record_is_accounted_for(postgres: PostgresVersion) -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        postgres,
        ..StackOptions::default()
    })
    .await?;
    let first = stack.start("first")?;
    let second = stack.start("second")?;
    let sent = stack.produce(GeneratorOptions::default(), 20_000).await?;
    stack.drained().await?;
    assert_eq!(
        stack
            .count("select sum(consumed) from clickstream_checkpoints")
            .await?,
        i64::try_from(sent)?
    );
    assert_eq!(
        stack
            .count("select count(*) from clickstream_events")
            .await?,
        stack
            .count("select sum(accepted) from clickstream_checkpoints")
            .await?
    );
    assert_eq!(
        stack
            .count("select sum(hits) from clickstream_agg_minute")
            .await?,
        stack
            .count("select sum(accepted) from clickstream_checkpoints")
            .await?
    );
    for processor in [&first, &second] {
        processor.terminate()?;
        let status = processor.wait(std::time::Duration::from_secs(20)).await?;
        assert!(status.success(), "{status}: {}", processor.log_tail());
    }
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn every_record_is_accounted_for_on_postgresql_18() -> anyhow::Result<()> {
    every_record_is_accounted_for(PostgresVersion::V18).await
}

#[tokio::test]
async fn every_record_is_accounted_for_on_postgresql_15() -> anyhow::Result<()> {
    every_record_is_accounted_for(PostgresVersion::V15).await
}
