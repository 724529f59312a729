//! What librdkafka logs. rust-rdkafka has it wait in the client's main queue, which its consumers
//! and producers poll and its administrator's client does not: nobody would hear it, and it would
//! pile up.

use rdkafka::{
    bindings as ffi,
    client::{Client, ClientContext},
};

use crate::owned;

/// Takes what has been logged since the last call, oldest first, and tells each line with its
/// facility (`FAIL`: a broker, and what is wrong with it). Other events of the main queue are
/// dropped. For clients that nobody polls. Does not block.
pub fn hear<C: ClientContext>(client: &Client<C>, mut told: impl FnMut(&str, &str)) {
    // SAFETY: the handle lives as long as `client`; queue and events are destroyed here, exactly
    // once and after their last use; texts belong to the event and are copied before it is
    // destroyed.
    unsafe {
        let queue = ffi::rd_kafka_queue_get_main(client.native_ptr());
        loop {
            let event = ffi::rd_kafka_queue_poll(queue, 0);
            if event.is_null() {
                break;
            }
            let (mut facility, mut line, mut level) = (std::ptr::null(), std::ptr::null(), 0);
            let no_log =
                ffi::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level);
            if no_log == 0 {
                told(&owned(facility), &owned(line));
            }
            ffi::rd_kafka_event_destroy(event);
        }
        ffi::rd_kafka_queue_destroy(queue);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::{Duration, Instant};

    use rdkafka::{ClientConfig, admin::AdminClient, client::DefaultClientContext};

    use super::hear;

    #[test]
    fn an_administrator_hears_which_broker_fails_and_hears_it_once() {
        let client: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", "127.0.0.1:1")
            .set("reconnect.backoff.ms", "10000")
            .set("reconnect.backoff.max.ms", "10000")
            .create()
            .unwrap();
        let begun = Instant::now();
        let mut lines: Vec<(String, String)> = Vec::new();
        while !lines.iter().any(|(facility, _)| facility == "FAIL") {
            assert!(begun.elapsed() < Duration::from_secs(20), "{lines:?}");
            // a client without a request looks for a broker of its own accord
            client
                .inner()
                .fetch_metadata(None, Duration::from_millis(100))
                .ok();
            hear(client.inner(), |facility, line| {
                lines.push((facility.to_owned(), line.to_owned()));
            });
        }
        assert!(
            lines.iter().any(|(_, line)| line.contains("127.0.0.1:1")),
            "{lines:?}"
        );
        hear(client.inner(), |facility, line| {
            assert_ne!(facility, "FAIL", "told again: {line}");
        });
    }
}
