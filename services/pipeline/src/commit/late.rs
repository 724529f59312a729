//! Which late rows are duplicates.

use std::collections::BTreeSet;

use super::{Transaction, by_key};
use crate::{
    batch::{Batch, Row},
    spec::LatePolicy,
};

/// Which late rows are no duplicates, either of a stored event or of one in the late ledger.
///
/// The ledger is written first and looked up against the events afterwards, so that the answer
/// holds at the place that the ledger's unique key gives this transaction among the others. A twin
/// that this very flush stored counts only if it comes before the late row in the log.
pub(super) async fn judge_late<T: Transaction>(
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
