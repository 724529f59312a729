//! TLS to PostgreSQL: who is believed and who is not. Certificates are made for each run.

use std::{fs, path::Path};

use clickstream_testbed::{Postgres, PostgresOptions, PostgresVersion, certificates, shared};

use crate::{
    commands::{changed, processor, refused},
    records::{clicks, now},
    stack::{Stack, StackOptions},
    watch::end,
};

/// A stack whose server demands TLS and a password of everybody but the testbed, and a folder of
/// Secrets.
async fn secured(version: PostgresVersion) -> anyhow::Result<(Stack, String)> {
    let folder = certificates()?;
    let path = |name: &str| folder.join(name).display().to_string();
    fs::write(
        path("hba"),
        "host all postgres 127.0.0.1/32 trust\nhostssl all all samehost scram-sha-256\n",
    )?;
    let settings = [
        ("ssl", "on".to_owned()),
        ("ssl_cert_file", path("server.crt")),
        ("ssl_key_file", path("server.key")),
        ("hba_file", path("hba")),
    ];
    let postgres = Postgres::start(PostgresOptions {
        version,
        settings: settings.map(|(key, value)| (key.to_owned(), value)).into(),
        ..PostgresOptions::default()
    })
    .await?;
    let stack = Stack::on(shared::kafka().await?, postgres, StackOptions::one_role()).await?;
    stack
        .client
        .batch_execute("create role writer superuser login password 'correct horse'")
        .await?;
    for (secret, key, value) in [
        ("pg", "password", b"correct horse".to_vec()),
        ("good", "ca.crt", fs::read(path("ca.crt"))?),
        ("wrong", "ca.crt", fs::read(path("other.crt"))?),
        (
            "broken",
            "ca.crt",
            b"-----BEGIN CERTIFICATE-----\nno".to_vec(),
        ),
    ] {
        fs::create_dir_all(folder.join(secret))?;
        fs::write(folder.join(secret).join(key), value)?;
    }
    Ok((stack, folder.display().to_string()))
}

/// The stack's document with TLS: which host, and which authority or none.
fn document(stack: &Stack, host: &str, authority: Option<&str>) -> anyhow::Result<String> {
    let secured = match authority {
        Some(secret) => format!("      sslMode: VerifyFull\n      caSecret: {{name: {secret}}}\n"),
        None => "      sslMode: Require\n".to_owned(),
    };
    changed(
        stack,
        &[
            ("      host: 127.0.0.1\n", &format!("      host: {host}\n")),
            (
                "      user: postgres\n",
                "      user: writer\n      secret: {name: pg}\n",
            ),
            ("      sslMode: Disable\n", &secured),
        ],
    )
}

async fn verified(version: PostgresVersion) -> anyhow::Result<()> {
    let (stack, secrets) = secured(version).await?;
    let processor = processor().await?;
    let encrypted = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid)
        where ssl and usename = 'writer' and application_name like 'clickstream-processor%'";
    for (host, authority) in [("localhost", Some("good")), ("127.0.0.1", None)] {
        let document = document(&stack, host, authority)?;
        let running = stack.start_from(
            Path::new(&document),
            "one",
            &[("CLICKSTREAM_SECRETS_DIR", &secrets)],
        )?;
        let numbers = if authority.is_some() {
            0..100
        } else {
            100..200
        };
        stack
            .place(
                clicks(numbers, now())
                    .iter()
                    .map(|click| click.on(0))
                    .collect(),
            )
            .await?;
        stack.drained().await?;
        assert_eq!(stack.count(encrypted).await?, 1);
        end(&running).await?;
        let audit = format!("audit --pipeline {document} --secrets-dir {secrets}");
        refused(&processor, &audit, 0, &[]).await?;
    }
    assert_eq!(stack.total("accepted").await?, 200);

    let refusals = [
        ("localhost", Some("wrong"), "UnknownIssuer"),
        // the certificate is for another name than this
        ("127.0.0.1", Some("good"), "not valid for name"),
        ("localhost", Some("broken"), "certificate authority"),
    ];
    for (host, authority, word) in refusals {
        let document = document(&stack, host, authority)?;
        for command in ["run", "migrate", "audit"] {
            let args = format!("{command} --pipeline {document} --secrets-dir {secrets}");
            refused(&processor, &args, 1, &[word, "PostgreSQL"]).await?;
        }
    }
    // without encryption the server refuses
    let plain = changed(
        &stack,
        &[(
            "      user: postgres\n",
            "      user: writer\n      secret: {name: pg}\n",
        )],
    )?;
    let args = format!("run --pipeline {plain} --secrets-dir {secrets}");
    refused(&processor, &args, 1, &["no encryption"]).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn only_the_right_authority_and_name_are_believed_on_postgresql_15() -> anyhow::Result<()> {
    verified(PostgresVersion::V15).await
}

#[tokio::test]
async fn only_the_right_authority_and_name_are_believed_on_postgresql_18() -> anyhow::Result<()> {
    verified(PostgresVersion::V18).await
}

#[tokio::test]
async fn a_server_without_tls_is_never_spoken_to_in_the_clear_where_tls_is_asked_for()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::one_role()).await?;
    let processor = processor().await?;
    let document = changed(
        &stack,
        &[("      sslMode: Disable\n", "      sslMode: Require\n")],
    )?;
    for command in ["run", "migrate", "audit"] {
        refused(
            &processor,
            &format!("{command} --pipeline {document}"),
            1,
            &["does not support TLS"],
        )
        .await?;
    }
    Ok(())
}
