//! The plugin's binary; see the library for what it does.

use std::process::ExitCode;

use clap::Parser;
use kubectl_clickstream::args::Cli;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
