//! What ownership is told, and what it answers.

use std::{ops::Range, time::Duration};

use super::Obstacle;
use crate::{
    checkpoint::Counters,
    engine::{Claim, Recovered},
    offset::{NextOffset, TopicPartition},
};

/// A partition to claim, with what the log looks like now.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ClaimRequest {
    /// Which one.
    pub partition: TopicPartition,
    /// First offset that is still in the log.
    pub log_start: i64,
    /// End of the log.
    pub log_end: i64,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// It is ours.
    Ours(Grant),
    /// It cannot be read on, and a person has to decide.
    Halted(Obstacle),
}

/// A claim that was granted.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Where to go on.
    pub recovered: Box<Recovered>,
    /// The partition's totals there.
    pub totals: Counters,
    /// Kafka dropped these records before they were read; they are in `clickstream_gaps`.
    pub gap: Option<Range<i64>>,
    /// All gaps of the partition, that one included, in the order of the log.
    pub gaps: Vec<Range<i64>>,
}

/// Something that has happened, told by the reading thread or the writing task.
#[derive(Debug)]
pub enum Event {
    /// The group gives these partitions to this process.
    Assigned(Vec<TopicPartition>),
    /// The group takes these partitions away. With `release` the database is told that nobody holds
    /// them.
    Revoked {
        /// Which ones.
        partitions: Vec<TopicPartition>,
        /// Whether the claims still are this process's to give back.
        release: bool,
    },
    /// The reader asks which questions are to be put to the brokers.
    AskTurn,
    /// The reader asks what the consumer is to be told.
    ReaderTurn,
    /// The answer to a question for the bounds of a log.
    Bounds {
        /// Of which partition.
        partition: TopicPartition,
        /// Number of the question.
        number: u64,
        /// First offset and end; `None`: no answer.
        bounds: Option<(i64, i64)>,
    },
    /// The broker that leads the partition answers again.
    Reachable(TopicPartition),
    /// The rebalance callback goes on: of these partitions, those that are granted start where the
    /// claim says, and the others are assigned paused.
    CallbackEnds(Vec<TopicPartition>),
    /// A seek has ended.
    Sought {
        /// Of which partition.
        partition: TopicPartition,
        /// Whether the consumer stands at the claimed position now.
        done: bool,
    },
    /// The position lies outside the log.
    Outside(TopicPartition),
    /// Nothing of the partition waits for a commit any more.
    Drained(TopicPartition),
    /// A batch of the log cannot be read.
    Unreadable {
        /// In which partition.
        partition: TopicPartition,
        /// The offset of its first record.
        offset: i64,
        /// What is wrong with it.
        why: String,
    },
    /// A partition is not what it was, and must not be read.
    Barred {
        /// Which one.
        partition: TopicPartition,
        /// What stands against it.
        obstacle: Obstacle,
    },
    /// There is lag, everything answers, and nothing moves.
    Stands {
        /// In which partition.
        partition: TopicPartition,
        /// Where it stands.
        position: NextOffset,
    },
    /// A partition is read, up to here.
    Moved {
        /// Which one.
        partition: TopicPartition,
        /// What comes next.
        position: NextOffset,
    },
    /// There is no room for more records, or there is again.
    Full(bool),
    /// The writer asks which claims are wanted.
    ClaimTurn,
    /// A claim has been answered.
    Claimed {
        /// Of which partition.
        partition: TopicPartition,
        /// What became of it.
        outcome: Claimed,
    },
    /// The claims under way have failed, none was made.
    ClaimsFailed,
    /// The writer asks which claims are to be given back.
    ReleaseTurn,
    /// They have been given back.
    Released,
    /// Another owner has claimed the partition.
    Fenced {
        /// Which one.
        partition: TopicPartition,
        /// How long to wait before it is claimed again.
        pause: Duration,
    },
    /// The session with the database is gone, and every claim with it.
    SessionLost {
        /// How long to wait before partitions are claimed again.
        pause: Duration,
    },
}

/// What is to be done now, by whoever told the event, and in this order.
#[derive(Debug)]
pub enum Action {
    /// Forget what the engine holds of the partition, its claim included.
    Drop(TopicPartition),
    /// Take no more records of it; what is buffered may still be committed.
    Close(TopicPartition),
    /// Start to take records, from the position of the grant.
    Begin {
        /// Which partition.
        partition: TopicPartition,
        /// Under which claim.
        grant: Grant,
        /// When the group gave it, where it is read for the first time since.
        given: Option<Duration>,
    },
    /// Ask for the bounds of its log.
    Ask {
        /// Of which partition.
        partition: TopicPartition,
        /// Number of the question, which comes back with the answer.
        number: u64,
        /// It did not answer the last time: others must not wait for it.
        alone: bool,
    },
    /// Make the consumer go on at this position.
    Seek {
        /// Which partition.
        partition: TopicPartition,
        /// Where to go on.
        next: NextOffset,
        /// Take it from the consumer first, and give it back.
        afresh: bool,
    },
    /// Fetch no more of it.
    Pause(TopicPartition),
    /// Fetch it again.
    Resume(TopicPartition),
    /// Claim it.
    Claim(ClaimRequest),
    /// Give this claim back.
    Release(TopicPartition, Claim),
    /// A person has to look at it: said once for each obstacle.
    Say(TopicPartition, Obstacle),
    /// Nothing that this process can do makes the partition move.
    End {
        /// Which partition.
        partition: TopicPartition,
        /// Where it stands.
        position: NextOffset,
    },
}
