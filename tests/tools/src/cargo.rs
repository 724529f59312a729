//! The cargo that builds programs of this workspace, and what it says meanwhile.

use std::{
    ffi::OsStr,
    io::{BufReader, Read as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{Tool, workspace_root};

/// The features that everything in the dev profile is built with, whichever package is asked for.
/// Cargo compiles a dependency once for each set of features that it is wanted with, so one list
/// (and `--workspace`) means that every crate is compiled once for all tests.
///
/// Crash points do nothing unless a test names them; TLS to Kafka comes from the system's OpenSSL.
pub const TEST_FEATURES: [&str; 5] = [
    "clickstream-lab/operator",
    "clickstream-operator/tls",
    "clickstream-processor/failpoints",
    "clickstream-processor/tls",
    "clickstream-producer/tls",
];

/// What the machine must have for [`TEST_FEATURES`].
pub const TEST_TOOLS: [Tool; 2] = [Tool::OpenSsl, Tool::PkgConfig];

/// What cargo says while it builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// So many of all steps are done; what is being compiled now.
    Progress {
        /// Steps that are done; those that were done before count too.
        done: u32,
        /// All steps.
        all: u32,
        /// Crates that are being compiled, separated by commas.
        now: String,
    },
    /// A line that stays: what begins, a warning, an error.
    Line(String),
}

/// Cargo in the workspace's root. What the cargo that started this program set for it is taken away
/// again: build scripts that watch such a variable would run again at every change between
/// `cargo test` and `cargo xtask test`, and with them half the workspace.
pub fn cargo<I, S>(args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    let own = [
        "CARGO",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "OUT_DIR",
    ];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let begins = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        if own.contains(&text.as_ref()) || begins.iter().any(|begin| text.starts_with(begin)) {
            command.env_remove(&name);
        }
    }
    command.args(args).current_dir(workspace_root());
    command
}

/// `cargo build` of these packages in the dev profile, the way all tests are built.
#[must_use]
pub fn test_build() -> Command {
    let mut command = cargo(["build", "--workspace", "--features"]);
    command.arg(TEST_FEATURES.join(","));
    command
}

/// Runs a `cargo build`, to which one program of each name is added (a package and its program
/// share their name), and returns the executables in the same order. `hear` gets what cargo says.
/// Blocks.
///
/// # Errors
/// The build fails; the message holds the compiler's.
pub fn programs(
    mut command: Command,
    names: &[&str],
    mut hear: impl FnMut(Said) + Send,
) -> anyhow::Result<Vec<PathBuf>> {
    command.arg("--message-format=json-render-diagnostics");
    for name in names {
        command.args(["--bin", name]);
    }
    let mut child = command
        // the bar holds the number of steps, which cargo says in no other way
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "400")
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut messages = child.stdout.take().context("cargo has no output")?;
    let words = child.stderr.take().context("cargo has no error output")?;
    let (stdout, lines) = std::thread::scope(|scope| {
        let listener = scope.spawn(move || {
            let mut lines = Vec::new();
            for said in sayings(BufReader::new(words)) {
                if let Said::Line(line) = &said {
                    lines.push(line.clone());
                }
                hear(said);
            }
            lines
        });
        let mut stdout = String::new();
        let read = messages.read_to_string(&mut stdout);
        (read.map(|_| stdout), listener.join().unwrap_or_default())
    });
    let (stdout, status) = (stdout?, child.wait()?);
    if !status.success() {
        // the first error explains the others
        let from = lines
            .iter()
            .position(|line| line.starts_with("error"))
            .unwrap_or(0);
        bail!(
            "cargo build failed ({status}):\n{}",
            lines[from..].join("\n")
        );
    }
    names
        .iter()
        .map(|name| executable(&stdout, name).with_context(|| format!("cargo built no {name}")))
        .collect()
}

/// What stands in cargo's error output, piece by piece: bars end with a carriage return, lines with
/// a line feed.
fn sayings(words: impl std::io::BufRead) -> impl Iterator<Item = Said> {
    let mut bytes = words.bytes().map_while(Result::ok);
    std::iter::from_fn(move || {
        let mut piece = Vec::new();
        for byte in bytes.by_ref() {
            if byte == b'\r' || byte == b'\n' {
                return Some(piece);
            }
            piece.push(byte);
        }
        (!piece.is_empty()).then_some(piece)
    })
    .filter_map(|piece| said(&String::from_utf8_lossy(&piece)))
}

/// One piece; nothing for an empty one, and for what only clears a line of a terminal.
fn said(piece: &str) -> Option<Said> {
    let text = piece.replace("\u{1b}[K", "");
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    Some(bar(text).unwrap_or_else(|| Said::Line(text.to_owned())))
}

/// `Building [=====>       ] 57/287: serde, tokio(build)`
fn bar(text: &str) -> Option<Said> {
    let (_, rest) = text.strip_prefix("Building [")?.split_once("] ")?;
    let (counts, now) = rest.split_once(':').unwrap_or((rest, ""));
    let (done, all) = counts.split_once('/')?;
    Some(Said::Progress {
        done: done.trim().parse().ok()?,
        all: all.trim().parse().ok()?,
        now: now.trim().to_owned(),
    })
}

fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_lines_are_told_apart() {
        let words = "   Compiling serde v1.0.0\n    Building [=>      ] 57/287: serde, tokio(build)\r\
                     \u{1b}[K   Compiling tokio v1.0.0\n    Building [==> ] 58/287\r\u{1b}[K\
                     warning: unused\n";
        let heard: Vec<Said> = sayings(words.as_bytes()).collect();
        let bar = |done, now: &str| Said::Progress {
            done,
            all: 287,
            now: now.to_owned(),
        };
        assert_eq!(
            heard,
            [
                Said::Line("Compiling serde v1.0.0".to_owned()),
                bar(57, "serde, tokio(build)"),
                Said::Line("Compiling tokio v1.0.0".to_owned()),
                bar(58, ""),
                Said::Line("warning: unused".to_owned()),
            ]
        );
    }

    #[test]
    fn the_executable_is_that_of_the_target_with_this_name() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"a"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"b"},"executable":"/t/b"}
not json
{"reason":"compiler-artifact","target":{"name":"a"},"executable":"/t/a"}"#;
        assert_eq!(executable(messages, "a"), Some(PathBuf::from("/t/a")));
        assert_eq!(executable(messages, "c"), None);
    }
}
