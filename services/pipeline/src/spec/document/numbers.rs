//! What a field that holds a number takes, in words.

use serde::Deserialize;
use serde_path_to_error::Path;
use serde_yaml::Value;

use super::{ClickstreamPipeline, at, keys};

/// Serde's sentence about a value of the wrong type, with what is expected in words where it has
/// the name of a Rust type: `expected a whole number from 1 to 65535`. The bounds are those of the
/// field, if its place is given.
pub(super) fn in_words(message: &str, place: Option<(&Value, &Path)>) -> String {
    let Some((before, kind)) = message.rsplit_once("expected ") else {
        return message.to_owned();
    };
    if kind.starts_with("struct ") {
        return format!("{before}expected a mapping");
    }
    match numbers(kind, place) {
        Some(numbers) => format!("{before}expected {numbers}"),
        None => message.to_owned(),
    }
}

/// The numbers of a Rust type, by its name; of a field if its place is given.
fn numbers(kind: &str, place: Option<(&Value, &Path)>) -> Option<String> {
    let (least, most) = match kind {
        "u8" => (0, u64::from(u8::MAX)),
        "u16" => (0, u64::from(u16::MAX)),
        "u32" => (0, u64::from(u32::MAX)),
        "u64" => (0, u64::MAX),
        "i32" => (i64::from(i32::MIN), i32::MAX as u64),
        "i64" => (i64::MIN, i64::MAX as u64),
        "f64" => (-1, 0),
        _ => return None,
    };
    let bounds = place.and_then(|(document, place)| {
        let mut beyond = [Value::from(least), Value::from(most)].into_iter();
        beyond.find_map(|value| bounds(document, place, value))
    });
    Some(match (kind, bounds) {
        ("f64", None) => "a number".to_owned(),
        ("f64", Some(bounds)) => format!("a number from {bounds}"),
        (_, Some(bounds)) => format!("a whole number from {bounds}"),
        (_, None) => format!("a whole number from {least} to {most}"),
    })
}

/// The bounds of a field, as the rule says them that refuses this value there: they are written
/// down in one place only. Nothing where no rule refuses it, or something else in the document
/// cannot be read either.
fn bounds(document: &Value, place: &Path, value: Value) -> Option<String> {
    let mut document = document.clone();
    *at(&mut document, &keys(place)?)? = value;
    let pipeline = ClickstreamPipeline::deserialize(&document).ok()?;
    let problems = pipeline.problems().into_iter();
    let path = place.to_string();
    let mut refusals = problems.filter(|problem| problem.path == path);
    refusals.find_map(|problem| Some(problem.message.split_once(" is outside ")?.1.to_owned()))
}
