//! Rules that change while processors run: from which record on they are in force stands in the
//! anchors, and each record is judged by those at its offset.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clickstream_testbed::Process;
use rand::RngExt as _;
use serde_json::Value;

use crate::{
    dice::dice,
    load::Load,
    metrics::sum,
    progress::SHORT_SESSION,
    records::{Click, Placed, before, clicks, now},
    stack::{LOOK, PATIENCE, Stack, StackOptions},
    watch::{end, logged},
};

/// What a processor logs when it follows other rules.
const FOLLOWED: &str = "the rules have changed";
/// Beyond window, delay and allowed lateness together (1 m + 10 s + 10 m).
const LONG_AGO: Duration = Duration::from_secs(15 * 60);

/// A document that is written again with other lines at its end.
pub struct Document<'s> {
    stack: &'s Stack,
    base: String,
}

impl<'s> Document<'s> {
    /// The stack's document as it is.
    pub fn of(stack: &'s Stack) -> anyhow::Result<Self> {
        let base = fs::read_to_string(&stack.document)?;
        Ok(Self { stack, base })
    }

    /// Replaces the file in one step, as a kubelet does.
    pub fn says(&self, spec: &str) -> anyhow::Result<()> {
        let whole = self.stack.document.with_extension("new");
        fs::write(&whole, format!("{}{spec}", self.base))?;
        fs::rename(whole, &self.stack.document)?;
        Ok(())
    }
}

/// Waits until a processor has followed this many changes.
pub async fn followed(process: &Process, changes: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while process.log().matches(FOLLOWED).count() < changes {
        ensure!(
            Instant::now() < deadline,
            "the rules never changed: {}",
            process.log_tail()
        );
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

impl Stack {
    /// Late events that stand where the rules at their offsets do not put them; and how many stand
    /// where they do, in the ledger and among the events.
    async fn late_by_rules(&self) -> anyhow::Result<(i64, i64, i64)> {
        let policy = |topic: &str, row: &str| {
            format!(
                "(select spec ->> 'late_policy' from clickstream_anchors as a where a.topic = {topic}
                  and a.partition = {row}partition and a.next_offset <= {row}source_offset
                  order by a.next_offset desc limit 1)"
            )
        };
        let ledger = policy("l.topic", "l.");
        let rows = policy("t.topic", "e.source_");
        let rows = rows.replace("e.source_source_offset", "e.source_offset");
        let events = format!(
            "from clickstream_events as e join clickstream_topics as t on t.topic_id = e.source_topic_id
             where e.is_late and {rows}"
        );
        let ledger = format!("from clickstream_late_events as l where {ledger}");
        Ok((
            self.count(&format!(
                "select (select count(*) {ledger} <> 'Divert') + (select count(*) {events} <> 'Merge')"
            ))
            .await?,
            self.count(&format!("select count(*) {ledger} = 'Divert'"))
                .await?,
            self.count(&format!("select count(*) {events} = 'Merge'"))
                .await?,
        ))
    }
}

#[tokio::test]
async fn three_changes_of_the_rules_under_load_and_kills_judge_each_record_by_those_at_its_offset()
-> anyhow::Result<()> {
    let mut dice = dice();
    let stack = Stack::new(StackOptions::default()).await?;
    let document = Document::of(&stack)?;
    let load = Load::start(&stack, 2_000, &["--late", "0.1", "--duplicates", "0.05"]).await?;
    let start = |number: u32| stack.start_with(&format!("p{number}"), &[SHORT_SESSION]);
    let mut processors = [start(0)?, start(1)?];
    let mut started = 2;
    stack.moves_by(2_000).await?;
    let changes = [
        "  lateEvents: { policy: Divert }\n",
        "  lateEvents: { allowedLateness: 20h }\n  watermark: { delay: 1s }\n",
        "  lateEvents: { policy: Drop }\n  events: { optionalFields: Reject }\n",
    ];
    for change in changes {
        document.says(change)?;
        // before, while and after the processors notice
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..3_000))).await;
        let victim = dice.random_range(0..2);
        processors[victim].kill()?;
        processors[victim] = start(started)?;
        started += 1;
        followed(&processors[1 - victim], 1).await?;
        // the one that has seen all changes so far is replaced now and then, too
        processors[1 - victim].kill()?;
        processors[1 - victim] = start(started)?;
        started += 1;
        stack.moves_by(6_000).await?;
    }
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&processors[0], &processors[1]]).await?;
    let (elsewhere, diverted, merged) = stack.late_by_rules().await?;
    assert_eq!(elsewhere, 0);
    assert!(diverted > 0 && merged > 0, "{diverted}, {merged}");
    let live = "select count(*) from clickstream_anchors where reason = 'spec'";
    assert!(stack.count(live).await? > 0, "no change was live");
    let report = stack.audit().await?;
    let partitions = report["partitions"].as_array().context("no partitions")?;
    // a partition that waits for the end of a dead session may never have seen rules of meanwhile
    let (mut seen, mut last) = (BTreeSet::new(), BTreeSet::new());
    for partition in partitions {
        let rules = partition["rules"].as_array().context("no rules")?;
        let names: Vec<String> = rules
            .iter()
            .map(|rules| rules["name"].to_string())
            .collect();
        last.extend(names.last().cloned());
        seen.extend(names);
    }
    assert_eq!((seen.len(), last.len()), (4, 1), "{report}");
    Ok(())
}

/// The short name of the rules that a processor follows, and the partition's log so far.
fn late_at(number: u64) -> Placed {
    Click::new(number, before(now(), LONG_AGO)).on(0)
}

#[tokio::test]
async fn a_change_of_the_document_is_followed_without_a_restart_where_only_rules_are_new()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        ..StackOptions::default()
    })
    .await?;
    let document = Document::of(&stack)?;
    let one = stack.start_watched("one")?;
    let present = now();
    let mut records: Vec<Placed> = Vec::new();
    for partition in 0..2 {
        let numbers = partition as u64 * 40..(partition as u64 + 1) * 40;
        records.extend(
            clicks(numbers, present)
                .iter()
                .map(|click| click.on(partition)),
        );
    }
    records.push(late_at(100));
    stack.place(records).await?;
    stack.drained().await?;
    assert_eq!(stack.total("merged").await?, 1);
    let (_, status) = one.get("/status").await?;
    let before = serde_json::from_str::<Value>(&status)?["rules"].clone();
    assert!(before.is_string(), "{status}");

    document.says("  lateEvents: { policy: Divert }\n")?;
    followed(&one.process, 1).await?;
    stack.place(vec![late_at(101)]).await?;
    stack.drained().await?;
    assert_eq!(
        (stack.total("merged").await?, stack.total("late").await?),
        (1, 1)
    );
    let (_, status) = one.get("/status").await?;
    assert_ne!(serde_json::from_str::<Value>(&status)?["rules"], before);

    // what is not valid, what takes a restart, and a file that is gone leave the rules as they are
    document.says("  watermark: { delay: 100h }\n")?;
    logged(&one.process, "spec.watermark.delay").await?;
    document.says("  lateEvents: { policy: Drop }\n  window: { size: 5m }\n")?;
    logged(
        &one.process,
        "spec.window.size: takes effect with the next start",
    )
    .await?;
    fs::remove_file(&stack.document)?;
    logged(&one.process, "cannot be read").await?;
    let series = one.series().await?;
    assert!(sum(&series, "clickstream_document_not_followed", "") > 0.0);
    stack.place(vec![late_at(102)]).await?;
    stack.drained().await?;
    assert_eq!(
        (stack.total("merged").await?, stack.total("late").await?),
        (1, 2)
    );

    document.says("  lateEvents: { policy: Drop }\n")?;
    followed(&one.process, 2).await?;
    stack.place(vec![late_at(103)]).await?;
    stack.drained().await?;
    assert_eq!(stack.total("late").await?, 3);
    let ledger = "select count(*) from clickstream_late_events";
    assert_eq!(stack.count(ledger).await?, 2);
    let series = one.series().await?;
    assert_eq!(sum(&series, "clickstream_rules_changes_total", ""), 2.0);
    assert_eq!(sum(&series, "clickstream_document_not_followed", ""), 0.0);

    end(&one.process).await?;
    let report = stack.audit().await?;
    let partition = |number: usize| &report["partitions"][number]["rules"];
    assert_eq!(partition(0).as_array().map(Vec::len), Some(3), "{report}");
    // nothing came to the other one since the first change, so nothing of it was judged by other
    // rules
    assert_eq!(partition(1).as_array().map(Vec::len), Some(1), "{report}");
    assert_eq!(partition(1)[0]["name"], before);
    Ok(())
}
