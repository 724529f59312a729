//! Where a release comes from, as an in-toto statement with SLSA's predicate.

use serde_json::{Value, json};

/// What was built from what.
pub struct Origin {
    /// The commit, as 40 digits.
    pub commit: String,
    /// Where it is published, if it is.
    pub source: Option<String>,
    /// Whether files differed from the commit.
    pub dirty: bool,
    /// The command line, without the key.
    pub command: Vec<String>,
    /// `rustc --version`, compilers, `cargo-auditable`.
    pub tools: Vec<(String, String)>,
    /// Files whose content decides what is built, with their SHA-256.
    pub materials: Vec<(String, String)>,
}

/// A thing and its SHA-256.
pub type Subject = (String, String);

/// The statement. It holds no time and no name of a machine: two builds say the same.
#[must_use]
pub fn statement(origin: &Origin, subjects: &[Subject]) -> Value {
    let mut source = json!({
        "name": "source",
        "digest": { "gitCommit": origin.commit },
        "annotations": { "dirty": origin.dirty },
    });
    if let Some(address) = &origin.source {
        source["uri"] = json!(format!("git+{address}"));
    }
    let mut materials = vec![source];
    let files = origin.materials.iter();
    materials.extend(
        files.map(|(name, digest)| json!({ "name": name, "digest": { "sha256": digest } })),
    );
    let tools: serde_json::Map<String, Value> = origin
        .tools
        .iter()
        .map(|(name, version)| (name.clone(), json!(version)))
        .collect();
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects.iter().map(|(name, digest)| {
            json!({ "name": name, "digest": { "sha256": digest } })
        }).collect::<Vec<_>>(),
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:clickstream:xtask-release:v1",
                "externalParameters": { "command": origin.command },
                "internalParameters": tools,
                "resolvedDependencies": materials,
            },
            "runDetails": { "builder": { "id": "urn:clickstream:xtask-release" } },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_leads_from_what_is_published_to_commit_and_lock_file() {
        let origin = Origin {
            commit: "a".repeat(40),
            source: Some("https://example.com/team/clicks".to_owned()),
            dirty: false,
            command: vec!["cargo".to_owned(), "xtask".to_owned(), "release".to_owned()],
            tools: vec![("rustc".to_owned(), "1.2.3".to_owned())],
            materials: vec![("Cargo.lock".to_owned(), "c".repeat(64))],
        };
        let statement = statement(&origin, &[("chart.tgz".to_owned(), "b".repeat(64))]);
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(statement["subject"][0]["name"], "chart.tgz");
        assert_eq!(statement["subject"][0]["digest"]["sha256"], "b".repeat(64));
        let definition = &statement["predicate"]["buildDefinition"];
        let from = &definition["resolvedDependencies"];
        assert_eq!(from[0]["digest"]["gitCommit"], "a".repeat(40));
        assert_eq!(from[0]["uri"], "git+https://example.com/team/clicks");
        assert_eq!(from[1]["name"], "Cargo.lock");
        assert_eq!(definition["internalParameters"]["rustc"], "1.2.3");
    }
}
