//! Logs of web servers through the whole data path: each line once, in its minute, however the
//! files lie.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Command};

use anyhow::ensure;
use clickstream_testbed::server_dir;
use serde_json::Value;

use crate::commands::producer;
use crate::stack::{Stack, StackOptions};

/// A log of this many lines, one every `every` seconds, `from` seconds after eight o'clock on 10
/// March 2026.
fn log(page: &str, from: i64, every: i64, lines: i64) -> anyhow::Result<String> {
    let mut log = String::new();
    for line in 0..lines {
        let second = 8 * 3_600 + from + line * every;
        let time = format!(
            "{:02}/Mar/2026:{:02}:{:02}:{:02} +0000",
            10 + second.div_euclid(86_400),
            second.div_euclid(3_600).rem_euclid(24),
            second.div_euclid(60).rem_euclid(60),
            second.rem_euclid(60)
        );
        let client = line % 17 + 1;
        writeln!(
            log,
            "192.0.2.{client} - - [{time}] \"GET /{page}/{} HTTP/1.1\" 200 5 \"-\" \"Mozilla/5.0\"",
            line % 5
        )?;
    }
    Ok(log)
}

/// Replays these files in one run; its account.
async fn replay(stack: &Stack, files: &[&Path]) -> anyhow::Result<Value> {
    let mut command = Command::new(producer().await?);
    command.args(["replay", "-o", "json", "--pipeline"]);
    command.arg(&stack.document).args(files);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{files:?}: {said}");
    stack.drained().await?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

async fn accepted_and_duplicate(stack: &Stack) -> anyhow::Result<(i64, i64)> {
    let sum = |column: &str| format!("select sum({column})::bigint from clickstream_checkpoints");
    Ok((
        stack.count(&sum("accepted")).await?,
        stack.count(&sum("duplicate")).await?,
    ))
}

/// Divert sets apart what is late: of logs that are read one after the other, nearly everything.
#[tokio::test]
async fn every_line_is_counted_in_its_minute_whatever_the_order_of_the_logs() -> anyhow::Result<()>
{
    let stack = Stack::new(StackOptions {
        spec: "  lateEvents:\n    policy: Divert\n".to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start("only")?;
    let folder = server_dir("logs")?;
    let day = 86_400;
    let logs = [
        ("web1.log", log("a", 0, 30, 240)?),
        ("web2.log", log("b", 13, 45, 160)?),
        ("access.log", log("c", 7_200, 60, 120)?),
        ("access.log.1", log("d", -day, 60, 240)?),
    ];
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    let mut paths = Vec::new();
    for (name, text) in &logs {
        for line in text.lines() {
            let minute = line.split('[').nth(1).and_then(|rest| rest.get(..17));
            *expected
                .entry(minute.unwrap_or_default().to_owned())
                .or_default() += 1;
        }
        let path = folder.join(name);
        fs::write(&path, text)?;
        paths.push(path);
    }
    let files: Vec<&Path> = paths.iter().map(|path| path.as_path()).collect();
    let account = replay(&stack, &files).await?;
    assert_eq!(account["acknowledged"], 760);
    assert_eq!(accepted_and_duplicate(&stack).await?, (760, 0));
    let query =
        "select to_char(window_start at time zone 'UTC', 'DD/Mon/YYYY:HH24:MI'), sum(hits)::bigint
        from clickstream_agg_minute group by 1";
    let rows = stack.client.query(query, &[]).await?;
    let counted: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(counted, expected);
    processor.terminate()?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_log_is_counted_once_under_any_name_and_a_new_log_under_an_old_one() -> anyhow::Result<()>
{
    let stack = Stack::new(StackOptions::default()).await?;
    let processor = stack.start("only")?;
    let folder = server_dir("logs")?;
    let (access, rotated) = (folder.join("access.log"), folder.join("access.log.1"));
    let (morning, afternoon) = (log("m", 0, 20, 240)?, log("p", 20_000, 20, 300)?);
    fs::write(&access, &morning)?;
    replay(&stack, &[&access]).await?;
    assert_eq!(accepted_and_duplicate(&stack).await?, (240, 0));
    // the same name, other lines
    fs::write(&access, &afternoon)?;
    replay(&stack, &[&access]).await?;
    assert_eq!(accepted_and_duplicate(&stack).await?, (540, 0));
    // other names, the same lines: rotated, then joined and grown
    fs::write(&rotated, &morning)?;
    replay(&stack, &[&rotated]).await?;
    assert_eq!(accepted_and_duplicate(&stack).await?, (540, 240));
    fs::write(&access, morning + &afternoon + &log("new", 40_000, 20, 10)?)?;
    replay(&stack, &[&access]).await?;
    assert_eq!(accepted_and_duplicate(&stack).await?, (550, 780));
    processor.terminate()?;
    stack.audit().await?;
    Ok(())
}
