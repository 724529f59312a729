//! Topics: what the brokers say about them, what the spec wants of them, and the requests in between.

mod admin;
pub mod plan;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

pub use self::admin::{AdminError, TopicAdmin};

/// The connections for administration: one for each distinct set of servers and credentials, however many pipelines share it,
/// and none for longer than one of them.
#[derive(Default)]
pub struct TopicAdmins {
    by_settings: Mutex<HashMap<[u8; 32], Weak<TopicAdmin>>>,
}

impl TopicAdmins {
    /// The connection with these properties of librdkafka. The caller keeps it for as long as it needs it.
    ///
    /// # Errors
    /// [`AdminError::Settings`].
    pub async fn get(
        &self,
        properties: Vec<(String, String)>,
    ) -> Result<Arc<TopicAdmin>, AdminError> {
        let key = digest(&properties);
        let mut admins = self.by_settings.lock().await;
        if let Some(admin) = admins.get(&key).and_then(Weak::upgrade) {
            return Ok(admin);
        }
        // starts threads, and reads certificates
        let admin = tokio::task::spawn_blocking(move || TopicAdmin::new(&properties))
            .await
            .expect("making a client does not panic and is not cancelled")?;
        let admin = Arc::new(admin);
        admins.retain(|_, admin| admin.strong_count() > 0);
        admins.insert(key, Arc::downgrade(&admin));
        Ok(admin)
    }
}

/// The properties as the operator has to have them: a broker named without a domain is one in the pipeline's namespace, where
/// the pods that read the same document resolve it.
pub fn from_elsewhere(properties: Vec<(String, String)>, namespace: &str) -> Vec<(String, String)> {
    properties
        .into_iter()
        .map(|(key, value)| match key.as_str() {
            "bootstrap.servers" => {
                let brokers: Vec<_> = value
                    .split(',')
                    .map(|broker| qualified(broker, namespace))
                    .collect();
                (key, brokers.join(","))
            }
            _ => (key, value),
        })
        .collect()
}

/// A broker as the operator has to name it.
pub fn qualified(broker: &str, namespace: &str) -> String {
    match broker.rsplit_once(':') {
        Some((host, port)) if !host.contains(['.', ':']) && host != "localhost" => {
            format!("{host}.{namespace}.svc:{port}")
        }
        _ => broker.to_owned(),
    }
}

/// The properties hold secrets: what is kept to compare them by does not.
fn digest(properties: &[(String, String)]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (key, value) in properties {
        for text in [key, value] {
            hash.update(text.len().to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use super::{TopicAdmins, from_elsewhere};

    fn properties(user: &str) -> Vec<(String, String)> {
        vec![
            ("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned()),
            ("client.rack".to_owned(), user.to_owned()),
        ]
    }

    #[tokio::test]
    async fn pipelines_with_the_same_servers_and_credentials_share_a_connection() {
        let admins = TopicAdmins::default();
        let first = admins.get(properties("a")).await.unwrap();
        let again = admins.get(properties("a")).await.unwrap();
        let other = admins.get(properties("b")).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &other));
    }

    #[test]
    fn a_broker_without_a_domain_is_one_of_the_pipelines_namespace() {
        let servers = "kafka:9092,b.example.com:9093,10.0.0.1:9,[::1]:9,localhost:9".to_owned();
        let found = from_elsewhere(vec![("bootstrap.servers".to_owned(), servers)], "shop");
        assert_eq!(
            found[0].1,
            "kafka.shop.svc:9092,b.example.com:9093,10.0.0.1:9,[::1]:9,localhost:9"
        );
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_last_pipeline() {
        let admins = TopicAdmins::default();
        let first = Arc::downgrade(&admins.get(properties("a")).await.unwrap());
        assert!(first.upgrade().is_none());
    }
}
