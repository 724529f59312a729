//! Processors and producer, and what is around them; what no longer belongs to the pipeline goes.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use serde_json::Value;

use super::{
    Applied, NameTaken, Owner,
    held::{Secrets, go_on, is_missing, stamp},
    migration::Migrations,
    refusals::{self, Stuck},
    topics::TopicsSeen,
};
use crate::{
    controller::{
        Context, Error, Settings,
        build::{self, Child, Kind, MIGRATION_ATTEMPT, MIGRATION_HASH, TARGET_LABEL, inputs},
        step,
        upgrades::{self, Gate},
        validate::ValidatedPipeline,
    },
    crd::ClickstreamPipeline,
    observe::pods,
    stores::Live,
};

/// Attempts of a migration that are kept, with what their pods have said.
const ATTEMPTS_KEPT: u32 = 2;

/// How many pods of a Deployment do what they should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Wanted by the spec.
    pub wanted: i32,
    /// Ready, of whatever version.
    pub ready: i32,
    /// Ready for long enough to count.
    pub available: i32,
    /// Of the newest version.
    pub updated: i32,
    /// Of whatever version, ready or not.
    pub total: i32,
    /// Whether the numbers are about the newest version.
    pub observed: bool,
    /// What keeps a pod from running.
    pub obstacle: Option<String>,
    /// What keeps pods from being there at all.
    pub stuck: Option<Stuck>,
    /// Why there is no newest version yet.
    pub held_back: Option<&'static str>,
    /// It runs as it did before, and other pipelines roll first.
    pub queued: bool,
    /// It runs as the release before made it, since its image is pinned.
    pub pinned: bool,
    /// It runs as it did before, and the operator is paused.
    pub paused: bool,
}

impl Workload {
    /// Whether everything wanted is there, and is the newest version.
    pub const fn is_complete(&self) -> bool {
        let is_there =
            self.observed && self.available >= self.wanted && self.updated >= self.wanted;
        is_there && !self.paused && (self.held_back.is_none() || self.queued)
    }

    /// Whether pods of an older version may be there, which read their own document when they restart.
    const fn may_be_older(&self) -> bool {
        let is_newest = self.observed && self.updated == self.total;
        !is_newest || self.paused || self.pinned || self.held_back.is_some()
    }
}

/// What the steps before have found out.
#[derive(Clone, Copy)]
pub struct Plan<'p> {
    /// The spec.
    pub valid: &'p ValidatedPipeline,
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
            migrations,
            topics,
            gate,
        } = *plan;
        let release = context.upgrades.release();
        let mut all = Self {
            processors: Vec::new(),
            producer: None,
            taken: Vec::new(),
        };
        let mut kept = BTreeSet::new();
        let created = topics.created();
        for (index, target) in valid.document.spec.targets.iter().enumerate() {
            let secrets = Secrets::of_processors(valid, target);
            let mut children = step("build")
                .in_scope(|| build::target(valid, target, &context.settings, &created));
            let inputs = inputs::of_processors(valid, target, &context.settings);
            stamp(&mut children.deployment, release, &secrets, inputs.as_ref());
            // the first pods wait for tables and topics; pods that run wait for their new version's tables only
            let held_back = if !migrations.state(index).is_done() {
                Some("its tables are not migrated yet")
            } else if !topics.usable() {
                Some("its topics are not there yet")
            } else {
                None
            };
            kept.extend(children.around.iter().map(key));
            kept.insert(key(&children.deployment));
            let pinned = gate.pins_target(index);
            let mut workload = if held_back.is_none() && !pinned {
                for child in &children.around {
                    all.apply_child(owner, child, context).await?;
                }
                all.apply_child(owner, &children.deployment, context)
                    .await?
            } else if let Some(live) = ours(owner, &children.deployment, context) {
                for child in &children.around {
                    if child.kind != Kind::ConfigMap || is_missing(owner, child, &live, context) {
                        all.apply_child(owner, child, context).await?;
                    }
                }
                let noted = inputs.as_ref().filter(|_| pinned);
                go_on(owner, &live, &children.deployment, &secrets, noted, context).await?
            } else if let (Some(image), true) = (migrations.runs_on(index), topics.usable()) {
                // somebody deleted it
                let before = Settings {
                    processor_image: image.to_owned(),
                    ..context.settings.clone()
                };
                let mut children = build::target(valid, target, &before, &created);
                stamp(
                    &mut children.deployment,
                    &upgrades::release(&before),
                    &secrets,
                    None,
                );
                kept.extend(children.around.iter().map(key));
                for child in &children.around {
                    all.apply_child(owner, child, context).await?;
                }
                all.apply_child(owner, &children.deployment, context)
                    .await?
            } else {
                Workload::default()
            };
            workload.held_back = held_back;
            workload.queued = gate.holds_target(index);
            workload.pinned = pinned;
            workload.wanted = wanted(&children.deployment);
            workload.obstacle = obstacle(valid, "processor", Some(&target.name), context);
            all.processors.push(workload);
        }
        let mut producer = step("build").in_scope(|| build::producer(valid, &context.settings));
        let secrets = Secrets::of_producer(valid);
        let inputs = inputs::of_producer(valid, &context.settings);
        if let Some(deployment) = producer.last_mut() {
            stamp(deployment, release, &secrets, inputs.as_ref());
        }
        if let Some((deployment, around)) = producer.split_last() {
            kept.extend(producer.iter().map(key));
            let held_back = if gate.holds_producer() {
                Some("other pipelines roll to this release first")
            } else if !topics.usable() {
                Some("its topic is not there yet")
            } else {
                None
            };
            let pinned = gate.pins_producer();
            let mut workload = if held_back.is_none() && !pinned {
                for child in around {
                    all.apply_child(owner, child, context).await?;
                }
                all.apply_child(owner, deployment, context).await?
            } else if let Some(live) = ours(owner, deployment, context) {
                let noted = inputs.as_ref().filter(|_| pinned);
                go_on(owner, &live, deployment, &secrets, noted, context).await?
            } else {
                Workload::default()
            };
            workload.held_back = held_back;
            workload.queued = gate.holds_producer();
            workload.pinned = pinned;
            workload.wanted = wanted(deployment);
            workload.obstacle = obstacle(valid, "producer", None, context);
            all.producer = Some(workload);
        }
        let targets = &valid.document.spec.targets;
        let mut read = BTreeSet::new();
        for (target, workload) in targets.iter().zip(&all.processors) {
            if workload.may_be_older() {
                read.insert(("processor", Some(target.name.as_str())));
            }
        }
        if all.producer.as_ref().is_some_and(Workload::may_be_older) {
            read.insert(("producer", None));
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

fn wanted(deployment: &Child) -> i32 {
    let replicas = deployment.body["spec"]["replicas"].as_i64().unwrap_or(0);
    i32::try_from(replicas).unwrap_or(i32::MAX)
}

/// A Deployment as it is, if it is this pipeline's.
fn ours(owner: &Owner, deployment: &Child, context: &Context) -> Option<Live> {
    context
        .stores
        .child(Kind::Deployment, &owner.namespace, &deployment.name)
        .filter(|live| live.controller.as_ref() == Some(&owner.uid))
}

pub(super) fn workload(live: &Live) -> Workload {
    let number = |field: &str| {
        let number = live.status.get(field).and_then(Value::as_i64).unwrap_or(0);
        i32::try_from(number).unwrap_or(i32::MAX)
    };
    let observed = live
        .status
        .get("observedGeneration")
        .and_then(Value::as_i64);
    Workload {
        wanted: 0,
        ready: number("readyReplicas"),
        available: number("availableReplicas"),
        updated: number("updatedReplicas"),
        total: number("replicas"),
        observed: observed.is_some() && observed >= live.generation,
        obstacle: None,
        stuck: refusals::of_deployment(&live.status),
        held_back: None,
        queued: false,
        pinned: false,
        paused: false,
    }
}

fn obstacle(
    valid: &ValidatedPipeline,
    component: &str,
    target: Option<&str>,
    context: &Context,
) -> Option<String> {
    let mut labels = vec![
        (build::PIPELINE_LABEL, valid.name.as_str()),
        ("app.kubernetes.io/component", component),
    ];
    labels.extend(target.map(|target| (TARGET_LABEL, target)));
    context
        .stores
        .pods(&valid.namespace, &labels)
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
        let component = label("app.kubernetes.io/component");
        component.is_some_and(|component| read.contains(&(component, label(TARGET_LABEL))))
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
                    let target = live.labels.get(TARGET_LABEL);
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
                    kind = kind.api().2,
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
