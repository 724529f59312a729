//! Records on their way into the engine.

use std::time::Instant;

use clickstream_kafka::Record as Polled;
use clickstream_pipeline::{
    engine::{Intake, Record, received_at},
    event::EventTime,
};
use clickstream_telemetry::tracing as traces;

use super::context::SourceContext;
use crate::{heartbeat, journeys, shared::Shared};

/// Hands one record to the engine; tells whether the buffer is full now.
pub fn take(shared: &Shared, context: &SourceContext, polled: &Polled<'_>) -> bool {
    let topic = polled.topic();
    let Some(tp) = context.partition(topic, polled.partition()) else {
        return false;
    };
    if context.identity.obstacle(topic).is_some() {
        // of another log; the partition is halted with the next step
        return true;
    }
    let received_at = received_at(polled.timestamp_millis());
    if received_at < EventTime::MIN {
        context.metrics.implausible.inc();
    }
    let value = polled.value();
    let record = Record {
        offset: polled.offset(),
        received_at,
        value,
        // headers are looked at where there is no event only
        heartbeat: match value {
            Some(_) => None,
            None => polled
                .headers()
                .and_then(|headers| heartbeat::sent_at(&headers, received_at)),
        },
    };
    // looked for only where somebody wants to know: a topic's records may carry many headers
    let sent = match traces::is_on() {
        true => polled
            .headers()
            .and_then(|headers| journeys::sent_by(&headers)),
        false => None,
    };
    let (taken, first, full) = shared.with(|state| {
        let first = state.engine.is_empty();
        let taken = state.engine.record(tp, record);
        if let (Intake::Buffered, Some(sent)) = (taken, sent) {
            state
                .journeys
                .begin(topic, tp, polled.offset(), sent, Instant::now());
        }
        (taken, first, state.is_full(shared.limits()))
    });
    match taken {
        Intake::Buffered | Intake::Heartbeat => {
            context.metrics.decoded.inc();
            // a writer that is busy looks for more by itself when it is done
            if first {
                shared.wake_writer();
            }
        }
        Intake::Skipped => context.metrics.decoded.inc(),
        Intake::Stale => context.metrics.stale.inc(),
        Intake::Unassigned => {}
    }
    full
}
