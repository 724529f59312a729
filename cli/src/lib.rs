//! `kubectl clickstream`: looks after `ClickstreamPipeline` resources from a terminal.
//!
//! ```text
//! init ──> a file ──> validate ──> kubectl apply ──> status ──> pause, resume, audit
//!                                                       └─> reconcile, restart, migrate, take-over, accept-loss
//!                                                       └─> logs, top, report
//! ```
//!
//! `init`, `validate`, `completion` and `version` ask no cluster. `status` reads the resource and its Events and nothing else,
//! `pause` and `resume` write one field, and `audit` runs as a Job, with what the processors may do. The verbs for incidents write
//! annotations, which the operator follows; `logs`, `top` and `report` read, by way of the API server, and never a Secret.

pub mod args;
pub mod complete;

mod access;
mod audit;
mod guarded;
mod incidents;
mod init;
mod logs;
mod paint;
mod report;
mod status;
mod suspend;
mod top;
mod validate;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use clickstream_protocol::output;

/// The program, from its arguments to its exit code. It stands here, and `main.rs` only calls it,
/// because async code is compiled where it is polled: there it would be compiled once more.
#[tokio::main(flavor = "current_thread")]
pub async fn program() -> ExitCode {
    if let Some(words) = complete::asked() {
        let answer = complete::answer(&words).await;
        // a shell that has gone on wants no answer any more
        let _ = std::io::stdout().write_all(answer.as_bytes());
        return ExitCode::SUCCESS;
    }
    match args::Cli::parse().run().await {
        Ok(code) => code,
        Err(error) => output::failed(&*error, &format!("{error:#}")),
    }
}
