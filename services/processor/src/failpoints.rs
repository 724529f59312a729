//! Named points at which a test can make the process die (cargo feature `failpoints`; nothing in
//! ordinary builds).
//!
//! `FAILPOINTS="after_copy=3*off->return"` lets the point pass three times and aborts at the
//! fourth.

use std::time::Duration;

/// Whether this build has crash points.
pub const ENABLED: bool = cfg!(feature = "failpoints");

/// Aborts the process if the environment asks for it here.
#[cfg_attr(
    not(feature = "failpoints"),
    expect(unused_variables, reason = "without the feature there are no points")
)]
pub fn crash_point(name: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |_| {
        eprintln!("crash point {name} reached");
        #[expect(
            clippy::disallowed_methods,
            reason = "to die without a word, as from SIGKILL, is what is tested"
        )]
        std::process::abort()
    });
}

/// Whether the environment asks for something to go wrong here (`1*return`).
#[cfg_attr(
    not(feature = "failpoints"),
    expect(unused_variables, reason = "without the feature there are no points")
)]
pub fn goes_wrong(name: &str) -> bool {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |_| true);
    false
}

/// Holds the thread up if the environment asks for it here (`sleep(1000)`).
#[cfg_attr(
    not(feature = "failpoints"),
    expect(unused_variables, reason = "without the feature there are no points")
)]
pub fn stall(name: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name);
}

/// A duration that a test may shorten, in milliseconds through the environment; `default` in
/// ordinary builds.
pub fn tuned(variable: &str, default: Duration) -> Duration {
    if !ENABLED {
        return default;
    }
    let millis = std::env::var(variable)
        .ok()
        .and_then(|value| value.parse().ok());
    millis.map_or(default, Duration::from_millis)
}

/// A number that a test sets through the environment; `None` in ordinary builds.
pub fn only(variable: &str) -> Option<usize> {
    ENABLED.then(|| std::env::var(variable).ok()?.parse().ok())?
}

/// Reads `FAILPOINTS`. Called once at start.
pub fn arm() {
    #[cfg(feature = "failpoints")]
    std::mem::forget(fail::FailScenario::setup());
}
