//! The list of keys that properties have (`clickstream_property_keys`): a flush adds those that it
//! is the first to store, in its own transaction. Which are listed the process knows, so that all
//! other flushes write nothing.

use clickstream_pipeline::{
    batch::{Batch, More},
    decode::properties::{ListedKeys, MOST_LISTED, UnlistedKeys},
    settle::in_order_of_arrival,
};
use tokio_postgres::{Client, Error, GenericClient};

/// Rows that are read of the list: several processes may have filled it up at the same time.
const READ: i64 = 10 * MOST_LISTED as i64;

// in the order of the key: two flushes that list the same keys wait for each other in one direction
// only
const LIST: &str = "
    insert into clickstream_listed_keys (key, type)
    select * from unnest($1::text[], $2::text[]) as met (key, type)
    on conflict do nothing";

/// What a session knows of the list.
#[derive(Default)]
pub struct Keys {
    listed: ListedKeys,
    /// How often a key was met that is not to be listed, since the last look.
    left_out: u64,
}

impl Keys {
    /// Reads the list.
    ///
    /// # Errors
    /// What the server says.
    pub async fn read(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            listed: listed(client).await?,
            left_out: 0,
        })
    }

    /// Notes what the properties of these rows have and the list does not, in the order of the log.
    pub fn look(&self, batch: &Batch, rows: &[u32], unlisted: &mut UnlistedKeys) {
        if !batch.said().holds(More::Properties) {
            return;
        }
        let rows = in_order_of_arrival(rows).into_iter();
        let rows = rows.map(|at| &batch.rows[at as usize]);
        for json in rows.filter_map(|row| batch.properties(row)) {
            self.listed.look(json, unlisted);
        }
    }

    /// Takes over what a transaction has listed, once it is committed.
    pub fn committed(&mut self, unlisted: &UnlistedKeys) {
        for (key, kind) in &unlisted.new {
            self.listed.add(key, *kind);
        }
        self.left_out += unlisted.left_out;
    }

    /// How often a key was met that is not to be listed, since this was asked last.
    pub fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

/// The keys that are listed. Of a type that this release does not know nothing is told.
///
/// # Errors
/// What the server says.
pub async fn listed(client: &Client) -> Result<ListedKeys, Error> {
    let mut listed = ListedKeys::default();
    let rows = client
        .query(
            "select key, type from clickstream_listed_keys order by first_seen limit $1",
            &[&READ],
        )
        .await?;
    for row in rows {
        if let Ok(kind) = row.get::<_, &str>(1).parse() {
            listed.add(row.get(0), kind);
        }
    }
    Ok(listed)
}

/// Adds keys to the list.
///
/// # Errors
/// What the server says.
pub async fn list(client: &impl GenericClient, unlisted: &UnlistedKeys) -> Result<(), Error> {
    if unlisted.new.is_empty() {
        return Ok(());
    }
    let (keys, types): (Vec<&str>, Vec<&str>) = unlisted
        .new
        .iter()
        .map(|(key, kind)| (key.as_str(), kind.as_str()))
        .unzip();
    client.execute(LIST, &[&keys, &types]).await?;
    Ok(())
}
