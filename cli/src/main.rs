//! The plugin's binary; see the library for what it does.

use std::process::ExitCode;

use clap::Parser;
use kubectl_clickstream::{args::Cli, complete};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if let Some(words) = complete::asked() {
        print!("{}", complete::answer(&words).await);
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
