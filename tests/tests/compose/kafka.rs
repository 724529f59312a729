//! Kafka's published port.

use std::time::Duration;

use clickstream_testbed::unique_name;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::json;

use crate::stack::Stack;

/// An event that a program on this machine sends, as the one in docs/quickstart.md does inside,
/// becomes a row.
pub async fn takes_an_event_from_this_machine(stack: &Stack) -> anyhow::Result<()> {
    let user = unique_name("outside");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let event = json!({
        "event_id": uuid::Uuid::new_v4(),
        "user_id": user,
        "event_ts": u64::try_from(now.as_millis())?,
        "url": "https://shop.example/",
    });
    let servers = format!("127.0.0.1:{}", stack.kafka);
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .create()?;
        let payload = event.to_string();
        let record = BaseRecord::to("clickstream")
            .key("outside")
            .payload(&payload);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(Duration::from_secs(30))
    })
    .await??;
    let stored = format!("select exists (select from clickstream_events where user_id = '{user}')");
    stack
        .eventually("an event from this machine", &stored)
        .await
}
