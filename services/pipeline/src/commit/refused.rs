//! Which rows the database refuses for what they hold.

use std::collections::BTreeSet;

use super::{Failure as _, Remedy, Sink, Transaction as _, by_key};
use crate::{batch::Batch, settle::Plan, spec::LatePolicy};

/// Finds the rows that the database refuses by themselves, by halving, in transactions that are
/// rolled back. Ascending.
pub(super) async fn find_refused<S: Sink>(
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

/// Which refused rows are duplicates of stored events. Within a flush a later row of a key is a
/// duplicate without being tried, so it must be one in the next flush as well: where flushes are
/// cut decides nothing.
pub(super) async fn find_stored<S: Sink>(
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
