//! Children into the API: server-side apply, one field manager, and nothing sent that is there
//! already.

pub mod refused;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy},
    core::Status,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::refused::{Refusals, Refused, Request, Verb};
use super::{asked::Asked, build::Child};
use crate::{
    crd::ClickstreamPipeline,
    kind::Kind,
    metrics::OperatorMetrics,
    stores::{Live, Stores, api_resource, controller, is_older, live},
};

/// Our name in managed fields.
pub const FIELD_MANAGER: &str = "clickstream-operator";
/// A child that was just applied is not missed before the watch has had this long to tell of it.
const WATCH_LAG: Duration = Duration::from_secs(3);

/// A child that is not applied although nothing failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name} {}", stands(.owner.as_deref(), *.deleting))]
pub struct NameTaken {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Who controls it.
    pub owner: Option<String>,
    /// Whether it is on its way out, so that waiting is enough.
    pub deleting: bool,
}

/// Who owns the children.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Namespace of both.
    pub namespace: String,
    /// Name of the pipeline.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// As children refer to it.
    pub reference: Value,
    /// Whether its children stay as they are.
    pub paused: bool,
}

impl Owner {
    /// The pipeline as its children refer to it.
    pub fn of(pipeline: &ClickstreamPipeline) -> Self {
        Self {
            namespace: pipeline.namespace().unwrap_or_default(),
            name: pipeline.name_any(),
            uid: pipeline.uid().unwrap_or_default(),
            reference: json!(pipeline.controller_owner_ref(&())),
            paused: Asked::of(pipeline.annotations()).paused,
        }
    }
}

/// What became of a child.
pub enum Applied {
    /// It is as it should be.
    Done(Live),
    /// It was sent a moment ago and the watch will tell; as it was before, if it was.
    Pending(Option<Live>),
    /// It is not as it should be, and stays so while the operator is paused; as it is, if it is.
    Held(Option<Live>),
    /// The name belongs to somebody else.
    Taken(NameTaken),
    /// The API server refuses what it should be.
    Refused(Refused),
}

/// What became of a change to a child that is there.
pub enum Changed {
    /// It is so now.
    Done(Live),
    /// The API server refuses it.
    Refused(Refused),
}

/// Applies children, and remembers what was applied: a child that has not changed since costs no
/// request.
pub struct Applier {
    client: Client,
    metrics: OperatorMetrics,
    /// What was applied, by the uid of the pipeline.
    memory: Mutex<HashMap<String, OfPipeline>>,
    refusals: Refusals,
}

type OfPipeline = HashMap<(Kind, String), Remembered>;

#[derive(Clone)]
struct Remembered {
    wanted: [u8; 32],
    fingerprint: String,
    resource_version: String,
    at: Instant,
}

impl Applier {
    /// An applier that remembers nothing yet: after a start, every child is applied once.
    pub fn new(client: Client, metrics: OperatorMetrics) -> Self {
        Self {
            client,
            metrics,
            memory: Mutex::default(),
            refusals: Refusals::default(),
        }
    }

    /// Brings one child to what it should be. What the API server refuses is no error, and not sent
    /// again at once.
    ///
    /// # Errors
    /// What the API server says that may pass.
    pub async fn apply(
        &self,
        stores: &Stores,
        owner: &Owner,
        child: &Child,
    ) -> Result<Applied, kube::Error> {
        let known = stores.child(child.kind, &owner.namespace, &child.name);
        let wanted: [u8; 32] = Sha256::digest(child.body.to_string()).into();
        let key = (child.kind, child.name.clone());
        let remembered = self
            .memory
            .lock()
            .get(&owner.uid)
            .and_then(|of_owner| of_owner.get(&key))
            .filter(|remembered| remembered.wanted == wanted)
            .cloned();
        if let Some(remembered) = remembered {
            match &known {
                Some(found) if found.deleting => {}
                Some(found) if found.fingerprint == remembered.fingerprint => {
                    return Ok(Applied::Done(found.clone()));
                }
                // the watch has not caught up with our own write
                Some(found) if is_older(&found.resource_version, &remembered.resource_version) => {
                    return Ok(Applied::Pending(Some(found.clone())));
                }
                None if remembered.at.elapsed() < WATCH_LAG => {
                    return Ok(Applied::Pending(None));
                }
                _ => {}
            }
        }
        let is_ours = match &known {
            Some(found) if found.controller.as_deref() == Some(&owner.uid) => true,
            Some(found) => {
                // the store does not keep the names of owners
                let object = self.get(child, owner).await?;
                return Ok(Applied::Taken(taken(
                    child,
                    owner,
                    object.as_ref(),
                    found.deleting,
                )));
            }
            None => false,
        };
        if owner.paused {
            return self.compare(owner, child, known).await;
        }
        let request = Request {
            verb: Verb::Apply,
            kind: child.kind,
            namespace: &owner.namespace,
            name: &child.name,
            owner: &owner.uid,
            digest: wanted,
        };
        if let Some(refused) = self.refusals.known(&request) {
            return Ok(Applied::Refused(refused));
        }
        let applied = match self.place(owner, child, is_ours).await {
            Ok(Ok(applied)) => applied,
            Ok(Err(taken)) => return Ok(Applied::Taken(taken)),
            Err(error) => {
                let refused = self.refusals.keep(&request, error)?;
                return Ok(Applied::Refused(refused));
            }
        };
        self.metrics.applied(child.kind.names().kind);
        let now = live(&applied);
        let remembered = Remembered {
            wanted,
            fingerprint: now.fingerprint.clone(),
            resource_version: now.resource_version.clone(),
            at: Instant::now(),
        };
        let mut memory = self.memory.lock();
        let of_owner = memory.entry(owner.uid.clone()).or_default();
        of_owner.insert(key, remembered);
        drop(memory);
        Ok(Applied::Done(now))
    }

    /// Sends a child to where nobody else's is.
    async fn place(
        &self,
        owner: &Owner,
        child: &Child,
        is_ours: bool,
    ) -> Result<Result<DynamicObject, NameTaken>, kube::Error> {
        match self.send(owner, child, is_ours, false).await {
            // without force, whoever else holds the name stands in the way
            Err(kube::Error::Api(status)) if !is_ours && stands_in_the_way(&status) => {
                match self.get(child, owner).await? {
                    Some(found) if controller(&found).is_some_and(|of| of.uid == owner.uid) => {
                        self.send(owner, child, true, false).await.map(Ok)
                    }
                    Some(found) => {
                        let deleting = found.metadata.deletion_timestamp.is_some();
                        Ok(Err(taken(child, owner, Some(&found), deleting)))
                    }
                    None => Err(kube::Error::Api(status)),
                }
            }
            sent => sent.map(Ok),
        }
    }

    /// Whether a child of ours is as it should be, by what the API server would make of it: nothing
    /// is written.
    async fn compare(
        &self,
        owner: &Owner,
        child: &Child,
        known: Option<Live>,
    ) -> Result<Applied, kube::Error> {
        let Some(found) = known else {
            return Ok(Applied::Held(None));
        };
        match self.send(owner, child, true, true).await {
            Ok(wanted) if live(&wanted).fingerprint == found.fingerprint => {
                Ok(Applied::Done(found))
            }
            // what is refused now is told when it is sent
            Ok(_) | Err(kube::Error::Api(_)) => Ok(Applied::Held(Some(found))),
            Err(error) => Err(error),
        }
    }

    async fn send(
        &self,
        owner: &Owner,
        child: &Child,
        force: bool,
        dry_run: bool,
    ) -> Result<DynamicObject, kube::Error> {
        let names = child.kind.names();
        let mut body = child.body.clone();
        body["apiVersion"] = json!(names.api_version());
        body["kind"] = json!(names.kind);
        body["metadata"]["name"] = json!(child.name);
        body["metadata"]["namespace"] = json!(owner.namespace);
        body["metadata"]["ownerReferences"] = json!([owner.reference]);
        let mut params = PatchParams::apply(FIELD_MANAGER);
        params.force = force;
        params.dry_run = dry_run;
        params.field_validation = Some(kube::api::ValidationDirective::Strict);
        self.api(child.kind, &owner.namespace)
            .patch(&child.name, &params, &Patch::Apply(&body))
            .await
    }

    async fn get(
        &self,
        child: &Child,
        owner: &Owner,
    ) -> Result<Option<DynamicObject>, kube::Error> {
        self.api(child.kind, &owner.namespace)
            .get_opt(&child.name)
            .await
    }

    /// Changes some fields of a child of ours and leaves the others as they are, whoever wrote
    /// them.
    ///
    /// # Errors
    /// What the API server says that may pass; a conflict where another object has taken its name.
    pub async fn adjust(
        &self,
        owner: &Owner,
        kind: Kind,
        found: &Live,
        mut change: Value,
    ) -> Result<Changed, kube::Error> {
        change["metadata"]["uid"] = json!(found.uid);
        let request = Request {
            verb: Verb::Adjust,
            kind,
            namespace: &owner.namespace,
            name: &found.name,
            owner: &owner.uid,
            digest: Sha256::digest(change.to_string()).into(),
        };
        if let Some(refused) = self.refusals.known(&request) {
            return Ok(Changed::Refused(refused));
        }
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let changed = self
            .api(kind, &owner.namespace)
            .patch(&found.name, &params, &Patch::Merge(&change))
            .await;
        match changed {
            Ok(changed) => {
                self.metrics.applied(kind.names().kind);
                Ok(Changed::Done(live(&changed)))
            }
            // gone: the next look finds it so
            Err(kube::Error::Api(status)) if status.is_not_found() => Err(kube::Error::Api(status)),
            Err(error) => self.refusals.keep(&request, error).map(Changed::Refused),
        }
    }

    /// Deletes a child, with what it controls, if it still is the one that was seen. One that is
    /// gone is no error. What the API server refuses is returned.
    ///
    /// # Errors
    /// What the API server says that may pass.
    pub async fn delete(
        &self,
        owner: &Owner,
        kind: Kind,
        found: &Live,
    ) -> Result<Option<Refused>, kube::Error> {
        let request = Request {
            verb: Verb::Delete,
            kind,
            namespace: &owner.namespace,
            name: &found.name,
            owner: &owner.uid,
            digest: Sha256::digest(&found.uid).into(),
        };
        if let Some(refused) = self.refusals.known(&request) {
            return Ok(Some(refused));
        }
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions {
                resource_version: Some(found.resource_version.clone()),
                uid: None,
            }),
            ..DeleteParams::default()
        };
        let api = self.api(kind, &owner.namespace);
        match api.delete(&found.name, &params).await {
            Ok(_) => {
                self.metrics.deleted(kind.names().kind);
                Ok(None)
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            // changed in between: the next look decides
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
            Err(error) => self.refusals.keep(&request, error).map(Some),
        }
    }

    /// Forgets what was applied for a pipeline that is gone.
    pub fn forget(&self, uid: &str) {
        self.memory.lock().remove(uid);
        self.refusals.forget(uid);
    }

    fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &api_resource(kind))
    }
}

fn taken(child: &Child, owner: &Owner, found: Option<&DynamicObject>, deleting: bool) -> NameTaken {
    let of = found.and_then(controller);
    // a pipeline of the same name that is gone: the garbage collector is about to take the child
    let is_before = of.is_some_and(|of| {
        of.kind == ClickstreamPipeline::kind(&()) && of.name == owner.name && of.uid != owner.uid
    });
    NameTaken {
        kind: child.kind.names().kind,
        name: child.name.clone(),
        owner: of.map(|of| format!("{} {}", of.kind, of.name)),
        deleting: deleting || is_before,
    }
}

fn stands(owner: Option<&str>, deleting: bool) -> String {
    if deleting {
        return "of a pipeline that was deleted is still going".to_owned();
    }
    format!(
        "exists and is not controlled by this pipeline{}: delete or rename it",
        owner
            .map(|owner| format!(" but by {owner}"))
            .unwrap_or_default()
    )
}

fn stands_in_the_way(status: &Status) -> bool {
    status.is_conflict() || status.is_invalid()
}
