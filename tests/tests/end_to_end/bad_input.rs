//! What a person can get wrong: every command says what is wrong, where, and what to do; it fails,
//! and changes nothing.

use std::{fs, path::Path};

use anyhow::ensure;
use clickstream_testbed::{
    Postgres, PostgresOptions, PostgresVersion, free_port, server_dir, shared,
};
use tokio::task::JoinSet;

use crate::{
    commands::{changed, processor, producer, refused},
    stack::{Stack, StackOptions},
    watch::{end, logged},
};

/// Everything in the database, as far as a command could change it: relations and rows of the small
/// tables.
async fn contents(stack: &Stack) -> anyhow::Result<String> {
    let query = "select concat_ws(' ',
        (select string_agg(n.nspname || '.' || c.relname, ',' order by n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'),
        (select s::text from clickstream.clickstream_schema s), (select string_agg(t::text, ',' order by t::text) from clickstream.clickstream_topics t),
        (select string_agg(p::text, ',' order by p::text) from clickstream.clickstream_checkpoints p),
        (select string_agg(m::text, ',' order by m::text) from clickstream.clickstream_migrations m))";
    Ok(stack.client.query_one(query, &[]).await?.get(0))
}

const PROCESSOR: [&str; 3] = ["run", "migrate", "audit"];

#[tokio::test]
async fn a_document_that_cannot_be_used_is_refused_with_its_path_and_field() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::one_role()).await?;
    let (processor, producer) = tokio::try_join!(processor(), producer())?;
    let held = contents(&stack).await?;
    let unknown = changed(
        &stack,
        &[("    schema: clickstream", "    schemas: clickstream")],
    )?;
    let several = changed(
        &stack,
        &[
            ("    schema: clickstream", "    schema: Click-Stream"),
            ("      host: 127.0.0.1\n", "      host: 127.0.0.1:5432\n"),
        ],
    )?;
    let no_yaml = changed(&stack, &[("metadata:\n", "metadata: [\n")])?;
    let good = stack.document.display().to_string();
    let missing = "/nowhere/pipeline.yaml";
    for command in PROCESSOR {
        let tried: [(&str, &[&str]); 4] = [
            (missing, &[missing, "No such file"]),
            (&unknown, &[unknown.as_str(), "spec.targets[0]", "schemas"]),
            (
                &several,
                &[
                    "2 problem(s)",
                    "spec.targets[0].schema",
                    "spec.targets[0].connection.host",
                ],
            ),
            (&no_yaml, &["line"]),
        ];
        for (document, words) in tried {
            refused(
                &processor,
                &format!("{command} --pipeline {document}"),
                1,
                words,
            )
            .await?;
        }
        let other = format!("{command} --pipeline {good} --target lake");
        refused(&processor, &other, 1, &["--target lake", "main"]).await?;
        refused(&processor, command, 2, &["--pipeline"]).await?;
    }
    for (command, rest) in [("generate --count 1", ""), ("replay", " -")] {
        let tried: [(&str, &[&str]); 3] = [
            (missing, &[missing, "cannot be read"]),
            (&unknown, &["spec.targets[0]", "schemas"]),
            (&several, &["spec.targets[0].schema"]),
        ];
        for (document, words) in tried {
            refused(
                &producer,
                &format!("{command} --pipeline {document}{rest}"),
                1,
                words,
            )
            .await?;
        }
        refused(&producer, command, 2, &["required"]).await?;
    }
    assert_eq!(contents(&stack).await?, held);
    Ok(())
}

#[tokio::test]
async fn a_secret_that_is_missing_is_named() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::one_role()).await?;
    let processor = processor().await?;
    let document = changed(
        &stack,
        &[(
            "      sslMode: Disable\n",
            "      sslMode: VerifyFull\n      caSecret: {name: pg-ca}\n",
        )],
    )?;
    for command in PROCESSOR {
        let words = ["pg-ca", "ca.crt"];
        let args = format!("{command} --pipeline {document} --secrets-dir /nowhere");
        refused(&processor, &args, 1, &words).await?;
    }
    Ok(())
}

#[tokio::test]
async fn brokers_and_topics_that_are_not_there_are_named() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let (processor, producer) = tokio::try_join!(processor(), producer())?;
    let held = contents(&stack).await?;
    let dead = format!("127.0.0.1:{}", free_port()?);
    let away = changed(&stack, &[(&stack.kafka.bootstrap_servers(), &dead)])?;
    let absent = changed(
        &stack,
        &[(
            &format!("- name: {}\n", stack.topic),
            "- name: no-such-topic\n",
        )],
    )?;
    let log = server_dir("events")?.join("events.json");
    fs::write(
        &log,
        "{\"event_ts\":1767225600000,\"url\":\"/\",\"user_id\":1}\n",
    )?;
    let log = log.display().to_string();
    let document = stack.document.display();
    let soon = "--connect-timeout 2s";
    let tried: [(&Path, String, &[&str]); 9] = [
        (
            &processor,
            format!("run --pipeline {away}"),
            &[&dead, "spec.kafka.bootstrapServers"],
        ),
        (&processor, format!("audit --pipeline {away}"), &[&dead]),
        (
            &processor,
            format!("run --pipeline {absent}"),
            &["topic no-such-topic", "spec.topics"],
        ),
        (
            &processor,
            format!("audit --pipeline {absent}"),
            &["no-such-topic"],
        ),
        (
            &producer,
            format!("generate --count 1 --pipeline {away} {soon}"),
            &[&dead],
        ),
        (
            &producer,
            format!("replay --pipeline {away} {soon} {log}"),
            &[&dead],
        ),
        (
            &producer,
            format!("generate --count 1 --pipeline {absent}"),
            &["no-such-topic", "create it"],
        ),
        (
            &producer,
            format!("replay --pipeline {absent} {log}"),
            &["no-such-topic", "create it"],
        ),
        (
            &producer,
            format!("replay --pipeline {document} /nowhere/access.log"),
            &["/nowhere/access.log"],
        ),
    ];
    // at the same time: most of them wait for brokers
    let mut runs = JoinSet::new();
    for (binary, args, words) in tried {
        let (binary, words) = (
            binary.to_owned(),
            words.iter().map(|word| (*word).to_owned()),
        );
        let words: Vec<String> = words.collect();
        runs.spawn(async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            refused(&binary, &args, 1, &words).await
        });
    }
    while let Some(said) = runs.join_next().await {
        said??;
    }
    assert_eq!(contents(&stack).await?, held);
    Ok(())
}

#[tokio::test]
async fn a_schema_that_is_not_ours_or_not_of_this_version_is_refused() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let processor = processor().await?;
    let document = stack.document.display().to_string();

    let elsewhere = changed(
        &stack,
        &[("    schema: clickstream", "    schema: not_migrated")],
    )?;
    refused(
        &processor,
        &format!("run --pipeline {elsewhere}"),
        6,
        &["not_migrated", "clickstream-processor migrate"],
    )
    .await?;
    refused(
        &processor,
        &format!("audit --pipeline {elsewhere}"),
        1,
        &["not_migrated", "migrated"],
    )
    .await?;

    // the first processor makes the schema its pipeline's
    let first = stack.start("first")?;
    stack
        .eventually(
            "the schema has an owner",
            "select owner is not null from clickstream_schema",
        )
        .await?;
    // what a start has begun may be done by the server when the process is gone
    logged(&first, "processor starts").await?;
    end(&first).await?;
    let held = contents(&stack).await?;
    let name = stack.topic.replace('_', "-");
    let second = changed(
        &stack,
        &[(&format!("  name: {name}\n"), "  name: another\n")],
    )?;
    let words = [
        "SchemaOwnedElsewhere",
        name.as_str(),
        "default/another",
        "take it over",
    ];
    refused(&processor, &format!("run --pipeline {second}"), 1, &words).await?;
    refused(
        &processor,
        &format!("migrate --pipeline {second}"),
        1,
        &words,
    )
    .await?;
    assert_eq!(contents(&stack).await?, held);

    let larger = changed(
        &stack,
        &[(
            "    schema: clickstream\n",
            "    schema: clickstream\n  window:\n    size: 5m\n",
        )],
    )?;
    stack
        .client
        .batch_execute(
            "insert into clickstream_traffic_parts values (now(), now(), 't', 0, 0, 0, 0, 1, '', '')",
        )
        .await?;
    refused(
        &processor,
        &format!("run --pipeline {larger}"),
        1,
        &["spec.window.size", "put the old size back"],
    )
    .await?;
    assert_eq!(contents(&stack).await?, held);

    stack
        .client
        .batch_execute("update clickstream_schema set writable_from = 99")
        .await?;
    refused(
        &processor,
        &format!("run --pipeline {document}"),
        1,
        &["version 99", "newer image"],
    )
    .await?;
    stack
        .client
        .batch_execute(
            "insert into clickstream_migrations select 99, name, applied_on, checksum from clickstream_migrations limit 1",
        )
        .await?;
    let held = contents(&stack).await?;
    refused(
        &processor,
        &format!("migrate --pipeline {document}"),
        1,
        &["version 99", "newer image", "nothing was changed"],
    )
    .await?;
    assert_eq!(contents(&stack).await?, held);

    // one that is newer and still writable is what a rollback leaves behind: the older binary goes
    // on with it
    stack
        .client
        .batch_execute("update clickstream_schema set writable_from = 1")
        .await?;
    let held = contents(&stack).await?;
    let migrated = std::process::Command::new(&processor)
        .args(["migrate", "--pipeline", &document])
        .output()?;
    anyhow::ensure!(migrated.status.success(), "{migrated:?}");
    assert_eq!(contents(&stack).await?, held);
    stack
        .client
        .batch_execute("delete from clickstream_migrations where version in (99, (select max(version) from clickstream_migrations where version < 99))")
        .await?;
    refused(
        &processor,
        &format!("run --pipeline {document}"),
        6,
        &["clickstream-processor migrate"],
    )
    .await?;
    Ok(())
}

async fn credentials(version: PostgresVersion) -> anyhow::Result<()> {
    let rules = server_dir("rules")?.join("hba.conf");
    fs::write(
        &rules,
        "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
    )?;
    let postgres = Postgres::start(PostgresOptions {
        version,
        settings: vec![("hba_file".to_owned(), rules.display().to_string())],
        ..PostgresOptions::default()
    })
    .await?;
    let stack = Stack::on(shared::kafka().await?, postgres, StackOptions::one_role()).await?;
    stack
        .client
        .batch_execute("create role writer login password 'right one'; grant all on all tables in schema clickstream to writer")
        .await?;
    let processor = processor().await?;
    let secrets = server_dir("secrets")?;
    fs::create_dir_all(secrets.join("pg"))?;
    fs::write(secrets.join("pg/password"), "wrong one\n")?;
    let folder = secrets.display().to_string();
    let secret = (
        "      user: postgres\n",
        "      user: writer\n      secret: {name: pg}\n",
    );
    let document = changed(&stack, &[secret])?;
    let held = contents(&stack).await?;
    for command in PROCESSOR {
        let words = ["user writer", "password authentication failed"];
        let said = refused(
            &processor,
            &format!("{command} --pipeline {document} --secrets-dir {folder}"),
            1,
            &words,
        )
        .await?;
        ensure!(
            !said.contains("wrong one"),
            "{command} tells the password: {said}"
        );
    }
    let nowhere = changed(
        &stack,
        &[(
            &format!("      database: {}\n", stack.database),
            "      database: nowhere\n",
        )],
    )?;
    for command in PROCESSOR {
        refused(
            &processor,
            &format!("{command} --pipeline {nowhere}"),
            1,
            &["database nowhere", "does not exist"],
        )
        .await?;
    }
    let dead = free_port()?;
    let port = format!("      port: {}\n", stack.postgres.port());
    let away = changed(&stack, &[(&port, &format!("      port: {dead}\n"))])?;
    for command in ["migrate", "audit"] {
        refused(
            &processor,
            &format!("{command} --pipeline {away}"),
            1,
            &[&format!("127.0.0.1:{dead}")],
        )
        .await?;
    }
    assert_eq!(contents(&stack).await?, held);

    // and with the right password it is let in
    fs::write(secrets.join("pg/password"), "right one\n")?;
    stack
        .client
        .batch_execute("grant usage on schema clickstream to writer")
        .await?;
    let good = changed(&stack, &[secret])?;
    let said = refused(
        &processor,
        &format!("audit --pipeline {good} --secrets-dir {folder}"),
        0,
        &[],
    )
    .await?;
    ensure!(!said.contains("right one"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_or_database_is_refused_by_postgresql_15() -> anyhow::Result<()> {
    credentials(PostgresVersion::V15).await
}

#[tokio::test]
async fn a_wrong_password_or_database_is_refused_by_postgresql_18() -> anyhow::Result<()> {
    credentials(PostgresVersion::V18).await
}
