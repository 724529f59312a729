//! A user of Kafka for each pipeline, with a Secret for each user: the operator cannot share
//! connections.

use std::fs;
use std::path::PathBuf;

use clickstream_testbed::{KafkaOptions, certificates, free_port};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

/// All users' password.
const PASSWORD: &str = "bench";
/// The Secret with the brokers' authority.
const AUTHORITY: &str = "kafka-ca";

/// A listener that asks for a name and a password, over TLS.
pub struct SignIn {
    port: u16,
    certificates: PathBuf,
    users: Vec<String>,
}

impl SignIn {
    /// Adds the listener to a broker that is not running yet.
    ///
    /// # Errors
    /// There are no certificates, or no free port.
    pub fn add_to(kafka: &mut KafkaOptions, users: &[String]) -> anyhow::Result<Self> {
        let certificates = certificates()?;
        let key = fs::read(certificates.join("server.key"))?;
        let certificate = fs::read(certificates.join("server.crt"))?;
        let keystore = certificates.join("broker.pem");
        fs::write(&keystore, [key, certificate].concat())?;
        let port = free_port()?;
        let passwords: String = users
            .iter()
            .map(|user| format!(" user_{user}=\"{PASSWORD}\""))
            .collect();
        let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
        kafka.listeners.push(format!("SASL_SSL://localhost:{port}"));
        kafka.settings.extend(
            [
                ("ssl.keystore.type", "PEM".to_owned()),
                ("ssl.keystore.location", keystore.display().to_string()),
                ("sasl.enabled.mechanisms", "PLAIN".to_owned()),
                (
                    "listener.name.sasl_ssl.plain.sasl.jaas.config",
                    format!("{module} required{passwords};"),
                ),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        Ok(Self {
            port,
            certificates,
            users: users.to_vec(),
        })
    }

    /// Creates the Secrets, so many at the same time.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn put_secrets(&self, secrets: &Api<Secret>, at_once: usize) -> anyhow::Result<()> {
        let authority = fs::read_to_string(self.certificates.join("ca.crt"))?;
        let authority = json!({
            "metadata": { "name": AUTHORITY },
            "stringData": { "ca.crt": authority },
        });
        let of_users = self.users.iter().map(|user| {
            json!({
                "metadata": { "name": secret(user) },
                "stringData": { "username": user, "password": PASSWORD },
            })
        });
        stream::iter(of_users.chain([authority]))
            .map(|secret| {
                let secrets = secrets.clone();
                async move {
                    let secret = serde_json::from_value(secret)?;
                    secrets.create(&PostParams::default(), &secret).await?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(at_once)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// `spec.kafka` of a pipeline that signs in as this user.
    pub fn as_user(&self, user: &str) -> Value {
        json!({
            "bootstrapServers": format!("localhost:{}", self.port),
            "tls": { "caSecret": { "name": AUTHORITY } },
            "sasl": { "mechanism": "Plain", "secret": { "name": secret(user) } },
        })
    }
}

fn secret(user: &str) -> String {
    format!("kafka-{user}")
}
