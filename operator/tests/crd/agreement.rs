//! The schema and `validate` hold the same bounds: what one refuses, so does the other.

use clickstream_pipeline::spec::ClickstreamPipeline;
use kube::core::cel::{CompiledSchema, Validator, compile_schema};

use super::*;
use candidates::{candidates, places};

fn the_api_takes(
    validator: &Validator,
    schema: &Value,
    compiled: &CompiledSchema,
    document: &Value,
) -> Result<(), String> {
    let misfits = structural::misfits(schema, document);
    if !misfits.is_empty() {
        return Err(misfits.join("; "));
    }
    validator
        .validate_compiled(compiled, document, None)
        .map_err(|errors| errors.to_string())
}

fn we_take(document: &Value) -> Result<(), String> {
    let pipeline =
        ClickstreamPipeline::from_yaml(&document.to_string()).map_err(|error| error.to_string())?;
    pipeline.validate().map_err(|problems| {
        problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    })
}

#[test]
fn what_one_refuses_so_does_the_other() {
    let schema = schema();
    let compiled = compile_schema(&schema);
    let validator = Validator::new();
    assert!(
        !compiled.has_errors(),
        "{:?}",
        compiled.compilation_errors()
    );
    let full = full();
    assert_eq!(
        (
            we_take(&full),
            the_api_takes(&validator, &schema, &compiled, &full)
        ),
        (Ok(()), Ok(()))
    );
    let (mut refused, mut taken, mut apart) = (0, 0, Vec::new());
    for (pointer, place) in places(&schema["properties"]["spec"], &full["spec"], "/spec") {
        for candidate in candidates(&place) {
            let mut document = full.clone();
            *document.pointer_mut(&pointer).unwrap() = candidate.clone();
            match (
                we_take(&document),
                the_api_takes(&validator, &schema, &compiled, &document),
            ) {
                (Ok(()), Ok(())) => taken += 1,
                (Err(_), Err(_)) => refused += 1,
                (ours, api) => apart.push(format!(
                    "{pointer} = {candidate}\n  processor: {ours:?}\n  API: {api:?}"
                )),
            }
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
}
