//! Asks the API server for the versions of Secrets, and wakes the pipelines whose Secrets have
//! changed.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, future::join, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Resource as _};
use tracing::debug;

use super::{Place, Secrets, version};

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(500);
/// How long an answer is waited for: one that does not come must not keep everybody else's from
/// being asked for.
const ANSWER: Duration = Duration::from_secs(10);

impl Secrets {
    /// Wakes the pipelines that are to be woken.
    pub(super) async fn wake(&self) {
        let mut woken = Vec::new();
        for user in self.state.lock().users.values_mut() {
            if std::mem::take(&mut user.to_wake) {
                woken.push(user.reference.clone());
            }
        }
        for pipeline in woken {
            // nobody listens: the term is over
            let _ = self.changed.send(pipeline).await;
        }
    }

    /// Asks for what is due and wakes whom it concerns, for ever. Only metadata is asked for:
    /// values are read by the reconcile that needs them.
    pub async fn follow(&self, client: &Client) {
        join(self.ask_on(client), self.wake_on()).await;
    }

    async fn wake_on(&self) {
        loop {
            self.told.notified().await;
            self.wake().await;
        }
    }

    async fn ask_on(&self, client: &Client) {
        loop {
            tokio::time::sleep(TICK).await;
            let due = stream::iter(self.due(Instant::now()));
            due.for_each_concurrent(
                4,
                |place| async move { self.ask(client, &place, ANSWER).await },
            )
            .await;
        }
    }

    pub(super) async fn ask(&self, client: &Client, place: &Place, patience: Duration) {
        let (namespace, name) = place;
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        match tokio::time::timeout(patience, api.get_metadata_opt(name)).await {
            Ok(Ok(found)) => {
                let version = found.and_then(|found| version(found.meta()));
                if self.seen(namespace, name, version) {
                    debug!(namespace, name, "a Secret has changed");
                    self.tell(place, None);
                }
            }
            // whatever it is, the next one will tell
            Ok(Err(error)) => debug!(namespace, name, %error, "a Secret cannot be read"),
            Err(_) => debug!(namespace, name, "no answer to who asks for a Secret"),
        }
    }
}
