//! The console's binary; see the library for what it does.

use std::process::ExitCode;

use clickstream_telemetry::memory;

fn main() -> ExitCode {
    memory::keep_little();
    clickstream_console::program()
}
