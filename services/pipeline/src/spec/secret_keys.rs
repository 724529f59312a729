//! Which keys of which Secrets a part of the spec reads: what has to be mounted, watched or
//! fetched, and nothing more.

use std::collections::{BTreeMap, BTreeSet};

use super::connection::ConnectionSpec;
use super::kafka::{KafkaSasl, KafkaSpec, KafkaTls};
use super::secret::{CaSecret, ClientCertSecret};
use super::target::TargetSpec;

/// Keys by the name of their Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretKeys(BTreeMap<String, BTreeSet<String>>);

impl SecretKeys {
    /// The Secrets in the order of their names, each with its keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
        self.0
            .iter()
            .map(|(name, keys)| (name.as_str(), keys.iter().map(String::as_str)))
    }

    /// Adds what another part reads.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (secret, keys) in other.0 {
            self.0.entry(secret).or_default().extend(keys);
        }
        self
    }

    fn add<'k>(&mut self, secret: &str, keys: impl IntoIterator<Item = &'k String>) {
        let known = self.0.entry(secret.to_owned()).or_default();
        known.extend(keys.into_iter().cloned());
    }

    fn add_ca(&mut self, secret: Option<&CaSecret>) {
        if let Some(secret) = secret {
            self.add(&secret.name, [&secret.key]);
        }
    }

    fn add_client(&mut self, secret: Option<&ClientCertSecret>) {
        if let Some(secret) = secret {
            self.add(
                &secret.name,
                [&secret.certificate_key, &secret.private_key_key],
            );
        }
    }

    fn add_kafka(&mut self, tls: Option<&KafkaTls>, sasl: Option<&KafkaSasl>) {
        if let Some(tls) = tls {
            self.add_ca(tls.ca_secret.as_ref());
            self.add_client(tls.client_cert_secret.as_ref());
        }
        if let Some(KafkaSasl { secret, .. }) = sasl {
            self.add(&secret.name, [&secret.username_key, &secret.password_key]);
        }
    }
}

impl KafkaSpec {
    /// What processors and producer read to reach Kafka.
    #[must_use]
    pub fn secret_keys(&self) -> SecretKeys {
        let mut keys = SecretKeys::default();
        keys.add_kafka(self.tls.as_ref(), self.sasl.as_ref());
        keys
    }

    /// What the administration of topics reads.
    #[must_use]
    pub fn admin_secret_keys(&self) -> SecretKeys {
        let admin = self.admin.as_ref();
        let tls = admin
            .and_then(|admin| admin.tls.as_ref())
            .or(self.tls.as_ref());
        let sasl = admin
            .and_then(|admin| admin.sasl.as_ref())
            .or(self.sasl.as_ref());
        let mut keys = SecretKeys::default();
        keys.add_kafka(tls, sasl);
        keys
    }
}

impl ConnectionSpec {
    /// What a client of this connection reads.
    #[must_use]
    pub fn secret_keys(&self) -> SecretKeys {
        let mut keys = SecretKeys::default();
        if let Some(secret) = &self.secret {
            keys.add(
                &secret.name,
                [
                    &secret.host_key,
                    &secret.port_key,
                    &secret.database_key,
                    &secret.user_key,
                    &secret.password_key,
                    &secret.uri_key,
                ],
            );
        }
        keys.add_ca(self.ca_secret.as_ref());
        keys.add_client(self.client_cert_secret.as_ref());
        keys
    }
}

impl TargetSpec {
    /// What a migration of this target reads: both connections, since it grants the writer its
    /// rights by name.
    #[must_use]
    pub fn migration_secret_keys(&self) -> SecretKeys {
        self.connection
            .secret_keys()
            .and(self.migration_connection().secret_keys())
    }
}
