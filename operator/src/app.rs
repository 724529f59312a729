//! Wiring of `run`: what is opened in which order, and closed in the opposite one.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clickstream_telemetry::{
    admin::{self, Access},
    memory, metrics, shutdown,
};
use futures_util::{StreamExt, future, stream};
use jiff::SignedDuration;
use kube::{
    Client, ResourceExt,
    client::ClientBuilder,
    core::DeserializeGuard,
    runtime::{Config, Controller, Predicate as _, WatchStreamExt, predicates, reflector, watcher},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, info, warn};

use crate::{
    args::RunArgs,
    cluster,
    controller::{
        self, Context,
        allowed::Allowed,
        applier::Applier,
        build::{children::release, handed_on},
        dereference,
        memory::Memories,
        secrets::Secrets,
        upgrades::{Upgrades, queue::Rules},
    },
    crd::ClickstreamPipeline,
    events::Events,
    guarding::Guarding,
    health::{Hearing, Scope},
    kind::Kind,
    leader,
    metrics::OperatorMetrics,
    observe::asker::Asker,
    review::TokenReviews,
    settings::{Scraping, Settings},
    stores,
    topics::TopicAdmins,
};

/// Reconciles that may run at the same time: each waits for Kafka or the API most of its time.
const AT_ONCE: u16 = 32;

/// How often free memory goes back to the system; it takes milliseconds.
const GIVE_BACK: Duration = Duration::from_secs(30);
/// A connection on which nothing comes for so long is dead. API servers end watches after 290 s,
/// and tell of their life about every minute before.
const SILENCE: Duration = Duration::from_secs(295);
/// Between two tries of a process that waits its turn to list what it will watch, while it may not.
const MAY_LIST_PAUSE: Duration = Duration::from_secs(10);

/// Runs the operator until it is told to stop.
///
/// # Errors
/// What is missing: an API server, the resource's definition, rights; or why the operator could not
/// go on.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let stop = shutdown::signal().context("cannot listen for signals")?;
    let registry = metrics::registry("operator")?;
    let operator_metrics = OperatorMetrics::register(&registry)?;
    let hearing = operator_metrics.hearing.clone();
    let admin_stop = CancellationToken::new();
    let mut config = kube::Config::infer()
        .await
        .context("no way to a kubernetes api: neither in a cluster nor with a kubeconfig")?;
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    let host = config.cluster_url.authority().map(ToString::to_string);
    let requests = operator_metrics
        .requests
        .to(host.unwrap_or_default(), hearing.clone());
    let client = ClientBuilder::try_from(config)
        .context("the way to the kubernetes api")?
        .with_layer(&requests)
        .build();
    if let Some(addr) = args.admin.admin_listen {
        let mut guard = args.admin.guard()?;
        if args.admin_token_review {
            ensure!(
                guard.tls.is_some(),
                "--admin-token-review takes --admin-tls: a token in the clear is everybody's"
            );
            guard.access = Access::judged_by(TokenReviews::new(client.clone()));
        }
        let health = Arc::new(hearing.clone());
        admin::serve_guarded(addr, guard, registry, health, admin_stop.clone()).await?;
    }
    let Some(cluster) = cluster::id(&client, &stop).await? else {
        return Ok(());
    };
    let scraping = Scraping::new(
        &named(&args.pod_monitor_labels),
        args.pod_monitor_interval.as_deref(),
    )?;
    let kinds = cluster::kinds(&client, &stop).await?;
    if args.pod_monitor && !kinds.borrow().contains(&Kind::PodMonitor) {
        warn!("no PodMonitor yet: this cluster does not know the kind");
    }
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
        network_policy: args.network_policy.then(|| {
            let network = args.network_policy_peers.clone().unwrap_or_default();
            network.or_operator_in(args.lease_namespace.as_deref())
        }),
        pod_monitor: args.pod_monitor.then_some(scraping),
        guarding: Guarding::new(
            &args.metrics_tls_secret,
            &args.metrics_token_secret,
            &args.metrics_token_key,
        )?,
        tracing: handed_on(|variable| std::env::var(variable).ok()),
        allowed: Allowed::new(
            &named(&args.allowed_images),
            &named(&args.allowed_brokers),
            &named(&args.allowed_priority_classes),
            args.lease_namespace.as_deref(),
        )?,
    };
    let scopes = scopes(&args.namespaces);
    let rules = Rules {
        release: release(&settings),
        at_once: args.upgrade_max_concurrent.max(1),
        deadline: (args.upgrade_deadline > 0)
            .then(|| SignedDuration::from_secs(args.upgrade_deadline.into())),
    };
    let canaries = labels(&args.upgrade_canaries)?;
    let upgrades = Upgrades::new(rules, settings.installation.clone(), canaries);
    let upgrades = Arc::new(upgrades);
    let asker = Asker::new(client.clone(), settings.guarding.clone());
    let start = || {
        Work {
            client: client.clone(),
            asker: asker.clone(),
            scopes: scopes.clone(),
            kinds: kinds.clone(),
            settings: settings.clone(),
            metrics: operator_metrics.clone(),
            events: Events::new(client.clone(), &identity),
            upgrades: Arc::clone(&upgrades),
            hearing: hearing.clone(),
            patience: Duration::from_secs(args.deletion_patience),
            secrets_interval: Duration::from_secs(args.secrets_interval),
        }
        .run(stop.clone())
    };
    let _memory = AbortOnDropHandle::new(tokio::spawn(give_back()));
    info!(identity, cluster = settings.cluster, "operator starts");
    let ended = match &args.lease_namespace {
        None => {
            operator_metrics.leads(true);
            while !stop.is_cancelled() {
                start().await;
            }
            Ok(())
        }
        Some(namespace) => {
            hearing.expect(&scopes, &kinds.borrow());
            tokio::spawn(list_once(client.clone(), hearing.clone(), stop.clone()));
            lead(
                &client,
                namespace,
                &identity,
                &operator_metrics,
                &stop,
                start,
            )
            .await
        }
    };
    admin_stop.cancel();
    ended
}

/// Gives free memory back to the system: a list of everything, an answer for Prometheus and a
/// thousand connections to Kafka each leave tens of MiB behind.
async fn give_back() {
    loop {
        tokio::time::sleep(GIVE_BACK).await;
        // it takes the locks of the allocator, so a thread does it that may wait
        let _ = tokio::task::spawn_blocking(memory::give_back).await;
    }
}

/// Works while this process leads, and waits while it does not.
async fn lead<F: Future<Output = ()>>(
    client: &Client,
    namespace: &str,
    identity: &str,
    metrics: &OperatorMetrics,
    stop: &CancellationToken,
    start: impl Fn() -> F,
) -> anyhow::Result<()> {
    let leader::Candidate {
        mut leads,
        mut task,
    } = leader::stand(client.clone(), namespace, identity).await?;
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

/// Lists one object of everything that will be watched, until all of it may be listed: a process
/// that waits its turn and lacks a right is not ready, so that no rollout goes on with it.
async fn list_once(client: Client, hearing: Hearing, stop: CancellationToken) {
    loop {
        for path in hearing.paths() {
            let request = hyper::Request::get(format!("{path}?limit=1")).body(Vec::new());
            if let Ok(request) = request {
                // the answer is noted where it comes in
                let _ = client.request_text(request).await;
            }
        }
        if hearing.all_allowed() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(MAY_LIST_PAUSE) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Everything that one term of leading needs.
struct Work {
    client: Client,
    asker: Asker,
    scopes: Vec<Scope>,
    kinds: watch::Receiver<Vec<Kind>>,
    settings: Settings,
    metrics: OperatorMetrics,
    events: Events,
    upgrades: Arc<Upgrades>,
    hearing: Hearing,
    patience: Duration,
    secrets_interval: Duration,
}

impl Work {
    /// Until it is told to stop, or the cluster knows other kinds than before: then the next term
    /// watches those.
    async fn run(mut self, stop: CancellationToken) {
        let kinds = self.kinds.borrow_and_update().clone();
        self.settings.pod_monitor = self
            .settings
            .pod_monitor
            .filter(|_| kinds.contains(&Kind::PodMonitor));
        self.hearing.expect(&self.scopes, &kinds);
        let _term = self.hearing.term_begins();
        self.upgrades.term_begins(self.scopes.len());
        let term = stop.child_token();
        let mut changes = self.kinds.clone();
        let work = future::join_all(
            self.scopes
                .iter()
                .map(|scope| self.watch(scope.clone(), &kinds, term.clone())),
        );
        let mut work = pin!(work);
        tokio::select! {
            _ = &mut work => {}
            Ok(()) = changes.changed() => {
                term.cancel();
                work.await;
            }
        }
    }

    /// One controller: for one namespace, or for all.
    async fn watch(&self, scope: Scope, kinds: &[Kind], stop: CancellationToken) {
        let namespace = scope.as_deref();
        let stores::Watches { stores, mut woken } = stores::watches(&self.client, namespace, kinds);
        let (secrets, mut changed_secrets) = Secrets::new(self.secrets_interval);
        woken.push(stream::poll_fn(move |cx| changed_secrets.poll_recv(cx)).boxed());
        let context = Arc::new(Context {
            client: self.client.clone(),
            asker: self.asker.clone(),
            settings: self.settings.clone(),
            stores: Arc::clone(&stores),
            applier: Applier::new(self.client.clone(), self.metrics.clone()),
            admins: TopicAdmins::default(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            memories: Memories::default(),
            secrets,
            upgrades: Arc::clone(&self.upgrades),
            patience: self.patience,
        });
        // children first: a pipeline that is reconciled before its children are known would apply
        // all of them again. The first lists fill the stores and wake nobody: every pipeline is
        // reconciled at the start anyhow
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
        self.hearing.listed(scope.clone());
        debug!(namespace, "children are listed");

        let api = stores::api::<DeserializeGuard<ClickstreamPipeline>>(&self.client, namespace);
        let writer = reflector::store::Writer::default();
        let reader = writer.as_reader();
        self.upgrades.watches(scope.clone(), reader.clone());
        let (listed, of) = (reader.clone(), scope.clone());
        let remembered = Arc::clone(&context);
        let idle = controller::gone::close_idle(Arc::clone(&context));
        let _idle = AbortOnDropHandle::new(tokio::spawn(idle));
        let secrets = dereference::follow(Arc::clone(&context));
        let _secrets = AbortOnDropHandle::new(tokio::spawn(secrets));
        let [metrics, changed, woke] = [(); 3].map(|()| self.metrics.clone());
        let events = watcher(api, watcher::Config::default())
            .backoff(stores::retries())
            .modify(|object| {
                if let Ok(pipeline) = &mut object.0 {
                    pipeline.metadata.managed_fields = None;
                }
            })
            .reflect(writer)
            .inspect(move |event| {
                count(&metrics, of.as_deref(), event, &listed);
                controller::gone::follow(&remembered, event, &listed);
            });
        let pipelines = stores::touched(events, Some)
            // a status of our own is no news
            .predicate_filter(
                predicates::generation
                    .combine(predicates::annotations)
                    .combine(predicates::finalizers),
                Default::default(),
            )
            // the watch waits by itself after an error; the controller would hold up all triggers
            // for up to half a minute
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

/// The namespaces that are watched, each by watches of its own; none named: all, by one.
fn scopes(namespaces: &[String]) -> Vec<Scope> {
    let named = named(namespaces);
    if named.is_empty() {
        return vec![None];
    }
    named.into_iter().map(Some).collect()
}

/// Labels as `KEY=VALUE`.
fn labels(named: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let labels = self::named(named).into_iter().map(|label| {
        let (key, value) = label
            .split_once('=')
            .with_context(|| format!("{label:?} is no label: write KEY=VALUE"))?;
        Ok((key.to_owned(), value.to_owned()))
    });
    labels.collect()
}

/// An empty environment variable is a list without members.
fn named(names: &[String]) -> Vec<String> {
    names
        .iter()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}
