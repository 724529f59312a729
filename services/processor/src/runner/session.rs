//! The session with PostgreSQL: what a failure means for it, and how it comes back.

use clickstream_pipeline::{commit::Remedy, ownership::Event};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{LOST_PAUSE, Writer, WriterFault, backoff, outcome};
use crate::{
    retry::{self, ErrorClass},
    sink::{self, ConnectError, PostgresSink, SinkFault},
};

impl Writer {
    /// After a failure: stop, or forget what is not certain any more and go on.
    pub(super) fn recover(&mut self, fault: SinkFault) -> Result<(), WriterFault> {
        use clickstream_pipeline::commit::Failure;
        match fault.remedy() {
            Remedy::Repeat { .. } => {
                // a claim or a piece of housekeeping: it is tried again with the next step
                warn!(error = %fault, "postgresql is not ready for this yet");
                self.sink = None;
                self.disconnected();
                Ok(())
            }
            Remedy::Reclaim => {
                warn!(error = %fault, "connection to postgresql lost; partitions are claimed again");
                self.shared.with(|state| state.refused = None);
                self.sink = None;
                self.disconnected();
                Ok(())
            }
            Remedy::Distrust | Remedy::DeadLetter { .. } | Remedy::Stop => Err(fault.into()),
        }
    }

    /// All claims went with the session: what is buffered is forgotten, and the position comes from
    /// the database again.
    pub(super) fn disconnected(&mut self) {
        self.metrics.sink_up.set(0);
        self.next = None;
        self.shared.with(|state| {
            state.sink_healthy = false;
            state.in_flight.clear();
            state.on(Event::SessionLost { pause: LOST_PAUSE });
        });
        self.shared.notify_reader();
    }

    pub(super) fn connected(&mut self, sink: PostgresSink) {
        self.attempts = 0;
        self.metrics.sink_up.set(1);
        self.sink = Some(sink);
        self.last_maintenance = None;
        self.shared.with(|state| state.sink_healthy = true);
    }

    pub(super) async fn reconnect(&mut self, stop: &CancellationToken) -> Result<(), SinkFault> {
        if self.sink.take().is_some() {
            warn!("session with postgresql ended; partitions are claimed again");
            self.disconnected();
        }
        let settings = &self.settings;
        let opened = sink::connect(
            &settings.postgres,
            &settings.schema,
            &sink::application(&settings.owner),
        )
        .await;
        match opened {
            Ok(connection) => {
                let sink = PostgresSink::new(
                    connection,
                    settings.topics.clone(),
                    settings.durability,
                    settings.owner.clone(),
                )
                .await?;
                info!(attempts = self.attempts, "connected to postgresql again");
                self.connected(sink);
            }
            Err(failure) => {
                self.attempts += 1;
                // it is away now, whatever it said before
                self.shared.with(|state| state.refused = None);
                let class = match &failure {
                    ConnectError::Refused { source, .. } => retry::class_of(source),
                    ConnectError::Silent { .. } => ErrorClass::Timeout,
                    _ => ErrorClass::Other,
                };
                self.metrics
                    .postgres_error(class, outcome::word(&Remedy::Reclaim));
                let pause = backoff(self.attempts);
                warn!(error = %failure, attempts = self.attempts, pause_ms = pause.as_millis(), "cannot connect to postgresql");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        Ok(())
    }
}
