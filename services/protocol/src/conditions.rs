//! Types of conditions and reasons, as they stand in the status and in Events: closed lists, each
//! word of them once.

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $word:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $word,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$word,)+];

            /// The word in the API.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => stringify!($word),)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str(self.as_str())
            }
        }

        impl PartialEq<$name> for str {
            fn eq(&self, word: &$name) -> bool {
                self == word.as_str()
            }
        }

        impl PartialEq<$name> for String {
            fn eq(&self, word: &$name) -> bool {
                self == word.as_str()
            }
        }

        impl From<$name> for std::borrow::Cow<'static, str> {
            fn from(word: $name) -> Self {
                word.as_str().into()
            }
        }
    };
}

words! {
    /// What a condition is about, in the order in which metrics tell them.
    ConditionType {
        /// It does what the spec says.
        Ready,
        /// The topics are as the spec has them.
        TopicsReady,
        /// Every target's tables are there and can be written.
        DatabaseReady,
        /// All processors work.
        ProcessorsAvailable,
        /// The producer works.
        ProducerAvailable,
        /// Nobody is too far behind.
        LagWithinTarget,
        /// Kafka dropped records before they were read.
        DataLossDetected,
        /// Nothing runs, as the spec says.
        Suspended,
        /// Something is still to come.
        Reconciling,
        /// The spec cannot be followed.
        Stalled,
        /// The operator changes nothing.
        Paused,
    }
}

words! {
    /// Why a condition is as it is, or what an Event is about.
    Reason {
        // the spec
        /// The spec contradicts itself; the message names the fields.
        InvalidSpec,
        /// The spec names what the platform does not allow.
        NotAllowed,
        /// The tables hold windows of another length.
        WindowSizeRefused,
        /// The resource is not even of the right form.
        Unreadable,
        /// Nothing is looked at while the spec is refused.
        NotChecked,
        /// Nothing stands against the spec.
        NotStalled,
        // on the way
        /// Something is still to come.
        Progressing,
        /// There is nothing left to do.
        Settled,
        /// Everything is as the spec has it.
        Ready,
        /// Kafka or PostgreSQL has been away for a moment.
        Outage,
        /// Nothing runs, as the spec says.
        Suspended,
        /// Not suspended.
        Running,
        /// The operator changes nothing.
        Paused,
        /// An annotation has a value that nobody knows.
        UnknownValue,
        /// Other pipelines roll first.
        Queued,
        // topics
        /// The topics are as the spec has them.
        AsSpecified,
        /// Somebody else's topic has the name.
        TopicExists,
        /// A topic has more partitions than the spec wants.
        FewerPartitions,
        /// A topic has another number of copies than the spec wants.
        ReplicationFactor,
        /// A topic was deleted and made anew.
        TopicReplaced,
        /// A topic that was read before is gone.
        TopicMissing,
        /// Whose a topic is stands in the schema.
        WaitingForDatabase,
        /// No broker answers.
        KafkaUnreachable,
        /// The brokers refuse.
        KafkaRefused,
        /// What the spec refers to for Kafka is missing or wrong.
        KafkaCredentials,
        // tables
        /// The tables are there.
        Migrated,
        /// Roles that are to read do not exist.
        ReadersMissing,
        /// A migration runs.
        Migrating,
        /// A migration's pod cannot run.
        MigrationBlocked,
        /// A migration failed and is tried again.
        MigrationFailed,
        /// A Secret that is referred to does not exist.
        SecretMissing,
        /// PostgreSQL does not answer the processors.
        PostgresUnreachable,
        /// PostgreSQL answers, and refuses what is written.
        PostgresRefuses,
        /// Nobody has reported it.
        NotReported,
        // pods
        /// All pods that are wanted are there.
        Available,
        /// A name belongs to somebody else's object.
        NameTaken,
        /// The API server refuses an object that the pipeline needs.
        ObjectRefused,
        /// Pods wait for tables or topics.
        WaitingForDependencies,
        /// Pods are on their way.
        RollingOut,
        /// A rollout takes longer than Kubernetes waits.
        RolloutStuck,
        /// The API server refuses the pods.
        PodsRefused,
        /// Pods are there and do not run.
        PodsFailing,
        /// A person has to look at some partitions.
        PartitionsHalted,
        /// Some partitions are nobody's.
        PartitionsUnowned,
        // lag and loss
        /// There is no target for the lag.
        NoTarget,
        /// Not all partitions tell their lag.
        LagUnknown,
        /// Nobody is too far behind.
        WithinTarget,
        /// Somebody is too far behind.
        Lagging,
        /// A Kafka transaction that is still open holds a partition back.
        OpenTransaction,
        /// Nothing was lost.
        NoLoss,
        /// Kafka dropped records before they were read.
        RecordsLost,
        // Events alone
        /// Another installation looks after the pipeline.
        HeldElsewhere,
        /// Another installation has ended.
        TakenOver,
        /// The operator goes on.
        Resumed,
        /// A deletion has left something behind.
        CleanupIncomplete,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// People go by the documentation: it names every condition, and no reason that there is not.
    const DOCS: &str = include_str!("../../../docs/kubernetes.md");

    #[test]
    fn every_condition_is_documented() {
        for kind in ConditionType::ALL {
            assert!(DOCS.contains(&format!("`{kind}`")), "{kind}");
        }
    }

    #[test]
    fn every_reason_that_is_documented_exists() {
        let known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        let named = DOCS.split("with reason `").skip(1);
        let named = named.filter_map(|rest| rest.split('`').next());
        let tables = DOCS.split("| reason |").skip(1);
        let rows = tables.flat_map(|table| {
            let rows = table.lines().skip(2);
            rows.take_while(|line| line.starts_with('|'))
        });
        // the first cell may name several
        let cells = rows.filter_map(|line| line.split('|').nth(1));
        let rows: Vec<&str> = cells
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect();
        assert!(rows.len() > 10, "{rows:?}");
        for reason in named.chain(rows) {
            assert!(known.contains(reason), "{reason}");
        }
    }
}
