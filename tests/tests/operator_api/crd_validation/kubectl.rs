use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn only_two_defaults_are_written_into_a_pipeline() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    let stored = pipelines
        .try_to_create(&minimal("demo"))
        .await?
        .map_err(|status| anyhow::anyhow!("{status:?}"))?;
    let mut expected = minimal("demo")["spec"].clone();
    expected["targets"][0]["name"] = json!("default");
    expected["processor"] = json!({ "replicas": 2 });
    assert_eq!(stored["spec"], expected);
    // and with them it means the same to a processor
    let read = |spec: &Value| {
        let mut document = minimal("demo");
        document["spec"] = spec.clone();
        ClickstreamPipeline::from_yaml(&document.to_string())
    };
    assert_eq!(read(&stored["spec"])?, read(&minimal("demo")["spec"])?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_sees_and_sets_the_number_of_processors() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    pipelines
        .api
        .create(
            &PostParams::default(),
            &pipelines.object(&minimal("scaled"))?,
        )
        .await?;
    let scale = pipelines.api.get_scale("scaled").await?;
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(2));
    let wanted = Patch::Merge(json!({ "spec": { "replicas": 5 } }));
    pipelines
        .api
        .patch_scale("scaled", &PatchParams::default(), &wanted)
        .await?;
    let pipeline = pipelines.api.get("scaled").await?;
    assert_eq!(pipeline.data["spec"]["processor"]["replicas"], 5);
    let none = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    let refusal = pipelines
        .api
        .patch_scale("scaled", &PatchParams::default(), &none)
        .await;
    assert!(
        matches!(&refusal, Err(kube::Error::Api(status)) if status.code == 422),
        "{refusal:?}"
    );
    let status = Patch::Merge(
        json!({ "status": { "replicas": 4, "selector": "clickstream.dev/pipeline=scaled" } }),
    );
    pipelines
        .api
        .patch_status("scaled", &PatchParams::default(), &status)
        .await?;
    let status = pipelines.api.get_scale("scaled").await?.status;
    assert_eq!(
        status.map(|status| (status.replicas, status.selector)),
        Some((4, Some("clickstream.dev/pipeline=scaled".to_owned())))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_what_the_status_says() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    pipelines
        .api
        .create(
            &PostParams::default(),
            &pipelines.object(&minimal("shown"))?,
        )
        .await?;
    let condition = json!({
        "type": "Ready", "status": "False", "reason": "TopicExists", "message": "set adopt: true",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    });
    let status = json!({ "status": {
        "observedGeneration": 1, "conditions": [condition], "processors": "1/2", "lag": 7, "window": "1m", "suspended": false,
        "topics": [{ "name": "clickstream" }], "targets": [{ "name": "default" }],
    } });
    pipelines
        .api
        .patch_status("shown", &PatchParams::default(), &Patch::Merge(status))
        .await?;
    let mut request = Request::new(pipelines.path()).get("shown", &GetParams::default())?;
    let as_table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    request.headers_mut().insert("accept", as_table.parse()?);
    let table: Value = pipelines.client.request(request).await?;
    let names: Vec<_> = table["columnDefinitions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|column| column["name"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "Name",
            "Ready",
            "Reason",
            "Processors",
            "Lag",
            "Window",
            "Age",
            "Topics",
            "Targets",
            "Suspended",
            "Message"
        ]
    );
    let mut cells = table["rows"][0]["cells"].clone();
    cells[6] = json!("age");
    assert_eq!(
        cells,
        json!([
            "shown",
            "False",
            "TopicExists",
            "1/2",
            7,
            "1m",
            "age",
            "clickstream",
            "default",
            false,
            "set adopt: true"
        ])
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_micro_sign_is_read_as_go_reads_it() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    let document = with(
        minimal("demo"),
        &[("/spec/watermark", json!({ "delay": "2µs" }))],
    );
    let answer = pipelines.try_to_create(&document).await?;
    assert!(answer.is_ok(), "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_field_is_named() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    let document = with(minimal("demo"), &[("/spec/windw", json!({ "size": "1m" }))]);
    let mut request = Request::new(pipelines.path())
        .create(&PostParams::default(), serde_json::to_vec(&document)?)?;
    // as kubectl asks
    *request.uri_mut() =
        format!("{}?fieldValidation=Strict&dryRun=All", pipelines.path()).parse()?;
    let refusal = pipelines.client.request::<Value>(request).await;
    let Err(kube::Error::Api(status)) = refusal else {
        panic!("{refusal:?}")
    };
    assert!(
        status.message.contains("unknown field \"spec.windw\""),
        "{status:?}"
    );
    Ok(())
}
