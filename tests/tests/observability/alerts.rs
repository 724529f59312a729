//! The rule files: what they must hold, and `promtool`, which fires and resolves every alert.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use clickstream_testbed::{promtool, workspace_root};
use serde_yaml::Value;

use crate::rules::{alerts, monitoring, rules};

/// What every runbook answers.
const SECTIONS: [&str; 3] = ["## What it means", "## How to look", "## What to do"];

/// The alerts of any pipeline, and the one more where an operator runs.
const FILES: [&str; 2] = ["rules.yaml", "operator.yaml"];

#[test]
fn the_rule_files_are_the_alerts_with_the_charts_values() {
    let shipped = FILES.iter().flat_map(|file| {
        let text = fs::read_to_string(monitoring().join(file)).unwrap();
        rules_of(&text)
    });
    let shipped: BTreeMap<String, Value> = shipped.collect();
    let filled_in: BTreeMap<String, Value> = rules_of(&rules(&[]).unwrap()).into_iter().collect();
    assert_eq!(shipped, filled_in, "run charts/render.sh");
}

/// Without an operator nobody leads, and the alert about that would never end.
#[test]
fn rules_for_a_prometheus_without_an_operator_hold_no_alert_about_its_absence() {
    let text = fs::read_to_string(monitoring().join("rules.yaml")).unwrap();
    assert!(!text.contains("absent("), "{text}");
}

/// The rules of a file by the names of their alerts.
fn rules_of(text: &str) -> Vec<(String, Value)> {
    let file: Value = serde_yaml::from_str(text).unwrap();
    let rules = file["groups"][0]["rules"].as_sequence().unwrap();
    rules
        .iter()
        .map(|rule| (rule["alert"].as_str().unwrap().to_owned(), rule.clone()))
        .collect()
}

/// A link that leads nowhere is worse than none: who has only the alert reads in it what to look
/// at.
#[test]
fn every_alert_says_enough_for_a_person_without_runbooks() {
    for (name, rule) in rules_of(&rules(&[]).unwrap()) {
        let annotations = &rule["annotations"];
        assert!(annotations["runbook_url"].is_null(), "{name}: a link");
        let description = annotations["description"].as_str().unwrap();
        let says_what_to_do = ["First: ", "first, ", "`kubectl "];
        assert!(
            says_what_to_do
                .iter()
                .any(|says| description.contains(says)),
            "{name}: {description}"
        );
    }
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
    promtool(&monitoring(), &["check", "rules", FILES[0], FILES[1]]).unwrap();
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
