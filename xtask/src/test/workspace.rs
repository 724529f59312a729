//! What the workspace holds, asked from cargo, so that no list here goes stale.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clickstream_tools::cargo::cargo;
use serde::Deserialize;

/// The crate whose dependents' integration tests start real servers.
const TESTBED: &str = "clickstream-testbed";

/// Test targets of this name run the engine under seeded faults.
pub const SIMULATION: &str = "simulation";

/// Features that would build OpenSSL or Cyrus SASL from source just to be linted.
const SLOW_DEPENDENCIES: [&str; 2] = ["rdkafka/ssl", "rdkafka/gssapi"];

/// The packages of the workspace, in the order of its `members`.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    packages: Vec<Package>,
}

/// One package.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
    features: std::collections::BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Workspace {
    /// Asks `cargo metadata`.
    ///
    /// # Errors
    /// Cargo cannot be started or refuses a manifest; its own words are on stderr by then.
    pub fn read() -> anyhow::Result<Self> {
        let output = cargo(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", output.status);
        }
        serde_json::from_slice(&output.stdout).context("cargo metadata: unexpected output")
    }

    /// Packages that start no server and build no librdkafka for their tests.
    pub fn pure(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| !package.on_servers())
    }

    /// Packages whose integration tests need the real servers.
    pub fn on_servers(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.on_servers())
    }

    /// The package with this manifest, and its place among the members.
    pub fn package_of(&self, manifest: &Path) -> Option<(usize, &Package)> {
        let mut packages = self.packages.iter().enumerate();
        packages.find(|(_, package)| package.manifest_path == manifest)
    }

    /// Every feature that can be linted in reasonable time, as `package/feature`.
    pub fn lintable_features(&self) -> Vec<String> {
        let features = self.packages.iter().flat_map(|package| {
            let slow = |feature: &str| package.is_slow(feature, 0);
            package
                .features
                .keys()
                .filter(move |feature| !slow(feature))
                .map(|feature| format!("{}/{feature}", package.name))
        });
        features.collect()
    }
}

impl Package {
    /// The names of its integration tests.
    pub fn tests(&self) -> impl Iterator<Item = &str> {
        let tests = self.targets.iter().filter(|target| target.is_test());
        tests.map(|target| target.name.as_str())
    }

    fn on_servers(&self) -> bool {
        self.name == TESTBED
            || self
                .dependencies
                .iter()
                .any(|dependency| dependency.name == TESTBED)
    }

    /// Follows a feature into the features it enables; cargo refuses cycles through packages, not
    /// within one, hence the depth.
    fn is_slow(&self, feature: &str, depth: usize) -> bool {
        let Some(enables) = self.features.get(feature) else {
            return SLOW_DEPENDENCIES
                .iter()
                .any(|slow| feature.replace("?/", "/").starts_with(slow));
        };
        depth <= self.features.len() && enables.iter().any(|next| self.is_slow(next, depth + 1))
    }
}

impl Target {
    fn is_test(&self) -> bool {
        self.kind.iter().any(|kind| kind == "test")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use serde_json::json;

    use super::*;

    fn workspace() -> Workspace {
        serde_json::from_value(json!({ "packages": [
            {
                "name": "pure",
                "manifest_path": "/w/pure/Cargo.toml",
                "dependencies": [{ "name": "serde" }],
                "targets": [
                    { "name": "pure", "kind": ["lib"] },
                    { "name": "simulation", "kind": ["test"] },
                    { "name": "algebra", "kind": ["test"] },
                ],
                "features": {},
            },
            {
                "name": "service",
                "manifest_path": "/w/service/Cargo.toml",
                "dependencies": [{ "name": "clickstream-testbed" }],
                "targets": [
                    { "name": "exactly_once", "kind": ["test"] },
                ],
                "features": {
                    "default": ["plain"],
                    "plain": [],
                    "failpoints": ["fail/failpoints"],
                    "kafka-tls": ["rdkafka/ssl-vendored"],
                    "everything": ["plain", "kafka-tls"],
                },
            },
        ]}))
        .unwrap()
    }

    fn names<'a>(packages: impl Iterator<Item = &'a Package>) -> Vec<&'a str> {
        packages.map(|package| package.name.as_str()).collect()
    }

    #[test]
    fn whoever_uses_the_testbed_needs_servers() {
        let workspace = workspace();
        assert_eq!(names(workspace.pure()), ["pure"]);
        assert_eq!(names(workspace.on_servers()), ["service"]);
    }

    #[test]
    fn integration_tests_are_told_from_libraries() {
        let workspace = workspace();
        let pure = workspace.pure().next().unwrap();
        assert_eq!(pure.tests().collect::<Vec<_>>(), ["simulation", "algebra"]);
    }

    #[test]
    fn a_package_is_found_by_its_manifest() {
        let workspace = workspace();
        let found = workspace.package_of(Path::new("/w/service/Cargo.toml"));
        assert_eq!(
            found.map(|(place, package)| (place, package.name.as_str())),
            Some((1, "service"))
        );
        assert!(
            workspace
                .package_of(Path::new("/w/other/Cargo.toml"))
                .is_none()
        );
    }

    #[test]
    fn features_that_build_openssl_are_not_linted_however_deep_they_lie() {
        assert_eq!(
            workspace().lintable_features(),
            ["service/default", "service/failpoints", "service/plain"]
        );
    }
}
