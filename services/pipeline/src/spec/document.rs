//! Reading the resource from YAML, with errors that name the field and the line; and the form in
//! which releases that do not know each other's fields hand it on.

use serde::Deserialize;
use serde_path_to_error::{Path, Segment, Track};
use serde_yaml::{Mapping, Value};

use super::{ClickstreamPipeline, validate::entries};

mod numbers;

/// A document that cannot be read as a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The text is not one YAML document, or a key appears twice in it.
    #[error("the YAML cannot be read: {message}")]
    Syntax {
        /// What breaks, and on which line.
        message: String,
    },
    /// A field is unknown, missing, or has a value of the wrong form.
    #[error("{path}: {message}{}", line.map(|line| format!(" (line {line})")).unwrap_or_default())]
    Field {
        /// The field, from the top of the document.
        path: String,
        /// What is wrong with it.
        message: String,
        /// The line it stands on, counted from 1; its parent's when it is missing, or when its own
        /// is not known.
        line: Option<usize>,
    },
}

/// Annotation of a document that was not written by a person, and the only value that it has.
pub const WRITTEN_BY: &str = "clickstream.dev/written-by";
/// The value of [`WRITTEN_BY`].
pub const OPERATOR: &str = "clickstream-operator";

impl ClickstreamPipeline {
    /// Reads one YAML (or JSON) document. Bounds are checked by [`ClickstreamPipeline::validate`].
    ///
    /// # Errors
    /// [`SpecError`] for the first place that does not fit.
    pub fn from_yaml(text: &str) -> Result<Self, SpecError> {
        // untyped first: this alone tells broken syntax and repeated keys from fields that do not
        // fit
        let untyped = serde_yaml::from_str::<Value>(text).map_err(|error| SpecError::Syntax {
            message: error.to_string(),
        })?;
        let mut track = Track::new();
        let deserializer = serde_yaml::Deserializer::from_str(text);
        Self::deserialize(serde_path_to_error::Deserializer::new(
            deserializer,
            &mut track,
        ))
        .map_err(|error| describe(&error, &track.path(), &untyped))
    }

    /// Reads a document as a service is given it, and names the fields that were left out. The
    /// operator's documents ([`WRITTEN_BY`]) may be of a later release, whose fields this one does
    /// not know; in a person's an unknown field is a slip of the hand, and refused. A known field
    /// with an unknown value is refused in both: nobody can act on half of it.
    ///
    /// # Errors
    /// As [`ClickstreamPipeline::from_yaml`].
    pub fn from_document(text: &str) -> Result<(Self, Vec<String>), SpecError> {
        let mut error = match Self::from_yaml(text) {
            Ok(pipeline) => return Ok((pipeline, Vec::new())),
            Err(error) => error,
        };
        let Ok(mut document) = serde_yaml::from_str::<Value>(text) else {
            return Err(error);
        };
        if document["metadata"]["annotations"][WRITTEN_BY] != OPERATOR {
            return Err(error);
        }
        let mut ignored = Vec::new();
        while let SpecError::Field { message, .. } = &error
            && message.starts_with(UNKNOWN)
        {
            let mut track = Track::new();
            let read = serde_path_to_error::Deserializer::new(&document, &mut track);
            let refused = match Self::deserialize(read) {
                Ok(pipeline) => return Ok((pipeline, ignored)),
                Err(refused) => refused,
            };
            let path = track.path();
            error = describe(&refused, &path, &document);
            if matches!(&error, SpecError::Field { message, .. } if message.starts_with(UNKNOWN))
                && remove(&mut document, &path).is_some()
            {
                ignored.push(path.to_string());
            } else {
                break;
            }
        }
        Err(error)
    }

    /// The document with nothing in it that it would not mean without. A release that knows fewer
    /// fields can read it unless it uses one of them, and a field more with its default leaves the
    /// text as it is.
    #[must_use]
    pub fn minimal(&self) -> String {
        let whole = serde_yaml::to_value(self).and_then(|mut whole| {
            self.leave_out(&mut whole, &mut Vec::new());
            serde_yaml::to_string(&whole)
        });
        whole.expect("a document that was read can be written")
    }

    /// Leaves out of `whole`, below `place`, what goes without saying: the largest parts first.
    fn leave_out(&self, whole: &mut Value, place: &mut Vec<Value>) {
        let keys: Vec<Value> = match at(whole, place) {
            Some(Value::Mapping(fields)) => fields.keys().cloned().collect(),
            Some(Value::Sequence(items)) => (0..items.len()).map(Value::from).collect(),
            _ => return,
        };
        for key in keys {
            // items of a list are never left out: the others would take their places
            let taken = key
                .is_string()
                .then(|| take(at(whole, place)?.as_mapping_mut()?, &key))
                .flatten();
            if let Some(taken) = taken {
                if Self::deserialize(&*whole).is_ok_and(|read| read == *self) {
                    continue;
                }
                if let Some(Value::Mapping(fields)) = at(whole, place) {
                    put_back(fields, taken);
                }
            }
            place.push(key);
            self.leave_out(whole, place);
            place.pop();
        }
    }
}

/// A field that was taken out of a mapping, and its place among the others.
type Taken = (usize, (Value, Value));

fn take(fields: &mut Mapping, key: &Value) -> Option<Taken> {
    let place = fields.keys().position(|found| found == key)?;
    Some((place, (key.clone(), fields.shift_remove(key)?)))
}

fn put_back(fields: &mut Mapping, (place, field): Taken) {
    let mut all: Vec<_> = std::mem::take(fields).into_iter().collect();
    all.insert(place.min(all.len()), field);
    fields.extend(all);
}

fn at<'v>(whole: &'v mut Value, place: &[Value]) -> Option<&'v mut Value> {
    place.iter().try_fold(whole, |value, key| match value {
        Value::Mapping(fields) => fields.get_mut(key),
        Value::Sequence(items) => items.get_mut(usize::try_from(key.as_u64()?).ok()?),
        _ => None,
    })
}

/// The keys and positions that lead to a place.
fn keys(path: &Path) -> Option<Vec<Value>> {
    path.iter()
        .map(|segment| match segment {
            Segment::Map { key } => Some(key.as_str().into()),
            Segment::Seq { index } => Some((*index).into()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// Takes the field at this place out of a document.
fn remove(document: &mut Value, path: &Path) -> Option<Value> {
    let keys = keys(path)?;
    let (field, parent) = keys.split_last()?;
    at(document, parent)?.as_mapping_mut()?.shift_remove(field)
}

/// How the message about a field begins that no release before has known.
const UNKNOWN: &str = "unknown field";

/// Serde's sentence about a value of the wrong type, with what is expected in words where it has
/// the name of a Rust type.
#[must_use]
pub fn in_words(message: &str) -> String {
    numbers::in_words(message, None)
}

/// Turns serde's sentence about a Rust type into one about a field of the document.
fn describe(error: &serde_yaml::Error, place: &Path, document: &Value) -> SpecError {
    let text = error.to_string();
    let path = place.to_string();
    let path = path.as_str();
    let message = without_place(&text, error, path);
    let (path, message) = if let Some(rest) = message.strip_prefix("unknown field `") {
        // the path already ends with the unknown field; what is left are the known ones, each in
        // backticks
        let (_, known) = rest.split_once('`').unwrap_or((rest, ""));
        let names: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        (
            path.to_owned(),
            format!("{UNKNOWN}, expected one of {}", names.join(", ")),
        )
    } else if let Some(rest) = message.strip_prefix("missing field `") {
        let name = rest.trim_end_matches('`');
        let path = if path == "." {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        (path, "required, but missing".to_owned())
    } else {
        let message = numbers::in_words(message, Some((document, place)));
        (
            if path == "." { "document" } else { path }.to_owned(),
            message,
        )
    };
    SpecError::Field {
        message: message + &entries(document, &path),
        path,
        line: error.location().map(|place| place.line()),
    }
}

/// The message without the path before and the place after it, both of which are told otherwise.
fn without_place<'t>(text: &'t str, error: &serde_yaml::Error, path: &str) -> &'t str {
    let message = match error.location() {
        Some(place) => text
            .strip_suffix(&format!(
                " at line {} column {}",
                place.line(),
                place.column()
            ))
            .unwrap_or(text),
        None => text,
    };
    // YAML's own path may end at a parent of the field
    let ends = path
        .char_indices()
        .filter(|(_, c)| matches!(c, '.' | '['))
        .map(|(end, _)| end);
    let mut paths = ends.chain([path.len()]).map(|end| &path[..end]);
    paths
        .find_map(|path| message.strip_prefix(path)?.strip_prefix(": "))
        .unwrap_or(message)
}
