//! Streams of awkward shapes: one page or one partition for nearly everything, and batches that
//! grow when they are read.

use crate::{
    records::{Click, clicks, now},
    sessions::{MOST_MEMORY_KIB, peak_memory},
    stack::{Stack, StackOptions},
    watch::end,
};

#[tokio::test]
async fn a_hot_page_a_hot_partition_and_thousands_of_pages_fit_into_memory() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let (time, many) = (now(), 30_000);
    let page = |number: u64, url: String| Click {
        url,
        ..Click::new(number, time)
    };
    let mut records: Vec<_> = (0..many)
        .map(|number| page(number, "https://shop.example/".to_owned()).on(0))
        .collect();
    // as many pages in one window
    let pages =
        (many..2 * many).map(|number| page(number, format!("https://shop.example/{number}")));
    records.extend(pages.map(|click| click.on(0)));
    records.extend(
        clicks(2 * many..2 * many + 30, time)
            .iter()
            .map(|click| click.on(1)),
    );
    let sent = stack.place(records).await?;
    let processor = stack.start("one")?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, i64::try_from(sent)?);
    let hot = "select hits from clickstream_agg_minute where url = 'https://shop.example/'";
    assert_eq!(stack.count(hot).await?, i64::try_from(many)?);
    let memory = peak_memory(&processor)?;
    assert!(memory < MOST_MEMORY_KIB, "{memory} KiB");
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn batches_that_grow_a_thousandfold_when_they_are_read_fit_into_memory() -> anyhow::Result<()>
{
    let stack = Stack::new(StackOptions::default()).await?;
    let time = now();
    let mut sent = 0;
    for (partition, codec) in ["zstd", "gzip", "lz4", "snappy"].into_iter().enumerate() {
        // 60 MB of nothing
        let records = (0..1_000).map(|number| {
            let url = format!("https://shop.example/{}", "a".repeat(60_000));
            let number = 1_000 * partition as u64 + number;
            Click {
                url,
                ..Click::new(number, time)
            }
            .on(partition as i32)
        });
        sent += stack.place_compressed(records.collect(), codec).await?;
    }
    let processor = stack.start("one")?;
    stack.drained().await?;
    assert_eq!(stack.total("consumed").await?, i64::try_from(sent)?);
    let memory = peak_memory(&processor)?;
    assert!(memory < MOST_MEMORY_KIB, "{memory} KiB");
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}
