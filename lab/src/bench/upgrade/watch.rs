//! What writers do while the tables change: when their commits are seen, and how long they wait for
//! locks.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::{beside::Beside, stand::PARTITIONS};
use crate::checkpoints;

/// How often commits are looked for. The question waits with the writers while the checkpoints are
/// locked, and so sees the first commit after that.
const COMMITS: Duration = Duration::from_millis(5);
/// How often locks are looked at, which no lock holds up.
const LOCKS: Duration = Duration::from_millis(20);

/// Longest wait of a processor for a lock, in seconds, and whether a migration holds the lock that
/// flushes take first.
const QUESTION: &str = "
    select
        coalesce(max(extract(epoch from clock_timestamp() - locks.waitstart))
            filter (where not locks.granted and sessions.application_name like 'clickstream-processor%'), 0)::float8,
        coalesce(bool_or(locks.granted and locks.relation = $1 and locks.mode = 'AccessExclusiveLock'), false)
    from pg_locks as locks join pg_stat_activity as sessions using (pid)
    where sessions.application_name like 'clickstream-%'";

/// Two sessions on a thread of their own, until they are told to stop.
pub struct Watch(Beside<Seen>);

/// What they saw.
#[derive(Default)]
pub struct Seen {
    /// By partition, when its checkpoint was seen to have moved.
    commits: Vec<Vec<Instant>>,
    /// When a processor was seen to wait for a lock, and for how long it had.
    waits: Vec<(Instant, Duration)>,
    /// When the checkpoints were seen to be locked by a migration.
    locked: Vec<Instant>,
}

/// A stretch of time.
#[derive(Clone, Copy)]
pub struct Span {
    /// Its begin.
    pub from: Instant,
    /// Its end.
    pub to: Instant,
}

impl Watch {
    /// Begins to look at this schema.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(url: &str, schema: &str) -> anyhow::Result<Self> {
        let (url, schema) = (url.to_owned(), schema.to_owned());
        let watching = move |mut stopped: oneshot::Receiver<()>| async move {
            let (first, second) = tokio::join!(
                checkpoints::connect(&url, &schema),
                checkpoints::connect(&url, &schema)
            );
            let (first, second) = (first?, second?);
            let mut seen = Seen {
                commits: vec![Vec::new(); PARTITIONS as usize],
                ..Seen::default()
            };
            let Seen {
                commits,
                waits,
                locked,
            } = &mut seen;
            tokio::select! {
                _ = &mut stopped => {}
                ended = look_for_commits(&first, commits) => ended?,
                ended = look_at_locks(&second, waits, locked) => ended?,
            }
            Ok(seen)
        };
        Beside::start(watching).map(Self)
    }

    /// Stops, and tells what was seen.
    ///
    /// # Errors
    /// A session broke.
    pub async fn end(self) -> anyhow::Result<Seen> {
        self.0.end().await
    }
}

async fn look_for_commits(
    client: &tokio_postgres::Client,
    commits: &mut [Vec<Instant>],
) -> anyhow::Result<()> {
    let question = "select partition, next_offset from clickstream_checkpoints";
    let question = client.prepare(question).await?;
    let mut reached = vec![i64::MIN; commits.len()];
    loop {
        let rows = client.query(&question, &[]).await?;
        let now = Instant::now();
        for row in rows {
            let (partition, next): (i32, i64) = (row.get(0), row.get(1));
            let partition = usize::try_from(partition)?;
            if reached[partition] < next {
                reached[partition] = next;
                commits[partition].push(now);
            }
        }
        tokio::time::sleep(COMMITS).await;
    }
}

async fn look_at_locks(
    client: &tokio_postgres::Client,
    waits: &mut Vec<(Instant, Duration)>,
    locked: &mut Vec<Instant>,
) -> anyhow::Result<()> {
    // a name in the question would be looked up again after each change of a table, and wait for it
    let id = "select 'clickstream_checkpoints'::regclass::oid";
    let id: u32 = client.query_one(id, &[]).await?.get(0);
    let question = client.prepare(QUESTION).await?;
    loop {
        let row = client.query_one(&question, &[&id]).await?;
        let now = Instant::now();
        let wait: f64 = row.get(0);
        if wait > 0.0 {
            waits.push((now, Duration::from_secs_f64(wait)));
        }
        if row.get(1) {
            locked.push(now);
        }
        tokio::time::sleep(LOCKS).await;
    }
}

impl Seen {
    /// The longest time without a commit of anybody that touches `span`.
    pub fn standstill(&self, span: Span) -> Duration {
        let mut all: Vec<Instant> = self.commits.iter().flatten().copied().collect();
        all.sort_unstable();
        longest_gap(&all, span)
    }

    /// The same of any one partition.
    pub fn standstill_of_a_partition(&self, span: Span) -> Duration {
        let gaps = self.commits.iter().map(|seen| longest_gap(seen, span));
        gaps.max().unwrap_or_default()
    }

    /// The longest time for which a processor was seen to wait for a lock.
    pub fn wait(&self, span: Span) -> Duration {
        let within = self.waits.iter().filter(|(at, _)| span.holds(*at));
        within.map(|(_, wait)| *wait).max().unwrap_or_default()
    }

    /// The longest time for which the checkpoints were seen to be locked by a migration, look after
    /// look.
    pub fn locked(&self, span: Span) -> Duration {
        let (mut longest, mut begin) = (Duration::ZERO, None::<Instant>);
        let mut last = None::<Instant>;
        for at in self.locked.iter().copied().filter(|at| span.holds(*at)) {
            if last.is_none_or(|last| at - last > 4 * LOCKS) {
                begin = Some(at);
            }
            last = Some(at);
            longest = longest.max(begin.map_or(Duration::ZERO, |begin| at - begin));
        }
        longest
    }
}

impl Span {
    fn holds(self, at: Instant) -> bool {
        self.from <= at && at <= self.to
    }
}

/// Between two that follow each other, where that touches `span`; its ends count as well.
fn longest_gap(moments: &[Instant], span: Span) -> Duration {
    let before = moments.iter().copied().filter(|at| *at < span.from).max();
    let after = moments.iter().copied().filter(|at| *at > span.to).min();
    let within = moments.iter().copied().filter(|at| span.holds(*at));
    let edges = [before.unwrap_or(span.from)].into_iter().chain(within);
    let edges: Vec<Instant> = edges.chain([after.unwrap_or(span.to)]).collect();
    let gaps = edges.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_whole_where_it_reaches_into_the_time_that_is_asked_for() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let moments = [at(0), at(100), at(700), at(720), at(3_000)];
        let gap = |from, to| {
            let span = Span {
                from: at(from),
                to: at(to),
            };
            longest_gap(&moments, span).as_millis()
        };
        assert_eq!(gap(0, 90), 100);
        assert_eq!(gap(200, 710), 600);
        assert_eq!(gap(705, 715), 20);
        assert_eq!(gap(705, 800), 2_280);
        // nothing came after the end
        assert_eq!(gap(2_900, 9_000), 6_000);
    }
}
