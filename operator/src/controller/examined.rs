//! Whether a spec can be followed, and which one is followed where it cannot. Pure, but for what
//! the last look has kept.

use std::borrow::Cow;

use clickstream_pipeline::spec::{DeletionPolicy, PipelineSpec, Problem, TopicManagement};
use clickstream_protocol::conditions::Reason;

use kube::ResourceExt as _;

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
        let uid = pipeline.uid().unwrap_or_default();
        let texts = context.memories.texts(&uid);
        Ok(ValidatedPipeline { texts, ..valid })
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

/// What a pipeline is followed by to its end.
pub struct Followed<'p> {
    /// The pipeline with that spec.
    pub pipeline: Cow<'p, ClickstreamPipeline>,
    /// The spec is refused, and the one that was accepted before is not known: everything stays.
    pub is_unknown: bool,
}

/// The pipeline as it is followed to its end; `is_accepted`: whether [`examine`] has nothing
/// against its spec. A spec that is refused deletes nothing that was to stay, but it can keep what
/// was to go: that can still be deleted later. Where the one before is not known either, everything
/// stays.
pub fn followed<'p>(
    pipeline: &'p ClickstreamPipeline,
    is_accepted: bool,
    context: &Context,
) -> Followed<'p> {
    let as_it_stands = Followed {
        pipeline: Cow::Borrowed(pipeline),
        is_unknown: false,
    };
    if is_accepted {
        return as_it_stands;
    }
    if let Some(mut before) = before(pipeline, context) {
        keep(&mut before.spec, &pipeline.spec);
        return Followed {
            pipeline: Cow::Owned(before),
            is_unknown: false,
        };
    }
    let accepted = record::latest(pipeline, context).accepted;
    if accepted.is_none_or(|text| !text.is_empty()) {
        return as_it_stands;
    }
    let mut kept = pipeline.clone();
    kept.spec.deletion_policy.topics = DeletionPolicy::Retain;
    kept.spec.deletion_policy.tables = DeletionPolicy::Retain;
    Followed {
        pipeline: Cow::Owned(kept),
        is_unknown: true,
    }
}

/// Takes over from a refused spec whatever keeps something: a policy, a topic that is somebody
/// else's now, and a target that is no longer named, whose tables would stay in a spec that is
/// accepted.
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
