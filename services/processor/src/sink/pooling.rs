//! Finds a proxy that hands the server's sessions out transaction by transaction.
//!
//! Behind one, two clients share a session: advisory locks and the claim's backend would mean
//! somebody else. While a second client is within a transaction, it holds a session of the server
//! for itself; a first client that has one of its own keeps it meanwhile, and its settings stay
//! unseen.

use clickstream_pipeline::spec::PostgresSettings;
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

use super::{ConnectError, Connection, connect};

/// A setting that nothing else reads.
const MARK: &str = "clickstream.session";

/// Checks that `first` has a session of the server for itself.
///
/// # Errors
/// [`ConnectError::Pooled`] if not; [`ConnectError::Refused`] when a second session cannot be had
/// or one of them fails.
pub async fn require_own_session(
    first: &Connection,
    settings: &PostgresSettings,
    schema: &str,
    application: &str,
) -> Result<(), ConnectError> {
    let refused = |source| ConnectError::Refused {
        host: settings.host.clone(),
        port: settings.port,
        database: settings.database.clone(),
        user: settings.user.clone(),
        source,
    };
    let pooled = || ConnectError::Pooled {
        host: settings.host.clone(),
        port: settings.port,
    };
    // the simple protocol throughout: behind such a proxy a prepared statement may be somebody
    // else's
    let ask = async |client: &Client, sql: &str| -> Result<(String, String), ConnectError> {
        let messages = client.simple_query(sql).await.map_err(refused)?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let column = |at| {
            row.and_then(|row| row.try_get(at).ok().flatten())
                .unwrap_or_default()
                .to_owned()
        };
        Ok((column(0), column(1)))
    };
    let mark = Uuid::new_v4().to_string();
    ask(
        &first.client,
        &format!("select set_config('{MARK}', '{mark}', false)"),
    )
    .await?;
    let second = connect(settings, schema, application).await?;
    if let Err(error) = second.client.batch_execute("begin").await {
        // a proxy that pools by statement forbids transactions; a server that is gone is gone for
        // the first session too
        ask(&first.client, "select 1").await?;
        return Err(if error.is_closed() {
            pooled()
        } else {
            refused(error)
        });
    }
    let look = format!("select pg_backend_pid(), current_setting('{MARK}', true)");
    let there = ask(&second.client, &look).await?;
    let here = ask(&first.client, &look).await?;
    let own = here == (first.backend_pid.to_string(), mark.clone())
        && there.0 != here.0
        && there.1 != mark;
    if own {
        return Ok(());
    }
    Err(pooled())
}
