//! A server on loopback in the place of an API server, and what a program said to it.

use std::{
    path::PathBuf,
    process::Output,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::Router;
use serde_json::json;

/// How long the program may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves these routes until the test ends; returns a kubeconfig for namespace `shop` of it.
pub async fn serve(routes: Router) -> PathBuf {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let file = format!(
        "kubeconfig-{}-{}",
        std::process::id(),
        FILES.fetch_add(1, Ordering::Relaxed)
    );
    let kubeconfig = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
        "users": [{ "name": "c", "user": {} }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c", "namespace": "shop" } }],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    kubeconfig
}

/// Exit code, standard output and standard error of a program that ends.
pub async fn ended(
    output: impl Future<Output = std::io::Result<Output>>,
) -> (Option<i32>, String, String) {
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .unwrap()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}
