//! Topics take what clients send: batches in every compression that Kafka has.

use crate::{
    records::{clicks, now},
    stack::{Stack, StackOptions},
    watch::end,
};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

#[tokio::test]
async fn every_compression_that_kafka_has_is_read() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 1,
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start("one")?;
    let mut sent = 0;
    for codec in CODECS {
        let records = clicks(sent..sent + 100, now());
        let records = records.iter().map(|click| click.on(0)).collect();
        stack.place_compressed(records, codec).await?;
        stack.drained().await?;
        sent += 100;
        assert_eq!(
            stack.total("accepted").await?,
            i64::try_from(sent)?,
            "{codec}"
        );
    }
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}
