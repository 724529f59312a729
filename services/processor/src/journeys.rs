//! The way of sampled events from Kafka to the commit, as spans.
//!
//! ```text
//! producer: send ──header──> process (here, read to committed) ─> flush ─> fence, copy, insert, aggregates, advance, commit
//!                            process ────────────link──────────────┘
//! ```
//! A flush is a child of the first sampled event in it, so that one trace tells the whole way; it
//! links to the senders of all of them, and theirs link to it.

use std::time::{Duration, Instant};

use clickstream_pipeline::{
    engine::Flush,
    offset::{NextOffset, TopicPartition},
};
use clickstream_telemetry::tracing::{
    self as traces, MAX_LINKS, RemoteSpan, TRACEPARENT, TRACESTATE,
};
use rdkafka::message::Headers;
use tracing::{Span, debug_span};

/// Sampled events that wait for their commit at most; an older one is given up for a newer one.
const MOST_WAITING: usize = 256;
/// Sampled events that are followed, a second. At the default ratio there are so many at 640,000
/// events a second; more come from clients that sample everything, and are not worth the spans.
const MOST_A_SECOND: u32 = 64;
/// Headers of a record that are looked through: anybody may write thousands.
const MOST_HEADERS: usize = 32;

/// Sampled events that were read and are not committed yet.
#[derive(Default)]
pub struct Journeys {
    /// Consumer group that reads, as spans tell it.
    pub group: String,
    waiting: Vec<Journey>,
    second: Option<Instant>,
    begun: u32,
}

/// One sampled event.
pub struct Journey {
    source: TopicPartition,
    offset: i64,
    sent: RemoteSpan,
    span: Span,
}

/// The span that sent this record, if it is sampled. To be asked only while [`traces::is_on`].
pub fn sent_by(headers: &impl Headers) -> Option<RemoteSpan> {
    let mut parent = None;
    let mut state = None;
    for header in headers.iter().take(MOST_HEADERS) {
        let place = match header.key {
            TRACEPARENT => &mut parent,
            TRACESTATE => &mut state,
            _ => continue,
        };
        // of two with the same name nobody can say which is meant
        if place.replace(header.value?).is_some() {
            return None;
        }
    }
    RemoteSpan::from_headers(parent?, state)
}

impl Journeys {
    /// Follows an event that was just read.
    pub fn begin(
        &mut self,
        topic: &str,
        source: TopicPartition,
        offset: i64,
        sent: RemoteSpan,
        now: Instant,
    ) {
        let fresh = self
            .second
            .is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1));
        if fresh {
            self.second = Some(now);
            self.begun = 0;
        }
        if self.begun == MOST_A_SECOND {
            return;
        }
        self.begun += 1;
        // read again after a claim
        self.waiting
            .retain(|other| (other.source, other.offset) != (source, offset));
        if self.waiting.len() == MOST_WAITING {
            self.waiting.remove(0);
        }
        let span = debug_span!(
            parent: None,
            "process",
            otel.name = format!("process {topic}"),
            otel.kind = "consumer",
            messaging.system = "kafka",
            messaging.operation.name = "process",
            messaging.operation.r#type = "process",
            messaging.destination.name = topic,
            messaging.destination.partition.id = source.partition.to_string(),
            messaging.consumer.group.name = self.group,
            messaging.kafka.offset = offset,
        );
        sent.adopt(&span);
        self.waiting.push(Journey {
            source,
            offset,
            sent,
            span,
        });
    }

    /// The events that a flush holds, as many as one span may link to. `reach` says from where to
    /// where it moves a partition.
    pub fn take(
        &mut self,
        reach: impl Fn(TopicPartition) -> Option<(NextOffset, NextOffset)>,
    ) -> Vec<Journey> {
        let mut taken = Vec::new();
        let mut index = 0;
        while let Some(journey) = self.waiting.get(index) {
            let from = match reach(journey.source) {
                Some((from, to)) if to.covers(journey.offset) => from,
                _ => {
                    index += 1;
                    continue;
                }
            };
            let journey = self.waiting.remove(index);
            if from.covers(journey.offset) {
                journey.give_up("committed by an earlier owner");
            } else if taken.len() < MAX_LINKS as usize {
                taken.push(journey);
            }
        }
        taken
    }

    /// Gives up what was read of a partition that is not this process's any more.
    pub fn forget(&mut self, source: TopicPartition) {
        self.waiting.retain(|journey| {
            let stays = journey.source != source;
            if !stays {
                journey.give_up("the partition moved on before the commit");
            }
            stays
        });
    }
}

impl Journey {
    fn give_up(&self, why: &str) {
        traces::fail(&self.span, why);
    }
}

/// The span of a flush by a member of `group`, which these events lead to.
pub fn flush_span(flush: &Flush, group: &str, journeys: &[Journey]) -> Span {
    let span = debug_span!(
        parent: None,
        "flush",
        otel.kind = "consumer",
        messaging.system = "kafka",
        messaging.operation.name = "process",
        messaging.operation.r#type = "process",
        messaging.consumer.group.name = group,
        messaging.batch.message_count = flush.batch.rows.len() + flush.batch.dead_letters.len(),
        clickstream.rows = flush.batch.rows.len(),
        clickstream.dead_letters = flush.batch.dead_letters.len(),
        clickstream.partitions = flush.batch.spans.len(),
        clickstream.bytes = flush.batch.bytes(),
    );
    if let Some(first) = journeys
        .first()
        .and_then(|first| RemoteSpan::of(&first.span))
    {
        first.adopt(&span);
    }
    for journey in journeys {
        journey.sent.link(&span);
    }
    if let Some(this) = RemoteSpan::of(&span) {
        for journey in journeys {
            this.link(&journey.span);
        }
    }
    span
}

/// Ends what a flush took along; `failure` says why it was not committed.
pub fn arrive(
    journeys: Vec<Journey>,
    fenced: &[TopicPartition],
    failure: Option<&dyn std::fmt::Display>,
) {
    for journey in journeys {
        match failure {
            Some(failure) => traces::fail(&journey.span, failure),
            None if fenced.contains(&journey.source) => {
                journey.give_up("fenced: another owner has claimed the partition");
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use clickstream_pipeline::offset::TopicId;

    use super::*;

    const SENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition {
            topic: TopicId(1),
            partition,
        }
    }

    fn read(journeys: &mut Journeys, source: i32, offset: i64, now: Instant) {
        let sent = RemoteSpan::from_headers(SENT, None).unwrap();
        journeys.begin("clicks", partition(source), offset, sent, now);
    }

    fn reach(
        source: i32,
        from: i64,
        to: i64,
    ) -> impl Fn(TopicPartition) -> Option<(NextOffset, NextOffset)> {
        move |asked| {
            (asked == partition(source)).then(|| (NextOffset::at(from), NextOffset::at(to)))
        }
    }

    fn offsets(taken: &[Journey]) -> Vec<i64> {
        taken.iter().map(|journey| journey.offset).collect()
    }

    #[test]
    fn a_flush_takes_what_it_holds_and_leaves_the_rest() {
        let mut journeys = Journeys::default();
        let now = Instant::now();
        for offset in [3, 5, 9, 10] {
            read(&mut journeys, 0, offset, now);
        }
        read(&mut journeys, 1, 5, now);
        // 3 was committed before the claim
        assert_eq!(offsets(&journeys.take(reach(0, 5, 10))), [5, 9]);
        assert_eq!(offsets(&journeys.take(reach(0, 10, 20))), [10]);
        assert_eq!(offsets(&journeys.take(reach(1, 0, 6))), [5]);
        assert!(journeys.waiting.is_empty());
    }

    #[test]
    fn an_event_that_is_read_again_is_one_event() {
        let mut journeys = Journeys::default();
        read(&mut journeys, 0, 5, Instant::now());
        read(&mut journeys, 0, 5, Instant::now());
        assert_eq!(offsets(&journeys.take(reach(0, 0, 9))), [5]);
    }

    #[test]
    fn clients_that_sample_everything_are_held_to_so_many_a_second_and_a_flush() {
        let mut journeys = Journeys::default();
        let now = Instant::now();
        for offset in 0..1_000 {
            read(&mut journeys, 0, offset, now);
        }
        assert_eq!(journeys.waiting.len(), MOST_A_SECOND as usize);
        assert_eq!(journeys.take(reach(0, 0, 1_000)).len(), MAX_LINKS as usize);
        assert!(journeys.waiting.is_empty());
        for second in 1..100 {
            for offset in 0..100 {
                read(
                    &mut journeys,
                    0,
                    second * 1_000 + offset,
                    now + Duration::from_secs(second as u64),
                );
            }
        }
        assert_eq!(journeys.waiting.len(), MOST_WAITING);
    }

    #[test]
    fn a_partition_that_is_gone_leaves_nothing_behind() {
        let mut journeys = Journeys::default();
        read(&mut journeys, 0, 5, Instant::now());
        read(&mut journeys, 1, 5, Instant::now());
        journeys.forget(partition(0));
        assert_eq!(journeys.waiting.len(), 1);
    }
}
