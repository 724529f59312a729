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

/// What loosens a pod, and variables that come out of a Secret: fields that pods have in their own
/// terms.
#[test]
fn of_what_templates_say_both_refuse_the_same() {
    let schema = schema();
    let compiled = compile_schema(&schema);
    let validator = Validator::new();
    let labels = |options: Value| json!({ "seLinuxOptions": options });
    let mut templates = Vec::new();
    for (options, is_taken) in [
        (json!({}), true),
        (json!({ "level": "s0:c1,c2" }), true),
        (json!({ "level": "s".repeat(253) }), true),
        (json!({ "level": "s".repeat(254) }), false),
        (json!({ "level": 0 }), false),
        (json!({ "type": "container_t" }), true),
        (json!({ "type": "container_init_t" }), true),
        (json!({ "type": "container_kvm_t" }), true),
        (json!({ "type": "container_engine_t" }), true),
        (json!({ "type": "spc_t" }), false),
        (json!({ "type": "" }), false),
        (json!({ "type": null }), false),
        (json!({ "user": "system_u" }), false),
        (json!({ "role": "system_r" }), false),
    ] {
        for context in ["securityContext", "containerSecurityContext"] {
            templates.push((json!({ context: labels(options.clone()) }), is_taken));
        }
    }
    for (prefix, is_taken) in [
        (json!("OTEL_"), true),
        (json!("CLICKS_"), true),
        (json!("c"), true),
        (json!("CLICKSTREAM-"), true),
        (json!(format!("A{}", "a".repeat(252))), true),
        (json!(format!("A{}", "a".repeat(253))), false),
        (json!(""), false),
        (json!("C"), false),
        (json!("CLICKSTREAM"), false),
        (json!("CLICKSTREAM_"), false),
        (json!("CLICKSTREAM_BOOTSTRAP_"), false),
        (json!("1A_"), false),
        (json!("A B"), false),
        (json!(1), false),
        (json!(null), false),
    ] {
        let source = json!({ "prefix": prefix, "configMapRef": { "name": "more" } });
        templates.push((json!({ "envFrom": [source] }), is_taken));
    }
    let source = json!({ "secretRef": { "name": "more" } });
    templates.push((json!({ "envFrom": [source] }), false));
    for (template, is_taken) in templates {
        for place in ["/spec", "/spec/processor", "/spec/producer"] {
            let mut document = full();
            document.pointer_mut(place).unwrap()["podTemplate"] = template.clone();
            if place == "/spec" {
                // theirs stand on volumes of this one
                for part in ["processor", "producer"] {
                    document["spec"][part]["podTemplate"] = json!({});
                }
                document["spec"]["targets"][0]["migration"]["podTemplate"] = json!({});
            }
            let ours = we_take(&document);
            let api = the_api_takes(&validator, &schema, &compiled, &document);
            let told = format!("{place} {template}\n  processor: {ours:?}\n  API: {api:?}");
            assert_eq!((ours.is_ok(), api.is_ok()), (is_taken, is_taken), "{told}");
        }
    }
}

/// Texts that stand in for fields, each by the rules of its own field, and places of batches.
#[test]
fn of_constants_and_batches_both_refuse_the_same() {
    let schema = schema();
    let compiled = compile_schema(&schema);
    let validator = Validator::new();
    let (fits, over) = ("x".repeat(128), "x".repeat(129));
    let (site, long_site) = ("x".repeat(255), "é".repeat(128));
    let (agent, long_agent) = ("x".repeat(1024), "é".repeat(513));
    let mut changes = Vec::new();
    for (name, text, is_taken) in [
        ("user_id", &*fits, true),
        ("user_id", &over, false),
        ("user_id", "", false),
        ("url", &agent, true),
        ("ip", "192.0.2.1", true),
        ("ip", "2001:db8::1", true),
        ("ip", "office", false),
        ("ip", "192.0.2.256", false),
        ("ip", "192.0.2.1:80", false),
        ("session_id", &fits, true),
        ("session_id", &over, false),
        ("user_agent", &agent, true),
        ("user_agent", &long_agent, false),
        ("event_name", &fits, true),
        ("event_name", &over, false),
        ("site", &site, true),
        ("site", &long_site, false),
        ("event_id", "a", false),
        ("event_ts", "1", false),
        ("page", "/", false),
    ] {
        let constants = json!({ "referrer": "unknown", name: text });
        changes.push(("constants", constants, is_taken));
    }
    for (batch, is_taken) in [
        (json!(""), true),
        (json!("/batch"), true),
        (json!("/payload/[key=events]/0"), true),
        (json!("batch"), false),
        (json!("$/batch"), false),
        (json!("/~2"), false),
        (json!(0), false),
    ] {
        changes.push(("batch", batch, is_taken));
    }
    for (field, value, is_taken) in changes {
        let mut document = full();
        document["spec"]["events"][field] = value.clone();
        let ours = we_take(&document);
        let api = the_api_takes(&validator, &schema, &compiled, &document);
        let told = format!("{field}: {value}\n  processor: {ours:?}\n  API: {api:?}");
        assert_eq!((ours.is_ok(), api.is_ok()), (is_taken, is_taken), "{told}");
    }
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
