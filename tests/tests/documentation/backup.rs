//! docs/operations.md, *Back up and restore*: its commands as they stand there, while records come.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clickstream_testbed::{Postgres, PostgresOptions, PostgresVersion, server_dir};
use tokio::process::Command;

use crate::{
    commands::{COMMANDS, Tried, commands_of, entry},
    markdown::page,
    pipeline::{Pipeline, READER, stored},
};

/// Where Debian puts the tools of the server that the testbed installs.
const TOOLS: &str = "/usr/lib/postgresql/15/bin";

#[tokio::test]
async fn a_restored_backup_goes_on_where_it_was_taken_and_audits_clean() -> anyhow::Result<()> {
    let options = PostgresOptions {
        version: PostgresVersion::V15,
        ..PostgresOptions::default()
    };
    let postgres = Postgres::start(options).await?;
    for database in ["app", "restored"] {
        postgres.create_database(database).await?;
    }
    let admin = postgres.connect("app").await?;
    admin
        .batch_execute(&format!("create role {READER}"))
        .await?;
    let pipeline = Pipeline::new().await?;
    let document = pipeline.document("app", postgres.port())?;
    pipeline.migrate(&document).await?;
    pipeline.produce(&document, 5_000).await?;
    let processor = pipeline.start(&document)?;
    stored(&admin, 5_000, &processor).await?;

    let commands = commands_of(&page("docs/operations.md"));
    let commands: Vec<&str> = commands
        .iter()
        .map(|command| command.line.as_str())
        .filter(|line| entry(line).is_some_and(|place| matches!(COMMANDS[place].1, Tried::Backup)))
        .collect();
    let [dump, restore] = commands[..] else {
        anyhow::bail!("docs/operations.md has a command to dump and one to restore: {commands:?}");
    };
    let dir = server_dir("backup")?;
    let sh = async |line: &str| -> anyhow::Result<()> {
        let output = Command::new("bash")
            .args(["-c", line])
            .current_dir(&dir)
            .env(
                "PATH",
                format!("{TOOLS}:{}", std::env::var("PATH").context("PATH is set")?),
            )
            .env("DATABASE", postgres.url("app"))
            .env("RESTORED", postgres.url("restored"))
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    };

    sh(dump).await?;
    // what the backup does not know
    pipeline.produce(&document, 3_000).await?;
    stored(&admin, 8_000, &processor).await?;
    processor.terminate()?;
    processor.wait(Duration::from_secs(30)).await?;

    sh(restore).await?;
    let restored = postgres.connect("restored").await?;
    let known = "select coalesce(sum(consumed + skipped), 0)::bigint from clickstream.clickstream_checkpoints";
    let known: i64 = restored.query_one(known, &[]).await?.get(0);
    ensure!(known == 5_000, "the backup knows {known} records");
    let document = pipeline.document("restored", postgres.port())?;
    let processor = pipeline.start(&document)?;
    stored(&restored, 8_000, &processor).await?;
    pipeline.audit(&document).await
}
