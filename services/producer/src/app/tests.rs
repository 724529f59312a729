#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use clap::Parser as _;

use super::*;

/// Empty logs of these names, and the sources that a replay of all of them gives.
fn sources(names: &[&str], options: &[&str]) -> anyhow::Result<Vec<String>> {
    let folder = std::env::temp_dir().join(format!("inputs-{}", uuid::Uuid::new_v4()));
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    for path in &paths {
        std::fs::create_dir_all(path.parent().unwrap())?;
        std::fs::write(path, "")?;
    }
    let words = [
        "clickstream-producer",
        "replay",
        "--bootstrap-servers",
        "127.0.0.1:1",
    ];
    let words = words.iter().chain(options).map(PathBuf::from);
    let Command::Replay(args) = Cli::try_parse_from(words.chain(paths))?.command else {
        panic!("no replay");
    };
    let inputs = inputs(&args);
    std::fs::remove_dir_all(&folder)?;
    let name = |(_, source)| match source {
        Source::Named(name) => name,
        Source::Unnamed => String::new(),
    };
    Ok(inputs?.into_iter().map(name).collect())
}

#[test]
fn a_log_and_its_rotated_ones_are_replayed_together() {
    let names = ["access.log.2.gz", "access.log.1", "access.log"];
    assert_eq!(sources(&names, &[]).unwrap(), ["access.log"; 3]);
    assert_eq!(
        sources(&names, &["--source", "again"]).unwrap(),
        ["again/access.log"; 3]
    );
}

#[test]
fn logs_of_the_same_name_are_not_replayed_together() {
    for names in [
        ["a/access.log", "b/access.log"],
        ["access.log", "access.log.gz"],
        ["a/access.log.1", "b/access.log.1.gz"],
    ] {
        let refused = sources(&names, &[]).unwrap_err().to_string();
        assert!(refused.contains("(source `access.log`)"), "{refused}");
    }
}

#[test]
fn a_source_that_is_given_is_the_name_of_a_single_log() {
    let source = |name| sources(&[name], &["--source", "shop.1"]).unwrap();
    assert_eq!(source("access.log"), ["shop.1"]);
    assert_eq!(source("access.log.1"), ["shop.1"]);
}
