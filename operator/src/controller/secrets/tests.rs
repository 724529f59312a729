#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use std::{convert::Infallible, future::Pending, task};

use kube::{Client, client::Body};
use serde_json::json;
use tower::Service;

use super::*;

const DAY: Duration = Duration::from_hours(24);

fn pipeline(name: &str) -> ClickstreamPipeline {
    serde_json::from_value(json!({
        "apiVersion": "clickstream.dev/v1alpha1", "kind": "ClickstreamPipeline",
        "metadata": { "name": name, "namespace": "web" },
        "spec": {
            "kafka": { "bootstrapServers": "kafka:9092" },
            "targets": [{ "connection": { "secret": { "name": "postgres" } } }],
        },
    }))
    .unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn due(secrets: &Secrets, after: Duration) -> Vec<String> {
    let mut due: Vec<_> = secrets
        .due(Instant::now() + after)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    due.sort();
    due
}

#[test]
fn what_is_at_rest_is_asked_for_within_the_interval_and_what_is_waited_for_at_once() {
    let (secrets, _) = Secrets::new(DAY);
    secrets.named("a", &pipeline("a"), &names(&["postgres", "kafka"]));
    secrets.named("b", &pipeline("b"), &names(&["other"]));
    assert_eq!(
        due(&secrets, DAY),
        names(&[]),
        "never read: a reconcile does"
    );
    for name in ["postgres", "kafka", "other"] {
        // the second time it is no longer the first look
        assert!(!secrets.seen("web", name, Some("1".to_owned())));
        assert!(!secrets.seen("web", name, Some("1".to_owned())));
    }
    assert_eq!(due(&secrets, WAITED_FOR * 2), names(&[]));
    secrets.waits("a", true);
    assert_eq!(due(&secrets, WAITED_FOR), names(&["kafka", "postgres"]));
    assert_eq!(
        due(&secrets, WAITED_FOR),
        names(&[]),
        "it was asked for just now"
    );
    secrets.waits("a", false);
    assert_eq!(due(&secrets, DAY), names(&["kafka", "other", "postgres"]));
}

#[tokio::test]
async fn a_secret_of_many_is_asked_for_once_and_wakes_them_all() {
    let (secrets, mut woken) = Secrets::new(DAY);
    for name in ["a", "b"] {
        let versions = secrets.named(name, &pipeline(name), &names(&["postgres"]));
        assert_eq!(versions, None);
    }
    secrets.seen("web", "postgres", None);
    assert_eq!(
        secrets.named("b", &pipeline("b"), &names(&["postgres"])),
        Some(vec![None])
    );
    assert_eq!(due(&secrets, DAY), names(&["postgres"]));
    assert!(secrets.seen("web", "postgres", Some("1".to_owned())));
    let place = ("web".to_owned(), "postgres".to_owned());
    secrets.tell(&place, None);
    secrets.wake().await;
    let mut told = vec![
        woken.try_recv().unwrap().name,
        woken.try_recv().unwrap().name,
    ];
    told.sort();
    assert_eq!(told, ["a", "b"]);
}

#[tokio::test]
async fn what_a_reconcile_reads_wakes_the_others_that_name_it() {
    let (secrets, mut woken) = Secrets::new(DAY);
    for name in ["a", "b", "c"] {
        let named = if name == "c" { "other" } else { "postgres" };
        secrets.named(name, &pipeline(name), &names(&[named]));
    }
    secrets.read("a", "web", "postgres", Some("u/1".to_owned()));
    secrets.wake().await;
    assert!(woken.try_recv().is_err(), "it was not known before");
    secrets.read("a", "web", "postgres", Some("u/2".to_owned()));
    let client = Client::new(Silent, "web");
    tokio::select! {
        () = secrets.follow(&client) => {}
        told = woken.recv() => assert_eq!(told.unwrap().name, "b"),
        () = tokio::time::sleep(Duration::from_secs(5)) => panic!("nobody is woken"),
    }
    secrets.read("b", "web", "postgres", Some("u/2".to_owned()));
    secrets.wake().await;
    assert!(woken.try_recv().is_err(), "it is known by now");
}

#[tokio::test]
async fn what_was_read_earlier_and_is_told_later_does_not_stand_for_what_is_newer() {
    let (secrets, mut woken) = Secrets::new(DAY);
    let known = || secrets.named("a", &pipeline("a"), &names(&["postgres"]));
    let version = |version: &str| Some(version.to_owned());
    known();
    secrets.named("b", &pipeline("b"), &names(&["postgres"]));
    secrets.seen("web", "postgres", version("u/9"));
    assert!(secrets.seen("web", "postgres", version("u/10")));
    secrets.read("b", "web", "postgres", version("u/9"));
    assert_eq!(known(), Some(vec![version("u/10")]));
    secrets.wake().await;
    assert!(woken.try_recv().is_err(), "nothing has changed");
    // another Secret of this name, none, or versions that are no numbers: the last word counts
    for other in [version("v/3"), None, version("v/x"), version("v/a")] {
        assert!(secrets.seen("web", "postgres", other.clone()));
        assert_eq!(known(), Some(vec![other]));
    }
}

/// Takes requests and answers none.
struct Silent;

impl Service<hyper::Request<Body>> for Silent {
    type Response = hyper::Response<Body>;
    type Error = Infallible;
    type Future = Pending<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: hyper::Request<Body>) -> Self::Future {
        std::future::pending()
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for_for_ever() {
    let (secrets, _) = Secrets::new(DAY);
    let client = Client::new(Silent, "web");
    let place = ("web".to_owned(), "postgres".to_owned());
    let asked = secrets.ask(&client, &place, Duration::from_millis(1));
    let ended = tokio::time::timeout(Duration::from_secs(5), asked).await;
    assert!(ended.is_ok());
}

#[test]
fn what_nobody_names_any_more_is_not_asked_for() {
    let (secrets, _) = Secrets::new(DAY);
    for name in ["a", "b"] {
        secrets.named(name, &pipeline(name), &names(&["shared", name]));
    }
    for name in ["shared", "a", "b"] {
        secrets.seen("web", name, None);
    }
    secrets.named("a", &pipeline("a"), &names(&["shared"]));
    secrets.forget("b");
    assert_eq!(due(&secrets, DAY), names(&["shared"]));
    secrets.forget("a");
    assert_eq!(due(&secrets, DAY), names(&[]));
}

#[test]
fn when_kafka_is_away_for_everybody_secrets_are_not_all_asked_for_at_a_time() {
    let (secrets, _) = Secrets::new(DAY);
    for number in 0..100 {
        let uid = number.to_string();
        secrets.named(&uid, &pipeline(&uid), std::slice::from_ref(&uid));
        secrets.seen("web", &uid, None);
        secrets.seen("web", &uid, None);
        secrets.waits(&uid, true);
    }
    let first = due(&secrets, WAITED_FOR);
    assert_eq!(first.len(), WAITED_FOR_AT_ONCE);
    let second = due(&secrets, WAITED_FOR);
    assert!(
        second.iter().all(|name| !first.contains(name)),
        "it is the turn of others"
    );
}
