//! What a program consists of, in CycloneDX: read from the program itself, not from what it should
//! have been built from.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::archive::sha256;

/// What cargo-auditable writes into programs.
#[derive(Deserialize)]
struct Audit {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: String,
    /// `runtime` where it is left out.
    #[serde(default)]
    kind: Kind,
    /// Places in the list.
    #[serde(default)]
    dependencies: Vec<usize>,
    #[serde(default)]
    root: bool,
}

#[derive(Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Runtime,
    Build,
}

/// A C library that a crate compiles and links: the version stands behind the `+` of the crate's.
struct Native {
    by: &'static str,
    name: &'static str,
    /// What stands before the version.
    prefix: &'static str,
    license: &'static str,
    /// Under which scanners know it, with the version to follow.
    cpe: Option<&'static str>,
}

const NATIVES: [Native; 3] = [
    Native {
        by: "openssl-src",
        name: "openssl",
        prefix: "",
        license: "Apache-2.0",
        cpe: Some("openssl:openssl"),
    },
    Native {
        by: "rdkafka-sys",
        name: "librdkafka",
        prefix: "",
        license: "BSD-2-Clause",
        cpe: None,
    },
    Native {
        by: "zstd-sys",
        name: "zstd",
        prefix: "zstd.",
        license: "BSD-3-Clause",
        cpe: Some("facebook:zstandard"),
    },
];

/// A program, and what is known of it besides.
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The JSON in it.
    pub dependencies: &'a str,
    /// The glibc that is linked.
    pub glibc: &'a str,
    /// Seconds since 1970 of the release.
    pub time: u64,
}

/// The document. `licenses` has the licences of crates by `NAME@VERSION`.
///
/// # Errors
/// The list in the program cannot be read.
pub fn cyclonedx(
    subject: &Subject<'_>,
    licenses: &BTreeMap<String, String>,
) -> anyhow::Result<Value> {
    let audit: Audit = serde_json::from_str(subject.dependencies)
        .context("the list in the program is unreadable")?;
    let root = audit.packages.iter().find(|package| package.root);
    let root = root.context("the list in the program has no root")?;
    let digest = sha256(subject.bytes);
    let others = || audit.packages.iter().filter(|package| !package.root);
    let mut components: Vec<Value> = others().map(|package| package.json(licenses)).collect();
    let mut linked = Vec::new();
    for package in others() {
        let native = NATIVES.iter().find(|native| native.by == package.name);
        let version = package.version.split_once('+').map(|(_, version)| version);
        if let (Some(native), Some(version)) = (native, version) {
            let version = version.strip_prefix(native.prefix).unwrap_or(version);
            linked.push(library(native.name, version, native.license, native.cpe));
        }
    }
    linked.push(library(
        "glibc",
        subject.glibc,
        "LGPL-2.1-or-later",
        Some("gnu:glibc"),
    ));
    let mut graph: Vec<Value> = Vec::new();
    for package in &audit.packages {
        let mut on: Vec<String> = package
            .dependencies
            .iter()
            .filter_map(|place| audit.packages.get(*place))
            .map(Package::reference)
            .collect();
        if package.root {
            on.extend(
                linked
                    .iter()
                    .filter_map(|one| one["bom-ref"].as_str().map(str::to_owned)),
            );
        }
        on.sort();
        on.dedup();
        graph.push(json!({ "ref": package.reference(), "dependsOn": on }));
    }
    components.extend(linked);
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial(&digest),
        "version": 1,
        "metadata": {
            "timestamp": super::date(subject.time),
            "lifecycles": [{ "phase": "post-build" }],
            "tools": { "components": [{
                "type": "application", "name": "cargo-auditable", "version": super::programs::AUDITABLE,
            }] },
            "component": {
                "type": "application",
                "bom-ref": root.reference(),
                "name": subject.name,
                "version": root.version,
                "licenses": [{ "expression": "Apache-2.0" }],
                "hashes": [{ "alg": "SHA-256", "content": digest }],
            },
        },
        "components": components,
        "dependencies": graph,
    }))
}

impl Package {
    fn reference(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }

    fn json(&self, licenses: &BTreeMap<String, String>) -> Value {
        let reference = self.reference();
        let mut json = json!({
            "type": "library",
            "bom-ref": reference,
            "name": self.name,
            "version": self.version,
            // what runs at compile time only is named, and is not in the program
            "scope": if self.kind == Kind::Build { "excluded" } else { "required" },
        });
        // a crate of this workspace is in no registry
        if self.source != "local" {
            json["purl"] = json!(reference.replace('+', "%2B"));
        }
        if let Some(license) = licenses.get(&format!("{}@{}", self.name, self.version)) {
            // crates of old separate alternatives by a stroke
            json["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
        }
        json
    }
}

fn library(name: &str, version: &str, license: &str, cpe: Option<&str>) -> Value {
    let reference = format!("pkg:generic/{name}@{version}");
    let mut json = json!({
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "purl": reference,
        "scope": "required",
        "licenses": [{ "expression": license }],
    });
    if let Some(cpe) = cpe {
        json["cpe"] = json!(format!("cpe:2.3:a:{cpe}:{version}:*:*:*:*:*:*:*"));
    }
    json
}

/// A UUID of version 8, which is free to be made of anything: here of the program.
fn serial(digest: &str) -> String {
    let (a, b, c, d, e) = (
        &digest[..8],
        &digest[8..12],
        &digest[13..16],
        &digest[17..20],
        &digest[20..32],
    );
    format!("urn:uuid:{a}-{b}-8{c}-8{d}-{e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> anyhow::Result<Value> {
        let dependencies = json!({ "packages": [
            { "name": "clickstream-tool", "version": "1.0.0", "source": "local", "root": true, "dependencies": [1, 2, 3] },
            { "name": "openssl-src", "version": "300.6.1+3.6.3", "source": "crates.io", "kind": "build" },
            { "name": "old", "version": "0.1.0", "source": "crates.io" },
            { "name": "clickstream-own", "version": "1.0.0", "source": "local", "dependencies": [2] },
        ]});
        let subject = Subject {
            name: "clickstream-tool",
            bytes: b"program",
            dependencies: &dependencies.to_string(),
            glibc: "2.36",
            time: 1_700_000_000,
        };
        let licenses = [("old@0.1.0".to_owned(), "MIT/Apache-2.0".to_owned())];
        cyclonedx(&subject, &licenses.into())
    }

    fn component<'a>(document: &'a Value, name: &str) -> Option<&'a Value> {
        let components = document["components"].as_array()?;
        components
            .iter()
            .find(|component| component["name"] == name)
    }

    #[test]
    fn the_document_is_about_the_very_bytes_of_the_program() -> anyhow::Result<()> {
        let document = document()?;
        assert_eq!(document["bomFormat"], "CycloneDX");
        let about = &document["metadata"]["component"];
        assert_eq!(about["name"], "clickstream-tool");
        assert_eq!(about["hashes"][0]["content"], sha256(b"program"));
        assert_eq!(document, self::document()?);
        Ok(())
    }

    #[test]
    fn crates_have_the_name_that_scanners_ask_for_and_their_licence() -> anyhow::Result<()> {
        let document = document()?;
        let old = component(&document, "old").context("old")?;
        assert_eq!(old["purl"], "pkg:cargo/old@0.1.0");
        assert_eq!(old["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(old["scope"], "required");
        let own = component(&document, "clickstream-own").context("own")?;
        assert_eq!(own.get("purl"), None);
        let build = component(&document, "openssl-src").context("build")?;
        assert_eq!(build["scope"], "excluded");
        Ok(())
    }

    #[test]
    fn c_libraries_in_the_program_are_components_of_their_own() -> anyhow::Result<()> {
        let document = document()?;
        let openssl = component(&document, "openssl").context("openssl")?;
        assert_eq!(openssl["version"], "3.6.3");
        assert_eq!(
            openssl["cpe"],
            "cpe:2.3:a:openssl:openssl:3.6.3:*:*:*:*:*:*:*"
        );
        let glibc = component(&document, "glibc").context("glibc")?;
        assert_eq!(glibc["version"], "2.36");
        Ok(())
    }

    #[test]
    fn every_reference_of_the_graph_is_that_of_a_component() -> anyhow::Result<()> {
        let document = document()?;
        let mut known: Vec<&Value> = vec![&document["metadata"]["component"]["bom-ref"]];
        let components = document["components"].as_array().context("components")?;
        known.extend(components.iter().map(|component| &component["bom-ref"]));
        let graph = document["dependencies"].as_array().context("a graph")?;
        for node in graph {
            assert!(known.contains(&&node["ref"]), "{node}");
            for on in node["dependsOn"].as_array().context("a list")? {
                assert!(known.contains(&on), "{node}");
            }
        }
        let root = graph
            .iter()
            .find(|node| node["ref"] == "pkg:cargo/clickstream-tool@1.0.0");
        let on = &root.context("the root")?["dependsOn"];
        assert!(on.to_string().contains("pkg:generic/openssl@3.6.3"), "{on}");
        Ok(())
    }

    #[test]
    fn a_program_without_a_root_is_refused() {
        let subject = Subject {
            name: "tool",
            bytes: b"",
            dependencies: r#"{"packages":[]}"#,
            glibc: "2.36",
            time: 0,
        };
        assert!(cyclonedx(&subject, &BTreeMap::new()).is_err());
    }

    #[test]
    fn the_serial_number_is_a_uuid() {
        let serial = serial(&sha256(b"program"));
        let uuid = serial.strip_prefix("urn:uuid:").unwrap_or_default();
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{serial}");
    }
}
