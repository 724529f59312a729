//! One snapshot for all pages, and who listens to it.
//!
//! A page is told what has changed since the last thing it was told. One that is slow skips what it
//! missed: it holds no queue, only the number of the last snapshot it got, so memory does not grow
//! with pages or with their slowness.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Pages that may listen at the same time.
pub const MAX_LISTENERS: usize = 64;

/// A named part of the page's data.
#[derive(Clone, Debug)]
pub struct Section {
    /// JSON.
    pub json: Arc<str>,
    /// The snapshot that it changed with.
    pub changed: u64,
}

/// Everything that a page shows, at an instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts the snapshots; 0 before the first.
    pub number: u64,
    sections: BTreeMap<&'static str, Section>,
}

impl Snapshot {
    /// The next snapshot: sections that are not among `fresh` stay, those with the same JSON count
    /// as unchanged.
    #[must_use]
    pub fn next(&self, fresh: Vec<(&'static str, String)>) -> Self {
        let number = self.number + 1;
        let mut sections = self.sections.clone();
        for (name, json) in fresh {
            let same = sections
                .get(name)
                .is_some_and(|section| *section.json == *json);
            if !same {
                let section = Section {
                    json: json.into(),
                    changed: number,
                };
                sections.insert(name, section);
            }
        }
        Self { number, sections }
    }

    /// The sections that changed after snapshot `seen`.
    pub fn since(&self, seen: u64) -> impl Iterator<Item = (&'static str, Arc<str>)> {
        let sections = self.sections.iter();
        sections
            .filter(move |(_, section)| section.changed > seen)
            .map(|(name, section)| (*name, Arc::clone(&section.json)))
    }
}

/// Where the poller leaves snapshots and pages take them.
#[derive(Debug)]
pub struct Hub {
    snapshot: watch::Sender<Arc<Snapshot>>,
    listeners: watch::Sender<usize>,
    places: Arc<Semaphore>,
    /// Distinguishes this process's snapshot numbers from those of one before it.
    run: u64,
}

/// One page. Its place is free again when it is dropped.
#[derive(Debug)]
pub struct Listener {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    seen: u64,
    listeners: watch::Sender<usize>,
    _place: OwnedSemaphorePermit,
}

impl Hub {
    /// A hub without snapshots; `run` differs from that of every earlier process (the time of its
    /// start).
    #[must_use]
    pub fn new(run: u64) -> Self {
        Self {
            snapshot: watch::Sender::new(Arc::new(Snapshot::default())),
            listeners: watch::Sender::new(0),
            places: Arc::new(Semaphore::new(MAX_LISTENERS)),
            run,
        }
    }

    /// Publishes what the poller has found.
    pub fn publish(&self, fresh: Vec<(&'static str, String)>) {
        self.snapshot
            .send_modify(|snapshot| *snapshot = Arc::new(snapshot.next(fresh)));
    }

    /// A place for a page that was told up to `last_event_id` before; None when all places are
    /// taken.
    pub fn listen(&self, last_event_id: Option<&str>) -> Option<Listener> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.listeners.send_modify(|count| *count += 1);
        let mut snapshots = self.snapshot.subscribe();
        // also one that was published before counts as news
        snapshots.mark_changed();
        Some(Listener {
            snapshots,
            seen: last_event_id.and_then(|id| self.number_of(id)).unwrap_or(0),
            listeners: self.listeners.clone(),
            _place: place,
        })
    }

    /// The id under which a page remembers a snapshot.
    pub fn event_id(&self, number: u64) -> String {
        format!("{:x}-{number}", self.run)
    }

    fn number_of(&self, event_id: &str) -> Option<u64> {
        let (run, number) = event_id.split_once('-')?;
        if u64::from_str_radix(run, 16) != Ok(self.run) {
            return None;
        }
        number.parse().ok()
    }

    /// How many pages listen, as it changes.
    pub fn listeners(&self) -> watch::Receiver<usize> {
        self.listeners.subscribe()
    }
}

impl Listener {
    /// Waits for news: the number of the snapshot and what is new in it. None when the hub is gone.
    pub async fn next(&mut self) -> Option<(u64, Vec<(&'static str, Arc<str>)>)> {
        loop {
            self.snapshots.changed().await.ok()?;
            let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
            let news: Vec<_> = snapshot.since(self.seen).collect();
            self.seen = snapshot.number;
            if !news.is_empty() {
                return Some((snapshot.number, news));
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.listeners.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn sections(names: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        let names = names.iter();
        names
            .map(|(name, json)| (*name, (*json).to_owned()))
            .collect()
    }

    fn names(news: &[(&'static str, Arc<str>)]) -> Vec<&'static str> {
        news.iter().map(|(name, _)| *name).collect()
    }

    #[tokio::test]
    async fn a_page_is_told_everything_first_and_then_what_changes() {
        let hub = Hub::new(7);
        hub.publish(sections(&[("flow", "1"), ("pages", "1")]));
        let mut page = hub.listen(None).unwrap();
        assert_eq!(names(&page.next().await.unwrap().1), ["flow", "pages"]);
        hub.publish(sections(&[("flow", "2"), ("pages", "1")]));
        assert_eq!(names(&page.next().await.unwrap().1), ["flow"]);
    }

    #[tokio::test]
    async fn a_page_that_comes_back_is_told_what_it_missed() {
        let hub = Hub::new(7);
        hub.publish(sections(&[("flow", "1"), ("pages", "1")]));
        hub.publish(sections(&[("pages", "2")]));
        let id = hub.event_id(1);
        let mut page = hub.listen(Some(&id)).unwrap();
        assert_eq!(names(&page.next().await.unwrap().1), ["pages"]);
        let other_run = Hub::new(8).event_id(1);
        for id in [other_run.as_str(), "7", "x-1", "7-x", ""] {
            let mut page = hub.listen(Some(id)).unwrap();
            assert_eq!(names(&page.next().await.unwrap().1).len(), 2, "{id}");
        }
    }

    #[tokio::test]
    async fn a_slow_page_gets_the_newest_and_nothing_in_between() {
        let hub = Hub::new(7);
        let mut page = hub.listen(None).unwrap();
        for number in 0..1000 {
            hub.publish(vec![("flow", number.to_string())]);
        }
        let (number, news) = page.next().await.unwrap();
        assert_eq!((number, &*news[0].1, news.len()), (1000, "999", 1));
    }

    #[tokio::test]
    async fn places_are_bounded_and_come_back() {
        let hub = Hub::new(7);
        let mut pages: Vec<_> = (0..MAX_LISTENERS)
            .map(|_| hub.listen(None).unwrap())
            .collect();
        assert!(hub.listen(None).is_none());
        assert_eq!(*hub.listeners().borrow(), MAX_LISTENERS);
        pages.pop();
        assert!(hub.listen(None).is_some());
        pages.clear();
        assert_eq!(*hub.listeners().borrow(), 0);
    }
}
