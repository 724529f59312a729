//! Whether a spec can be followed, and which one is followed where it cannot. Pure, but for what
//! the last look has kept.

use std::borrow::Cow;

use clickstream_pipeline::spec::{DeletionPolicy, Problem};
use clickstream_protocol::conditions::Reason;

use super::{
    context::Context,
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

/// The pipeline as it is followed to its end. A spec that is refused deletes nothing that was to stay,
/// but it can keep what was to go: that can still be deleted later.
pub fn followed<'p>(
    pipeline: &'p ClickstreamPipeline,
    context: &Context,
) -> Cow<'p, ClickstreamPipeline> {
    if examine(pipeline, context).is_ok() {
        return Cow::Borrowed(pipeline);
    }
    let Some(mut before) = before(pipeline, context) else {
        return Cow::Borrowed(pipeline);
    };
    let (policy, now) = (
        &mut before.spec.deletion_policy,
        &pipeline.spec.deletion_policy,
    );
    for (policy, now) in [
        (&mut policy.topics, now.topics),
        (&mut policy.tables, now.tables),
    ] {
        if now == DeletionPolicy::Retain {
            *policy = DeletionPolicy::Retain;
        }
    }
    Cow::Owned(before)
}
