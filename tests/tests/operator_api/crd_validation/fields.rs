use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_server_refuses_what_the_processors_refuse_and_names_the_field() -> anyhow::Result<()> {
    let pipelines = Pipelines::new().await?;
    let definition = definition()?;
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut full: Value = serde_yaml::from_str(FULL)?;
    full["metadata"] = json!({ "name": "full" });
    pipelines
        .try_to_create(&full)
        .await?
        .map_err(|status| anyhow::anyhow!("{status:?}"))?;
    let (mut taken, mut refused, mut apart) = (0, 0, Vec::new());
    let mut unnamed = Vec::new();
    for (pointer, place) in
        candidates::places(&schema["properties"]["spec"], &full["spec"], "/spec")
    {
        let mut was_refused = false;
        for candidate in candidates::candidates(&place) {
            let mut document = full.clone();
            let Some(field) = document.pointer_mut(&pointer) else {
                continue;
            };
            *field = candidate.clone();
            match (
                processors_take(&document),
                pipelines.try_to_create(&document).await?,
            ) {
                (Ok(()), Ok(_)) => taken += 1,
                (Err(_), Err(status)) => {
                    refused += 1;
                    was_refused |= causes(&status)
                        .iter()
                        .any(|(field, message)| is_named(&pointer, field) && !message.is_empty());
                }
                (ours, server) => apart.push(format!(
                    "{pointer} = {candidate}\n  processor: {ours:?}\n  server: {:?}",
                    server.map(|_| ()).map_err(|status| status.message)
                )),
            }
        }
        if !was_refused {
            unnamed.push(pointer);
        }
    }
    assert!(
        apart.is_empty(),
        "{} of {} differ:\n{}",
        apart.len(),
        apart.len() + taken + refused,
        apart.join("\n")
    );
    assert!(
        taken > 300 && refused > 1000,
        "{taken} taken, {refused} refused"
    );
    assert_eq!(
        unnamed,
        Vec::<String>::new(),
        "no value was refused by the name of its field"
    );
    Ok(())
}

/// Whether `spec.topics[0].name` is what `/spec/topics/0/name` points at; an entry of a map may go
/// by the map's name.
fn is_named(pointer: &str, field: &str) -> bool {
    let plain = field.replace(['[', ']'], ".").replace("..", ".");
    let pointer = pointer
        .trim_start_matches('/')
        .replace("~1", "/")
        .replace('/', ".");
    let field = plain.trim_end_matches('.').replace('/', ".");
    pointer == field || pointer.starts_with(&format!("{field}."))
}
