//! Claims: taking over a partition, so that every earlier owner is refused by the database from
//! then on.
//!
//! A claim first ends the previous owner's session if it still lives: a client frozen in the middle
//! of a COPY holds index entries and locks that no time-out can free. A partition that its owner
//! has released (see `release`) names no session.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use clickstream_pipeline::{
    checkpoint::Counters,
    engine::{Claim, Recovered},
    event::EventTime,
    offset::{NextOffset, TopicPartition},
    ownership::{ClaimRequest, Claimed, Grant, Obstacle},
    spec::SemanticSpec,
    watermark::EventClock,
};
use rand::{Rng, RngExt as _};
use tokio_postgres::Client;
use tracing::warn;
use uuid::{Builder, Uuid};

use super::{
    PostgresSink, SinkFault,
    anchors::{Anchors, Why},
    transaction::answered,
};

/// How many lanes there are; more writers than that share lanes, which is slower and just as safe.
const LANES: i16 = 32;
/// How long a session that is told to end may take.
const TERMINATE_WAIT: Duration = Duration::from_secs(3);

impl PostgresSink {
    /// Claims partitions, all in one synchronous transaction, and returns where each goes on. From
    /// there on the anchors say that these rules are in force.
    ///
    /// # Errors
    /// [`SinkFault`]; then nothing is claimed.
    pub async fn claim(
        &mut self,
        requests: &[ClaimRequest],
        rules: &Arc<SemanticSpec>,
    ) -> Result<HashMap<TopicPartition, Claimed>, SinkFault> {
        let topics: Vec<String> = requests
            .iter()
            .map(|r| self.topic(r.partition.topic).to_owned())
            .collect();
        let partitions: Vec<i32> = requests.iter().map(|r| r.partition.partition).collect();
        self.end_previous_owners(&topics, &partitions).await?;

        let (pid, start) = (self.connection.backend_pid, self.connection.backend_start);
        let tx = answered(self.connection.client.transaction()).await?;
        answered(
            tx.batch_execute("set local lock_timeout = '5s'; set local synchronous_commit = on"),
        )
        .await?;
        let starts: Vec<i64> = requests.iter().map(|r| r.log_start).collect();
        // never seen: begins at the beginning of the log, explicitly
        answered(tx.execute(
            "insert into clickstream_checkpoints (topic, partition, epoch, claim_token, next_offset, clock_times, owner, backend_pid, backend_start)
             select topic, partition, 0, gen_random_uuid(), log_start, '{}', '', 0, 'epoch'
             from unnest($1::text[], $2::int[], $3::bigint[]) as new (topic, partition, log_start)
             order by topic, partition
             on conflict (topic, partition) do nothing",
            &[&topics, &partitions, &starts],
        ))
        .await?;
        let mut claimed = HashMap::new();
        for (request, topic) in requests.iter().zip(&topics) {
            let tp = request.partition;
            let row = answered(tx.query_one(
                "select next_offset from clickstream_checkpoints where topic = $1 and partition = $2 for update",
                &[topic, &tp.partition],
            ))
            .await?;
            let next: i64 = row.get(0);
            if next > request.log_end {
                claimed.insert(
                    tp,
                    Claimed::Halted(Obstacle::LogShrunk {
                        log_end: request.log_end,
                        next,
                    }),
                );
                continue;
            }
            let gap = (next < request.log_start).then_some(next..request.log_start);
            if let Some(gap) = &gap {
                answered(tx.execute(
                    "insert into clickstream_gaps (topic, partition, first_offset, next_offset) values ($1, $2, $3, $4) on conflict do nothing",
                    &[topic, &tp.partition, &gap.start, &gap.end],
                ))
                .await?;
            }
            let gaps = answered(tx.query(
                "select first_offset, next_offset from clickstream_gaps where topic = $1 and partition = $2 order by 1",
                &[topic, &tp.partition],
            ))
            .await?
            .iter()
            .map(|row| row.get(0)..row.get(1))
            .collect();
            let token = random_token();
            let row = answered(tx.query_one(
                "update clickstream_checkpoints
                 set epoch = epoch + 1, claim_token = $3, next_offset = greatest(next_offset, $4), owner = $5,
                     backend_pid = $6, backend_start = $7, session_key = $8, idle_since = null, updated_at = clock_timestamp()
                 where topic = $1 and partition = $2
                 returning epoch, next_offset, clock_t, clock_times, consumed, accepted, duplicate, rejected, late, skipped,
                     revised, merged",
                &[topic, &tp.partition, &token, &request.log_start, &self.owner, &pid, &start, &self.session_key],
            ))
            .await?;
            let epoch: i64 = row.get(0);
            let recovered = Recovered {
                claim: Claim { token, epoch },
                next: NextOffset::at(row.get(1)),
                clock: clock(row.get(2), row.get(3)),
                first: epoch == 1,
                rules: Arc::clone(rules),
            };
            let totals = Counters {
                consumed: row.get(4),
                accepted: row.get(5),
                duplicate: row.get(6),
                rejected: row.get(7),
                late: row.get(8),
                skipped: row.get(9),
                revised: row.get(10),
                merged: row.get(11),
            };
            claimed.insert(
                tp,
                Claimed::Ours(Grant {
                    recovered: Box::new(recovered),
                    totals,
                    gap,
                    gaps,
                }),
            );
        }
        let mut anchors = Anchors::default();
        for (request, topic) in requests.iter().zip(&topics) {
            if let Claimed::Ours(grant) = &claimed[&request.partition] {
                let token = grant.recovered.claim.token;
                anchors.add(topic, request.partition.partition, token, rules);
            }
        }
        anchors.write(&tx, Why::Claim).await?;
        answered(tx.commit()).await?;
        Ok(claimed)
    }

    /// Ends the sessions of earlier owners that still live. Process id, start and application name
    /// must all match, so that a process id that is used again is never hit.
    async fn end_previous_owners(
        &self,
        topics: &[String],
        partitions: &[i32],
    ) -> Result<(), SinkFault> {
        let ended = answered(self.connection.client.query(
            "select backends.pid, pg_terminate_backend(backends.pid, $3)
             from (
                 select distinct points.backend_pid, points.backend_start
                 from clickstream_checkpoints as points
                 join unnest($1::text[], $2::int[]) as wanted (topic, partition)
                   on points.topic = wanted.topic and points.partition = wanted.partition
             ) as owners
             join pg_stat_activity as backends
               on backends.pid = owners.backend_pid and backends.backend_start = owners.backend_start
              and backends.application_name like 'clickstream-processor%'
             where backends.pid <> pg_backend_pid()",
            &[&topics, &partitions, &i64::try_from(TERMINATE_WAIT.as_millis()).unwrap_or(i64::MAX)],
        ))
        .await?;
        for row in ended {
            let (pid, gone): (i32, bool) = (row.get(0), row.get(1));
            warn!(pid, gone, "ended the session of a previous owner");
        }
        Ok(())
    }
}

/// Takes the smallest lane that no other live session of this schema holds.
pub(super) async fn take_lane(client: &Client) -> Result<i16, SinkFault> {
    for lane in 0..LANES {
        let row = answered(client.query_one(
            "select pg_try_advisory_lock(hashtext('clickstream lane ' || current_schema()), $1)",
            &[&i32::from(lane)],
        ))
        .await?;
        if row.get(0) {
            return Ok(lane);
        }
    }
    Ok(0)
}

/// Takes an advisory lock of this session's own, whose key claims write into the checkpoints:
/// whoever sees the lock, and every role does, knows that the owner lives.
pub(super) async fn take_session_key(client: &Client) -> Result<i64, SinkFault> {
    loop {
        let key = rand::rng().random_range(1..=i64::MAX);
        let row = answered(client.query_one("select pg_try_advisory_lock($1)", &[&key])).await?;
        // somebody else's key, once in the life of the universe
        if row.get(0) {
            return Ok(key);
        }
    }
}

fn clock(t: Option<DateTime<Utc>>, times: Vec<DateTime<Utc>>) -> EventClock {
    let time = |t: DateTime<Utc>| EventTime::from_micros(t.timestamp_micros());
    let times: Vec<EventTime> = times.into_iter().map(time).collect();
    EventClock::restore(t.map(time), &times)
}

/// A fencing token from the system's random source.
fn random_token() -> Uuid {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    Builder::from_random_bytes(bytes).into_uuid()
}
