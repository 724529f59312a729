//! Processors and producer, and what is around them; what no longer belongs to the pipeline goes.

use std::collections::{BTreeMap, BTreeSet};

use clickstream_protocol::labels::{self, MIGRATION_ATTEMPT, MIGRATION_HASH};
use kube::ResourceExt;

use super::{
    held::{follows, go_on},
    migration::Migrations,
    topics::TopicsSeen,
};
use crate::{
    controller::{
        applier::{Applied, NameTaken, Owner, refused::Refused},
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
    /// Children that the API server refuses.
    pub refused: Vec<Refused>,
}

/// What of a workload has to wait, so that its pods run on as they are.
#[derive(Default)]
pub struct Wait<'w> {
    /// Why there is no newest version yet.
    held_back: Option<&'static str>,
    /// Other pipelines roll first.
    queued: bool,
    /// It stays as the release before made it.
    pub pinned: bool,
    /// Rules that are followed in place wait for the columns that they write: a pod that restarts
    /// meanwhile could not start with them.
    pub columns: bool,
    /// As it comes back meanwhile if somebody deletes it.
    before: Option<&'w children::Workload>,
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
            refused: Vec::new(),
        };
        let mut kept = BTreeSet::new();
        let targets = &valid.document.spec.targets;
        for (index, (target, built)) in targets.iter().zip(&children.targets).enumerate() {
            let Processors { now, before } = built;
            // the first pods wait for tables and topics; pods that run wait for their new version's
            // tables only
            let held_back = if !migrations.state(index).is_done() {
                Some("its tables are not migrated yet")
            } else if !topics.usable() {
                Some("its topics are not there yet")
            } else {
                None
            };
            let wait = Wait {
                held_back,
                queued: gate.holds_target(index),
                pinned: gate.pins_target(index),
                columns: migrations.adds_columns(index),
                before: before.as_ref().filter(|_| topics.usable()),
            };
            let mut workload = all.bring(owner, now, &wait, &mut kept, context).await?;
            workload.obstacle = obstacle(valid, labels::PROCESSOR, Some(&target.name), context);
            all.processors.push(workload);
        }
        if let Some(now) = &children.producer {
            let held_back = if gate.holds_producer() {
                Some("other pipelines roll to this release first")
            } else if !topics.usable() {
                Some("its topic is not there yet")
            } else {
                None
            };
            let wait = Wait {
                held_back,
                queued: gate.holds_producer(),
                pinned: gate.pins_producer(),
                columns: false,
                before: None,
            };
            let mut workload = all.bring(owner, now, &wait, &mut kept, context).await?;
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
            let refused = prune(owner, pipeline, &migrated, &kept, &read, context).await?;
            all.refused.extend(refused);
        }
        Ok(all)
    }

    /// Processors and, if it is on, the producer.
    pub fn all(&self) -> impl Iterator<Item = &Workload> {
        self.processors.iter().chain(&self.producer)
    }

    /// Applies a workload, or what of it does not have to wait.
    async fn bring(
        &mut self,
        owner: &Owner,
        now: &children::Workload,
        wait: &Wait<'_>,
        kept: &mut BTreeSet<(Kind, String)>,
        context: &Context,
    ) -> Result<Workload, Error> {
        kept.extend(keys(now));
        let live = ours(owner, &now.deployment, context);
        let mut workload = match (live, wait.before) {
            _ if wait.held_back.is_none() && !wait.pinned => {
                self.apply_all(owner, now, context).await?
            }
            (Some(live), _) => {
                for child in &now.around {
                    if follows(owner, child, &live, wait, context) {
                        self.apply_child(owner, child, context).await?;
                    }
                }
                self.go_on(owner, &live, now, wait.pinned, context).await?
            }
            // somebody deleted it
            (None, Some(before)) => {
                kept.extend(keys(before));
                self.apply_all(owner, before, context).await?
            }
            (None, None) => Workload::default(),
        };
        workload.held_back = wait.held_back;
        workload.queued = wait.queued;
        workload.pinned = wait.pinned;
        workload.wanted = now.replicas;
        Ok(workload)
    }

    async fn apply_all(
        &mut self,
        owner: &Owner,
        built: &children::Workload,
        context: &Context,
    ) -> Result<Workload, Error> {
        let mut lacking = None;
        let is_monitor = |child: &&Child| child.kind == Kind::PodMonitor;
        for child in built.around.iter().filter(|child| !is_monitor(child)) {
            let refused = self.apply_child(owner, child, context).await?.refused;
            if is_needed(child.kind) {
                lacking = lacking.or(refused);
            }
        }
        let mut applied = match lacking {
            None => self.apply_child(owner, &built.deployment, context).await?,
            Some(_) => Workload {
                refused: lacking,
                ..Workload::default()
            },
        };
        // the pods that run go on
        let live = ours(owner, &built.deployment, context);
        let live = live.filter(|_| applied.refused.is_some());
        if let Some(live) = &live {
            applied = Workload {
                refused: applied.refused,
                ..self.go_on(owner, live, built, false, context).await?
            };
        }
        for child in built.around.iter().filter(is_monitor) {
            if live
                .as_ref()
                .is_none_or(|live| follows(owner, child, live, &Wait::default(), context))
            {
                self.apply_child(owner, child, context).await?;
            }
        }
        Ok(applied)
    }

    async fn go_on(
        &mut self,
        owner: &Owner,
        live: &Live,
        now: &children::Workload,
        pinned: bool,
        context: &Context,
    ) -> Result<Workload, Error> {
        let workload = go_on(owner, live, now, pinned, context).await?;
        self.refused.extend(workload.refused.clone());
        Ok(workload)
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
                Applied::Taken(taken) => {
                    self.taken.push(taken);
                    Workload::default()
                }
                Applied::Refused(refused) => {
                    self.refused.push(refused.clone());
                    Workload {
                        refused: Some(refused),
                        ..Workload::default()
                    }
                }
            },
        )
    }
}

/// Whether pods need a child before they start: what they read, what they run as, and what guards
/// them.
const fn is_needed(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ConfigMap | Kind::ServiceAccount | Kind::NetworkPolicy
    )
}

fn keys(workload: &children::Workload) -> impl Iterator<Item = (Kind, String)> {
    let children = workload.around.iter().chain([&workload.deployment]);
    children.map(|child| (child.kind, child.name.clone()))
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
    let mut wanted = vec![(labels::COMPONENT, component)];
    wanted.extend(target.map(|target| (labels::TARGET, target)));
    context
        .stores
        .pods(&valid.namespace, &valid.name, &wanted)
        .iter()
        .find_map(|pod| pods::obstacle(pod))
}

/// Hash and attempt of a migration.
fn attempt(live: &Live) -> Option<(&str, u32)> {
    let hash = live.labels.get(MIGRATION_HASH)?;
    Some((hash, live.labels.get(MIGRATION_ATTEMPT)?.parse().ok()?))
}

/// Deletes children that the pipeline no longer has: of targets and kinds that left the spec, and
/// of migrations that are over. `migrated` are the targets, each with the hash of the migration
/// that it wants; `read` are components and targets of which older documents may still be read.
/// What of it the API server refuses to delete is returned.
async fn prune(
    owner: &Owner,
    pipeline: &ClickstreamPipeline,
    migrated: &BTreeSet<(&str, &str)>,
    kept: &BTreeSet<(Kind, String)>,
    read: &BTreeSet<(&str, Option<&str>)>,
    context: &Context,
) -> Result<Vec<Refused>, Error> {
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
    let mut refused = Vec::new();
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
                refused.extend(context.applier.delete(owner, kind, &live).await?);
            }
        }
    }
    Ok(refused)
}
