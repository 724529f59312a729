//! What a test waits for: who owns which partition, how far they are, and that nothing is left of
//! those who ended.

use std::time::Duration;

use anyhow::ensure;
use clickstream_testbed::Process;

use crate::stack::Stack;

/// A group's session time-out for tests that wait for it, instead of 10 s.
pub const SHORT_SESSION: (&str, &str) = ("CLICKSTREAM_TEST_SESSION_TIMEOUT_MS", "3000");
/// How long a processor may take to end.
const STOP: Duration = Duration::from_secs(30);

impl Stack {
    /// Waits until this many more records are committed than now.
    pub async fn moves_by(&self, records: i64) -> anyhow::Result<()> {
        let goal = self.consumed().await? + records;
        let query =
            format!("select coalesce(sum(consumed), 0) >= {goal} from clickstream_checkpoints");
        self.eventually("more records are committed", &query).await
    }

    /// Records that are committed.
    pub async fn consumed(&self) -> anyhow::Result<i64> {
        self.count("select coalesce(sum(consumed), 0) from clickstream_checkpoints")
            .await
    }

    /// Waits until every partition is claimed by one of these processors, and each of them has at
    /// least one.
    pub async fn owned_by(&self, owners: &[&str]) -> anyhow::Result<()> {
        let list = owners.join("','");
        let query = format!(
            "select count(*) > 0 and bool_and(owner in ('{list}')) and count(distinct owner) = {} from clickstream_checkpoints",
            owners.len()
        );
        self.eventually(&format!("partitions are owned by {owners:?}"), &query)
            .await
    }

    /// Waits until no processor's session sits in a transaction and does nothing.
    pub async fn no_transaction_is_left_open(&self) -> anyhow::Result<()> {
        self.eventually(
            "no session is idle in transaction",
            "select not exists (select from pg_stat_activity where datname = current_database()
             and application_name like 'clickstream-processor%' and state like 'idle in transaction%'
             and state_change < clock_timestamp() - interval '1 s')",
        )
        .await
    }

    /// Ends processors in good order, waits until PostgreSQL has nothing left of them, and audits.
    pub async fn ends_clean(&self, processors: &[&Process]) -> anyhow::Result<()> {
        self.no_transaction_is_left_open().await?;
        for processor in processors {
            processor.terminate()?;
        }
        for processor in processors {
            let status = processor.wait(STOP).await?;
            ensure!(status.success(), "{status}: {}", processor.log_tail());
        }
        self.eventually(
            "no session and no lock of a processor is left",
            "select not exists (select from pg_stat_activity where datname = current_database()
             and application_name like 'clickstream-processor%')
             and not exists (select from pg_locks where locktype = 'advisory'
             and database = (select oid from pg_database where datname = current_database()))",
        )
        .await?;
        self.audit().await?;
        Ok(())
    }
}
