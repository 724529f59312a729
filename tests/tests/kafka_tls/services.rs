//! Processor and producer behind TLS: who is let in, and who is not.

use std::{fs, path::Path, process::Command};

use clickstream_testbed::{PostgresVersion, Process, certificates, shared};
use tokio::task::JoinSet;

use crate::{
    commands::{changed, refused},
    program,
    secured_kafka::SecuredKafka,
    stack::{Stack, StackOptions},
    watch::end,
};

/// A Secret as files.
fn secret(folder: &Path, name: &str, values: &[(&str, &[u8])]) -> anyhow::Result<()> {
    fs::create_dir_all(folder.join(name))?;
    for (key, value) in values {
        fs::write(folder.join(name).join(key), value)?;
    }
    Ok(())
}

/// Records that have their verdict.
async fn consumed(stack: &Stack) -> anyhow::Result<i64> {
    let total = "select coalesce(sum(consumed), 0)::bigint from clickstream_checkpoints";
    Ok(stack.client.query_one(total, &[]).await?.get(0))
}

/// The stack's document with TLS and a password.
fn document(
    stack: &Stack,
    servers: &str,
    authority: &str,
    mechanism: &str,
    user: &str,
) -> anyhow::Result<String> {
    let who = format!("    sasl:\n      mechanism: {mechanism}\n      secret: {{name: {user}}}\n");
    encrypted(stack, servers, authority, &who)
}

/// The stack's document with TLS; `who` is the rest of `spec.kafka`.
fn encrypted(stack: &Stack, servers: &str, authority: &str, who: &str) -> anyhow::Result<String> {
    let plain = format!(
        "    bootstrapServers: {:?}\n",
        stack.kafka.bootstrap_servers()
    );
    let secured = format!(
        "    bootstrapServers: {servers}\n    tls:\n      caSecret: {{name: {authority}}}\n{who}"
    );
    changed(stack, &[(&plain, &secured)])
}

#[tokio::test]
async fn passwords_and_certificates_over_tls_carry_the_stream_and_nothing_less_is_let_in()
-> anyhow::Result<()> {
    let processor = program("clickstream-processor").await?;
    let producer = program("clickstream-producer").await?;
    let folder = certificates()?;
    secret(
        &folder,
        "good",
        &[("ca.crt", &fs::read(folder.join("ca.crt"))?)],
    )?;
    secret(
        &folder,
        "wrong",
        &[("ca.crt", &fs::read(folder.join("other.crt"))?)],
    )?;
    secret(
        &folder,
        "alice",
        &[("username", b"alice"), ("password", b"for plain\n")],
    )?;
    secret(
        &folder,
        "bob",
        &[("username", b"bob\n"), ("password", b"for-scram\n")],
    )?;
    secret(
        &folder,
        "mallory",
        &[("username", b"bob"), ("password", b"a guess")],
    )?;
    secret(
        &folder,
        "client",
        &[
            ("tls.crt", &fs::read(folder.join("client.crt"))?),
            ("tls.key", &fs::read(folder.join("client.key"))?),
        ],
    )?;
    let SecuredKafka {
        kafka,
        passwords: port,
        certificates,
    } = SecuredKafka::start(&folder).await?;
    let postgres = shared::postgres(PostgresVersion::V18).await?;
    let stack = Stack::on(kafka, postgres, StackOptions::default()).await?;
    let secrets = folder.display().to_string();
    let named = format!("localhost:{port}");

    let shown = format!("localhost:{certificates}");
    let with_certificate = "      clientCertSecret: {name: client}\n";
    for (user, document) in [
        ("alice", document(&stack, &named, "good", "Plain", "alice")?),
        (
            "bob",
            document(&stack, &named, "good", "ScramSha512", "bob")?,
        ),
        (
            "client",
            encrypted(&stack, &shown, "good", with_certificate)?,
        ),
    ] {
        let mut command = Command::new(&processor);
        command.args([
            "run",
            "--name",
            user,
            "--secrets-dir",
            &secrets,
            "--pipeline",
            &document,
        ]);
        let running = Process::spawn(&command, user)?;
        let generate = format!(
            "generate --as-fast-as-possible --count 500 --seed {} --pipeline {document} --secrets-dir {secrets}",
            user.len()
        );
        refused(&producer, &generate, 0, &[]).await?;
        stack.drained().await?;
        end(&running).await?;
        let audit = format!("audit --pipeline {document} --secrets-dir {secrets}");
        refused(&processor, &audit, 0, &[]).await?;
    }
    assert_eq!(consumed(&stack).await?, 1_500);

    let by_address = format!("127.0.0.1:{port}");
    let mut runs = JoinSet::new();
    for (servers, document) in [
        (
            &named,
            document(&stack, &named, "wrong", "ScramSha512", "bob")?,
        ),
        // the certificate is for another name than this
        (
            &by_address,
            document(&stack, &by_address, "good", "ScramSha512", "bob")?,
        ),
        (
            &named,
            document(&stack, &named, "good", "ScramSha512", "mallory")?,
        ),
        (
            &named,
            document(&stack, &named, "good", "Plain", "mallory")?,
        ),
        // no certificate is shown where one is asked for
        (&shown, encrypted(&stack, &shown, "good", "")?),
    ] {
        let (processor, producer) = (processor.clone(), producer.clone());
        let (servers, secrets) = (servers.clone(), secrets.clone());
        runs.spawn(async move {
            let run = format!("run --pipeline {document} --secrets-dir {secrets}");
            let generate = format!("generate --count 1 --connect-timeout 5s --pipeline {document} --secrets-dir {secrets}");
            let words = [servers.as_str()];
            let (first, second) = tokio::try_join!(
                refused(&processor, &run, 1, &words),
                refused(&producer, &generate, 1, &words)
            )?;
            anyhow::ensure!(!format!("{first}{second}").contains("a guess"), "{first}{second}");
            anyhow::Ok(())
        });
    }
    while let Some(done) = runs.join_next().await {
        done??;
    }
    assert_eq!(consumed(&stack).await?, 1_500);
    stack.audit().await?;
    Ok(())
}
