//! Reflected objects, found by the pipeline that they belong to. A look asks for them ten times; a
//! search through those of all pipelines would make a thousand pipelines that are looked at a
//! million objects each time.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

use kube::{
    Resource,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher::Event,
    },
};
use parking_lot::RwLock;
use tokio::sync::watch;

/// Under what an object is found.
pub type Group = Arc<str>;

/// A reflected kind and its groups. The store is the only truth: a name that the index knows and
/// the store does not, or no longer under this group, is passed over.
pub struct Indexed<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store: Store<K>,
    kind: K::DynamicType,
    group_of: fn(&K) -> Option<Group>,
    groups: RwLock<HashMap<Group, BTreeSet<Arc<str>>>>,
    /// Whether the kind has been listed once. The store says so a moment before the groups are
    /// there.
    listed: watch::Sender<bool>,
}

impl<K> Indexed<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    /// Nothing is found yet. `group_of` names an object's group, with its namespace where groups of
    /// two namespaces may have one name.
    pub fn new(store: Store<K>, kind: K::DynamicType, group_of: fn(&K) -> Option<Group>) -> Self {
        Self {
            store,
            kind,
            group_of,
            groups: RwLock::default(),
            listed: watch::Sender::default(),
        }
    }

    /// Follows the watch that fills the store, behind it.
    pub fn follow(&self, event: &Event<K>) {
        match event {
            Event::Apply(object) => add(&mut self.groups.write(), object, self.group_of),
            Event::Delete(object) => {
                let Some((group, name)) =
                    (self.group_of)(object).zip(object.meta().name.as_deref())
                else {
                    return;
                };
                let mut groups = self.groups.write();
                if let Some(names) = groups.get_mut(&group) {
                    names.remove(name);
                    if names.is_empty() {
                        groups.remove(&group);
                    }
                }
            }
            // the store has the list only when it is whole, and then nothing else
            Event::InitDone => {
                let mut listed = HashMap::new();
                for object in self.store.state() {
                    add(&mut listed, &*object, self.group_of);
                }
                *self.groups.write() = listed;
                self.listed.send_replace(true);
            }
            Event::Init | Event::InitApply(_) => {}
        }
    }

    /// An object by name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = ObjectRef::new_with(name, self.kind.clone()).within(namespace);
        self.store.get(&key)
    }

    /// Those of a group of this namespace, in the order of their names.
    pub fn of_group(&self, namespace: &str, group: &str) -> Vec<Arc<K>> {
        let groups = self.groups.read();
        let names = groups.get(group).into_iter().flatten();
        names
            .filter_map(|name| self.get(namespace, name))
            // relabelled, or given to another pipeline
            .filter(|object| (self.group_of)(object).as_deref() == Some(group))
            .collect()
    }

    /// Waits until the kind has been listed once.
    pub async fn ready(&self) {
        // it cannot fail: the sender is our own
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }
}

fn add<K: Resource>(
    groups: &mut HashMap<Group, BTreeSet<Arc<str>>>,
    object: &K,
    group_of: fn(&K) -> Option<Group>,
) {
    if let Some((group, name)) = group_of(object).zip(object.meta().name.as_deref()) {
        groups.entry(group).or_default().insert(name.into());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::Pod;
    use kube::{ResourceExt, runtime::reflector::store::Writer};

    use super::*;

    /// A store and its index, as a watch fills them.
    struct World {
        writer: Writer<Pod>,
        pods: Indexed<Pod>,
    }

    impl World {
        fn new() -> Self {
            let writer = Writer::new(());
            let group_of = |pod: &Pod| pod.labels().get("of").map(|of| Group::from(of.as_str()));
            let pods = Indexed::new(writer.as_reader(), (), group_of);
            Self { writer, pods }
        }

        fn told(&mut self, events: impl IntoIterator<Item = Event<Pod>>) {
            for event in events {
                self.writer.apply_watcher_event(&event);
                self.pods.follow(&event);
            }
        }

        fn of(&self, group: &str) -> Vec<String> {
            let found = self.pods.of_group("shop", group);
            found.iter().map(|pod| pod.name_any()).collect()
        }
    }

    fn pod(name: &str, of: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.namespace = Some("shop".to_owned());
        pod.metadata.labels = Some(BTreeMap::from([("of".to_owned(), of.to_owned())]));
        pod
    }

    #[test]
    fn objects_are_found_by_their_group_as_the_watch_tells_of_them() {
        let mut world = World::new();
        world.told([
            Event::Init,
            Event::InitApply(pod("b", "clicks")),
            Event::InitApply(pod("a", "clicks")),
            Event::InitApply(pod("c", "views")),
        ]);
        assert_eq!(world.of("clicks"), Vec::<String>::new(), "not listed yet");
        world.told([Event::InitDone]);
        assert_eq!(world.of("clicks"), ["a", "b"]);
        world.told([
            Event::Apply(pod("d", "clicks")),
            Event::Delete(pod("a", "clicks")),
        ]);
        assert_eq!(
            (world.of("clicks"), world.of("views")),
            (vec!["b".to_owned(), "d".to_owned()], vec!["c".to_owned()])
        );
        assert_eq!(world.pods.of_group("other", "views").len(), 0);
    }

    #[test]
    fn nobody_is_told_that_all_is_listed_before_it_is_found() {
        let mut world = World::new();
        let ready = |world: &World| {
            futures_util::FutureExt::now_or_never(Box::pin(world.pods.ready())).is_some()
        };
        let listed = [Event::Init, Event::InitApply(pod("a", "clicks"))];
        world.told(listed);
        world.writer.apply_watcher_event(&Event::InitDone);
        assert!(!ready(&world), "the store has it, the groups do not");
        world.pods.follow(&Event::InitDone);
        assert!(ready(&world));
        assert_eq!(world.of("clicks"), ["a"]);
    }

    #[test]
    fn what_went_while_the_watch_was_broken_off_is_found_no_longer() {
        let mut world = World::new();
        world.told([
            Event::Init,
            Event::InitApply(pod("a", "clicks")),
            Event::InitDone,
        ]);
        world.told([
            Event::Init,
            Event::InitApply(pod("b", "clicks")),
            Event::InitDone,
        ]);
        assert_eq!(world.of("clicks"), ["b"]);
    }

    #[test]
    fn an_object_that_is_relabelled_is_found_in_its_new_group_only() {
        let mut world = World::new();
        world.told([
            Event::Init,
            Event::InitDone,
            Event::Apply(pod("a", "clicks")),
        ]);
        world.told([Event::Apply(pod("a", "views"))]);
        assert_eq!((world.of("clicks").len(), world.of("views").len()), (0, 1));
    }

    #[test]
    fn nothing_is_kept_of_a_group_that_is_empty() {
        let mut world = World::new();
        world.told([
            Event::Init,
            Event::InitDone,
            Event::Apply(pod("a", "clicks")),
        ]);
        world.told([Event::Delete(pod("a", "clicks"))]);
        assert!(world.pods.groups.read().is_empty());
    }
}
