//! The commit protocol: one transaction holds everything a flush means.
//!
//! ```text
//! begin ─ fence ─ rows (copy | insert on conflict) ─ ledgers ─ admitted pages ─ hits ─ anchors of new rules ─ advance ─ commit
//! ```
//! The protocol is written once against [`Sink`] and [`Transaction`]; PostgreSQL and the
//! simulation's in-memory database implement them. Nothing here waits on a clock: how long to back
//! off before a repetition is the caller's business.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashSet},
};

use foldhash::fast::RandomState;
use uuid::Uuid;

use self::{
    late::judge_late,
    refused::{find_refused, find_stored},
};
use crate::{
    admission::{AdmittedPages, Folding, LOOKED_UP_AT_ONCE},
    batch::Batch,
    checkpoint::CheckpointDelta,
    engine::Flush,
    event::{Day, EventTime},
    offset::TopicPartition,
    settle::{Aggregates, Judgement, Plan, in_order_of_arrival, in_parts, parts_of, pieces},
    spec::LatePolicy,
    window::TumblingWindow,
};

mod late;
mod protocol;
mod refused;

pub use protocol::{Advance, Failure, Position, Remedy, Sink, StoredTwin, Transaction};

/// Below this many rows one `insert .. on conflict` (a single round trip) is quicker than a COPY
/// (three).
const SMALL_FLUSH: usize = 64;

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

/// How often a flush may look for a refused row before its constraint is taken for something else
/// than a row's fault.
const MAX_REFUSED: usize = 10_000;

/// Commits a flush by its own rules; everything before `final_until` was already reported final.
/// Rows that the database refuses become dead letters of the same flush; a row wrongly taken for
/// new makes every row a suspect; both repeat at once. Every other failure is handed back and the
/// flush stays as it is. `pages` is what the same caller's flushes before have learnt; it may be
/// empty.
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
                    // the refused row may be a later one of a key that the filter forgot: such rows
                    // are tried by COPY only
                    distrust = true;
                    continue;
                }
                if found.is_empty() {
                    // no row is refused by itself: the cause lies elsewhere, and guessing would
                    // lose events
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
    // which page is admitted follows from all accepted rows before it, and from what was admitted
    // before the flush
    let unknown = match &mut folding {
        Some(folding) if plan.suspects.is_empty() => !folding
            .unknown(parts_of(batch, &plan.new, policy))
            .is_empty(),
        folding => folding.is_some(),
    };
    let mut hits = None;
    if !plan.new.is_empty() {
        // the verdict on these rows is known if the COPY succeeds: they are counted while the
        // server writes them
        let count = || {
            match &mut folding {
                None => aggregates.add(batch, &in_order_of_arrival(&plan.new)),
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

/// Counts accepted rows, sorted by part, with the pages looked up of so many parts at a time: an
/// event each of thousands of windows needs no more memory than that.
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
