//! Signals sent to a real process: this test binary, started a second time.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed unwrap is how a test reports, and lines on stdout are how its child does"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use clickstream_telemetry::shutdown;

/// Tells the second start that it is the process to be signalled.
const ROLE: &str = "CLICKSTREAM_TEST_SIGNALLED";

struct Service {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Service {
    /// `drains`: whether it ends by itself after the first signal.
    fn start(drains: bool) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signalled_process", "--nocapture", "--ignored"])
            .env(ROLE, if drains { "drains" } else { "hangs" })
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut service = Self { child, lines };
        service.wait_for("listening");
        service
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if line.contains(word) {
                return;
            }
            line.clear();
        }
        panic!("the process ended before it said {word:?}");
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {}", self.child.id())])
            .status()
            .unwrap();
        assert!(sent.success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn either_signal_lets_a_service_drain_and_end_by_itself() {
    for signal in ["TERM", "INT"] {
        let mut service = Service::start(true);
        service.send(signal);
        service.wait_for("draining");
        assert!(service.child.wait().unwrap().success(), "SIG{signal}");
    }
}

#[test]
fn a_second_signal_ends_a_service_that_hangs() {
    let mut service = Service::start(false);
    service.send("TERM");
    service.wait_for("draining");
    service.send("INT");
    assert_eq!(service.child.wait().unwrap().code(), Some(130));
}

/// Not a test of its own: the process that the tests above start.
#[test]
#[ignore = "started by the other tests of this file as the process to be signalled"]
fn signalled_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let token = shutdown::signal().unwrap();
        println!("listening");
        token.cancelled().await;
        println!("draining");
        if role == "hangs" {
            std::future::pending::<()>().await;
        }
    });
}
