//! Reading the resource from YAML, with errors that name the field and the line.

use serde::Deserialize;
use serde_path_to_error::Track;

use super::ClickstreamPipeline;

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
        /// The line it stands on, counted from 1; its parent's when it is missing, or when its own is not known.
        line: Option<usize>,
    },
}

impl ClickstreamPipeline {
    /// Reads one YAML (or JSON) document. Bounds are checked by [`ClickstreamPipeline::validate`].
    ///
    /// # Errors
    /// [`SpecError`] for the first place that does not fit.
    pub fn from_yaml(text: &str) -> Result<Self, SpecError> {
        // untyped first: this alone tells broken syntax and repeated keys from fields that do not fit
        serde_yaml::from_str::<serde_yaml::Value>(text).map_err(|error| SpecError::Syntax {
            message: error.to_string(),
        })?;
        let mut track = Track::new();
        let deserializer = serde_yaml::Deserializer::from_str(text);
        Self::deserialize(serde_path_to_error::Deserializer::new(
            deserializer,
            &mut track,
        ))
        .map_err(|error| describe(&error, &track.path().to_string()))
    }
}

/// Turns serde's sentence about a Rust type into one about a field of the document.
fn describe(error: &serde_yaml::Error, path: &str) -> SpecError {
    let text = error.to_string();
    let message = without_place(&text, error, path);
    let (path, message) = if let Some(rest) = message.strip_prefix("unknown field `") {
        // the path already ends with the unknown field; what is left are the known ones, each in backticks
        let (_, known) = rest.split_once('`').unwrap_or((rest, ""));
        let names: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        (
            path.to_owned(),
            format!("unknown field, expected one of {}", names.join(", ")),
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
        let message = match message.split_once("expected struct ") {
            Some((before, _)) => format!("{before}expected a mapping"),
            None => message.to_owned(),
        };
        (
            if path == "." { "document" } else { path }.to_owned(),
            message,
        )
    };
    SpecError::Field {
        path,
        message,
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
