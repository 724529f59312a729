//! Connections for administration: one for each account, and few of them open at once.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::{AdminError, TopicAdmin};

/// So many connections stay open between the looks of their pipelines: each costs 0.6 MiB, five
/// threads and a socket. Those in use come on top, at most one for each reconcile that runs.
const OPEN: usize = 32;

/// A connection that was not used for this long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// What Kafka said about topics is taken for true for this long,
const FRESH: Duration = Duration::from_secs(25);

/// and longer where there are more accounts than connections: all of them together sign in once in
/// this time. With 1,000 accounts each of them is looked at every ten minutes.
const SIGN_IN: Duration = Duration::from_millis(600);

/// Servers and credentials. Pipelines with the same ones share the connection.
#[derive(Default)]
pub struct Account {
    open: tokio::sync::Mutex<Option<Open>>,
}

struct Open {
    admin: Arc<TopicAdmin>,
    used: Instant,
}

impl Account {
    /// The connection, unless it was closed.
    pub async fn connection(&self) -> Option<Arc<TopicAdmin>> {
        let mut open = self.open.lock().await;
        let open = open.as_mut()?;
        open.used = Instant::now();
        Some(Arc::clone(&open.admin))
    }

    /// When the connection was last used, if it is open and nobody uses it now.
    fn unused_since(&self) -> Option<Instant> {
        let open = self.open.try_lock().ok()?;
        let open = open.as_ref()?;
        (Arc::strong_count(&open.admin) == 1).then_some(open.used)
    }

    fn close(&self) {
        if let Ok(mut open) = self.open.try_lock() {
            open.take();
        }
    }
}

/// All accounts that pipelines have, by a digest of the properties: those hold secrets.
#[derive(Default)]
pub struct TopicAdmins {
    accounts: Mutex<HashMap<[u8; 32], Weak<Account>>>,
}

impl TopicAdmins {
    /// The account with these properties of librdkafka, and its connection. The pipeline keeps the
    /// account: with the last one that has it, the connection ends.
    ///
    /// # Errors
    /// [`AdminError::Settings`].
    pub async fn get(
        &self,
        properties: Vec<(String, String)>,
    ) -> Result<(Arc<Account>, Arc<TopicAdmin>), AdminError> {
        let account = self.account(digest(&properties));
        let mut open = account.open.lock().await;
        let admin = match open.as_ref() {
            Some(known) => Arc::clone(&known.admin),
            // starts threads, and reads certificates
            None => tokio::task::spawn_blocking(move || TopicAdmin::new(&properties))
                .await
                .expect("making a client does not panic and is not cancelled")
                .map(Arc::new)?,
        };
        *open = Some(Open {
            admin: Arc::clone(&admin),
            used: Instant::now(),
        });
        drop(open);
        self.close_unused(OPEN);
        Ok((account, admin))
    }

    /// Closes connections that were not used for a while, as those of pipelines whose spec is
    /// refused.
    pub fn close_idle(&self) {
        for account in self.all() {
            if account
                .unused_since()
                .is_some_and(|since| since.elapsed() > IDLE)
            {
                account.close();
            }
        }
    }

    /// For how long what Kafka said about the topics of one pipeline is taken for true: shorter for
    /// one whose processors are in trouble.
    pub fn fresh(&self, is_in_trouble: bool) -> Duration {
        if is_in_trouble {
            return FRESH;
        }
        let accounts = self.accounts.lock().len();
        FRESH.max(SIGN_IN * u32::try_from(accounts).unwrap_or(u32::MAX))
    }

    fn account(&self, key: [u8; 32]) -> Arc<Account> {
        let mut accounts = self.accounts.lock();
        if let Some(known) = accounts.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        accounts.retain(|_, account| account.strong_count() > 0);
        let account = Arc::new(Account::default());
        accounts.insert(key, Arc::downgrade(&account));
        account
    }

    fn all(&self) -> Vec<Arc<Account>> {
        let mut accounts = self.accounts.lock();
        accounts.retain(|_, account| account.strong_count() > 0);
        accounts.values().filter_map(Weak::upgrade).collect()
    }

    /// Closes the connections that nobody uses, those of long ago first, until so many are left.
    fn close_unused(&self, keep: usize) {
        let unused = self.all().into_iter();
        let mut unused: Vec<_> = unused
            .filter_map(|account| Some((account.unused_since()?, account)))
            .collect();
        unused.sort_by_key(|(since, _)| *since);
        let surplus = unused.len().saturating_sub(keep);
        for (_, account) in &unused[..surplus] {
            account.close();
        }
    }
}

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

    use super::*;

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
        assert!(Arc::ptr_eq(&first.0, &again.0) && Arc::ptr_eq(&first.1, &again.1));
        assert!(!Arc::ptr_eq(&first.1, &other.1));
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_last_pipeline() {
        let admins = TopicAdmins::default();
        let (account, admin) = admins.get(properties("a")).await.unwrap();
        let open = Arc::downgrade(&admin);
        drop(admin);
        assert!(open.upgrade().is_some());
        drop(account);
        assert!(open.upgrade().is_none());
    }

    #[tokio::test]
    async fn of_many_accounts_only_those_used_last_stay_open() {
        let admins = TopicAdmins::default();
        let mut accounts = Vec::new();
        let (busy, in_use) = admins.get(properties("busy")).await.unwrap();
        for user in 0..OPEN + 3 {
            accounts.push(admins.get(properties(&user.to_string())).await.unwrap().0);
        }
        let mut open = Vec::new();
        for account in &accounts {
            open.push(account.connection().await.is_some());
        }
        // the newest was still in use when the others were counted
        let closed = open.iter().filter(|open| !**open).count();
        assert_eq!((closed, &open[..closed]), (2, &[false, false][..]));
        let busy = busy.connection().await.unwrap();
        assert!(Arc::ptr_eq(&busy, &in_use));
    }

    #[tokio::test]
    async fn an_account_whose_connection_was_closed_gets_another() {
        let admins = TopicAdmins::default();
        let (account, admin) = admins.get(properties("a")).await.unwrap();
        drop(admin);
        account.close();
        assert!(account.connection().await.is_none());
        let (again, _) = admins.get(properties("a")).await.unwrap();
        assert!(Arc::ptr_eq(&account, &again));
        assert!(account.connection().await.is_some());
    }

    #[tokio::test]
    async fn a_connection_that_is_used_is_not_idle() {
        let admins = TopicAdmins::default();
        let (account, admin) = admins.get(properties("a")).await.unwrap();
        let long_ago = async || {
            account.open.lock().await.as_mut().unwrap().used -= IDLE + Duration::from_secs(1);
        };
        long_ago().await;
        admins.close_idle();
        assert!(account.connection().await.is_some(), "somebody has it");
        drop(admin);
        admins.close_idle();
        assert!(account.connection().await.is_some(), "used a moment ago");
        long_ago().await;
        admins.close_idle();
        assert!(account.connection().await.is_none());
    }

    #[tokio::test]
    async fn the_more_accounts_the_less_often_each_is_looked_at() {
        let admins = TopicAdmins::default();
        let few = admins.account([0; 32]);
        assert_eq!(admins.fresh(false), FRESH);
        let many: Vec<_> = (1..=250_u8).map(|key| admins.account([key; 32])).collect();
        assert_eq!(admins.fresh(false), SIGN_IN * 251);
        assert_eq!(admins.fresh(true), FRESH);
        drop((few, many));
        admins.close_idle();
        assert_eq!(admins.fresh(false), FRESH);
    }
}
