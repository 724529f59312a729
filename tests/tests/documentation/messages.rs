//! Messages that the documentation quotes: whoever searches for what a program said has to find it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clickstream_testbed::workspace_root;

use crate::markdown::page;

#[test]
fn every_quoted_message_is_one_that_a_program_says() {
    let root = workspace_root();
    let mut sources = Vec::new();
    for folder in ["services", "operator"] {
        collect(&root.join(folder), &mut sources);
    }
    let mut quoted = 0;
    let mut unknown = Vec::new();
    for block in page("docs/troubleshooting.md").blocks() {
        if block.language != "text" {
            continue;
        }
        quoted += 1;
        let parts: Vec<&str> = block.text.split('…').map(str::trim).collect();
        let says = |source: &String| parts.iter().all(|part| source.contains(part));
        if !sources.iter().any(says) {
            unknown.push(format!("{}: {}", block.at, block.text));
        }
    }
    assert!(quoted > 8, "only {quoted} messages were found");
    assert!(unknown.is_empty(), "no program says: {unknown:#?}");
}

/// The sources below a folder, with string literals that go on over a line's end joined.
fn collect(folder: &Path, sources: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
            sources.push(lines.join("\n").replace("\\\n", "").replace("\\\"", "\""));
        }
    }
}
