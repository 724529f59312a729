//! What is known of children and pods without asking: one watch per kind, narrowed to our label,
//! kept in memory as the little that decisions need. A thousand pipelines are seven thousand
//! children; whole, they would be a hundred MiB.

mod index;

use std::{collections::HashMap, fmt::Write, sync::Arc, time::Duration};

use clickstream_protocol::{ADMIN_TLS, labels};
use futures_util::{
    Stream, StreamExt, TryStreamExt, future,
    stream::{self, BoxStream, SelectAll},
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject},
    core::{DeserializeGuard, GroupVersionKind},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef},
        utils::{Backoff, ResetTimerBackoff},
        watcher,
    },
};
use rand::RngExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::index::{Group, Indexed};
use crate::{
    crd::ClickstreamPipeline,
    kind::{Kind, Names},
};

/// Where a reflected child keeps the fingerprint of what was stripped.
const FINGERPRINT: &str = "fingerprint";
/// Where it keeps its number of pods.
const REPLICAS: &str = "replicas";
/// Annotations that Kubernetes' own controllers write on children.
const FOREIGN_ANNOTATIONS: &str = "deployment.kubernetes.io/";

/// First and longest pause between tries of a watch. The longest is what an API server that comes
/// back is left alone for: kubelets come in thousands and wait half a minute, an operator comes
/// alone.
const RETRY: Duration = Duration::from_millis(400);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// A watch that has held for so long begins with the first pause again.
const STEADY: Duration = Duration::from_secs(60);

/// Pauses between tries of a watch: doubled, with some chance, so that the watches do not come
/// together.
pub fn retries() -> impl Backoff {
    ResetTimerBackoff::new(Retries(RETRY), STEADY)
}

struct Retries(Duration);

impl Iterator for Retries {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(RETRY_MAX);
        Some(pause.mul_f64(rand::rng().random_range(0.5..=1.0)))
    }
}

impl Backoff for Retries {
    fn reset(&mut self) {
        self.0 = RETRY;
    }
}

/// The API of a kind.
pub fn api_resource(kind: Kind) -> ApiResource {
    let Names {
        group,
        version,
        kind,
        plural,
    } = kind.names();
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// An API in one namespace or in all.
pub fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn children_api(
    client: &Client,
    namespace: Option<&str>,
    resource: &ApiResource,
) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

/// Reflected children and pods of one namespace, or of all.
pub struct Stores {
    children: HashMap<Kind, Arc<Indexed<DynamicObject>>>,
    pods: Arc<Indexed<Pod>>,
}

/// A child as it is.
#[derive(Clone, Debug)]
pub struct Live {
    /// Of everything but its status.
    pub fingerprint: String,
    /// Its version.
    pub resource_version: String,
    /// Its uid.
    pub uid: String,
    /// When it was created.
    pub created: Option<jiff::Timestamp>,
    /// Uid of its controller.
    pub controller: Option<String>,
    /// Labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Name.
    pub name: String,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// Annotations.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// `spec.replicas`, where it has them.
    pub replicas: Option<i64>,
    /// Whether it is on its way out.
    pub deleting: bool,
    /// Its status, as it stands.
    pub status: Value,
}

impl Stores {
    /// A child by name.
    pub fn child(&self, kind: Kind, namespace: &str, name: &str) -> Option<Live> {
        let found = self.children.get(&kind)?.get(namespace, name)?;
        Some(live(&found))
    }

    /// All children of a kind that a pipeline has.
    pub fn children_of(&self, kind: Kind, namespace: &str, uid: &str) -> Vec<Live> {
        let Some(children) = self.children.get(&kind) else {
            return Vec::new();
        };
        let found = children.of_group(namespace, uid);
        found.iter().map(|object| live(object)).collect()
    }

    /// Pods of a pipeline with these labels.
    pub fn pods(&self, namespace: &str, pipeline: &str, labels: &[(&str, &str)]) -> Vec<Arc<Pod>> {
        let mut found = self.pods.of_group(namespace, &pods_of(namespace, pipeline));
        found.retain(|pod| {
            let mut wanted = labels.iter();
            wanted.all(|(key, value)| pod.labels().get(*key).is_some_and(|found| found == value))
        });
        found
    }

    /// Waits until everything has been listed once.
    pub async fn ready(&self) {
        for children in self.children.values() {
            children.ready().await;
        }
        self.pods.ready().await;
    }
}

/// The group of a pipeline's pods.
fn pods_of(namespace: &str, pipeline: &str) -> Group {
    format!("{namespace}/{pipeline}").into()
}

/// A pipeline, as the controller is woken for it.
pub type PipelineRef = ObjectRef<DeserializeGuard<ClickstreamPipeline>>;

/// The watches of one namespace, or of all: what they fill, and whom they wake.
pub struct Watches {
    /// What is known.
    pub stores: Arc<Stores>,
    /// Pipelines of which a child or a pod has changed. Whoever polls this fills the stores.
    pub woken: SelectAll<BoxStream<'static, PipelineRef>>,
}

/// Opens the watches. `kinds` leaves out what the API server does not have.
pub fn watches(client: &Client, namespace: Option<&str>, kinds: &[Kind]) -> Watches {
    let config =
        watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::OPERATOR));
    let mut stores = HashMap::new();
    let mut woken = SelectAll::new();
    for &kind in kinds {
        let resource = api_resource(kind);
        let writer = reflector::store::Writer::new(resource.clone());
        let children = Arc::new(Indexed::new(
            writer.as_reader(),
            resource.clone(),
            |object| Some(controller(object)?.uid.as_str().into()),
        ));
        stores.insert(kind, Arc::clone(&children));
        let events = watcher(children_api(client, namespace, &resource), config.clone())
            .backoff(retries())
            .modify(strip)
            .reflect(writer)
            .inspect_ok(move |event| children.follow(event));
        let owners = touched(events, |object| owner_of(&object));
        woken.push(owners.filter_map(|owner| future::ready(owner.ok())).boxed());
    }
    let writer = reflector::store::Writer::new(());
    let pods = Arc::new(Indexed::new(writer.as_reader(), (), |pod: &Pod| {
        let pipeline = pod.labels().get(labels::PIPELINE)?;
        Some(pods_of(pod.metadata.namespace.as_deref()?, pipeline))
    }));
    let indexed = Arc::clone(&pods);
    let events = watcher(api::<Pod>(client, namespace), config)
        .backoff(retries())
        .modify(strip_pod)
        .reflect(writer)
        .inspect_ok(move |event| indexed.follow(event));
    let owners = touched(events, |pod: Pod| {
        let name = pod.labels().get(labels::PIPELINE)?;
        Some(ObjectRef::new(name).within(&pod.namespace()?))
    });
    woken.push(owners.filter_map(|owner| future::ready(owner.ok())).boxed());
    Watches {
        stores: Arc::new(Stores {
            children: stores,
            pods,
        }),
        woken,
    }
}

/// What has changed by the events of a reflected watch, deletions included. What a list holds is
/// told when the list is whole: only then the store has it, and whoever was woken before would find
/// the world as it was before the watch broke off, without what was created meanwhile.
pub fn touched<K, T>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    of: impl Fn(K) -> Option<T>,
) -> impl Stream<Item = watcher::Result<T>> {
    let mut listed = Vec::new();
    events.flat_map(move |event| {
        let told = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                Vec::new()
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.extend(of(object));
                Vec::new()
            }
            Ok(watcher::Event::InitDone) => {
                std::mem::take(&mut listed).into_iter().map(Ok).collect()
            }
            Ok(watcher::Event::Apply(object) | watcher::Event::Delete(object)) => {
                of(object).map(Ok).into_iter().collect()
            }
            Err(error) => vec![Err(error)],
        };
        stream::iter(told)
    })
}

/// The pipeline that controls a child.
fn owner_of(object: &DynamicObject) -> Option<PipelineRef> {
    let owner = controller(object)?;
    ObjectRef::from_owner_ref(object.namespace().as_deref(), owner, ())
}

/// Of everything that we could have written: labels, annotations, owners and contents, without what
/// the API server and other controllers keep in the same places.
pub fn fingerprint(object: &DynamicObject) -> String {
    if let Some(kept) = object.data.get(FINGERPRINT).and_then(Value::as_str) {
        return kept.to_owned();
    }
    let mut hash = Sha256::new();
    let meta = &object.metadata;
    let annotations: Vec<_> = meta
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| !key.starts_with(FOREIGN_ANNOTATIONS))
        .collect();
    hash.update(json!([meta.labels, annotations, meta.owner_references]).to_string());
    for (field, value) in object.data.as_object().into_iter().flatten() {
        if field != "status" {
            hash.update(field);
            hash.update(value.to_string());
        }
    }
    hash.finalize()[..12]
        .iter()
        .fold(String::new(), |mut text, byte| {
            // writing into a String cannot fail
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn replicas(object: &DynamicObject) -> Option<i64> {
    let kept = object.data.get(REPLICAS).and_then(Value::as_i64);
    kept.or_else(|| object.data.pointer("/spec/replicas")?.as_i64())
}

fn strip(object: &mut DynamicObject) {
    let fingerprint = fingerprint(object);
    let status = object.data.get("status").cloned().unwrap_or_default();
    object.data = json!({ FINGERPRINT: fingerprint, REPLICAS: replicas(object), "status": status });
    object.metadata.managed_fields = None;
}

fn strip_pod(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.metadata.annotations = None;
    if let Some(spec) = &mut pod.spec {
        // where and how to ask is all that is read of it
        spec.volumes = None;
        spec.affinity = None;
        spec.tolerations = None;
        spec.topology_spread_constraints = None;
        for container in &mut spec.containers {
            let variables = container.env.take().unwrap_or_default().into_iter();
            let tls = variables.filter(|variable| variable.name == ADMIN_TLS);
            container.env = Some(tls.collect()).filter(|kept: &Vec<_>| !kept.is_empty());
            container.volume_mounts = None;
            container.resources = None;
        }
    }
}

/// Who controls an object.
pub fn controller(object: &DynamicObject) -> Option<&OwnerReference> {
    object
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true))
}

/// What decisions need of a child.
pub fn live(object: &DynamicObject) -> Live {
    Live {
        fingerprint: fingerprint(object),
        resource_version: object.resource_version().unwrap_or_default(),
        uid: object.uid().unwrap_or_default(),
        created: object.creation_timestamp().map(|time| time.0),
        controller: controller(object).map(|owner| owner.uid.clone()),
        labels: object.labels().clone(),
        name: object.name_any(),
        generation: object.metadata.generation,
        annotations: object.annotations().clone(),
        replicas: replicas(object),
        deleting: object.metadata.deletion_timestamp.is_some(),
        status: object.data.get("status").cloned().unwrap_or_default(),
    }
}

/// Whether a version of an object is older than another. Versions are opaque, but every API server
/// counts, and a wrong guess costs one request.
pub fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use watcher::Event;

    use super::*;

    fn told_by(events: Vec<Event<u8>>) -> Vec<u8> {
        let told = touched(stream::iter(events.into_iter().map(Ok)), Some);
        futures_util::FutureExt::now_or_never(told.map(Result::unwrap).collect()).unwrap()
    }

    #[test]
    fn a_list_is_told_of_when_it_is_whole() {
        assert_eq!(
            told_by(vec![Event::Init, Event::InitApply(1), Event::InitApply(2)]),
            Vec::<u8>::new()
        );
        assert_eq!(
            told_by(vec![
                Event::Init,
                Event::InitApply(1),
                Event::InitApply(2),
                Event::InitDone,
                Event::Apply(3),
                Event::Delete(1),
            ]),
            [1, 2, 3, 1]
        );
    }

    #[test]
    fn a_list_that_broke_off_is_told_of_once() {
        assert_eq!(
            told_by(vec![
                Event::Init,
                Event::InitApply(1),
                Event::Init,
                Event::InitApply(1),
                Event::InitDone,
            ]),
            [1]
        );
    }
}
