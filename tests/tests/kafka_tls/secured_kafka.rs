//! A broker that lets in only who shows a password or a certificate, over TLS.

use std::{fs, path::Path};

use clickstream_testbed::{Kafka, KafkaOptions, free_port};

/// The broker, and where to reach it.
pub struct SecuredKafka {
    /// Also listens in the clear, for the testbed.
    pub kafka: Kafka,
    /// Where passwords are asked for: `alice` by PLAIN, `bob` by SCRAM-SHA-512.
    pub passwords: u16,
    /// Where a certificate of the authority is asked for.
    pub certificates: u16,
}

impl SecuredKafka {
    /// Starts it with the server's certificate of this folder, see
    /// [`clickstream_testbed::certificates`].
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let key = fs::read(folder.join("server.key"))?;
        let certificate = fs::read(folder.join("server.crt"))?;
        fs::write(folder.join("broker.pem"), [key, certificate].concat())?;
        let path = |name: &str| folder.join(name).display().to_string();
        let (passwords, certificates) = (free_port()?, free_port()?);
        let login = "org.apache.kafka.common.security";
        let settings = [
            ("ssl.keystore.type", "PEM".to_owned()),
            ("ssl.keystore.location", path("broker.pem")),
            ("ssl.truststore.type", "PEM".to_owned()),
            ("ssl.truststore.location", path("ca.crt")),
            ("listener.name.ssl.ssl.client.auth", "required".to_owned()),
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
            listeners: vec![
                format!("SASL_SSL://localhost:{passwords}"),
                format!("SSL://localhost:{certificates}"),
            ],
            settings: settings.map(|(key, value)| (key.to_owned(), value)).into(),
            ..KafkaOptions::default()
        })
        .await?;
        kafka.add_scram_user("bob", "for-scram").await?;
        Ok(Self {
            kafka,
            passwords,
            certificates,
        })
    }
}
