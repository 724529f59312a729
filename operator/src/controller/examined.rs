//! Whether a spec can be followed, and which one is followed where it cannot. Pure, but for what
//! the last look has kept.

use std::borrow::Cow;

use clickstream_pipeline::spec::{DeletionPolicy, PipelineSpec, Problem, TopicManagement};
use clickstream_protocol::conditions::Reason;

use super::{
    context::Context,
    record,
    status::{self, conditions::Finding},
    validate::{self, ValidatedPipeline},
};
use crate::crd::ClickstreamPipeline;

/// The pipeline as it can be built once its Secrets are known, or why its spec cannot be followed.
///
/// # Errors
/// Everything that stands against the spec, by its fields.
pub fn examine(
    pipeline: &ClickstreamPipeline,
    context: &Context,
) -> Result<ValidatedPipeline, Finding> {
    let refused = |reason, problems: &[Problem]| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Finding::no(reason, lines.join("; "))
    };
    let valid =
        validate::validate(pipeline).map_err(|problems| refused(Reason::InvalidSpec, &problems))?;
    if let Some(problem) = status::window_change(pipeline) {
        return Err(refused(Reason::WindowSizeRefused, &[problem]));
    }
    let problems = context.settings.allowed.problems(&valid.document);
    if problems.is_empty() {
        Ok(valid)
    } else {
        Err(refused(Reason::NotAllowed, &problems))
    }
}

/// The pipeline with the spec that was accepted last, if that is known.
pub fn before(pipeline: &ClickstreamPipeline, context: &Context) -> Option<ClickstreamPipeline> {
    let spec = status::accepted(pipeline, context)?;
    Some(ClickstreamPipeline {
        spec,
        ..pipeline.clone()
    })
}

/// Whether the spec is refused, and the one that was accepted before is not known.
pub fn is_unknown(pipeline: &ClickstreamPipeline, context: &Context) -> bool {
    let accepted = record::latest(pipeline, context).accepted;
    accepted.is_some_and(|text| text.is_empty()) && examine(pipeline, context).is_err()
}

/// The pipeline as it is followed to its end. A spec that is refused deletes nothing that was to stay,
/// but it can keep what was to go: that can still be deleted later. Where the one before is not known
/// either, everything stays.
pub fn followed<'p>(
    pipeline: &'p ClickstreamPipeline,
    context: &Context,
) -> Cow<'p, ClickstreamPipeline> {
    if examine(pipeline, context).is_ok() {
        return Cow::Borrowed(pipeline);
    }
    let mut followed = match before(pipeline, context) {
        Some(before) => before,
        None if is_unknown(pipeline, context) => {
            let mut kept = pipeline.clone();
            kept.spec.deletion_policy.topics = DeletionPolicy::Retain;
            kept.spec.deletion_policy.tables = DeletionPolicy::Retain;
            kept
        }
        None => return Cow::Borrowed(pipeline),
    };
    keep(&mut followed.spec, &pipeline.spec);
    Cow::Owned(followed)
}

/// Takes over from a refused spec whatever keeps something: a policy, a topic that is somebody else's
/// now, and a target that is no longer named, whose tables would stay in a spec that is accepted.
fn keep(followed: &mut PipelineSpec, now: &PipelineSpec) {
    let policy = &mut followed.deletion_policy;
    for (policy, now) in [
        (&mut policy.topics, now.deletion_policy.topics),
        (&mut policy.tables, now.deletion_policy.tables),
    ] {
        if now == DeletionPolicy::Retain {
            *policy = DeletionPolicy::Retain;
        }
    }
    for topic in &mut followed.topics {
        let mut external = now.topics.iter();
        if external.any(|now| now.name == topic.name && now.management == TopicManagement::External)
        {
            topic.management = TopicManagement::External;
        }
    }
    let is_named = |name: &str| now.targets.iter().any(|target| target.name == name);
    followed.targets.retain(|target| is_named(&target.name));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::{Value, json};

    use super::*;

    fn spec(said: &Value) -> PipelineSpec {
        let mut spec = json!({
            "kafka": { "bootstrapServers": "kafka:9092" },
            "topics": [{ "name": "clicks" }, { "name": "more" }],
            "targets": [
                { "name": "one", "connection": { "secret": { "name": "postgres" } } },
                { "name": "two", "schema": "b", "connection": { "secret": { "name": "postgres" } } },
            ],
        });
        for (key, value) in said.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_refused_spec_can_keep_policies_topics_and_targets_and_delete_nothing() {
        let all = json!({ "deletionPolicy": { "topics": "Delete", "tables": "Delete" } });
        let mut followed = spec(&all);
        let now = spec(&json!({
            "deletionPolicy": { "topics": "Delete", "tables": "Retain" },
            "topics": [{ "name": "clicks", "management": "External" }],
            "targets": [{ "name": "two", "connection": { "secret": { "name": "postgres" } } }],
        }));
        keep(&mut followed, &now);
        let policy = &followed.deletion_policy;
        assert_eq!(policy.topics, DeletionPolicy::Delete);
        assert_eq!(policy.tables, DeletionPolicy::Retain);
        let managed = followed.topics.iter().map(|topic| topic.management);
        let managed: Vec<_> = managed.collect();
        assert_eq!(
            managed,
            [TopicManagement::External, TopicManagement::Managed]
        );
        let targets: Vec<_> = followed.targets.iter().map(|target| &target.name).collect();
        assert_eq!(targets, ["two"]);
        assert_eq!(
            followed.targets[0].schema,
            spec(&json!({})).targets[1].schema
        );

        let mut followed = spec(&json!({}));
        keep(&mut followed, &spec(&all));
        assert_eq!(followed, spec(&json!({})));
    }
}
