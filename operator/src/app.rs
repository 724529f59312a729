//! Wiring of `run`: what is opened in which order, and closed in the opposite one.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use clickstream_telemetry::{Health, Verdict, admin, metrics, shutdown};
use futures_util::{StreamExt, future};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    client::ClientBuilder,
    core::DeserializeGuard,
    discovery,
    runtime::{Config, Controller, Predicate as _, WatchStreamExt, predicates, reflector, watcher},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    args::RunArgs,
    controller::{
        self, Context, Settings,
        apply::Applier,
        build::{Kind, Scraping, handed_on},
        memory::Memories,
        upgrades::Upgrades,
    },
    crd::ClickstreamPipeline,
    events::Events,
    leader,
    metrics::OperatorMetrics,
    stores,
    topics::TopicAdmins,
};

/// Reconciles that may run at the same time: each waits for Kafka or the API most of its time.
const AT_ONCE: u16 = 32;
/// A connection on which nothing comes for so long is dead. API servers end watches after 290 s, and tell of their life about every
/// minute before.
const SILENCE: Duration = Duration::from_secs(295);
/// Between two tries to reach the API server at start.
const START_PAUSE: Duration = Duration::from_secs(2);

/// Runs the operator until it is told to stop.
///
/// # Errors
/// What is missing: an API server, the resource's definition, rights; or why the operator could not go on.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let stop = shutdown::signal().context("cannot listen for signals")?;
    let registry = metrics::registry("operator")?;
    let operator_metrics = OperatorMetrics::register(&registry)?;
    let health = Arc::new(OperatorHealth::default());
    let admin_stop = CancellationToken::new();
    if let Some(addr) = args.admin_listen {
        admin::serve(addr, registry, Arc::clone(&health) as _, admin_stop.clone()).await?;
    }
    let mut config = kube::Config::infer()
        .await
        .context("no way to a kubernetes api: neither in a cluster nor with a kubeconfig")?;
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    let host = config.cluster_url.authority().map(ToString::to_string);
    let requests = operator_metrics.requests.to(host.unwrap_or_default());
    let client = ClientBuilder::try_from(config)
        .context("the way to the kubernetes api")?
        .with_layer(&requests)
        .build();
    let Some(cluster) = cluster_id(&client, &stop).await? else {
        return Ok(());
    };
    let scraping = Scraping::new(
        &named(&args.pod_monitor_labels),
        args.pod_monitor_interval.as_deref(),
    )?;
    let kinds = kinds(&client, args.pod_monitor).await?;
    let identity = args
        .identity
        .clone()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| format!("operator-{}", std::process::id()));
    let settings = Settings {
        processor_image: args.processor_image.clone(),
        producer_image: args.producer_image.clone(),
        image_pull_policy: args.image_pull_policy.clone(),
        image_pull_secrets: named(&args.image_pull_secrets),
        cluster,
        installation: args.lease_namespace.clone(),
        network_policy: args.network_policy,
        pod_monitor: (args.pod_monitor && kinds.contains(&Kind::PodMonitor)).then_some(scraping),
        tracing: handed_on(|variable| std::env::var(variable).ok()),
    };
    let upgrades = Arc::new(Upgrades::new(args.upgrade_max_concurrent));
    let start = || {
        Work {
            client: client.clone(),
            namespaces: named(&args.namespaces),
            kinds: kinds.clone(),
            settings: settings.clone(),
            metrics: operator_metrics.clone(),
            events: Events::new(client.clone(), &identity),
            upgrades: Arc::clone(&upgrades),
            health: Arc::clone(&health),
        }
        .run(stop.clone())
    };
    info!(identity, cluster = settings.cluster, "operator starts");
    let ended = match &args.lease_namespace {
        None => {
            operator_metrics.leads(true);
            start().await;
            Ok(())
        }
        Some(namespace) => {
            lead(
                &client,
                namespace,
                &identity,
                &operator_metrics,
                &health,
                &stop,
                start,
            )
            .await
        }
    };
    admin_stop.cancel();
    ended
}

/// Works while this process leads, and waits while it does not.
async fn lead<F: Future<Output = ()>>(
    client: &Client,
    namespace: &str,
    identity: &str,
    metrics: &OperatorMetrics,
    health: &OperatorHealth,
    stop: &CancellationToken,
    start: impl Fn() -> F,
) -> anyhow::Result<()> {
    let leader::Candidate {
        mut leads,
        mut task,
    } = leader::stand(client.clone(), namespace, identity).await?;
    // one that waits its turn is in good order
    health.listed.store(true, Ordering::Relaxed);
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => break,
            ended = &mut task => bail!("the election of a leader ended: {ended:?}"),
            led = leads.wait_for(|leads| *leads) => {
                led.context("the election of a leader ended")?;
            }
        }
        info!("this process leads");
        metrics.leads(true);
        tokio::select! {
            () = start() => {}
            ended = &mut task => bail!("the election of a leader ended: {ended:?}"),
            _ = leads.wait_for(|leads| !*leads) => warn!("another process leads"),
        }
        metrics.leads(false);
    }
    // giving the lease back lets the next one lead at once
    drop(leads);
    if tokio::time::timeout(Duration::from_secs(3), task)
        .await
        .is_err()
    {
        warn!("the lease was not given back in time");
    }
    Ok(())
}

/// Everything that one term of leading needs.
struct Work {
    client: Client,
    namespaces: Vec<String>,
    kinds: Vec<Kind>,
    settings: Settings,
    metrics: OperatorMetrics,
    events: Events,
    upgrades: Arc<Upgrades>,
    health: Arc<OperatorHealth>,
}

impl Work {
    async fn run(self, stop: CancellationToken) {
        let scopes: Vec<Option<String>> = if self.namespaces.is_empty() {
            vec![None]
        } else {
            self.namespaces.iter().cloned().map(Some).collect()
        };
        future::join_all(
            scopes
                .into_iter()
                .map(|scope| self.watch(scope, stop.clone())),
        )
        .await;
    }

    /// One controller: for one namespace, or for all.
    async fn watch(&self, namespace: Option<String>, stop: CancellationToken) {
        let namespace = namespace.as_deref();
        let stores::Watches { stores, mut woken } =
            stores::watches(&self.client, namespace, &self.kinds);
        let context = Arc::new(Context {
            client: self.client.clone(),
            settings: self.settings.clone(),
            stores: Arc::clone(&stores),
            applier: Applier::new(self.client.clone(), self.metrics.clone()),
            admins: TopicAdmins::default(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            memories: Memories::default(),
            upgrades: Arc::clone(&self.upgrades),
        });
        // children first: a pipeline that is reconciled before its children are known would apply all of them again. The first lists
        // fill the stores and wake nobody: every pipeline is reconciled at the start anyhow
        {
            let mut listed = pin!(stores.ready());
            loop {
                tokio::select! {
                    () = &mut listed => break,
                    _ = woken.next() => {}
                    () = stop.cancelled() => return,
                }
            }
        }
        self.health.listed.store(true, Ordering::Relaxed);
        debug!(namespace, "children are listed");

        let api = stores::api::<DeserializeGuard<ClickstreamPipeline>>(&self.client, namespace);
        let writer = reflector::store::Writer::default();
        let reader = writer.as_reader();
        let (listed, scope) = (reader.clone(), namespace.map(str::to_owned));
        let [metrics, changed, woke] = [(); 3].map(|()| self.metrics.clone());
        let events = watcher(api, watcher::Config::default())
            .backoff(stores::retries())
            .modify(|object| {
                if let Ok(pipeline) = &mut object.0 {
                    pipeline.metadata.managed_fields = None;
                }
            })
            .reflect(writer)
            .inspect(move |event| count(&metrics, scope.as_deref(), event, &listed));
        let pipelines = stores::touched(events, Some)
            // a status of our own is no news
            .predicate_filter(
                predicates::generation
                    .combine(predicates::annotations)
                    .combine(predicates::finalizers),
                Default::default(),
            )
            // the watch waits by itself after an error; the controller would hold up all triggers for up to half a minute
            .filter(|event| {
                if let Err(error) = event {
                    debug!(%error, "the watch of pipelines");
                }
                future::ready(event.is_ok())
            })
            .inspect(move |event| {
                if let Ok(object) = event {
                    changed.triggered(
                        &object.namespace().unwrap_or_default(),
                        &object.name_any(),
                    );
                }
            });
        let woken = woken.inspect(move |pipeline| {
            woke.triggered(
                pipeline.namespace.as_deref().unwrap_or_default(),
                &pipeline.name,
            );
        });
        self.metrics.may_run(AT_ONCE);
        Controller::for_stream(pipelines, reader)
            .with_config(Config::default().concurrency(AT_ONCE))
            .reconcile_on(woken)
            .graceful_shutdown_on(stop.cancelled_owned())
            .run(controller::reconcile, controller::error_policy, context)
            .for_each(|result| {
                if let Err(error) = result {
                    debug!(%error, "reconcile");
                }
                future::ready(())
            })
            .await;
    }
}

/// Which pipelines there are, as the watch tells.
fn count(
    metrics: &OperatorMetrics,
    namespace: Option<&str>,
    event: &watcher::Result<watcher::Event<DeserializeGuard<ClickstreamPipeline>>>,
    listed: &reflector::Store<DeserializeGuard<ClickstreamPipeline>>,
) {
    let name = |object: &DeserializeGuard<ClickstreamPipeline>| {
        (object.namespace().unwrap_or_default(), object.name_any())
    };
    match event {
        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
            let (namespace, name) = name(object);
            metrics.seen(&namespace, &name);
        }
        Ok(watcher::Event::Delete(object)) => {
            let (namespace, name) = name(object);
            metrics.gone(&namespace, &name);
        }
        Ok(watcher::Event::InitDone) => {
            let there = listed.state().iter().map(|object| name(object)).collect();
            for (namespace, name) in metrics.pipelines.only(namespace, &there) {
                metrics.queue.gone(&namespace, &name);
            }
        }
        Ok(watcher::Event::Init) | Err(_) => {}
    }
}

/// The identity of the cluster; waits for an API server that is away.
async fn cluster_id(client: &Client, stop: &CancellationToken) -> anyhow::Result<Option<String>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    loop {
        match namespaces.get("kube-system").await {
            Ok(namespace) => return Ok(namespace.uid()),
            Err(kube::Error::Api(status)) => {
                bail!(
                    "namespace kube-system cannot be read, whose uid is the cluster's identity: {status}"
                )
            }
            Err(error) => warn!(%error, "waiting for the kubernetes api"),
        }
        tokio::select! {
            () = tokio::time::sleep(START_PAUSE) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

/// The kinds that there are. The Prometheus operator's is optional; the resource itself is not. It is watched whether or not
/// pods are to be scraped by it: what was made before it was switched off is taken away.
async fn kinds(client: &Client, pod_monitor: bool) -> anyhow::Result<Vec<Kind>> {
    let group = clickstream_pipeline::spec::GROUP;
    if discovery::group(client, group).await.is_err() {
        bail!(
            "this cluster does not know {group}: install the CustomResourceDefinition first (clickstream-operator crd | kubectl apply -f -)"
        );
    }
    let mut kinds = Kind::ALL.to_vec();
    let (monitoring, version, kind, _) = Kind::PodMonitor.api();
    let known = match discovery::group(client, monitoring).await {
        Ok(group) => group
            .versioned_resources(version)
            .iter()
            .any(|(resource, _)| resource.kind == kind),
        Err(_) => false,
    };
    if !known {
        if pod_monitor {
            warn!("no PodMonitor: this cluster does not know {monitoring}");
        }
        kinds.retain(|kind| *kind != Kind::PodMonitor);
    }
    Ok(kinds)
}

/// An empty environment variable is a list without members.
fn named(names: &[String]) -> Vec<String> {
    names
        .iter()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Ready once everything has been listed, or while another process leads.
#[derive(Default)]
struct OperatorHealth {
    listed: AtomicBool,
}

impl Health for OperatorHealth {
    fn live(&self) -> Verdict {
        Verdict::Ok
    }

    fn ready(&self) -> Verdict {
        if self.listed.load(Ordering::Relaxed) {
            Verdict::Ok
        } else {
            Verdict::Failing("pipelines and children are not listed yet".to_owned())
        }
    }

    fn status(&self) -> serde_json::Value {
        json!({ "listed": self.listed.load(Ordering::Relaxed) })
    }
}
