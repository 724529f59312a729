//! The operator's binary; see the library for what it does.

use std::process::ExitCode;

use clap::Parser;
use clickstream_operator::args::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
