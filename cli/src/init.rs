//! `init`: a resource to begin with.

use anyhow::bail;
use clickstream_pipeline::spec::ClickstreamPipeline;

const TEMPLATE: &str = include_str!("init/pipeline.yaml");

/// The resource, with every setting as a comment.
///
/// # Errors
/// The name is none that a pipeline may have.
pub fn document(name: &str, namespace: Option<&str>) -> anyhow::Result<String> {
    let mut named = format!("name: {name}");
    if let Some(namespace) = namespace {
        named.push_str(&format!("\n  namespace: {namespace}"));
    }
    let document = TEMPLATE
        .replacen("name: NAME", &named, 1)
        .replace("NAME", name);
    let problems = match ClickstreamPipeline::from_yaml(&document) {
        Ok(pipeline) => pipeline.validate().err().unwrap_or_default(),
        Err(_) => bail!("{name}: not a name"),
    };
    match problems.first() {
        Some(problem) => bail!("{problem}"),
        None => Ok(document),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    const NOT_SET: &str = "# not set by default";

    /// The document with its settings in force: those with defaults, or all.
    fn in_force(document: &str, all: bool) -> ClickstreamPipeline {
        let lines = document.lines().map(|line| {
            let text = line.trim_start();
            let is_setting = text
                .strip_prefix('#')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            if is_setting && (all || !text.ends_with(NOT_SET)) {
                line.replacen('#', "", 1)
            } else {
                line.to_owned()
            }
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        ClickstreamPipeline::from_yaml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn what_stands_there_as_a_default_is_one() {
        let document = document("shop", None).unwrap();
        let bare = ClickstreamPipeline::from_yaml(&document).unwrap();
        assert_eq!(in_force(&document, false), bare);
    }

    #[test]
    fn every_setting_can_be_put_in_force_at_once() {
        let all = in_force(&document("shop", None).unwrap(), true);
        assert_eq!(all.validate(), Ok(()));
        assert!(all.spec.kafka.tls.is_some() && all.spec.targets[0].replicas == Some(2));
    }

    #[test]
    fn it_is_named_as_asked() {
        let document = document("shop", Some("news")).unwrap();
        let pipeline = ClickstreamPipeline::from_yaml(&document).unwrap();
        assert_eq!(pipeline.metadata.name, "shop");
        assert_eq!(pipeline.metadata.namespace, "news");
        assert!(!document.contains("name: NAME"), "{document}");
    }

    #[test]
    fn a_name_that_the_operator_would_refuse_is_refused_here() {
        for name in ["1a", "Shop", "a.b", "a: b", &"a".repeat(41)] {
            assert!(document(name, None).is_err(), "{name}");
        }
    }
}
