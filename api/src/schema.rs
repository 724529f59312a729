//! From a Rust type to the structural schema that Kubernetes takes.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The structural schema of a type.
pub(super) fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    clean(&mut schema, false);
    schema
}

/// Defaults that the API server writes into the resource itself. All others stay with the reader, so that a release may
/// change them: a key of a list must have a value, and an autoscaler must see the number it is to change.
pub(super) fn with_defaults(mut spec: Value) -> Value {
    // no pod that stays reads these: the operator's own client, and Jobs
    without_rolling(&mut spec["properties"]["kafka"]["properties"]["admin"]);
    let target = &mut spec["properties"]["targets"]["items"]["properties"];
    for field in ["connection", "podTemplate"] {
        without_rolling(&mut target["migration"]["properties"][field]);
    }
    spec["properties"]["targets"]["items"]["properties"]["name"]["default"] = json!("default");
    spec["properties"]["processor"]["default"] = json!({});
    spec["properties"]["processor"]["properties"]["replicas"]["default"] = json!(2);
    spec
}

/// Types that stand in several places say what most of them do.
fn without_rolling(schema: &mut Value) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace("Rolling.", "Live.");
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(without_rolling);
    }
    if let Some(items) = schema.get_mut("items") {
        without_rolling(items);
    }
}

/// Fields in Kubernetes' own types. Descriptions inside them would be two thirds of the file; `kubectl explain pod` has
/// them.
const FOREIGN: [&str; 4] = [
    "affinity",
    "conditions",
    "tolerations",
    "topologySpreadConstraints",
];

/// Makes one schema and all below it structural.
fn clean(schema: &mut Value, foreign: bool) {
    let Value::Object(schema) = schema else {
        return;
    };
    without_null(schema);
    plain_enum(schema);
    for unused in ["$schema", "title", "default", "$defs"] {
        schema.remove(unused);
    }
    if schema.get("additionalProperties") == Some(&json!(false)) {
        schema.remove("additionalProperties");
    }
    known_format(schema);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for (name, property) in properties {
            clean(property, foreign || FOREIGN.contains(&name.as_str()));
            if foreign {
                without_description(property);
            }
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            clean(inner, foreign);
            // an element says nothing that its list does not
            without_description(inner);
        }
    }
}

fn without_description(schema: &mut Value) {
    if let Value::Object(schema) = schema {
        schema.remove("description");
    }
}

/// An optional value may be left out; `null` is not another way to say so.
fn without_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let is_null = |variant: &Value| variant == &json!({ "type": "null" });
    let some = match schema.get("anyOf") {
        Some(Value::Array(variants)) => match variants.as_slice() {
            [some, null] if is_null(null) => some.as_object().cloned(),
            _ => None,
        },
        _ => None,
    };
    if let Some(some) = some {
        schema.remove("anyOf");
        for (key, value) in some {
            // what the field says of itself goes before what its type says
            schema.entry(key).or_insert(value);
        }
        without_null(schema);
    }
}

/// Documented variants are constants beside each other; Kubernetes wants a list of values, and their meaning goes into
/// the description.
fn plain_enum(schema: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = schema.get("oneOf") else {
        return;
    };
    let constants: Option<Vec<(Value, String)>> = variants
        .iter()
        .map(|variant| {
            let meaning = variant.get("description").and_then(Value::as_str);
            Some((
                variant.get("const")?.clone(),
                meaning.unwrap_or_default().to_owned(),
            ))
        })
        .collect();
    let Some(constants) = constants else {
        return;
    };
    schema.remove("oneOf");
    schema.insert("type".to_owned(), json!("string"));
    let values: Vec<&Value> = constants.iter().map(|(value, _)| value).collect();
    schema.insert("enum".to_owned(), json!(values));
    let meanings = constants
        .iter()
        .map(|(value, meaning)| format!("`{}`: {meaning}", value.as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(" ");
    let own = schema.get("description").and_then(Value::as_str);
    let description = format!("{}\n{meanings}", own.unwrap_or_default());
    schema.insert("description".to_owned(), json!(description));
}

/// Kubernetes has signed integers only, and knows no format for the others.
fn known_format(schema: &mut Map<String, Value>) {
    if schema.get("type") != Some(&json!("integer")) {
        if schema.get("type") == Some(&json!("number")) {
            schema.remove("format");
        }
        return;
    }
    let is_wide = match schema.get("maximum").and_then(Value::as_u64) {
        Some(maximum) => maximum > i32::MAX.unsigned_abs().into(),
        None => matches!(
            schema.get("format").and_then(Value::as_str),
            Some("int64" | "uint64")
        ),
    };
    let format = if is_wide { "int64" } else { "int32" };
    schema.insert("format".to_owned(), json!(format));
}
