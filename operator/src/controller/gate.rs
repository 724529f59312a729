//! What of a pipeline waits for its turn after an upgrade of the operator.

use clickstream_protocol::labels::{INPUTS, RELEASE};
use kube::ResourceExt;

use super::{
    build::{
        children::{self, Children},
        names,
    },
    context::Context,
    record::latest,
    validate::ValidatedPipeline,
    workload::{Workload, workload},
};
use crate::{
    crd::{ClickstreamPipeline, ClickstreamPipelineStatus, UpgradeStatus},
    kind::Kind,
    stores::Live,
};

/// What the operator's release changes about pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Change {
    /// Nothing.
    #[default]
    None,
    /// Their template; they wait for the pipeline's turn.
    Due,
    /// Their template, and nothing else: their image is pinned, so they stay as the release before
    /// made them.
    Pinned,
}

/// What of a pipeline has to wait, because the operator's release would change it and it is not its
/// turn.
#[derive(Debug, Default)]
pub struct Gate {
    targets: Vec<Change>,
    producer: Change,
    /// What the status has to say before anything rolls.
    pub upgrade: Option<UpgradeStatus>,
    /// The canary that is waited for, if one is.
    pub canary: Option<String>,
}

impl Gate {
    /// Finds out what the release would change of what runs, which is to be as these children are,
    /// and asks for the pipeline's turn if it would change anything.
    pub fn look(
        pipeline: &ClickstreamPipeline,
        valid: &ValidatedPipeline,
        children: &Children,
        context: &Context,
    ) -> Self {
        let status = latest(pipeline, context);
        let due = due(pipeline, valid, children, &status, context);
        // while it is paused nothing is changed anyhow
        if !due.is_closed() || valid.asked.paused {
            return Self {
                upgrade: status.upgrade,
                ..due.opened()
            };
        }
        let uid = pipeline.uid().unwrap_or_default();
        let is_whole = is_whole(&valid.namespace, &uid, context);
        match context.upgrades.ask(pipeline, &status, is_whole) {
            Ok(noted) => Self {
                upgrade: Some(noted),
                ..due.opened()
            },
            Err(canary) => Self { canary, ..due },
        }
    }

    /// The same when it is the pipeline's turn.
    fn opened(mut self) -> Self {
        for change in self.targets.iter_mut().chain([&mut self.producer]) {
            if *change == Change::Due {
                *change = Change::None;
            }
        }
        self
    }

    /// What is waited for while something waits.
    pub fn others(&self) -> String {
        match &self.canary {
            Some(canary) => format!("the canary {canary} has rolled to this release and is Ready"),
            None => "other pipelines have rolled to this release".to_owned(),
        }
    }

    /// Whether something waits.
    pub fn is_closed(&self) -> bool {
        self.producer == Change::Due || self.targets.contains(&Change::Due)
    }

    /// Whether a target's migration and processors wait.
    pub fn holds_target(&self, index: usize) -> bool {
        self.targets.get(index) == Some(&Change::Due)
    }

    /// Whether a target's processors stay as the release before made them.
    pub fn pins_target(&self, index: usize) -> bool {
        self.targets.get(index) == Some(&Change::Pinned)
    }

    /// Whether the producer waits.
    pub fn holds_producer(&self) -> bool {
        self.producer == Change::Due
    }

    /// Whether the producer stays as the release before made it.
    pub fn pins_producer(&self) -> bool {
        self.producer == Change::Pinned
    }
}

/// What the release would change: pods whose template would be another one, and was made by another
/// release.
fn due(
    pipeline: &ClickstreamPipeline,
    valid: &ValidatedPipeline,
    children: &Children,
    status: &ClickstreamPipelineStatus,
    context: &Context,
) -> Gate {
    let uid = pipeline.uid().unwrap_or_default();
    let live = |parts: &[&str]| {
        let name = names::child(&valid.name, parts);
        context
            .stores
            .child(Kind::Deployment, &valid.namespace, &name)
            .filter(|live| live.controller.as_ref() == Some(&uid))
    };
    // an older release noted nothing about a pinned image. Its last look, not one of ours, was at
    // the spec of now
    let is_seen =
        status.accepted.is_none() && status.observed_generation == pipeline.metadata.generation;
    let change = |live: &Live, wanted: &children::Workload| {
        let of = |key: &str| live.labels.get(key);
        if of(RELEASE).map(String::as_str) == Some(context.upgrades.release())
            || wanted.is_of_template(&live.labels)
        {
            return Change::None;
        }
        match &wanted.inputs {
            Some(inputs) if of(INPUTS).map_or(is_seen, |noted| noted == inputs) => Change::Pinned,
            _ => Change::Due,
        }
    };
    let targets = valid.document.spec.targets.iter().zip(&children.targets);
    let of_target = targets.map(|(target, wanted)| match live(&[&target.name]) {
        Some(live) => change(&live, &wanted.now),
        // somebody deleted it: it comes back as it was
        None => {
            let mut known = status.targets.iter();
            let known = known.find(|known| known.name == target.name);
            let recorded = known.and_then(|known| known.migration.as_ref());
            let is_due = valid.document.spec.image.is_none()
                && recorded.is_some_and(|recorded| {
                    recorded.image != valid.processor_image(&context.settings)
                });
            if is_due { Change::Due } else { Change::None }
        }
    });
    let producer = children.producer.as_ref().zip(live(&["producer"]));
    Gate {
        targets: of_target.collect(),
        producer: producer.map_or(Change::None, |(wanted, live)| change(&live, wanted)),
        upgrade: None,
        canary: None,
    }
}

/// Whether all pods are there, whatever the release before said in the status.
fn is_whole(namespace: &str, uid: &str, context: &Context) -> bool {
    let deployments = context.stores.children_of(Kind::Deployment, namespace, uid);
    deployments.iter().all(|live| {
        let workload = Workload {
            wanted: live.replicas.unwrap_or(1).try_into().unwrap_or(i32::MAX),
            ..workload(live)
        };
        workload.is_complete()
    })
}
