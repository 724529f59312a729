//! The test programs: all compiled by one cargo build, so that no crate is compiled twice, then run
//! one by one.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clickstream_tools::cargo::{TEST_FEATURES, TEST_TOOLS, cargo};
use serde::Deserialize;

use super::counts::Counts;
use super::step::{Report, announce};
use super::workspace::{Package, SIMULATION, Workspace};

/// A compiled test program.
#[derive(Clone, Debug)]
pub struct TestProgram {
    /// Its package.
    pub package: String,
    /// The folder of the package, in which cargo runs its tests.
    pub folder: PathBuf,
    /// The target's name.
    target: String,
    /// Whether it is an integration test: a file or folder of the package's `tests`.
    integration: bool,
    /// The program.
    pub path: PathBuf,
}

impl TestProgram {
    /// Unit tests of all packages, and integration tests that start no server.
    pub fn is_unit(&self, workspace: &Workspace) -> bool {
        let pure = || workspace.pure().any(|package| package.name == self.package);
        !self.is_simulation() && (!self.integration || pure())
    }

    /// The engine under seeded faults.
    pub fn is_simulation(&self) -> bool {
        self.integration && self.target == SIMULATION
    }

    /// An integration test of a package whose tests start servers.
    pub fn is_integration_of(&self, package: &Package) -> bool {
        self.integration && !self.is_simulation() && self.package == package.name
    }

    /// An integration test of this name.
    pub fn is_test(&self, target: &str) -> bool {
        self.integration && self.target == target
    }

    /// What to type to run it alone.
    pub fn command(&self) -> String {
        let kind = if self.integration {
            "--test"
        } else {
            "# unit tests:"
        };
        format!("cargo test -p {} {kind} {}", self.package, self.target)
    }
}

/// Compiles the tests, with those on real servers or without. A red report comes with no programs.
pub fn compile(on_servers: bool, workspace: &Workspace) -> (Report, Vec<TestProgram>) {
    let name = "compile the tests";
    announce(name);
    let begun = Instant::now();
    let built = build(on_servers, workspace);
    let (outcome, programs) = match built {
        Ok(programs) => {
            let remark = format!("{} test programs", programs.len());
            (Ok(Some(remark)), programs)
        }
        Err(error) => (Err(format!("{error:#}")), Vec::new()),
    };
    let report = Report {
        name: name.to_owned(),
        took: begun.elapsed(),
        counts: Counts::default(),
        outcome,
    };
    (report, programs)
}

fn build(on_servers: bool, workspace: &Workspace) -> anyhow::Result<Vec<TestProgram>> {
    clickstream_tools::ensure(&TEST_TOOLS)?;
    let mut command = cargo(["test", "--no-run", "--workspace", "--features"]);
    command
        .arg(TEST_FEATURES.join(","))
        .arg("--message-format=json-render-diagnostics")
        .args(["--lib", "--bins"]);
    if on_servers {
        command.arg("--tests");
    } else {
        for test in workspace.pure().flat_map(Package::tests) {
            command.args(["--test", test]);
        }
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo test --no-run: {}",
        output.status
    );
    Ok(found(&String::from_utf8_lossy(&output.stdout), workspace))
}

/// What cargo says of an artifact.
#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

fn found(messages: &str, workspace: &Workspace) -> Vec<TestProgram> {
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter(|artifact| artifact.profile.test);
    let mut programs: Vec<(usize, TestProgram)> = artifacts
        .filter_map(|artifact| {
            let (place, package) = workspace.package_of(&artifact.manifest_path)?;
            let program = TestProgram {
                package: package.name.clone(),
                folder: artifact.manifest_path.parent()?.to_owned(),
                integration: artifact.target.kind.iter().any(|kind| kind == "test"),
                target: artifact.target.name,
                path: artifact.executable?,
            };
            Some((place, program))
        })
        .collect();
    // cargo names them in the order in which it has finished them
    programs.sort_by(|(one, a), (other, b)| (one, &a.target).cmp(&(other, &b.target)));
    programs.into_iter().map(|(_, program)| program).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::json;

    use super::*;

    fn workspace() -> Workspace {
        let package = |name: &str, dependency: &str| {
            json!({
                "name": name,
                "manifest_path": format!("/w/{name}/Cargo.toml"),
                "dependencies": [{ "name": dependency }],
                "targets": [],
                "features": {},
            })
        };
        serde_json::from_value(json!({ "packages": [
            package("core", "serde"),
            package("service", "clickstream-testbed"),
        ]}))
        .unwrap()
    }

    fn artifact(package: &str, target: &str, kind: &str, test: bool) -> String {
        json!({
            "reason": "compiler-artifact",
            "manifest_path": format!("/w/{package}/Cargo.toml"),
            "target": { "name": target, "kind": [kind] },
            "profile": { "test": test },
            "executable": format!("/t/{target}"),
        })
        .to_string()
    }

    #[test]
    fn each_program_belongs_to_one_part() {
        let messages = [
            artifact("service", "service", "lib", true),
            artifact("service", "kills", "test", true),
            artifact("core", "simulation", "test", true),
            artifact("core", "algebra", "test", true),
            artifact("core", "core", "lib", true),
            // no test, and somebody else's package
            artifact("service", "service", "bin", false),
            artifact("serde", "serde", "lib", true),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let workspace = workspace();
        let programs = found(&messages, &workspace);
        let names = |wanted: &dyn Fn(&TestProgram) -> bool| -> Vec<String> {
            let wanted = programs.iter().filter(|program| wanted(program));
            wanted.map(|program| program.target.clone()).collect()
        };
        assert_eq!(
            names(&|program| program.is_unit(&workspace)),
            ["algebra", "core", "service"]
        );
        assert_eq!(names(&TestProgram::is_simulation), ["simulation"]);
        let service = workspace.on_servers().next().unwrap();
        assert_eq!(
            names(&|program| program.is_integration_of(service)),
            ["kills"]
        );
        assert_eq!(programs.len(), 5);
    }
}
