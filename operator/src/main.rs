//! The operator's binary; see the library for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    clickstream_telemetry::memory::keep_little();
    clickstream_operator::program()
}
