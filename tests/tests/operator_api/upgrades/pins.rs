//! Pipelines with a pinned image: their pods stay as another release made them, until a person
//! changes them.

use super::*;

#[tokio::test]
async fn pinned_ones_wait_their_turn_where_the_operators_settings_change_their_pods()
-> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let pinned = json!({ "image": "clickstream/processor:pinned" });
    for name in ["first", "second"] {
        let pipeline = stage.pipeline(name, &unique_name("clicks"), pinned.clone());
        stage.apply(&pipeline).await?;
    }
    for name in ["first", "second"] {
        stage
            .condition(name, "Ready", "True", "")
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
    }
    operator.kill()?;
    let both = ["first", "second"];
    let before = generations_of(&stage, &both).await?;
    // another image is none of theirs
    let of = |pipeline: &ClickstreamPipeline| json!(pipeline.status)["release"].clone();
    let old = of(&stage.all::<ClickstreamPipeline>().get("first").await?);
    let operator = stage.operator_with(&["--processor-image", NEW])?;
    for name in both {
        stage
            .pipeline_when(name, "of the new release", |now| of(now) != old)
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
    }
    assert_eq!(generations_of(&stage, &both).await?, before);
    operator.kill()?;
    // nobody brings Deployments up: the first one does not become Ready
    stage.stop_playing();
    let options = ["--processor-image", NEW, "--image-pull-policy", "Always"];
    let operator = stage.operator_with(&options)?;
    let (_, waits) = turns(&stage, &operator).await?;
    let index = usize::from(waits == "second");
    let now = generations_of(&stage, &both).await?;
    assert_eq!(now[index], before[index]);
    assert_ne!(now[1 - index], before[1 - index]);
    stage.play(Migrations::Succeed);
    until("rolled as well", &operator, || async {
        Ok(generations_of(&stage, &both).await?[index] != before[index])
    })
    .await
}

/// How long a processor's pod may take to end; today's operator says 45.
async fn grace(stage: &Stage, pipeline: &str) -> anyhow::Result<Option<i64>> {
    let template = deployment(stage, pipeline)
        .await?
        .spec
        .context("no spec")?
        .template;
    Ok(template
        .spec
        .context("no pod")?
        .termination_grace_period_seconds)
}

/// A pinned pipeline `shop` whose pods are as a release made them that made pods otherwise, and
/// noted nothing of what people had said about them. No operator runs. Returns the topic.
async fn pinned_as_another_made_it(stage: &Stage) -> anyhow::Result<String> {
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let pinned = json!({ "image": "clickstream/processor:pinned" });
    stage.apply(&stage.pipeline("shop", &topic, pinned)).await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    operator.kill()?;
    let made = deployment(stage, "shop").await?;
    let labels = json!({
        "clickstream.dev/release": "0.0.9-another",
        "clickstream.dev/template-hash": "another",
        "clickstream.dev/inputs-hash": null,
    });
    let otherwise = json!({
        "metadata": { "labels": labels },
        "spec": { "template": { "spec": { "terminationGracePeriodSeconds": 46 } } },
    });
    stage
        .all::<Deployment>()
        .patch(
            &made.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&otherwise),
        )
        .await?;
    let unknown = json!({ "status": { "accepted": null } });
    stage
        .all::<ClickstreamPipeline>()
        .patch_status("shop", &PatchParams::default(), &Patch::Merge(&unknown))
        .await?;
    Ok(topic)
}

#[tokio::test]
async fn a_pinned_one_keeps_the_pods_that_another_release_made_until_a_person_changes_them()
-> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let topic = pinned_as_another_made_it(&stage).await?;
    let label = |deployment: &Deployment, key: &str| deployment.labels().get(key).cloned();
    let mut operator = stage.operator_with(&["--processor-image", NEW])?;
    until("noted", &operator, || async {
        let noted = label(
            &deployment(&stage, "shop").await?,
            "clickstream.dev/inputs-hash",
        );
        Ok(noted.is_some())
    })
    .await?;
    let before = generations_of(&stage, &["shop"]).await?;
    for wanted in [3, 4] {
        operator.kill()?;
        operator = stage.operator_with(&["--processor-image", NEW])?;
        let more = json!({
            "image": "clickstream/processor:pinned",
            "processor": { "replicas": wanted },
        });
        stage.apply(&stage.pipeline("shop", &topic, more)).await?;
        until("scaled", &operator, || async {
            Ok(replicas(&stage, "shop").await? == Some(wanted))
        })
        .await?;
        assert_eq!(grace(&stage, "shop").await?, Some(46));
    }
    let told = stage.condition("shop", "Ready", "True", "").await?;
    assert!(!has_begun(&told), "it waits for no turn");
    let now = deployment(&stage, "shop").await?;
    assert_eq!(
        label(&now, "clickstream.dev/release").as_deref(),
        Some("0.0.9-another")
    );
    assert_eq!(
        now.metadata.generation,
        before[0].map(|before| before + 2),
        "scaled twice"
    );
    // another Secret replaces the pods, in their own form
    stage.postgres_secret("another").await?;
    until("rotated", &operator, || async {
        let now = deployment(&stage, "shop").await?.metadata.generation;
        Ok(now > before[0].map(|before| before + 2))
    })
    .await?;
    assert_eq!(grace(&stage, "shop").await?, Some(46));
    // what a person wants of them is made by the operator of today
    let changed = json!({
        "image": "clickstream/processor:pinned",
        "processor": { "replicas": 4, "flush": { "maxRows": 1000 } },
    });
    stage
        .apply(&stage.pipeline("shop", &topic, changed))
        .await?;
    until("made by today's release", &operator, || async {
        Ok(grace(&stage, "shop").await? == Some(45))
    })
    .await?;
    assert_eq!(image(&stage, "shop").await?, "clickstream/processor:pinned");
    Ok(())
}

#[tokio::test]
async fn a_pinned_one_that_is_paused_during_an_upgrade_keeps_its_pods_when_it_goes_on()
-> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    pinned_as_another_made_it(&stage).await?;
    let before = generations_of(&stage, &["shop"]).await?;
    let pause = async |word: serde_json::Value| {
        let asked = json!({ "metadata": { "annotations": { "clickstream.dev/reconcile": word } } });
        let all = stage.all::<ClickstreamPipeline>();
        all.patch("shop", &PatchParams::default(), &Patch::Merge(&asked))
            .await
    };
    pause(json!("paused")).await?;
    let operator = stage.operator_with(&["--processor-image", NEW])?;
    stage
        .condition("shop", "Paused", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    pause(json!(null)).await?;
    until("noted", &operator, || async {
        let now = deployment(&stage, "shop").await?;
        Ok(now.labels().contains_key("clickstream.dev/inputs-hash"))
    })
    .await?;
    assert_eq!(generations_of(&stage, &["shop"]).await?, before);
    assert_eq!(grace(&stage, "shop").await?, Some(46));
    Ok(())
}

#[tokio::test]
async fn a_pin_that_had_to_wait_is_followed_as_soon_as_it_may() -> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    let topics = two(&stage).await?;
    let old = image(&stage, "first").await?;
    stage.play(Migrations::Fail("no tables for that image"));
    let operator = stage.operator_with(&["--processor-image", NEW])?;
    let pinned = json!({ "image": "clickstream/processor:pinned" });
    stage
        .apply(&stage.pipeline("first", topic_of(&topics, "first"), pinned))
        .await?;
    // its turn has not come, or the tables are not migrated, at either look
    for look in ["one", "another"] {
        let asked =
            json!({ "metadata": { "annotations": { "clickstream.dev/reconcile-at": look } } });
        stage
            .all::<ClickstreamPipeline>()
            .patch("first", &PatchParams::default(), &Patch::Merge(&asked))
            .await?;
        stage
            .pipeline_when("first", "looked at", |pipeline| {
                json!(pipeline.status)["lastHandledReconcileAt"] == look
            })
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
    }
    assert_eq!(image(&stage, "first").await?, old);
    stage.play(Migrations::Succeed);
    stage.postgres_secret("another").await?;
    runs(&stage, "first", "clickstream/processor:pinned", &operator).await?;
    stage.condition("first", "Ready", "True", "").await?;
    Ok(())
}

async fn generations_of(stage: &Stage, names: &[&str]) -> anyhow::Result<Vec<Option<i64>>> {
    let mut all = Vec::new();
    for name in names {
        all.push(deployment(stage, name).await?.metadata.generation);
    }
    Ok(all)
}
