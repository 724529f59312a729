//! Topics behind TLS: the operator signs in with what the Secrets hold, and says what is refused.

use std::{fs, path::Path};

use anyhow::Context as _;
use clickstream_testbed::{Kafka, certificates, unique_name};
use serde_json::{Value, json};

use crate::{
    program,
    secured_kafka::SecuredKafka,
    stage::{Migrations, Stage, condition},
};

/// The Secrets of everybody that the broker lets in, and of some that it does not.
async fn secrets(stage: &Stage, folder: &Path) -> anyhow::Result<()> {
    let file = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| name.to_owned());
    stage
        .create_secret("authority", &[("ca.crt", &file("ca.crt")?)])
        .await?;
    stage
        .create_secret("stranger", &[("ca.crt", &file("other.crt")?)])
        .await?;
    let client = [
        ("tls.crt", &*file("client.crt")?),
        ("tls.key", &*file("client.key")?),
    ];
    stage.create_secret("client", &client).await?;
    for (user, password) in [("alice", "for plain"), ("bob", "for-scram")] {
        let secret = [("username", user), ("password", password)];
        stage.create_secret(user, &secret).await?;
    }
    let guess = [("username", "bob"), ("password", "a-wrong-guess")];
    stage.create_secret("mallory", &guess).await
}

/// `spec.kafka` with TLS; `who` is how to sign in.
fn kafka(port: u16, authority: &str, who: &Value) -> Value {
    let mut kafka = json!({
        "bootstrapServers": format!("localhost:{port}"),
        "tls": { "caSecret": { "name": authority } },
    });
    for (key, value) in who.as_object().into_iter().flatten() {
        kafka[key] = value.clone();
    }
    kafka
}

fn password(mechanism: &str, user: &str) -> Value {
    json!({ "mechanism": mechanism, "secret": { "name": user } })
}

/// The number of partitions that the operator has given a topic; asking for one more is refused.
async fn has_partitions(kafka: &Kafka, topic: &str, partitions: i32) -> anyhow::Result<bool> {
    kafka.offsets(topic, partitions - 1).await?;
    Ok(kafka.offsets(topic, partitions).await.is_err())
}

#[tokio::test]
async fn topics_are_made_with_whatever_the_brokers_ask_for() -> anyhow::Result<()> {
    let folder = certificates()?;
    let secured = SecuredKafka::start(&folder).await?;
    let (passwords, certificates) = (secured.passwords, secured.certificates);
    let mut stage = Stage::new(Migrations::Succeed).await?;
    stage.binary = program("clickstream-operator").await?;
    secrets(&stage, &folder).await?;
    let operator = stage.operator()?;

    let client = json!({ "tls": {
        "caSecret": { "name": "authority" },
        "clientCertSecret": { "name": "client" },
    } });
    // the administrator's own credentials win over those of the pods, which these brokers would
    // refuse
    let administrator = json!({
        "sasl": password("ScramSha512", "mallory"),
        "admin": { "sasl": password("ScramSha512", "bob") },
    });
    for (name, port, who) in [
        (
            "plain",
            passwords,
            json!({ "sasl": password("Plain", "alice") }),
        ),
        (
            "scram",
            passwords,
            json!({ "sasl": password("ScramSha512", "bob") }),
        ),
        ("mutual", certificates, client),
        ("administrator", passwords, administrator),
    ] {
        let topic = unique_name(name);
        let kafka = json!({ "kafka": kafka(port, "authority", &who) });
        let pipeline = stage.pipeline(name, &topic, kafka);
        stage.apply(&pipeline).await?;
        stage
            .condition(name, "TopicsReady", "True", "")
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
        anyhow::ensure!(has_partitions(&secured.kafka, &topic, 3).await?, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn who_is_not_let_in_is_told_so_and_comes_in_once_the_secret_is_right() -> anyhow::Result<()>
{
    let folder = certificates()?;
    let secured = SecuredKafka::start(&folder).await?;
    let mut stage = Stage::new(Migrations::Succeed).await?;
    stage.binary = program("clickstream-operator").await?;
    secrets(&stage, &folder).await?;
    let operator = stage.operator()?;

    for (name, port, authority, who, words) in [
        (
            "guess",
            secured.passwords,
            "authority",
            json!({ "sasl": password("ScramSha512", "mallory") }),
            "uthentication",
        ),
        (
            "stranger",
            secured.passwords,
            "stranger",
            json!({ "sasl": password("ScramSha512", "bob") }),
            "certificate verify failed",
        ),
        (
            "nobody",
            secured.certificates,
            "authority",
            json!({}),
            "SSL",
        ),
    ] {
        let kafka = json!({ "kafka": kafka(port, authority, &who) });
        let pipeline = stage.pipeline(name, &unique_name(name), kafka);
        stage.apply(&pipeline).await?;
        let refused = stage
            .condition(name, "TopicsReady", "False", "KafkaUnreachable")
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
        let (_, _, message) = condition(&refused, "TopicsReady").unwrap_or_default();
        anyhow::ensure!(message.contains(words), "{name}: {message}");
        anyhow::ensure!(!message.contains("a-wrong-guess"), "{name}: {message}");
    }
    let right = [("username", "bob"), ("password", "for-scram")];
    stage.create_secret("mallory", &right).await?;
    stage.condition("guess", "TopicsReady", "True", "").await?;
    anyhow::ensure!(!operator.log_tail().contains("a-wrong-guess"));
    Ok(())
}
