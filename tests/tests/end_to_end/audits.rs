//! What an audit says to a person, and which documents it takes.

use anyhow::ensure;

use crate::{
    records::{clicks, now},
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
