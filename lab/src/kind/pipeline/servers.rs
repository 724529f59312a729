//! The log as Kafka's own tools in Kafka's pod see it, and the tables as `psql` in PostgreSQL's pod
//! sees them.

use anyhow::Context as _;
use clickstream_pipeline::checkpoint::Counters;
use serde_json::{Value, json};

use super::Pipeline;

impl Pipeline<'_> {
    /// Records that the topic has taken since it was created, by Kafka's own tool in Kafka's own
    /// pod.
    ///
    /// # Errors
    /// Kafka's pod does not answer.
    pub async fn produced(&self) -> anyhow::Result<i64> {
        let mut tool = vec!["exec", "statefulset/kafka", "--container=kafka", "--"];
        tool.push("/opt/kafka/bin/kafka-get-offsets.sh");
        tool.extend([
            "--bootstrap-server",
            "localhost:9092",
            "--topic",
            &self.topic,
        ]);
        let said = self.ask(&tool).await?;
        sum_of_ends(&said).with_context(|| format!("kafka-get-offsets says {said:?}"))
    }

    /// Has Kafka drop the first records of a partition, up to this offset, as its retention would.
    ///
    /// # Errors
    /// Kafka's pod does not answer, or refuses.
    pub async fn drop_records(&self, partition: i64, before: i64) -> anyhow::Result<()> {
        let what = json!({
            "version": 1,
            "partitions": [{ "topic": self.topic, "partition": partition, "offset": before }],
        });
        let script = format!(
            "printf '%s' '{what}' >/tmp/drop.json && /opt/kafka/bin/kafka-delete-records.sh --bootstrap-server localhost:9092 --offset-json-file /tmp/drop.json"
        );
        let mut tool = vec!["exec", "statefulset/kafka", "--container=kafka", "--"];
        tool.extend(["sh", "-c", &script]);
        self.ask(&tool).await.map(|_| ())
    }

    /// The verdicts in PostgreSQL; all zero before the tables are there.
    ///
    /// # Errors
    /// PostgreSQL's pod does not answer.
    pub async fn counts(&self) -> anyhow::Result<Counters> {
        let table = format!("{}.clickstream_checkpoints", self.schema);
        let there = format!("select to_jsonb(to_regclass('{table}') is not null)");
        if self.query(&there).await? != json!(true) {
            return Ok(Counters::default());
        }
        let sums = [
            "consumed",
            "accepted",
            "duplicate",
            "rejected",
            "late",
            "skipped",
        ]
        .map(|column| format!("'{column}', coalesce(sum({column}), 0)"))
        .join(", ");
        let found = self
            .query(&format!("select jsonb_build_object({sums}) from {table}"))
            .await?;
        serde_json::from_value(found).context("a sum that is no number")
    }

    /// The offset that the tables wait for in one partition of the topic.
    ///
    /// # Errors
    /// PostgreSQL's pod does not answer, or knows no such partition.
    pub async fn next_offset(&self, partition: i64) -> anyhow::Result<i64> {
        let sql = format!(
            "select to_jsonb(next_offset) from {}.clickstream_checkpoints where topic = '{}' and partition = {partition}",
            self.schema, self.topic
        );
        let next = self.query(&sql).await?;
        next.as_i64().context("a position that is no number")
    }

    /// The sum of all partitions' positions in the tables: that of the log's ends once everything
    /// is there.
    ///
    /// # Errors
    /// PostgreSQL's pod does not answer.
    pub async fn reached(&self) -> anyhow::Result<i64> {
        let sql = format!(
            "select to_jsonb(coalesce(sum(next_offset), 0)::bigint) from {}.clickstream_checkpoints",
            self.schema
        );
        let reached = self.query(&sql).await?;
        reached.as_i64().context("a sum that is no number")
    }

    /// The one JSON value that a query gives.
    ///
    /// # Errors
    /// PostgreSQL's pod does not answer, or refuses.
    pub async fn query(&self, sql: &str) -> anyhow::Result<Value> {
        let said = self.statements(&[sql]).await?;
        serde_json::from_str(said.trim()).with_context(|| format!("psql says {said:?}"))
    }

    /// Runs statements, each in a transaction of its own; what they give.
    ///
    /// # Errors
    /// PostgreSQL's pod does not answer, or refuses one.
    pub async fn statements(&self, statements: &[&str]) -> anyhow::Result<String> {
        let mut psql = vec!["exec", "statefulset/postgres", "--container=postgres", "--"];
        psql.extend(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1"]);
        psql.extend(["-U", "postgres", "-d", "analytics"]);
        psql.extend(statements.iter().flat_map(|statement| ["-c", statement]));
        self.ask(&psql).await
    }
}

/// Of lines `topic:partition:offset`.
fn sum_of_ends(said: &str) -> Option<i64> {
    let ends = said
        .lines()
        .map(|line| line.rsplit(':').next()?.parse::<i64>().ok());
    ends.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_partitions_add_up_or_are_not_known() {
        assert_eq!(sum_of_ends("clicks:0:10\nclicks:1:7\n"), Some(17));
        assert_eq!(sum_of_ends("clicks:0:10\nError: no broker\n"), None);
    }
}
