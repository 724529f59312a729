//! Wiring of `run`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use clickstream_telemetry::admin::{self, AdminArgs};
use clickstream_telemetry::client::TrustFiles;
use clickstream_telemetry::{Health, Verdict, http, metrics, shutdown};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::auth::Guard;
use crate::database::{Database, Place};
use crate::hub::Hub;
use crate::poller::Poller;
use crate::processors::Address;
use crate::routes::{Console, Explainer, router};
use crate::server::{self, LIMITS};

/// How long answers under way may take at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// What the console is told at its start.
pub struct Settings {
    /// Where the page is served.
    pub listen: SocketAddr,
    /// Where probes and metrics are served, if anywhere, and how.
    pub admin: AdminArgs,
    /// The tables.
    pub place: Place,
    /// The processors.
    pub processors: Vec<Address>,
    /// Whom they are believed by, and what they are shown.
    pub trust: TrustFiles,
    /// Who may look.
    pub guard: Guard,
}

/// Serves the page until told to stop. PostgreSQL and processors need not be there: the page says
/// so.
///
/// # Errors
/// An address cannot be listened on.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let stop = shutdown::signal().context("cannot listen for signals")?;
    let run = u64::try_from(Utc::now().timestamp_millis()).unwrap_or_default();
    let hub = Arc::new(Hub::new(run));
    let admin_stop = CancellationToken::new();
    if let Some(addr) = settings.admin.admin_listen {
        let health = Arc::new(ConsoleHealth(Arc::clone(&hub)));
        admin::serve_guarded(
            addr,
            settings.admin.guard()?,
            metrics::registry("console")?,
            health,
            admin_stop.clone(),
        )
        .await?;
    }
    let (listener, local) = server::bind(settings.listen).await?;
    let console = Arc::new(Console {
        hub: Arc::clone(&hub),
        guard: settings.guard,
        stop: stop.clone(),
        explainer: Mutex::new(Explainer::new(Database::new(settings.place.clone()))),
    });
    let database = Database::new(settings.place);
    let poller = Poller::new(hub, database, settings.trust, settings.processors);
    let polling = tokio::spawn(poller.run(stop.clone()));
    tracing::info!(address = %local, "console listens");
    let followed = Arc::clone(&console);
    let following = tokio::spawn(async move { followed.guard.follow().await });
    let serving = tokio::spawn(http::serve(listener, router(console), LIMITS, stop.clone()));
    stop.cancelled().await;
    if tokio::time::timeout(DRAIN, serving).await.is_err() {
        tracing::warn!("answers under way were given up");
    }
    polling.abort();
    following.abort();
    admin_stop.cancel();
    Ok(())
}

struct ConsoleHealth(Arc<Hub>);

impl Health for ConsoleHealth {
    fn live(&self) -> Verdict {
        Verdict::Ok
    }

    fn ready(&self) -> Verdict {
        // a database that is away is told by the page, which has to be reachable for it
        Verdict::Ok
    }

    fn status(&self) -> Value {
        json!({ "pages": *self.0.listeners().borrow() })
    }
}
