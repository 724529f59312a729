//! What `migrate` says, and what it refuses before it changes anything.

use clickstream_testbed::unique_name;

use crate::{
    commands::{changed, processor, refused},
    records::{clicks, now},
    stack::{Stack, StackOptions},
    watch::end,
};

/// What a command said at this level and above, without the lines of anything else.
fn lines<'s>(said: &'s str, level: &str) -> Vec<&'s str> {
    let word = format!(" {level} ");
    said.lines().filter(|line| line.contains(&word)).collect()
}

#[tokio::test]
async fn a_migration_says_one_line_each_of_what_it_brings() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let newest = stack
        .count("select max(version) from clickstream_migrations")
        .await?;
    let (code, said) = stack.command(&["drop"]).await?;
    assert_eq!(code, 0, "{said}");
    let (code, said) = stack.command(&["migrate"]).await?;
    assert_eq!(code, 0, "{said}");
    for version in 1..=newest {
        let begins = format!("migration {version} applied: ");
        let told: Vec<&str> = said.lines().filter(|line| line.contains(&begins)).collect();
        assert_eq!(told.len(), 1, "{said}");
        assert!(told[0].contains("seconds="), "{said}");
    }
    // and that it is done, and nothing else
    assert_eq!(said.lines().count(), usize::try_from(newest)? + 1, "{said}");

    // one that finds everything done says so, whatever the server notes of it
    let (code, said) = stack.command(&["migrate"]).await?;
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("schema is up to date"), "{said}");
    let everything = [("RUST_LOG", "debug")];
    let (_, said) = stack.command_with(&["migrate"], &everything).await?;
    assert!(
        lines(&said, "DEBUG")
            .iter()
            .any(|line| line.contains("already exists, skipping")),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn what_the_server_warns_of_is_a_warning() -> anyhow::Result<()> {
    let reader = unique_name("raw");
    let stack = Stack::new(StackOptions {
        target: format!("    rawReaders: [{reader}]\n"),
        ..StackOptions::default()
    })
    .await?;
    // a table that the owner may read and not give to others
    stack
        .client
        .batch_execute(&format!(
            "create role {reader};
             create table clickstream.of_others (number int);
             grant select on clickstream.of_others to {}",
            stack.owner
        ))
        .await?;
    let (code, said) = stack.command(&["migrate"]).await?;
    assert_eq!(code, 0, "{said}");
    // for the reader and for the writer
    let warned = lines(&said, "WARN");
    assert_eq!(warned.len(), 2, "{said}");
    assert!(warned.iter().all(|line| line.contains("of_others")));
    Ok(())
}

/// The same message as a processor's at its start, and before anything is changed: a reader that
/// was not there, a migration that is missing.
#[tokio::test]
async fn another_size_of_windows_is_refused_before_anything_is_changed() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::one_role()).await?;
    let five_minutes = changed(
        &stack,
        &[(
            "    schema: clickstream\n",
            "    schema: clickstream\n  window: {size: 5m}\n",
        )],
    )?;
    let processor = processor().await?;
    let migrate = format!("migrate --pipeline {five_minutes}");
    // nothing is counted yet
    refused(&processor, &migrate, 0, &["schema is up to date"]).await?;

    let running = stack.start("one")?;
    stack
        .place(
            clicks(0..40, now())
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    stack.drained().await?;
    end(&running).await?;
    stack
        .client
        .batch_execute(
            // as if the newest migration had not been there yet: it replaces functions, and so it
            // does once more
            "delete from clickstream_migrations
             where version = (select max(version) from clickstream_migrations)",
        )
        .await?;
    let newest = "select max(version) from clickstream_migrations";
    let before = stack.count(newest).await?;
    let message =
        "spec.window.size is 300000000 µs, but schema \"clickstream\" holds windows of 60000000 µs";
    refused(&processor, &migrate, 1, &[message, "put the old size back"]).await?;
    assert_eq!(stack.count(newest).await?, before);

    // with the old size it goes on, and the processor refuses the other one in the same words
    let (code, said) = stack.command(&["migrate"]).await?;
    assert_eq!(code, 0, "{said}");
    assert!(stack.count(newest).await? > before);
    let run = format!("run --pipeline {five_minutes}");
    refused(&processor, &run, 1, &[message, "put the old size back"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_schema_is_taken_over_from_the_owner_that_is_named_when_that_one_is_gone()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::one_role()).await?;
    let processor = processor().await?;
    let first = stack.start("first")?;
    stack
        .eventually(
            "the schema has an owner who lives",
            "select count(*) > 0 from clickstream_checkpoints
             where session_key in (select * from clickstream_live_sessions())",
        )
        .await?;
    let name = stack.topic.replace('_', "-");
    let second = changed(
        &stack,
        &[(&format!("  name: {name}\n"), "  name: another\n")],
    )?;
    let migrate = |from: &str| format!("migrate --pipeline {second} --take-over-from {from}");
    let owner = format!("default/{name}");

    // two that write would end each other's sessions for ever
    let lives = ["is not taken over", "first", "delete or suspend"];
    refused(&processor, &migrate(&owner), 1, &lives).await?;
    end(&first).await?;
    for stranger in ["default/stranger", &format!("{owner}@elsewhere")] {
        let words = ["SchemaOwnedElsewhere", "kubectl clickstream take-over"];
        refused(&processor, &migrate(stranger), 1, &words).await?;
    }
    let several = format!("default/stranger,{owner}");
    refused(&processor, &migrate(&several), 0, &["schema taken over"]).await?;
    let said = refused(&processor, &migrate(&several), 0, &["up to date"]).await?;
    assert!(!said.contains("taken over"), "{said}");

    // progress and rows are the new one's, and the old one is the stranger
    let document = stack.document.display();
    let back = format!("run --pipeline {document}");
    refused(
        &processor,
        &back,
        1,
        &["SchemaOwnedElsewhere", "default/another"],
    )
    .await?;
    Ok(())
}
