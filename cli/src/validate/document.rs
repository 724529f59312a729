//! Everything that is wrong with one document.

use std::sync::LazyLock;

use clickstream_pipeline::spec::{self, ClickstreamPipeline, SpecError};
use kube::core::cel::{ErrorKind, Validator};
use serde_json::Value;

use super::schema;

/// Something to correct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, from the top of the document.
    pub path: String,
    /// What is wrong with it, or what to do.
    pub message: String,
    /// The line, where it is known.
    pub line: Option<usize>,
}

impl From<spec::Problem> for Problem {
    fn from(spec::Problem { path, message }: spec::Problem) -> Self {
        Self {
            path,
            message,
            line: None,
        }
    }
}

/// The schema that the cluster has from the same release.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let definition = serde_json::to_value(clickstream_api::crd()).expect("the definition is JSON");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
});

/// Metadata that a pipeline's own reader knows; the API keeps more beside it.
const KNOWN_METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];

/// What the document calls itself.
pub fn title(content: &Value) -> String {
    let part = |name: &str| content["metadata"][name].as_str();
    let name = part("name").unwrap_or("without a name");
    part("namespace").map_or_else(
        || name.to_owned(),
        |namespace| format!("{namespace}/{name}"),
    )
}

/// All problems, each once: our own words before the API server's. `text` is the document with its
/// lines.
pub fn problems(content: &Value, text: Option<&str>) -> Vec<Problem> {
    let (own, complete) = own_problems(content, text);
    let mut problems = own;
    let known = problems.len();
    let mut others = [misfits(content), broken_rules(content)].concat();
    spec::Problem::name_entries(&mut others, content);
    for other in others.into_iter().map(Problem::from) {
        let is_said = |said: &Problem| {
            // of a document that could be read we have said everything, if sometimes of a field
            // inside of it
            let inside = complete
                && (said.path.starts_with(&other.path) || other.path.starts_with(&said.path));
            said.path == other.path || inside
        };
        if !problems[..known].iter().any(is_said) && !problems.contains(&other) {
            problems.push(other);
        }
    }
    problems
}

/// What the reader of processors and operator says, and whether that is all it has to say: a
/// document that cannot be read at all shows one problem only.
fn own_problems(content: &Value, text: Option<&str>) -> (Vec<Problem>, bool) {
    let read = match (bare(content), text) {
        (None, Some(text)) => ClickstreamPipeline::from_yaml(text),
        (None, None) => ClickstreamPipeline::from_yaml(&content.to_string()),
        (Some(bare), _) => ClickstreamPipeline::from_yaml(&bare.to_string()),
    };
    let unread = |path: String, message: String, line: Option<usize>| {
        vec![Problem {
            path,
            message,
            line,
        }]
    };
    match read {
        Ok(pipeline) => {
            let problems = pipeline.validate().err().unwrap_or_default();
            (problems.into_iter().map(Problem::from).collect(), true)
        }
        Err(SpecError::Syntax { message }) => (unread("document".to_owned(), message, None), false),
        Err(SpecError::Field {
            path,
            message,
            line,
        }) => (
            unread(path, message, line.filter(|_| text.is_some())),
            false,
        ),
    }
}

/// The document without what only the API writes, if there is such: then lines are not the file's
/// any more.
fn bare(content: &Value) -> Option<Value> {
    let metadata = content["metadata"].as_object()?;
    let is_foreign = |name: &String| !KNOWN_METADATA.contains(&name.as_str());
    if content.get("status").is_none() && !metadata.keys().any(is_foreign) {
        return None;
    }
    let mut bare = content.clone();
    let fields = bare.as_object_mut()?;
    fields.remove("status");
    fields
        .get_mut("metadata")?
        .as_object_mut()?
        .retain(|name, _| !is_foreign(name));
    Some(bare)
}

fn misfits(content: &Value) -> Vec<spec::Problem> {
    let said = schema::misfits(&SCHEMA, content).into_iter();
    said.map(|(path, message)| spec::Problem { path, message })
        .collect()
}

/// The rules that the API server evaluates. A rule that trips over a value of another type says
/// nothing of use: the schema has said it.
fn broken_rules(content: &Value) -> Vec<spec::Problem> {
    let broken = Validator::new().validate(&SCHEMA, content, None);
    let broken = broken
        .err()
        .into_iter()
        .flat_map(|errors| errors.into_vec());
    broken
        .filter(|error| error.kind == ErrorKind::ValidationFailure)
        .map(|error| {
            let (path, message) = match error.message.split_once(": ") {
                // the rule about the name stands at the root, where it can say only in words what
                // it is about
                Some((path, message)) if error.field_path.is_empty() => (path, message),
                _ => (error.field_path.as_str(), error.message.as_str()),
            };
            spec::Problem {
                path: path.to_owned(),
                message: message.to_owned(),
            }
        })
        .collect()
}
