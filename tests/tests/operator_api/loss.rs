//! Records that Kafka dropped: what is known of them stays until a person acknowledges it.

use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::unique_name;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    processor::{Processor, running},
    stage::{Migrations, Stage, condition},
};

/// The same processor with a gap in its first partition.
fn with_gap(topic: &str, gap: [i64; 2]) -> Value {
    let mut status = running(topic, &[0, 1, 2]);
    status["partitions"][0]["gaps"] = json!([gap]);
    status
}

async fn acknowledge(stage: &Stage, gaps: &str) -> anyhow::Result<()> {
    let annotation =
        json!({ "metadata": { "annotations": { "clickstream.dev/acknowledged-gaps": gaps } } });
    stage
        .all::<ClickstreamPipeline>()
        .patch("shop", &PatchParams::default(), &Patch::Merge(&annotation))
        .await?;
    Ok(())
}

fn gaps(pipeline: &ClickstreamPipeline) -> Value {
    json!(pipeline.status)["targets"][0]["gaps"].clone()
}

#[tokio::test]
async fn a_loss_stays_told_until_it_is_acknowledged_whoever_answers() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let wanted = |changes: Value| stage.pipeline("shop", &topic, changes);
    stage.apply(&wanted(json!({}))).await?;
    stage
        .condition("shop", "ProcessorsAvailable", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    // what nobody has told is not known
    stage
        .condition("shop", "DataLossDetected", "Unknown", "NotReported")
        .await?;
    let processor = Processor::start(&stage, "shop", "p-0", running(&topic, &[0, 1])).await?;
    processor.says(running(&topic, &[0, 1, 2])).await?;
    stage
        .condition("shop", "DataLossDetected", "False", "NoLoss")
        .await?;
    processor.says(with_gap(&topic, [1200, 1500])).await?;
    let lost = stage
        .condition("shop", "DataLossDetected", "True", "RecordsLost")
        .await?;
    let name = format!("default/{topic}/0/1200-1500");
    let (_, _, message) = condition(&lost, "DataLossDetected").unwrap_or_default();
    assert!(message.contains(&name), "{message}");
    assert_eq!(gaps(&lost), json!([name]));

    // another owner that knows of nothing, then none at all, then a pipeline at rest
    processor.says(running(&topic, &[0, 1, 2])).await?;
    stage
        .apply(&wanted(json!({ "processor": { "lagTarget": 10 } })))
        .await?;
    stage
        .condition("shop", "LagWithinTarget", "True", "")
        .await?;
    stage
        .condition("shop", "DataLossDetected", "True", "RecordsLost")
        .await?;
    processor.goes().await?;
    stage.apply(&wanted(json!({ "suspend": true }))).await?;
    stage.condition("shop", "Suspended", "True", "").await?;
    let still = stage
        .condition("shop", "DataLossDetected", "True", "RecordsLost")
        .await?;
    assert_eq!(gaps(&still), json!([name]));
    let events = stage.events("shop").await?;
    assert!(!events.contains(&"NoLoss".to_owned()), "{events:?}");

    // a refused spec withdraws nothing, and can be acknowledged under
    stage
        .apply(&wanted(
            json!({ "suspend": true, "window": { "size": "5m" } }),
        ))
        .await?;
    stage.condition("shop", "Stalled", "True", "").await?;
    stage
        .condition("shop", "DataLossDetected", "True", "RecordsLost")
        .await?;
    acknowledge(&stage, &name).await?;
    let over = stage
        .condition("shop", "DataLossDetected", "False", "NoLoss")
        .await?;
    assert_eq!(gaps(&over), Value::Null);

    // what a processor goes on telling stays acknowledged; what is new is told
    stage.apply(&wanted(json!({}))).await?;
    let mut both = with_gap(&topic, [1200, 1500]);
    both["partitions"][1]["gaps"] = json!([[3, 9]]);
    let _processor = Processor::start(&stage, "shop", "p-1", both).await?;
    let lost = stage
        .condition("shop", "DataLossDetected", "True", "RecordsLost")
        .await?;
    assert_eq!(gaps(&lost), json!([format!("default/{topic}/1/3-9")]));
    Ok(())
}
