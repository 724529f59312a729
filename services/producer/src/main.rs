//! The `clickstream-producer` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    clickstream_producer::program()
}
