//! The console's binary; see the library for what it does.

use std::process::ExitCode;

use clap::Parser;
use clickstream_console::args::Cli;
use clickstream_telemetry::memory;

fn main() -> ExitCode {
    memory::keep_little();
    work()
}

#[tokio::main(worker_threads = 2)]
async fn work() -> ExitCode {
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
