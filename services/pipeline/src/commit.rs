//! The commit protocol: one transaction holds everything a flush means.
//!
//! ```text
//! begin ─ fence ─ rows (copy | insert on conflict) ─ ledgers ─ admitted pages ─ hits ─ anchors of new rules ─ advance ─ commit
//! ```
//! The protocol is written once against [`Sink`] and [`Transaction`]; PostgreSQL and the simulation's in-memory database
//! implement them. Nothing here waits on a clock: how long to back off before a repetition is the caller's business.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashSet},
    future::Future,
    sync::Arc,
};

use foldhash::fast::RandomState;
use uuid::Uuid;

use crate::{
    admission::{Admission, AdmittedPages, Folding, LOOKED_UP_AT_ONCE, PageHash},
    batch::{Batch, Row},
    checkpoint::CheckpointDelta,
    engine::{Claim, Flush},
    event::{Day, EventTime},
    offset::{NextOffset, TopicPartition},
    settle::{
        Aggregates, HitDelta, Judgement, PartDelta, PartKey, Plan, in_parts, parts_of, pieces,
    },
    spec::{LatePolicy, SemanticSpec},
    window::{TumblingWindow, Window},
};

/// Below this many rows one `insert .. on conflict` (a single round trip) is quicker than a COPY (three).
const SMALL_FLUSH: usize = 64;

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
    /// The database refuses what some row holds: find the row and make it a dead letter. `detail` names the constraint or
    /// the column.
    DeadLetter {
        /// For the dead letter's `detail`.
        detail: String,
    },
    /// It is not known whether the transaction was committed, or the connection is gone: forget the partitions and claim
    /// them again.
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

/// A stored row that an event of the batch collides with: a row of the batch with its key, and where it came from. Where
/// several rows of the batch have that key, it is any of them.
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

    /// Locks the checkpoints whose claim and position still are as expected, in key order, until the end of the
    /// transaction, and returns them.
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
    /// Looks up which pages of these windows and partitions have rows of their own; those of one may come in pieces.
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
    /// Writes an anchor for each of these partitions, with its checkpoint as it is before this transaction moves it: from
    /// there on records are judged by `rules`. Of an anchor that stands there already the rules are replaced.
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

/// A flush that was committed.
#[derive(Debug)]
pub struct Settlement {
    /// What became of each partition that moved.
    pub deltas: BTreeMap<TopicPartition, CheckpointDelta>,
    /// Partitions of which a row was called new that was not.
    pub distrusted: Vec<TopicPartition>,
    /// Rows written by COPY.
    pub copied: usize,
    /// Rows that went through `insert .. on conflict`.
    pub suspects: usize,
    /// Rows that only the database could refuse.
    pub refused: usize,
    /// Hits that were counted as those of other pages, since the rules bound the pages of a window.
    pub folded: BTreeMap<TopicPartition, u64>,
}

/// A flush that was not committed, with the flush to repeat where that is the remedy.
#[derive(Debug)]
pub struct Unsettled<E> {
    /// What went wrong.
    pub error: E,
    /// What to do: [`Remedy::Repeat`], [`Remedy::Reclaim`] or [`Remedy::Stop`].
    pub remedy: Remedy,
}

/// How often a flush may look for a refused row before its constraint is taken for something else than a row's fault.
const MAX_REFUSED: usize = 10_000;

/// Commits a flush by its own rules; everything before `final_until` was already reported final. Rows that the database
/// refuses become dead letters of the same flush; a row wrongly taken for new makes every row a suspect; both repeat at
/// once. Every other failure is handed back and the flush stays as it is. `pages` is what the same caller's flushes before
/// have learnt; it may be empty.
///
/// # Errors
/// [`Unsettled`] with the remedy that is left to the caller.
pub async fn settle<S: Sink>(
    sink: &mut S,
    flush: &mut Flush,
    final_until: Option<EventTime>,
    pages: &mut AdmittedPages,
) -> Result<Settlement, Unsettled<S::Error>> {
    let mut distrust = flush.batch.rows.len() < SMALL_FLUSH;
    let mut refused = 0;
    loop {
        let error = match attempt(sink, flush, final_until, pages, distrust).await {
            Ok(settlement) => {
                return Ok(Settlement {
                    refused,
                    ..settlement
                });
            }
            Err(error) => error,
        };
        match error.remedy() {
            Remedy::Distrust if !distrust => distrust = true,
            Remedy::DeadLetter { .. } if refused < MAX_REFUSED => {
                let found = find_refused(sink, &flush.batch, flush.rules.late_policy)
                    .await
                    .map_err(handed_back)?;
                if found.is_empty() && !distrust {
                    // the refused row may be a later one of a key that the filter forgot: such rows are tried by COPY only
                    distrust = true;
                    continue;
                }
                if found.is_empty() {
                    // no row is refused by itself: the cause lies elsewhere, and guessing would lose events
                    return Err(Unsettled {
                        error,
                        remedy: Remedy::Stop,
                    });
                }
                let duplicates = find_stored(sink, &flush.batch, &found)
                    .await
                    .map_err(handed_back)?;
                refused += found.len() - duplicates.len();
                // from the end: taking a row out moves those behind it
                for (row, detail) in found.into_iter().rev() {
                    if duplicates.contains(&row) {
                        flush.batch.mark_duplicate(row as usize);
                    } else {
                        flush.batch.refuse(row as usize, detail);
                    }
                }
            }
            _ => return Err(handed_back(error)),
        }
    }
}

fn handed_back<E: Failure>(error: E) -> Unsettled<E> {
    let remedy = match error.remedy() {
        // what was tried above did not help
        Remedy::Distrust | Remedy::DeadLetter { .. } => Remedy::Stop,
        other => other,
    };
    Unsettled { error, remedy }
}

async fn attempt<S: Sink>(
    sink: &mut S,
    flush: &mut Flush,
    final_until: Option<EventTime>,
    pages: &mut AdmittedPages,
    distrust: bool,
) -> Result<Settlement, S::Error> {
    let mut tx = sink.begin().await?;
    let held = tx.fence(&positions(flush)).await?;
    let fenced: Vec<_> = flush
        .claims
        .keys()
        .copied()
        .filter(|tp| !held.contains(tp))
        .collect();
    for tp in fenced {
        flush.batch.remove(tp);
        flush.claims.remove(&tp);
        flush.fenced.push(tp);
    }
    let batch = &flush.batch;
    let policy = flush.rules.late_policy;
    let planned = flush.planned().filter(|_| !distrust);
    let plan = planned.map_or_else(
        || Cow::Owned(Plan::of(batch, policy, distrust)),
        Cow::Borrowed,
    );

    let windows = TumblingWindow::new(flush.rules.window_micros);
    let mut aggregates = Aggregates::new(windows, policy, final_until);
    let mut judgement = Judgement::default();
    let bound = flush.rules.events.derived.most_pages();
    if bound.is_none() {
        pages.clear();
    }
    let mut folding = bound.map(|bound| pages.fold(bound, flush));
    // which page is admitted follows from all accepted rows before it, and from what was admitted before the flush
    let unknown = match &mut folding {
        Some(folding) if plan.suspects.is_empty() => !folding
            .unknown(parts_of(batch, &plan.new, policy))
            .is_empty(),
        folding => folding.is_some(),
    };
    let mut hits = None;
    if !plan.new.is_empty() {
        // the verdict on these rows is known if the COPY succeeds: they are counted while the server writes them
        let count = || {
            match &mut folding {
                None => {
                    // in the order in which they lie in memory: to jump between them takes longer than to count them
                    let mut rows = plan.new.clone();
                    rows.sort_unstable();
                    aggregates.add(batch, &rows);
                }
                Some(_) if unknown => return,
                Some(folding) => {
                    let mut rows = plan.new.clone();
                    in_parts(batch, &mut rows);
                    aggregates.add_folded(batch, &rows, folding);
                }
            }
            if plan.suspects.is_empty() {
                hits = Some(aggregates.hits());
            }
        };
        tx.copy_new(batch, &plan.new, count).await?;
    }
    if !plan.suspects.is_empty() {
        judgement.inserted = tx.insert_suspects(batch, &plan.suspects).await?;
        if folding.is_none() {
            aggregates.add(batch, &judgement.inserted);
        }
    }
    if unknown && let Some(folding) = &mut folding {
        let mut rows = [&plan.new[..], &judgement.inserted].concat();
        in_parts(batch, &mut rows);
        add_folded(&mut tx, batch, &rows, &mut aggregates, folding, policy).await?;
    }
    if !plan.late.is_empty() {
        judgement.late = judge_late(&mut tx, batch, &plan.late, policy).await?;
    }
    if !batch.dead_letters.is_empty() {
        tx.insert_dead_letters(batch).await?;
    }
    let spans = &batch.spans;
    let admissions = folding.map(|folding| folding.into_admissions(|tp| spans[&tp].from));
    if let Some(admissions) = admissions.as_ref().filter(|some| !some.is_empty()) {
        tx.admit_pages(admissions).await?;
    }
    let hits = hits.unwrap_or_else(|| aggregates.hits());
    if !hits.is_empty() {
        tx.add_hits(&hits).await?;
        let parts: Vec<_> = aggregates.parts().collect();
        tx.write_parts(&parts).await?;
    }
    let deltas = aggregates.deltas(batch, &judgement);
    let mut changed = positions(flush);
    changed.retain(|position| batch.spans[&position.partition].new_rules);
    if !changed.is_empty() {
        tx.anchor(&changed, &flush.rules).await?;
    }
    let advances: Vec<_> = positions(flush)
        .into_iter()
        .map(|position| Advance {
            position,
            delta: deltas[&position.partition].clone(),
            at_end: batch.spans[&position.partition].at_end,
        })
        .collect();
    tx.advance(&advances).await?;
    tx.commit().await?;
    if let Some(admissions) = admissions {
        pages.committed(admissions, &deltas);
    }
    Ok(Settlement {
        deltas,
        distrusted: misjudged(batch, &plan.suspects, &judgement.inserted),
        copied: plan.new.len(),
        suspects: plan.suspects.len(),
        refused: 0,
        folded: aggregates.into_folded(),
    })
}

/// Counts accepted rows, sorted by part, with the pages looked up of so many parts at a time: an event each of thousands
/// of windows needs no more memory than that.
async fn add_folded<T: Transaction>(
    tx: &mut T,
    batch: &Batch,
    rows: &[u32],
    aggregates: &mut Aggregates,
    folding: &mut Folding<'_>,
    policy: LatePolicy,
) -> Result<(), T::Error> {
    for piece in pieces(batch, rows, LOOKED_UP_AT_ONCE) {
        let unknown = folding.unknown(parts_of(batch, piece, policy));
        if !unknown.is_empty() {
            let found = tx.admitted_pages(&unknown).await?;
            folding.learn(&unknown, found);
        }
        aggregates.add_folded(batch, piece, folding);
    }
    Ok(())
}

/// The partitions of which a row was called new at intake and was stored already.
fn misjudged(batch: &Batch, tried: &[u32], inserted: &[u32]) -> Vec<TopicPartition> {
    let inserted: HashSet<u32, RandomState> = inserted.iter().copied().collect();
    let partitions: BTreeSet<TopicPartition> = tried
        .iter()
        .filter(|at| !inserted.contains(at))
        .map(|&at| &batch.rows[at as usize])
        .filter(|row| !row.suspect)
        .map(|row| row.source)
        .collect();
    partitions.into_iter().collect()
}

/// Which late rows are no duplicates, either of a stored event or of one in the late ledger.
///
/// The ledger is written first and looked up against the events afterwards, so that the answer holds at the place that the
/// ledger's unique key gives this transaction among the others. A twin that this very flush stored counts only if it comes
/// before the late row in the log.
async fn judge_late<T: Transaction>(
    tx: &mut T,
    batch: &Batch,
    rows: &[u32],
    policy: LatePolicy,
) -> Result<Vec<u32>, T::Error> {
    let diverted = match policy {
        LatePolicy::Divert => tx.insert_late(batch, rows).await?,
        // with the others such rows are stored, or only counted
        _ => rows.to_vec(),
    };
    if diverted.is_empty() {
        return Ok(diverted);
    }
    // with `Drop` there may be several late rows of one key
    let twins = by_key(batch, tx.find_twins(batch, &diverted).await?);
    let is_duplicate = |row: &Row| {
        twins.get(&row.key()).is_some_and(|twin| {
            let this_flush = batch
                .spans
                .get(&twin.source)
                .is_some_and(|span| !span.from.covers(twin.offset));
            !this_flush || (twin.source, twin.offset, twin.index) < row.place()
        })
    };
    let duplicates: BTreeSet<u32> = diverted
        .iter()
        .copied()
        .filter(|&row| is_duplicate(&batch.rows[row as usize]))
        .collect();
    if policy == LatePolicy::Divert && !duplicates.is_empty() {
        let undo: Vec<u32> = duplicates.iter().copied().collect();
        tx.remove_late(batch, &undo).await?;
    }
    Ok(diverted
        .into_iter()
        .filter(|row| !duplicates.contains(row))
        .collect())
}

/// Finds the rows that the database refuses by themselves, by halving, in transactions that are rolled back. Ascending.
async fn find_refused<S: Sink>(
    sink: &mut S,
    batch: &Batch,
    policy: LatePolicy,
) -> Result<Vec<(u32, String)>, S::Error> {
    let plan = Plan::of(batch, policy, true);
    let mut refused = Vec::new();
    let mut suspected = vec![(plan.suspects, false)];
    if policy == LatePolicy::Divert {
        suspected.push((plan.late, true));
    } // otherwise late rows are written nowhere, and what is not written cannot be refused
    suspected.retain(|(rows, _)| !rows.is_empty());
    while let Some((rows, ledger)) = suspected.pop() {
        let mut tx = sink.begin().await?;
        let tried = if ledger {
            tx.insert_late(batch, &rows).await
        } else {
            tx.insert_suspects(batch, &rows).await
        };
        drop(tx);
        match tried.map_err(|error| (error.remedy(), error)) {
            Ok(_) => {}
            Err((Remedy::DeadLetter { detail }, _)) => {
                if let [row] = rows[..] {
                    refused.push((row, detail));
                } else {
                    let (left, right) = rows.split_at(rows.len() / 2);
                    suspected.push((left.to_vec(), ledger));
                    suspected.push((right.to_vec(), ledger));
                }
            }
            Err((_, error)) => return Err(error),
        }
    }
    refused.sort_unstable_by_key(|(row, _)| *row);
    Ok(refused)
}

/// Which refused rows are duplicates of stored events. Within a flush a later row of a key is a duplicate without being
/// tried, so it must be one in the next flush as well: where flushes are cut decides nothing.
async fn find_stored<S: Sink>(
    sink: &mut S,
    batch: &Batch,
    refused: &[(u32, String)],
) -> Result<BTreeSet<u32>, S::Error> {
    let rows: Vec<u32> = refused.iter().map(|(row, _)| *row).collect();
    let mut tx = sink.begin().await?;
    let twins = by_key(batch, tx.find_twins(batch, &rows).await?);
    Ok(rows
        .into_iter()
        .filter(|&row| twins.contains_key(&batch.rows[row as usize].key()))
        .collect())
}

fn by_key(batch: &Batch, twins: Vec<StoredTwin>) -> BTreeMap<(Day, Uuid), StoredTwin> {
    twins
        .into_iter()
        .map(|twin| (batch.rows[twin.row as usize].key(), twin))
        .collect()
}

fn positions(flush: &Flush) -> Vec<Position> {
    flush
        .batch
        .spans
        .iter()
        .map(|(&partition, span)| Position {
            partition,
            claim: flush.claims[&partition],
            expected: span.from,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::{
        batch::{Judged, Place},
        offset::TopicId,
        spec::SemanticSpec,
    };

    #[test]
    fn only_partitions_of_rows_that_were_wrongly_called_new_are_distrusted() {
        let payload = br#"{"event_id":"018e2f00-0000-7000-8000-000000000001","user_id":1,"event_ts":1710114600000,"url":"/"}"#;
        let decoder = SemanticSpec::default().decoder();
        let received_at = EventTime::from_micros(1_710_114_600_000_000);
        let event = decoder.decode(payload, received_at).unwrap();
        let partition = |partition| TopicPartition {
            topic: TopicId(1),
            partition,
        };
        let mut batch = Batch::default();
        for (number, suspect) in [(0, false), (1, false), (2, true)] {
            let place = Place {
                source: partition(number),
                offset: 0,
                index: 0,
                received_at,
            };
            let judged = Judged {
                window: TumblingWindow::new(60).containing(event.event_ts),
                late: false,
                suspect,
            };
            batch.push_event(place, payload, &event, judged);
        }
        // new and stored already, new, and a suspect that was stored already
        assert_eq!(misjudged(&batch, &[0, 1, 2], &[1]), [partition(0)]);
        assert_eq!(misjudged(&batch, &[0, 1, 2], &[0, 1]), []);
    }
}
