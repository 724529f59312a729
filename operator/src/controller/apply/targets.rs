//! Processors and producer, and what is around them; what no longer belongs to the pipeline goes.

use std::collections::{BTreeMap, BTreeSet};

use clickstream_protocol::labels::{self, MIGRATION_ATTEMPT, MIGRATION_HASH};
use kube::ResourceExt;

use super::{
    held::{go_on, is_missing},
    migration::Migrations,
    topics::TopicsSeen,
};
use crate::{
    controller::{
        applier::{Applied, NameTaken, Owner},
        build::{
            Child,
            children::{self, Children, Processors},
        },
        context::{Context, Error},
        gate::Gate,
        validate::ValidatedPipeline,
        workload::{Workload, workload},
    },
    crd::ClickstreamPipeline,
    kind::Kind,
    observe::pods,
    stores::Live,
};

/// Attempts of a migration that are kept, with what their pods have said.
const ATTEMPTS_KEPT: u32 = 2;

/// What the steps before have found out.
#[derive(Clone, Copy)]
pub struct Plan<'p> {
    /// The spec.
    pub valid: &'p ValidatedPipeline,
    /// What is to be there.
    pub children: &'p Children,
    /// Migrations of all targets.
    pub migrations: &'p Migrations,
    /// Topics.
    pub topics: &'p TopicsSeen,
    /// What waits for the pipeline's turn.
    pub gate: &'p Gate,
}

/// What became of processors and producer.
pub struct Targets {
    /// Processors, in the order of the targets.
    pub processors: Vec<Workload>,
    /// The producer, if it is on.
    pub producer: Option<Workload>,
    /// Children whose names belong to somebody else.
    pub taken: Vec<NameTaken>,
}

impl Targets {
    /// Applies everything whose turn it is.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn apply(
        owner: &Owner,
        pipeline: &ClickstreamPipeline,
        plan: &Plan<'_>,
        context: &Context,
    ) -> Result<Self, Error> {
        let Plan {
            valid,
            children,
            migrations,
            topics,
            gate,
        } = *plan;
        let mut all = Self {
            processors: Vec::new(),
            producer: None,
            taken: Vec::new(),
        };
        let mut kept = BTreeSet::new();
        let targets = &valid.document.spec.targets;
        for (index, (target, built)) in targets.iter().zip(&children.targets).enumerate() {
            let Processors { now, before } = built;
            // the first pods wait for tables and topics; pods that run wait for their new version's tables only
            let held_back = if !migrations.state(index).is_done() {
                Some("its tables are not migrated yet")
            } else if !topics.usable() {
                Some("its topics are not there yet")
            } else {
                None
            };
            kept.extend(now.around.iter().map(key));
            kept.insert(key(&now.deployment));
            let pinned = gate.pins_target(index);
            let mut workload = if held_back.is_none() && !pinned {
                all.apply_all(owner, now, context).await?
            } else if let Some(live) = ours(owner, &now.deployment, context) {
                for child in &now.around {
                    if child.kind != Kind::ConfigMap || is_missing(owner, child, &live, context) {
                        all.apply_child(owner, child, context).await?;
                    }
                }
                go_on(owner, &live, now, pinned, context).await?
            } else if let (Some(before), true) = (before, topics.usable()) {
                // somebody deleted it
                kept.extend(before.around.iter().map(key));
                all.apply_all(owner, before, context).await?
            } else {
                Workload::default()
            };
            workload.held_back = held_back;
            workload.queued = gate.holds_target(index);
            workload.pinned = pinned;
            workload.wanted = now.replicas;
            workload.obstacle = obstacle(valid, labels::PROCESSOR, Some(&target.name), context);
            all.processors.push(workload);
        }
        if let Some(now) = &children.producer {
            kept.extend(now.around.iter().map(key));
            kept.insert(key(&now.deployment));
            let held_back = if gate.holds_producer() {
                Some("other pipelines roll to this release first")
            } else if !topics.usable() {
                Some("its topic is not there yet")
            } else {
                None
            };
            let pinned = gate.pins_producer();
            let mut workload = if held_back.is_none() && !pinned {
                all.apply_all(owner, now, context).await?
            } else if let Some(live) = ours(owner, &now.deployment, context) {
                go_on(owner, &live, now, pinned, context).await?
            } else {
                Workload::default()
            };
            workload.held_back = held_back;
            workload.queued = gate.holds_producer();
            workload.pinned = pinned;
            workload.wanted = now.replicas;
            workload.obstacle = obstacle(valid, labels::PRODUCER, None, context);
            all.producer = Some(workload);
        }
        let mut read = BTreeSet::new();
        for (target, workload) in targets.iter().zip(&all.processors) {
            if workload.may_be_older() {
                read.insert((labels::PROCESSOR, Some(target.name.as_str())));
            }
        }
        if all.producer.as_ref().is_some_and(Workload::may_be_older) {
            read.insert((labels::PRODUCER, None));
        }
        let migrated = targets.iter().map(|target| target.name.as_str());
        let migrated = migrated.zip(migrations.hashes()).collect();
        if !owner.paused {
            prune(owner, pipeline, &migrated, &kept, &read, context).await?;
        }
        Ok(all)
    }

    /// Processors and, if it is on, the producer.
    pub fn all(&self) -> impl Iterator<Item = &Workload> {
        self.processors.iter().chain(&self.producer)
    }

    async fn apply_all(
        &mut self,
        owner: &Owner,
        built: &children::Workload,
        context: &Context,
    ) -> Result<Workload, Error> {
        for child in &built.around {
            self.apply_child(owner, child, context).await?;
        }
        self.apply_child(owner, &built.deployment, context).await
    }

    async fn apply_child(
        &mut self,
        owner: &Owner,
        child: &Child,
        context: &Context,
    ) -> Result<Workload, Error> {
        Ok(
            match context.applier.apply(&context.stores, owner, child).await? {
                Applied::Done(live) => workload(&live),
                // whatever its numbers say, they are not about what was sent
                Applied::Pending(before) => Workload {
                    observed: false,
                    ..before.as_ref().map(workload).unwrap_or_default()
                },
                Applied::Held(before) => Workload {
                    paused: true,
                    ..before.as_ref().map(workload).unwrap_or_default()
                },
                Applied::Refused(taken) => {
                    self.taken.push(taken);
                    Workload::default()
                }
            },
        )
    }
}

fn key(child: &Child) -> (Kind, String) {
    (child.kind, child.name.clone())
}

/// A Deployment as it is, if it is this pipeline's.
fn ours(owner: &Owner, deployment: &Child, context: &Context) -> Option<Live> {
    context
        .stores
        .child(Kind::Deployment, &owner.namespace, &deployment.name)
        .filter(|live| live.controller.as_ref() == Some(&owner.uid))
}

fn obstacle(
    valid: &ValidatedPipeline,
    component: &str,
    target: Option<&str>,
    context: &Context,
) -> Option<String> {
    let mut wanted = vec![
        (labels::PIPELINE, valid.name.as_str()),
        (labels::COMPONENT, component),
    ];
    wanted.extend(target.map(|target| (labels::TARGET, target)));
    context
        .stores
        .pods(&valid.namespace, &wanted)
        .iter()
        .find_map(|pod| pods::obstacle(pod))
}

/// Hash and attempt of a migration.
fn attempt(live: &Live) -> Option<(&str, u32)> {
    let hash = live.labels.get(MIGRATION_HASH)?;
    Some((hash, live.labels.get(MIGRATION_ATTEMPT)?.parse().ok()?))
}

/// Deletes children that the pipeline no longer has: of targets and kinds that left the spec, and of migrations that are over.
/// `migrated` are the targets, each with the hash of the migration that it wants; `read` are components and targets of which older
/// documents may still be read.
async fn prune(
    owner: &Owner,
    pipeline: &ClickstreamPipeline,
    migrated: &BTreeSet<(&str, &str)>,
    kept: &BTreeSet<(Kind, String)>,
    read: &BTreeSet<(&str, Option<&str>)>,
    context: &Context,
) -> Result<(), Error> {
    let may_be_read = |live: &Live| {
        let label = |key| live.labels.get(key).map(String::as_str);
        let component = label(labels::COMPONENT);
        component.is_some_and(|component| read.contains(&(component, label(labels::TARGET))))
    };
    let uid = pipeline.uid().unwrap_or_default();
    let jobs = context
        .stores
        .children_of(Kind::Job, &owner.namespace, &uid);
    let newest = jobs.iter().filter_map(attempt).fold(
        BTreeMap::<String, u32>::new(),
        |mut newest, (hash, attempt)| {
            let known = newest.entry(hash.to_owned()).or_default();
            *known = attempt.max(*known);
            newest
        },
    );
    let outlived = |live: &Live| {
        attempt(live).is_some_and(|(hash, attempt)| {
            let newest = newest.get(hash);
            newest.is_some_and(|newest| attempt + ATTEMPTS_KEPT <= *newest)
        })
    };
    for kind in Kind::ALL {
        for live in context.stores.children_of(kind, &owner.namespace, &uid) {
            let is_kept = match live.labels.get(MIGRATION_HASH) {
                Some(hash) => {
                    let target = live.labels.get(labels::TARGET);
                    !outlived(&live)
                        && target.is_some_and(|target| {
                            migrated.contains(&(target.as_str(), hash.as_str()))
                        })
                }
                None => {
                    kept.contains(&(kind, live.name.clone()))
                        || (kind == Kind::ConfigMap && may_be_read(&live))
                }
            };
            if !is_kept && !live.deleting {
                tracing::info!(
                    namespace = owner.namespace,
                    pipeline = owner.name,
                    kind = kind.names().kind,
                    name = live.name,
                    "no longer part of the pipeline: deleted"
                );
                context
                    .applier
                    .delete(kind, &owner.namespace, &live)
                    .await?;
            }
        }
    }
    Ok(())
}
