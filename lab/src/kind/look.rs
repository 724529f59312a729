//! A look at the result: what became of the records, and the pages with the most hits.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;

use super::pipeline::Pipeline;
use crate::up::{count, pages};

/// How long the tables fill before they are shown.
const WHILE: Duration = Duration::from_secs(5);

/// How many pages are shown.
const SHOWN: usize = 8;

/// Lets the pipeline run for a few seconds and returns what it has done, as text.
///
/// # Errors
/// PostgreSQL's pod does not answer.
pub async fn show(pipeline: &Pipeline<'_>) -> anyhow::Result<String> {
    tokio::time::sleep(WHILE).await;
    let counts = pipeline.counts().await?;
    let mut text = String::from("\nin PostgreSQL\n");
    for (name, value) in [
        ("consumed", counts.consumed),
        ("accepted", counts.accepted),
        ("duplicate", counts.duplicate),
        ("rejected", counts.rejected),
        ("late", counts.late),
    ] {
        writeln!(text, "  {:>12}  {name}", count(value))?;
    }
    // windows that are still open count too: a first look comes before the first one closes
    let top = pipeline
        .query(&format!(
            "select coalesce(jsonb_agg(jsonb_build_array(url, hits)), '[]') from ( \
               select url, sum(hits)::bigint as hits from {}.clickstream_agg_lanes \
               group by url order by 2 desc, 1 limit {SHOWN}) as top",
            pipeline.schema()
        ))
        .await?;
    let top: Vec<(String, i64)> =
        serde_json::from_value(top).context("the pages are no list of pages")?;
    write!(text, "\ntop pages\n{}", pages(&top))?;
    Ok(text)
}
