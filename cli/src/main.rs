//! The plugin's binary; see the library for what it does.

use std::{io::Write as _, process::ExitCode};

use clap::Parser;
use kubectl_clickstream::{args::Cli, complete};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if let Some(words) = complete::asked() {
        let answer = complete::answer(&words).await;
        // a shell that has gone on wants no answer any more
        let _ = std::io::stdout().write_all(answer.as_bytes());
        return ExitCode::SUCCESS;
    }
    match Cli::parse().run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
