//! What `migrate` says.

use clickstream_testbed::unique_name;

use crate::stack::{Stack, StackOptions};

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
