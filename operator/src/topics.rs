//! Topics: what the brokers say about them, what the spec wants of them, and the requests in between.

mod admin;
pub mod plan;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

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
    pub fn get(&self, properties: &[(String, String)]) -> Result<Arc<TopicAdmin>, AdminError> {
        let key = digest(properties);
        let mut admins = self.by_settings.lock();
        if let Some(admin) = admins.get(&key).and_then(Weak::upgrade) {
            return Ok(admin);
        }
        let admin = Arc::new(TopicAdmin::new(properties)?);
        admins.retain(|_, admin| admin.strong_count() > 0);
        admins.insert(key, Arc::downgrade(&admin));
        Ok(admin)
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

    use super::TopicAdmins;

    fn properties(user: &str) -> Vec<(String, String)> {
        vec![
            ("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned()),
            ("client.rack".to_owned(), user.to_owned()),
        ]
    }

    #[test]
    fn pipelines_with_the_same_servers_and_credentials_share_a_connection() {
        let admins = TopicAdmins::default();
        let first = admins.get(&properties("a")).unwrap();
        assert!(Arc::ptr_eq(&first, &admins.get(&properties("a")).unwrap()));
        assert!(!Arc::ptr_eq(&first, &admins.get(&properties("b")).unwrap()));
    }

    #[test]
    fn a_connection_ends_with_its_last_pipeline() {
        let admins = TopicAdmins::default();
        let first = Arc::downgrade(&admins.get(&properties("a")).unwrap());
        assert!(first.upgrade().is_none());
    }
}
