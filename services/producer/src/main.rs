//! The `clickstream-producer` program.

use std::process::ExitCode;

use clap::Parser;
use clickstream_producer::app;
use clickstream_producer::args::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    match app::run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
