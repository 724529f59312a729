//! What is answered to which request. Nothing that can be asked changes anything but the session of
//! who asks.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::Router;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::map_response;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{get, post};
use clickstream_telemetry::http::Lifetime;
use futures_util::stream::{self, Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;

use crate::assets::{ASSETS, LOGIN, PAGE};
use crate::auth::{Guard, bearer};
use crate::database::Database;
use crate::explain::explain;
use crate::hub::{Hub, Listener};

/// Nothing but our own files; text can become an element in no way, since no script may parse HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// How long a question about a window waits for those before it; one is answered at a time.
const QUEUE_PATIENCE: Duration = Duration::from_secs(10);

/// How long an explanation is good for others who ask the same.
const EXPLANATION_AGE: Duration = Duration::from_secs(1);

/// A browser that lost the stream comes back after this long.
const RETRY: Duration = Duration::from_secs(1);

/// Proxies close what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Event times end before 2100; see the decoder.
const LAST_START: i64 = 4_102_444_800;

/// What the routes share.
pub struct Console {
    /// The snapshots.
    pub hub: Arc<Hub>,
    /// Who may look.
    pub guard: Guard,
    /// Ends the streams.
    pub stop: CancellationToken,
    /// Explains windows, one at a time.
    pub explainer: Mutex<Explainer>,
}

/// A session for explanations, apart from the poller's, and the last explanation.
pub struct Explainer {
    database: Database,
    last: Option<(i64, Instant, Value)>,
}

impl Explainer {
    /// Explains with this database.
    pub fn new(database: Database) -> Self {
        Self {
            database,
            last: None,
        }
    }
}

type Shared = State<Arc<Console>>;

/// The routes.
pub fn router(console: Arc<Console>) -> Router {
    let mut router = Router::new()
        .route("/", get(page))
        .route("/login", get(login))
        .route("/logout", post(logout))
        .route("/api/session", get(session))
        .route("/events", get(events))
        .route("/api/minute", get(minute));
    for asset in ASSETS {
        router = router.route(
            asset.path,
            get(async move |headers: HeaderMap| asset.answer(&headers)),
        );
    }
    router.with_state(console).layer(map_response(secured))
}

async fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // data is of the moment; files say themselves how long they last
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn page(State(console): Shared, headers: HeaderMap, uri: Uri) -> Response {
    if let Guard::Token(door) = &console.guard
        && let Some(given) = parameter(&uri, "token")
        && door.opens_with(&given)
    {
        // the address without the token is what stays in the browser's history
        let to_page = [(LOCATION, HeaderValue::from_static("/"))];
        let mut response = (StatusCode::SEE_OTHER, to_page).into_response();
        let cookie = door.open(came_by_https(&headers));
        response.headers_mut().insert(SET_COOKIE, cookie);
        return response;
    }
    match console.guard.check(&headers) {
        Ok(_) => PAGE.answer(&headers),
        Err(StatusCode::UNAUTHORIZED) => {
            let mut response = LOGIN.answer(&headers);
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            response
        }
        Err(status) => refusal(status),
    }
}

/// Exchanges the token of the header for the cookie: the login form comes here, so that the token
/// stands in no address.
async fn login(State(console): Shared, headers: HeaderMap) -> Response {
    let Guard::Token(door) = &console.guard else {
        return StatusCode::NO_CONTENT.into_response();
    };
    if !bearer(&headers).is_some_and(|given| door.opens_with(given)) {
        return refusal(StatusCode::UNAUTHORIZED);
    }
    let cookie = door.open(came_by_https(&headers));
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}

/// Ends the session, with the streams that it opened. Pages of others cannot ask for it: browsers
/// send the cookie with no POST of theirs (`SameSite=Lax`).
async fn logout(State(console): Shared, headers: HeaderMap) -> Response {
    let Guard::Token(door) = &console.guard else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let cookie = door.close(&headers, came_by_https(&headers));
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}

/// Whether there is a session that can be ended.
async fn session(State(console): Shared, headers: HeaderMap) -> Response {
    match console.guard.check(&headers) {
        Ok(_) => {
            let ends = matches!(console.guard, Guard::Token(_));
            Json(json!({ "logout": ends })).into_response()
        }
        Err(status) => refusal(status),
    }
}

async fn events(
    State(console): Shared,
    headers: HeaderMap,
    lifetime: Option<Extension<Lifetime>>,
) -> Response {
    let pass = match console.guard.check(&headers) {
        Ok(pass) => pass,
        Err(status) => return refusal(status),
    };
    if let Some(Extension(lifetime)) = lifetime {
        lifetime.is_for_a_stream();
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let Some(listener) = console.hub.listen(last) else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE);
    };
    let stop = console.stop.clone();
    let events = news(Arc::clone(&console.hub), listener).take_until(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = pass.cancelled() => {}
        }
    });
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

/// One event for each section that is new. Only the last of a snapshot carries its id: a stream
/// that breaks off in between is told the whole snapshot again.
fn news(hub: Arc<Hub>, listener: Listener) -> impl Stream<Item = Result<Event, Infallible>> {
    let first = stream::once(async { Event::default().retry(RETRY) });
    let rest = stream::unfold((hub, listener), |(hub, mut listener)| async move {
        let (number, sections) = listener.next().await?;
        let last = sections.len() - 1;
        let events: Vec<_> = sections
            .into_iter()
            .enumerate()
            .map(|(at, (name, json))| {
                let event = Event::default().event(name).data(&*json);
                if at == last {
                    event.id(hub.event_id(number))
                } else {
                    event
                }
            })
            .collect();
        Some((stream::iter(events), (hub, listener)))
    });
    first.chain(rest.flatten()).map(Ok)
}

async fn minute(State(console): Shared, headers: HeaderMap, uri: Uri) -> Response {
    if let Err(status) = console.guard.check(&headers) {
        return refusal(status);
    }
    let start = parameter(&uri, "start").and_then(|start| start.parse::<i64>().ok());
    let Some(start) = start.filter(|start| (0..LAST_START).contains(start)) else {
        let why =
            json!({ "error": "start: write the window's first instant in seconds since 1970" });
        return (StatusCode::BAD_REQUEST, Json(why)).into_response();
    };
    let Ok(mut explainer) = tokio::time::timeout(QUEUE_PATIENCE, console.explainer.lock()).await
    else {
        let why = json!({ "error": "many windows are being explained; ask again" });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(why)).into_response();
    };
    if let Some((known, at, explanation)) = &explainer.last
        && *known == start
        && at.elapsed() < EXPLANATION_AGE
    {
        return Json(explanation).into_response();
    }
    match explainer.database.window(start).await {
        Ok(facts) => {
            let explanation = serde_json::to_value(explain(start, facts)).unwrap_or(Value::Null);
            explainer.last = Some((start, Instant::now(), explanation.clone()));
            Json(explanation).into_response()
        }
        Err(error) => {
            tracing::debug!(%error, "a window cannot be explained");
            let why = json!({ "error": error.to_string() });
            (StatusCode::SERVICE_UNAVAILABLE, Json(why)).into_response()
        }
    }
}

fn refusal(status: StatusCode) -> Response {
    let why = match status {
        StatusCode::UNAUTHORIZED => "a token is needed",
        StatusCode::MISDIRECTED_REQUEST => {
            "without a token this page answers to localhost, 127.0.0.1 and [::1] only"
        }
        _ => "too many pages listen; close one",
    };
    (status, Json(json!({ "error": why }))).into_response()
}

fn parameter(uri: &Uri, name: &str) -> Option<String> {
    form_urlencoded::parse(uri.query()?.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// What a proxy in front says. Whoever lies about it only harms the own cookie.
fn came_by_https(headers: &HeaderMap) -> bool {
    headers
        .get("x-forwarded-proto")
        .is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
}
