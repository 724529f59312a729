//! The workflows run the project's own commands and nothing else: what they do can be done, and
//! tried, on any machine.

use std::fs;

use anyhow::Context as _;
use clickstream_tools::workspace_root;
use serde_json::{Value, json};

/// What a step may run; arguments may follow.
const COMMANDS: [&str; 3] = [".ci/run", "cargo xtask e2e", "cargo xtask release"];

/// Whose steps are taken over, by a commit: a tag can be moved.
const ACTIONS: [&str; 4] = [
    "actions/cache",
    "actions/checkout",
    "actions/setup-go",
    "actions/upload-artifact",
];

fn workflows() -> anyhow::Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(workspace_root().join(".github/workflows"))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let name = path
            .file_name()
            .context("a name")?
            .to_string_lossy()
            .into_owned();
        let read = serde_yaml::from_str(&text).with_context(|| name.clone())?;
        found.push((name, read));
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// What is wrong with the steps of a workflow.
fn objections(workflow: &Value) -> Vec<String> {
    let mut objections = Vec::new();
    let jobs = workflow["jobs"].as_object().into_iter().flatten();
    for (name, job) in jobs {
        for step in job["steps"].as_array().into_iter().flatten() {
            if let Some(action) = step["uses"].as_str() {
                let (action, commit) = action.split_once('@').unwrap_or((action, ""));
                let pinned =
                    commit.len() == 40 && commit.chars().all(|sign| sign.is_ascii_hexdigit());
                if !pinned || !ACTIONS.contains(&action) {
                    objections.push(format!("{name}: uses {action}@{commit}"));
                }
                let leaves_token = step["with"]["persist-credentials"] != json!(false);
                if action == "actions/checkout" && leaves_token {
                    objections.push(format!("{name}: the checkout keeps its token"));
                }
            } else {
                let line = step["run"].as_str().unwrap_or_default();
                let ours = COMMANDS.iter().any(|own| {
                    let rest = line.strip_prefix(own);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
                });
                if !ours || line.contains(['\n', ';', '|', '&', '$', '`', '>', '<']) {
                    objections.push(format!("{name}: runs {line}"));
                }
            }
        }
    }
    objections
}

#[test]
fn workflows_run_the_projects_commands_and_nothing_else() -> anyhow::Result<()> {
    let workflows = workflows()?;
    let names: Vec<&str> = workflows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ci.yml", "release.yml"]);
    for (name, workflow) in &workflows {
        assert_eq!(objections(workflow), Vec::<String>::new(), "{name}");
        assert_eq!(
            workflow["permissions"],
            json!({ "contents": "read" }),
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn a_release_is_made_of_a_tag_by_the_command_that_makes_it_anywhere() -> anyhow::Result<()> {
    for (name, workflow) in workflows()? {
        let is_release = name == "release.yml";
        if is_release {
            assert_eq!(workflow["on"], json!({ "push": { "tags": ["v*"] } }));
        }
        let text = workflow.to_string();
        assert_eq!(text.contains("cargo xtask release"), is_release, "{name}");
        // secrets and an identity are for what somebody with a right to push has tagged
        assert_eq!(text.contains("id-token"), is_release, "{name}");
        assert_eq!(text.contains("secrets."), is_release, "{name}");
    }
    Ok(())
}

#[test]
fn the_container_has_the_compiler_of_the_workspace() -> anyhow::Result<()> {
    let toolchain = fs::read_to_string(workspace_root().join("rust-toolchain.toml"))?;
    for (name, workflow) in workflows()? {
        for (_, job) in workflow["jobs"].as_object().context("jobs")? {
            let Some(container) = job["container"].as_str() else {
                continue;
            };
            let version = container
                .strip_prefix("rust:")
                .and_then(|tag| tag.split('-').next());
            let version = version.with_context(|| format!("{name}: {container}"))?;
            assert!(
                toolchain.contains(&format!("channel = \"{version}.")),
                "{name}: {container}"
            );
        }
    }
    Ok(())
}

#[test]
fn anything_else_is_objected_to() {
    let step = |step: Value| objections(&json!({ "jobs": { "a": { "steps": [step] } } })).len();
    assert_eq!(step(json!({ "run": ".ci/run --fast" })), 0);
    assert_eq!(step(json!({ "run": ".ci/run; curl example.com" })), 1);
    assert_eq!(step(json!({ "run": ".ci/runner" })), 1);
    assert_eq!(step(json!({ "run": "cargo test" })), 1);
    assert_eq!(step(json!({ "uses": "actions/cache@v5" })), 1);
    let commit = "0".repeat(40);
    assert_eq!(
        step(json!({ "uses": format!("actions/cache@{commit}") })),
        0
    );
    assert_eq!(step(json!({ "uses": format!("someone/else@{commit}") })), 1);
    assert_eq!(
        step(json!({ "uses": format!("actions/checkout@{commit}") })),
        1
    );
}
