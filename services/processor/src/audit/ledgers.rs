//! Dead letters and late events against the counters: below the stretch that was read, where no
//! record tells of them any more, they must be as many as were counted. Above, each record has been
//! asked for its own.

use anyhow::Result;
use clickstream_pipeline::spec::LatePolicy;
use serde::{Deserialize, de::IntoDeserializer};
use tokio_postgres::Client;

use super::{
    anchors::{Known, Start, oldest_known, policies},
    census::Census,
    proof::Proof,
    report::{Difference, Kind},
    retained::Retained,
    snapshot::Progress,
};

/// What one partition must hold below the stretch that was read.
#[derive(Debug)]
pub struct Below {
    /// Totals at the end.
    end: Known,
    /// Totals from which on every dead letter must be there.
    letters: Option<Known>,
    /// The same of late events.
    late: Option<Known>,
    /// Whether every late event since was kept, so that none may be missing.
    all_kept: bool,
}

impl Below {
    /// Where late rows among the events are counted from.
    pub fn late_from(&self) -> i64 {
        self.late.map_or(i64::MAX, |known| known.offset)
    }

    async fn find(
        client: &Client,
        progress: &Progress,
        start: &Start,
        retained: &Retained,
    ) -> Result<Self> {
        let (offset, counters) = match &start.anchor {
            Some(anchor) => (anchor.next.get(), &anchor.state.counters),
            None => (progress.next.get(), &progress.state.counters),
        };
        let end = Known {
            offset,
            rejected: counters.rejected,
            late: counters.late + counters.merged,
        };
        let letters = if retained.keeps_dead_letters() {
            Some(Known::default())
        } else {
            let kept = |time| !retained.dead_letter_may_be_gone(time);
            oldest_known(client, progress, offset, kept).await?
        };
        let kept = |time| !retained.late_event_may_be_gone(time);
        let late = oldest_known(client, progress, offset, kept).await?;
        let mut all_kept = true;
        if let Some(known) = late {
            for policy in policies(client, progress, known.offset..offset).await? {
                all_kept &= match named(policy.as_deref()) {
                    Some(LatePolicy::Divert) => true,
                    // late rows go with their day, uncounted
                    Some(LatePolicy::Merge | LatePolicy::Store) => !retained.days_were_dropped(),
                    _ => false,
                };
            }
        }
        Ok(Self {
            end,
            letters,
            late,
            all_kept,
        })
    }
}

impl Proof {
    /// What every partition must hold below the stretch that is read.
    pub(super) async fn below(&self) -> Result<Vec<Below>> {
        let mut all = Vec::with_capacity(self.starts.len());
        for (progress, start) in self.snapshot.progress.iter().zip(&self.starts) {
            all.push(Below::find(&self.client, progress, start, &self.retained).await?);
        }
        Ok(all)
    }

    /// Counts the ledgers, in statements that each look at one partition.
    pub(super) async fn compare_below(&mut self, all: &[Below], census: &Census) -> Result<()> {
        for (progress, below) in self.snapshot.progress.iter().zip(all) {
            let end = below.end;
            let mut differ = |kind, what: &str, from: Known, found: i64, counted: i64| {
                let detail = format!(
                    "below offset {}: {found} {what} since offset {}, but {counted} were counted",
                    end.offset, from.offset
                );
                let found =
                    Difference::new(kind, detail).of(&progress.topic, progress.tp.partition);
                self.differences.add(Some(progress.tp), found);
            };
            if let Some(from) = below.letters {
                let counted = end.rejected - from.rejected;
                let found = count(
                    &self.client,
                    "clickstream_dead_letters",
                    progress,
                    from,
                    end,
                )
                .await?;
                if found < counted {
                    differ(
                        Kind::MissingDeadLetter,
                        "dead letters",
                        from,
                        found,
                        counted,
                    );
                } else if found > counted {
                    differ(Kind::StrayDeadLetter, "dead letters", from, found, counted);
                }
            }
            if let Some(from) = below.late {
                let counted = end.late - from.late;
                let rows = census.get(&progress.tp).map_or(0, |rows| rows.late_below);
                let found = rows
                    + count(&self.client, "clickstream_late_events", progress, from, end).await?;
                if found < counted && below.all_kept {
                    differ(Kind::MissingLateEvent, "late events", from, found, counted);
                } else if found > counted {
                    differ(Kind::StrayLateEvent, "late events", from, found, counted);
                }
            }
        }
        Ok(())
    }
}

async fn count(
    client: &Client,
    table: &str,
    progress: &Progress,
    from: Known,
    end: Known,
) -> Result<i64> {
    let row = client
        .query_one(
            &format!(
                "select count(*) from {table} where topic = $1 and partition = $2 and source_offset >= $3 and source_offset < $4"
            ),
            &[&progress.topic, &progress.tp.partition, &from.offset, &end.offset],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// A policy by its name; `None` for one that this version does not know.
fn named(policy: Option<&str>) -> Option<LatePolicy> {
    let name = policy?.into_deserializer();
    LatePolicy::deserialize::<serde::de::value::StrDeserializer<'_, serde::de::value::Error>>(name)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_the_names_that_anchors_are_written_with() {
        for policy in [
            LatePolicy::Merge,
            LatePolicy::Divert,
            LatePolicy::Store,
            LatePolicy::Drop,
        ] {
            let written = serde_json::json!(policy);
            assert_eq!(named(written.as_str()), Some(policy));
        }
        assert_eq!(named(Some("Merge of later")), None);
        assert_eq!(named(None), None);
    }
}
