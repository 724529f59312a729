//! The plugin's binary; see the library for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubectl_clickstream::program()
}
