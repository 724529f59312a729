//! The rule file: what it must hold, and `promtool`, which fires and resolves every alert.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use std::{collections::BTreeSet, fs, path::Path};

use clickstream_testbed::{promtool, workspace_root};
use serde_yaml::Value;

use crate::rules::{alerts, monitoring, rules};

/// What every runbook answers.
const SECTIONS: [&str; 3] = ["## What it means", "## How to look", "## What to do"];

#[test]
fn the_rule_file_is_the_alerts_with_the_charts_values() {
    let shipped = fs::read_to_string(monitoring().join("rules.yaml")).unwrap();
    let shipped: Value = serde_yaml::from_str(&shipped).unwrap();
    let filled_in: Value = serde_yaml::from_str(&rules(&[]).unwrap()).unwrap();
    assert_eq!(shipped, filled_in, "run charts/render.sh");
}

#[test]
fn every_alert_has_a_runbook_that_says_what_it_means_and_what_to_do() {
    let names: BTreeSet<String> = alerts().unwrap().into_iter().map(|a| a.name).collect();
    let runbooks = workspace_root().join("docs/runbooks");
    for name in &names {
        let text = fs::read_to_string(runbooks.join(format!("{name}.md"))).unwrap();
        assert!(text.starts_with(&format!("# {name}\n")), "{name}: title");
        let places: Vec<_> = SECTIONS.iter().map(|section| text.find(section)).collect();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{name}: wants {SECTIONS:?} in this order"
        );
    }
    assert_eq!(names, stems(&runbooks), "a runbook without an alert");
}

#[test]
fn promtool_fires_and_resolves_every_alert() {
    let names: BTreeSet<String> = alerts().unwrap().into_iter().map(|a| a.name).collect();
    let tests = monitoring().join("tests");
    assert_eq!(names, stems(&tests), "one test file for each alert");
    for name in &names {
        let text = fs::read_to_string(tests.join(format!("{name}.yaml"))).unwrap();
        let test: Value = serde_yaml::from_str(&text).unwrap();
        let checks = test["tests"][0]["alert_rule_test"].as_sequence().unwrap();
        let fired: Vec<bool> = checks
            .iter()
            .inspect(|check| assert_eq!(check["alertname"].as_str(), Some(name.as_str())))
            .map(|check| !check["exp_alerts"].as_sequence().unwrap().is_empty())
            .collect();
        assert!(
            !fired[0] && fired.contains(&true) && fired.last() == Some(&false),
            "{name}: silent, fires, resolves"
        );
    }
    promtool(&monitoring(), &["check", "rules", "rules.yaml"]).unwrap();
    let files: Vec<String> = names.iter().map(|n| format!("tests/{n}.yaml")).collect();
    let mut arguments = vec!["test", "rules"];
    arguments.extend(files.iter().map(String::as_str));
    promtool(&monitoring(), &arguments).unwrap();
}

/// Names of the files of a folder, without their ends; an index is none.
fn stems(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|stem| stem != "README")
        .collect()
}
