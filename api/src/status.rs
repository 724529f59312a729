//! What the operator writes about a pipeline. Numbers that are not known are absent, never zero.

use clickstream_pipeline::spec::TopicManagement;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};

#[cfg(test)]
mod tests;

/// What the pipeline was last seen to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClickstreamPipelineStatus {
    /// The `metadata.generation` that the conditions are about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What holds and what does not, one entry per type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Processors of the first target that follows `spec.processor.replicas`; the scale subresource shows them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Those of them that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Selects their pods, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Ready and wanted processors of all targets, such as `3/4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processors: Option<String>,
    /// Records behind the end of the log, over all targets; absent while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Length of the windows that the processors count in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Namespace of the operator's installation that looks after the pipeline; another one leaves it alone while that one lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// Release of the operator that made the pods as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The pods are replaced because of the operator, not because of a person: absent when that is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStatus>,
    /// The annotation `clickstream.dev/reconcile-at` whose wish has been followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Whether processors and producer are stopped because the spec says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
    /// The spec that was accepted last, without what goes without saying, as YAML: it is followed
    /// while a newer one is refused. Empty where that would be more than 256 KiB: then nothing that
    /// runs is changed meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
    /// Since when each step of the deletion has been tried, where `spec.deletionPolicy` says `Delete`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<CleanupStatus>,
    /// The topics as Kafka has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub topics: Vec<TopicStatus>,
    /// The targets and how far each has come.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub targets: Vec<TargetStatus>,
}

/// A replacement of the pods by another release of the operator, which has begun.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UpgradeStatus {
    /// The release because of which it began.
    pub release: String,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Whether the pipeline was Ready before: only then do others wait for it.
    pub was_ready: bool,
}

/// What a deletion does before the resource goes, and since when it has been tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CleanupStatus {
    /// Pods are waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods_since: Option<Time>,
    /// Jobs drop the tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables_since: Option<Time>,
    /// Kafka is asked to delete the topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topics_since: Option<Time>,
}

/// A topic as Kafka has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"]))]
pub struct TopicStatus {
    /// Name of the topic.
    pub name: String,
    /// Kafka's id of the topic; another one means that it was deleted and made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Number of partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Copies of each partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
    /// Who looks after the topic: `Managed` or `External`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "known")]
    #[schemars(with = "Option<String>")]
    pub management: Option<TopicManagement>,
    /// Whether the operator made it. Only such a topic is ever deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<bool>,
    /// Settings that the operator keeps as the spec has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held_config: Vec<String>,
    /// Whose time its records carry: `LogAppendTime` or `CreateTime`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_type: Option<String>,
}

/// A word out of a list, or that it is not known: another release may have written one more, and no word makes the resource unreadable.
fn known<'de, D: Deserializer<'de>, T: Deserialize<'de>>(read: D) -> Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Word<T> {
        Known(T),
        Unknown(IgnoredAny),
    }
    Ok(match Option::deserialize(read)? {
        Some(Word::Known(word)) => Some(word),
        Some(Word::Unknown(_)) | None => None,
    })
}

/// A target and how far it has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"]))]
pub struct TargetStatus {
    /// Name of the target.
    pub name: String,
    /// Version of the tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<i32>,
    /// Consumer group of its processors, for lag tools, autoscalers and access lists of Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_group: Option<String>,
    /// Short name of the rules that all its processors follow, the same as in their `/status`; absent while they follow
    /// different ones, and where they are of a release that tells none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
    /// Processors wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Processors ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Partitions that processors hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Records consumed since the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumed: Option<i64>,
    /// Records that became an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<i64>,
    /// Records whose event was there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<i64>,
    /// Records that were no valid event; they are in the dead letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<i64>,
    /// Records that came after their window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<i64>,
    /// Records behind the end of the log; absent while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Age of the oldest record that waits, such as `3s`; absent when none waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_unprocessed_age: Option<String>,
    /// The smallest watermark of all partitions: windows that end before it, and their lateness, are final.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Time>,
    /// When a transaction was last committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_commit_time: Option<Time>,
    /// Whether every consumed record is accounted for exactly once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conserved: Option<bool>,
    /// Offsets that Kafka dropped before they were read, as `target/topic/partition/first-next`, the names by which a person
    /// acknowledges them. They stay until then, whoever reports them; no more than 1 KiB of them is named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
    /// How many more there are than `gaps` names; absent when it names all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unnamed_gaps: Option<i32>,
    /// True once all partitions have been reported at the same time: from then on no `gaps` means that nothing was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gaps_known: Option<bool>,
    /// When these numbers were read from the processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
    /// The migration that last succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationStatus>,
    /// Roles under `readers` and `rawReaders` that did not exist when a migration last looked, sixteen at most. A migration looks again
    /// every five minutes, and grants them their rights once they exist.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_readers: Vec<String>,
    /// The partitions that are furthest behind, ten at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub worst_partitions: Vec<PartitionStatus>,
}

/// A migration that succeeded; it is not run again while both stay the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationStatus {
    /// The image that ran it.
    pub image: String,
    /// Hash of image, target and connection.
    pub hash: String,
}

/// A partition that is behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PartitionStatus {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// Records behind the end of the log; absent while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Its watermark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Time>,
}
