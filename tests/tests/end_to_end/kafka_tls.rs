//! TLS and SASL to Kafka. The programs are built with OpenSSL for it, hence the feature `tls` of this package.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clickstream_testbed::{
    Kafka, KafkaOptions, PostgresVersion, Process, build_binary, free_port, shared,
};
use tokio::task::JoinSet;

use crate::{
    commands::{changed, refused},
    stack::{Stack, StackOptions},
    tls::certificates,
    watch::end,
};

async fn with_tls(name: &'static str, features: &'static [&str]) -> anyhow::Result<PathBuf> {
    tokio::task::spawn_blocking(move || build_binary(name, name, features)).await?
}

/// A Secret as files.
fn secret(folder: &Path, name: &str, values: &[(&str, &[u8])]) -> anyhow::Result<()> {
    fs::create_dir_all(folder.join(name))?;
    for (key, value) in values {
        fs::write(folder.join(name).join(key), value)?;
    }
    Ok(())
}

/// A broker that also listens for TLS with passwords, and knows `alice` by PLAIN and `bob` by SCRAM-SHA-512; the port.
async fn secured(folder: &Path) -> anyhow::Result<(Kafka, u16)> {
    let key = fs::read(folder.join("server.key"))?;
    let certificate = fs::read(folder.join("server.crt"))?;
    fs::write(folder.join("broker.pem"), [key, certificate].concat())?;
    let port = free_port()?;
    let login = "org.apache.kafka.common.security";
    let settings = [
        ("ssl.keystore.type", "PEM".to_owned()),
        (
            "ssl.keystore.location",
            folder.join("broker.pem").display().to_string(),
        ),
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-512".to_owned()),
        (
            "listener.name.sasl_ssl.plain.sasl.jaas.config",
            format!("{login}.plain.PlainLoginModule required user_alice=\"for plain\";"),
        ),
        (
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config",
            format!("{login}.scram.ScramLoginModule required;"),
        ),
    ];
    let kafka = Kafka::start(KafkaOptions {
        listeners: vec![format!("SASL_SSL://localhost:{port}")],
        settings: settings.map(|(key, value)| (key.to_owned(), value)).into(),
        ..KafkaOptions::default()
    })
    .await?;
    kafka.add_scram_user("bob", "for-scram").await?;
    Ok((kafka, port))
}

/// The stack's document with TLS and SASL.
fn document(
    stack: &Stack,
    servers: &str,
    authority: &str,
    mechanism: &str,
    user: &str,
) -> anyhow::Result<String> {
    let plain = format!(
        "    bootstrapServers: {}\n",
        stack.kafka.bootstrap_servers()
    );
    let secured = format!(
        "    bootstrapServers: {servers}\n    tls:\n      caSecret: {{name: {authority}}}\n    sasl:\n      mechanism: {mechanism}\n      \
         secret: {{name: {user}}}\n"
    );
    changed(stack, &[(&plain, &secured)])
}

#[tokio::test]
async fn plain_and_scram_over_tls_carry_the_stream_and_nothing_less_is_let_in() -> anyhow::Result<()>
{
    let processor = with_tls("clickstream-processor", &["failpoints", "tls"]).await?;
    let producer = with_tls("clickstream-producer", &["tls"]).await?;
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
    let (kafka, port) = secured(&folder).await?;
    let postgres = shared::postgres(PostgresVersion::V18).await?;
    let stack = Stack::on(kafka, postgres, StackOptions::default()).await?;
    let secrets = folder.display().to_string();
    let named = format!("localhost:{port}");

    for (mechanism, user) in [("Plain", "alice"), ("ScramSha512", "bob")] {
        let document = document(&stack, &named, "good", mechanism, user)?;
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
    assert_eq!(stack.total("consumed").await?, 1_000);

    let by_address = format!("127.0.0.1:{port}");
    let mut runs = JoinSet::new();
    for (servers, authority, mechanism, user) in [
        (&named, "wrong", "ScramSha512", "bob"),
        // the certificate is for another name than this
        (&by_address, "good", "ScramSha512", "bob"),
        (&named, "good", "ScramSha512", "mallory"),
        (&named, "good", "Plain", "mallory"),
    ] {
        let document = document(&stack, servers, authority, mechanism, user)?;
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
    assert_eq!(stack.total("consumed").await?, 1_000);
    stack.audit().await?;
    Ok(())
}
