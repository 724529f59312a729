//! The queue as dashboards for controllers know it. kube-runtime keeps its own and tells nothing of
//! it: what is seen here is when a pipeline was called for and when its reconcile began.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// As Go's client library has them, in seconds, from 10 µs on what a queue may take.
const QUEUE_SECONDS: &[f64] = &[0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0];
/// A reconcile takes milliseconds to its limit of 60 s.
const WORK_SECONDS: &[f64] = &[0.001, 0.01, 0.1, 1.0, 10.0, 60.0];

/// What there is to reconcile; a clone is the same.
#[derive(Clone)]
pub struct Queue {
    waiting: Arc<Mutex<HashMap<(String, String), Instant>>>,
    depth: IntGauge,
    adds: IntCounter,
    retries: IntCounter,
    queue_seconds: Histogram,
    work_seconds: Histogram,
    running: Running,
}

/// A reconcile that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The reconciles that run, and how long they have: known only when somebody asks.
#[derive(Clone)]
struct Running {
    begun: Arc<Mutex<(u64, BTreeMap<Ticket, Instant>)>>,
    unfinished: Gauge,
    longest: Gauge,
}

impl Collector for Running {
    fn desc(&self) -> Vec<&Desc> {
        let mut all = self.unfinished.desc();
        all.extend(self.longest.desc());
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let begun = self.begun.lock();
        let seconds = |since: &Instant| since.elapsed().as_secs_f64();
        self.unfinished.set(begun.1.values().map(seconds).sum());
        // tickets are given in the order of time
        self.longest
            .set(begun.1.values().next().map_or(0.0, seconds));
        let mut all = self.unfinished.collect();
        all.extend(self.longest.collect());
        all
    }
}

impl Queue {
    /// An empty queue.
    ///
    /// # Errors
    /// A name that Prometheus does not take.
    pub fn new(name: &str) -> prometheus::Result<Self> {
        let opts = |metric: &str, help: &str| Opts::new(metric, help).const_label("name", name);
        let histogram = |metric: &str, help: &str, buckets: &[f64]| {
            let opts = HistogramOpts::new(metric, help).const_label("name", name);
            Histogram::with_opts(opts.buckets(buckets.to_vec()))
        };
        Ok(Self {
            waiting: Arc::default(),
            depth: IntGauge::with_opts(opts(
                "workqueue_depth",
                "Pipelines that were called for and whose reconcile has not begun. Alert when it stays over 100 for ten minutes.",
            ))?,
            adds: IntCounter::with_opts(opts(
                "workqueue_adds_total",
                "Pipelines that were called for: by a change, a child's change, or their time.",
            ))?,
            retries: IntCounter::with_opts(opts(
                "workqueue_retries_total",
                "Pipelines that are tried again after a failure.",
            ))?,
            queue_seconds: histogram(
                "workqueue_queue_duration_seconds",
                "From a change to the reconcile that it calls for.",
                QUEUE_SECONDS,
            )?,
            work_seconds: histogram(
                "workqueue_work_duration_seconds",
                "How long a reconcile takes.",
                WORK_SECONDS,
            )?,
            running: Running {
                begun: Arc::default(),
                unfinished: Gauge::with_opts(opts(
                    "workqueue_unfinished_work_seconds",
                    "How long the reconciles that run have been at it, added up. Alert when it goes on growing: some are stuck.",
                ))?,
                longest: Gauge::with_opts(opts(
                    "workqueue_longest_running_processor_seconds",
                    "How long the oldest reconcile that runs has been at it. It begins anew after 60.",
                ))?,
            },
        })
    }

    /// What is registered.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.depth.clone()),
            Box::new(self.adds.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.queue_seconds.clone()),
            Box::new(self.work_seconds.clone()),
            Box::new(self.running.clone()),
        ]
    }

    /// A pipeline is called for; once, however often that is said before its reconcile begins.
    pub fn added(&self, namespace: &str, pipeline: &str) {
        let key = (namespace.to_owned(), pipeline.to_owned());
        let mut waiting = self.waiting.lock();
        waiting.entry(key).or_insert_with(|| {
            self.adds.inc();
            Instant::now()
        });
        self.show(waiting.len());
    }

    /// Its reconcile begins.
    pub fn taken(&self, namespace: &str, pipeline: &str) {
        let key = (namespace.to_owned(), pipeline.to_owned());
        let mut waiting = self.waiting.lock();
        match waiting.remove(&key) {
            Some(since) => self.queue_seconds.observe(since.elapsed().as_secs_f64()),
            // its time had come: nobody called
            None => self.adds.inc(),
        }
        self.show(waiting.len());
    }

    /// Its reconcile failed, and it is tried again.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// A reconcile begins.
    pub fn begun(&self) -> Ticket {
        let mut begun = self.running.begun.lock();
        begun.0 += 1;
        let ticket = Ticket(begun.0);
        begun.1.insert(ticket, Instant::now());
        ticket
    }

    /// It ended, or was given up, after so long.
    pub fn worked(&self, ticket: Ticket, took: Duration) {
        self.running.begun.lock().1.remove(&ticket);
        self.work_seconds.observe(took.as_secs_f64());
    }

    /// The pipeline is gone.
    pub fn gone(&self, namespace: &str, pipeline: &str) {
        let key = (namespace.to_owned(), pipeline.to_owned());
        let mut waiting = self.waiting.lock();
        waiting.remove(&key);
        self.show(waiting.len());
    }

    /// Another process leads.
    pub fn clear(&self) {
        self.waiting.lock().clear();
        self.show(0);
    }

    fn show(&self, depth: usize) {
        self.depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
    }
}
