//! What the brokers say the topics keep: asked at the start and every few minutes, since people
//! change it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig, ClientContext,
    admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier},
    config::RDKafkaLogLevel,
    error::KafkaError,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{headroom::Kept, shared::Shared};

/// How often the settings are asked for.
const AGAIN: Duration = Duration::from_secs(300);
/// The same after no answer.
const SOON: Duration = Duration::from_secs(30);
/// How long the brokers may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Keeps the topics' retention known until `stop`. Topics whose settings this user may not read
/// stay unknown.
pub async fn watch_retention(
    connection: ClientConfig,
    topics: Vec<String>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    loop {
        let pause = match ask(&connection, &topics).await {
            Ok(kept) => {
                shared.with(|state| state.kept = kept);
                AGAIN
            }
            Err(error) => {
                debug!(%error, "cannot ask for the topics' settings");
                SOON
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn ask(
    connection: &ClientConfig,
    topics: &[String],
) -> Result<BTreeMap<String, Kept>, KafkaError> {
    // a client for a moment: its threads and connections are not worth keeping for a question in
    // five minutes
    let client: AdminClient<Quiet> = connection.create_with_context(Quiet)?;
    let asked: Vec<_> = topics
        .iter()
        .map(|topic| ResourceSpecifier::Topic(topic))
        .collect();
    let options = AdminOptions::new().request_timeout(Some(ANSWER));
    let answers = client.describe_configs(&asked, &options).await;
    // it waits for its threads
    tokio::task::spawn_blocking(move || drop(client)).await.ok();
    let mut kept = BTreeMap::new();
    for resource in answers?.into_iter().flatten() {
        let OwnedResourceSpecifier::Topic(topic) = &resource.specifier else {
            continue;
        };
        let setting = |name: &str| {
            let entry = resource.entries.iter().find(|entry| entry.name == name)?;
            entry.value.clone()
        };
        if let Some(found) = Kept::of(setting) {
            kept.insert(topic.clone(), found);
        }
    }
    Ok(kept)
}

/// The consumer of this process says the same, and louder.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        debug!(facility, line, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
    }
}
