//! Flushes as spans.

use clickstream_pipeline::engine::Flush;
use clickstream_telemetry::tracing as traces;
use tracing::Instrument as _;

use super::Writer;
use crate::{
    journeys::{arrive, flush_span},
    sink::SinkFault,
};

impl Writer {
    /// Commits one flush, within a span where this process has spans.
    pub(super) async fn flush(&mut self, mut flush: Flush) -> Result<(), SinkFault> {
        if !traces::is_on() {
            return self.commit(&mut flush).await;
        }
        let spans = &flush.batch.spans;
        let reach = |tp| spans.get(&tp).map(|span| (span.from, span.to));
        let (group, journeys) = self.shared.with(|state| {
            let journeys = state.journeys.take(reach);
            (state.journeys.group.clone(), journeys)
        });
        let span = flush_span(&flush, &group, &journeys);
        let done = self.commit(&mut flush).instrument(span.clone()).await;
        let failure = done.as_ref().err();
        if let Some(fault) = failure {
            traces::fail(&span, fault);
        }
        // a flush that waits for its repetition is still this one; what fails here is claimed and
        // read again
        arrive(
            journeys,
            &flush.fenced,
            failure.map(|fault| fault as &dyn std::fmt::Display),
        );
        done
    }
}
