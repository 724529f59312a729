//! A processor may be started any number of times.

use crate::{
    stack::{Stack, StackOptions},
    watch::end,
};

/// The schema as the version before left it, after 32,767 starts: they used a number of the topics'
/// dictionary up each.
const USED_UP: &str = "
    alter table clickstream_checkpoints drop column session_key;
    drop function clickstream_live_sessions();
    delete from clickstream_migrations where version = 4;
    select setval('clickstream_topics_topic_id_seq', 32767)";

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
    stack.client.batch_execute(USED_UP).await?;
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
