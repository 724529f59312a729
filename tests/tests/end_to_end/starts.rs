//! A processor may be started any number of times.

use crate::{
    stack::{LOOK, Stack, StackOptions},
    watch::{end, logged},
};

#[tokio::test]
async fn starts_use_no_number_of_the_topics_up() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    for name in ["one", "two", "three"] {
        let processor = stack.start(name)?;
        stack.owned_by(&[name]).await?;
        end(&processor).await?;
    }
    let given = "select last_value from clickstream_topics_topic_id_seq";
    assert_eq!(stack.count(given).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_migration_gives_numbers_back_that_starts_have_used_up() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    // a schema of the first release, whose processors have been started 32,767 times
    let (code, said) = stack.command(&["drop"]).await?;
    assert_eq!(code, 0, "{said}");
    let first_release = [("CLICKSTREAM_TEST_MIGRATIONS", "3")];
    // its report asks for what only later versions have
    let (_, said) = stack.command_with(&["migrate"], &first_release).await?;
    assert!(said.contains("version=3"), "{said}");
    let used_up = "select setval('clickstream.clickstream_topics_topic_id_seq', 32767)";
    stack.client.batch_execute(used_up).await?;
    let (code, said) = stack.command(&["migrate"]).await?;
    assert_eq!(code, 0, "{said}");
    let processor = stack.start("one")?;
    stack.owned_by(&["one"]).await?;
    assert_eq!(
        stack
            .count("select max(topic_id) from clickstream_topics")
            .await?,
        1
    );
    end(&processor).await
}

#[tokio::test]
async fn a_session_that_is_lost_in_the_middle_of_a_start_is_opened_again() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    // the start waits for this lock with the schema recognised and its topics not yet registered
    let mut other = stack.postgres.connect(&stack.database).await?;
    let held = other.transaction().await?;
    held.batch_execute("lock table clickstream.clickstream_topics in access exclusive mode")
        .await?;
    let processor = stack.start("one")?;
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and application_name like 'clickstream%'";
    while stack.count(waiting).await? == 0 {
        tokio::time::sleep(LOOK).await;
    }
    stack.client.batch_execute(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock' and application_name like 'clickstream%'",
    )
    .await?;
    held.commit().await?;
    logged(&processor, "waiting for postgresql").await?;
    stack.owned_by(&["one"]).await?;
    end(&processor).await
}
