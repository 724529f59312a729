//! What the protocol asks of a database, step by step.

use std::{future::Future, sync::Arc};

use crate::{
    admission::{Admission, PageHash},
    batch::Batch,
    checkpoint::CheckpointDelta,
    engine::Claim,
    offset::{NextOffset, TopicPartition},
    settle::{HitDelta, PartDelta, PartKey},
    spec::SemanticSpec,
    window::Window,
};

/// What to do about a failed step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Nothing was written: repeat the same flush, after a pause if `later`.
    Repeat {
        /// The cause may take a while (a lock, a server that is starting).
        later: bool,
    },
    /// A row that was called new is already stored: repeat with every row a suspect.
    Distrust,
    /// The database refuses what some row holds: find the row and make it a dead letter. `detail`
    /// names the constraint or the column.
    DeadLetter {
        /// For the dead letter's `detail`.
        detail: String,
    },
    /// It is not known whether the transaction was committed, or the connection is gone: forget the
    /// partitions and claim them again.
    Reclaim,
    /// Nothing that repeating would mend: stop and say so.
    Stop,
}

/// An error that knows its remedy.
pub trait Failure {
    /// Decides from the kind of the error; in doubt [`Remedy::Stop`].
    fn remedy(&self) -> Remedy;
}

/// A partition's place in the fence.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// Which partition.
    pub partition: TopicPartition,
    /// Under which right.
    pub claim: Claim,
    /// Where the database must stand.
    pub expected: NextOffset,
}

/// One checkpoint's new state.
#[derive(Clone, Debug)]
pub struct Advance {
    /// The condition, the same as the fence's.
    pub position: Position,
    /// The change.
    pub delta: CheckpointDelta,
    /// Whether the flush ends at the end of the log.
    pub at_end: bool,
}

/// A stored row that an event of the batch collides with: a row of the batch with its key, and
/// where it came from. Where several rows of the batch have that key, it is any of them.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct StoredTwin {
    /// Place in `batch.rows`.
    pub row: u32,
    /// Partition of the stored event.
    pub source: TopicPartition,
    /// Offset of the stored event's record.
    pub offset: i64,
    /// Its place in that record.
    pub index: i16,
}

/// A database that can begin transactions.
pub trait Sink {
    /// Its transaction. Dropping one without a commit rolls it back.
    type Transaction<'a>: Transaction<Error = Self::Error>
    where
        Self: 'a;
    /// What can go wrong.
    type Error: Failure;

    /// Begins a READ COMMITTED transaction.
    fn begin(&mut self) -> impl Future<Output = Result<Self::Transaction<'_>, Self::Error>>;
}

/// The steps of one flush, in the order in which they are called. Rows are places in `batch.rows`.
pub trait Transaction {
    /// What can go wrong.
    type Error: Failure;

    /// Locks the checkpoints whose claim and position still are as expected, in key order, until
    /// the end of the transaction, and returns them.
    fn fence(
        &mut self,
        positions: &[Position],
    ) -> impl Future<Output = Result<Vec<TopicPartition>, Self::Error>>;
    /// Writes rows that are believed new; the primary key verifies it. Does `meanwhile` while the
    /// database takes them: it is called once, unless the transaction has failed by then.
    fn copy_new(
        &mut self,
        batch: &Batch,
        rows: &[u32],
        meanwhile: impl FnOnce(),
    ) -> impl Future<Output = Result<(), Self::Error>>;
    /// Writes rows that may be stored already and returns those that were not.
    fn insert_suspects(
        &mut self,
        batch: &Batch,
        rows: &[u32],
    ) -> impl Future<Output = Result<Vec<u32>, Self::Error>>;
    /// Puts rows into the late ledger and returns those whose key was not there.
    fn insert_late(
        &mut self,
        batch: &Batch,
        rows: &[u32],
    ) -> impl Future<Output = Result<Vec<u32>, Self::Error>>;
    /// Looks up the stored events (this transaction's own included) with the keys of these rows.
    fn find_twins(
        &mut self,
        batch: &Batch,
        rows: &[u32],
    ) -> impl Future<Output = Result<Vec<StoredTwin>, Self::Error>>;
    /// Takes rows that this transaction inserted out of the late ledger again.
    fn remove_late(
        &mut self,
        batch: &Batch,
        rows: &[u32],
    ) -> impl Future<Output = Result<(), Self::Error>>;
    /// Writes the batch's dead letters.
    fn insert_dead_letters(
        &mut self,
        batch: &Batch,
    ) -> impl Future<Output = Result<(), Self::Error>>;
    /// Looks up which pages of these windows and partitions have rows of their own; those of one
    /// may come in pieces.
    fn admitted_pages(
        &mut self,
        parts: &[PartKey],
    ) -> impl Future<Output = Result<Vec<(PartKey, Vec<PageHash>)>, Self::Error>>;
    /// Notes which more of them have, in key order.
    fn admit_pages(
        &mut self,
        admissions: &[Admission],
    ) -> impl Future<Output = Result<(), Self::Error>>;
    /// Adds hits, in key order.
    fn add_hits(&mut self, hits: &[HitDelta]) -> impl Future<Output = Result<(), Self::Error>>;
    /// Adds hits to parts, and unites their distinct counts with these.
    fn write_parts(
        &mut self,
        parts: &[(PartKey, Window, &PartDelta)],
    ) -> impl Future<Output = Result<(), Self::Error>>;
    /// Writes an anchor for each of these partitions, with its checkpoint as it is before this
    /// transaction moves it: from there on records are judged by `rules`. Of an anchor that stands
    /// there already the rules are replaced.
    fn anchor(
        &mut self,
        positions: &[Position],
        rules: &Arc<SemanticSpec>,
    ) -> impl Future<Output = Result<(), Self::Error>>;
    /// Moves the checkpoints under the fence's condition; fails unless every one of them moves.
    fn advance(&mut self, advances: &[Advance]) -> impl Future<Output = Result<(), Self::Error>>;
    /// Commits.
    fn commit(self) -> impl Future<Output = Result<(), Self::Error>>;
}
