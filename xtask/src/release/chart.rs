//! The packaged chart: its values name the images of the release by their digests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use clickstream_tools::workspace_root;
use serde_json::{Value, json};

use super::archive::{self, File};
use super::oci::{Descriptor, Layout};
use super::{Facts, json};

/// The chart's name, and its folder in the archive.
pub const NAME: &str = "clickstream-operator";

const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

/// Where the values name the image of a service.
const IMAGES: [(&str, &[&str]); 4] = [
    ("operator", &["image"]),
    ("processor", &["pipelines", "processor", "image"]),
    ("producer", &["pipelines", "producer", "image"]),
    ("console", &["console", "image"]),
];

/// The chart's files below `folder`, with these digests of images by service, as Helm packs them.
///
/// # Errors
/// A file cannot be read, or the values have another form.
pub fn files(
    folder: &Path,
    facts: &Facts,
    digests: &BTreeMap<String, String>,
) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in
            fs::read_dir(&next).with_context(|| format!("no chart in {}", next.display()))?
        {
            let path = entry?.path();
            let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
            if !is_packed(&name) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let mut bytes = fs::read(&path)?;
            match name.as_str() {
                "values.yaml" => {
                    bytes = values(&String::from_utf8(bytes)?, facts, digests)?.into_bytes()
                }
                "Chart.yaml" => {
                    bytes = description(&String::from_utf8(bytes)?, &facts.version)?.into_bytes()
                }
                _ => {}
            }
            files.push(File::new(format!("{NAME}/{name}"), bytes));
        }
    }
    Ok(files)
}

/// What .helmignore of the chart leaves out.
fn is_packed(name: &str) -> bool {
    let outside = [
        "tests",
        "README.head.md",
        ".helmignore",
        ".DS_Store",
        ".git",
    ];
    let temporary = [".swp", ".tmp", ".orig"];
    !outside.contains(&name) && !temporary.iter().any(|end| name.ends_with(end))
}

fn values(text: &str, facts: &Facts, digests: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let mut text = text.to_owned();
    for (service, path) in IMAGES {
        let digest = digests
            .get(service)
            .with_context(|| format!("no digest of {service}"))?;
        let path: Vec<&str> = path.iter().copied().chain(["digest"]).collect();
        text = set(&text, &path, digest)?;
    }
    match &facts.registry {
        Some(registry) => set(&text, &["image", "registry"], registry),
        None => Ok(text),
    }
}

fn description(text: &str, version: &str) -> anyhow::Result<String> {
    set(&set(text, &["version"], version)?, &["appVersion"], version)
}

/// Puts a value where the path of keys leads; comments and everything else stay.
fn set(text: &str, path: &[&str], value: &str) -> anyhow::Result<String> {
    let mut at: Vec<&str> = Vec::new();
    let mut found = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let bare = line.trim_start();
        let key = bare.split_once(':').map(|(key, _)| key);
        let key = key.filter(|key| key.chars().all(|sign| sign.is_ascii_alphanumeric()));
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            lines.push(line.to_owned());
            continue;
        };
        let depth = (line.len() - bare.len()) / 2;
        at.truncate(depth);
        at.push(key);
        if at == path && !found {
            found = true;
            lines.push(format!("{}{key}: {}", "  ".repeat(depth), json!(value)));
        } else {
            lines.push(line.to_owned());
        }
    }
    if !found {
        bail!("no {} in the chart", path.join("."));
    }
    Ok(lines.join("\n") + "\n")
}

/// Writes the archive and the OCI layout, and returns the archive's name.
///
/// # Errors
/// They cannot be written.
pub fn write(folder: &Path, facts: &Facts, files: &[File]) -> anyhow::Result<String> {
    fs::create_dir_all(folder)?;
    let archive = archive::gzip(&archive::tar(files, facts.time)?)?;
    let name = format!("{NAME}-{}.tgz", facts.version);
    fs::write(folder.join(&name), &archive)?;
    let chart = files
        .iter()
        .find(|file| file.path == format!("{NAME}/Chart.yaml"));
    let chart = chart.context("the chart has no Chart.yaml")?;
    let chart: Value = serde_yaml::from_slice(&chart.bytes)?;
    let layout = Layout::create(&folder.join(NAME))?;
    let config = layout.blob(CONFIG, &json::bytes(&chart))?;
    let content = layout.blob(CONTENT, &archive)?;
    let annotations = json!({
        "org.opencontainers.image.title": NAME,
        "org.opencontainers.image.version": facts.version,
        "org.opencontainers.image.created": super::date(facts.time),
    });
    let top: Descriptor = layout.manifest(None, &config, &[content], &annotations)?;
    layout.finish(&facts.version, &top)?;
    Ok(name)
}

/// The folder of the chart in this workspace.
#[must_use]
pub fn folder() -> std::path::PathBuf {
    workspace_root().join("charts").join(NAME)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{facts, scratch};
    use super::*;

    fn digests() -> BTreeMap<String, String> {
        let digest = |sign: &str| format!("sha256:{}", sign.repeat(64));
        [
            ("operator", "a"),
            ("processor", "b"),
            ("producer", "c"),
            ("console", "d"),
        ]
        .map(|(service, sign)| (service.to_owned(), digest(sign)))
        .into()
    }

    fn packed(facts: &Facts) -> anyhow::Result<Value> {
        let files = files(&folder(), facts, &digests())?;
        let values = files
            .iter()
            .find(|file| file.path.ends_with("/values.yaml"));
        Ok(serde_yaml::from_slice(&values.context("values")?.bytes)?)
    }

    #[test]
    fn the_packaged_chart_differs_from_that_of_the_checkout_by_digests_and_registry()
    -> anyhow::Result<()> {
        let here: Value = serde_yaml::from_slice(&fs::read(folder().join("values.yaml"))?)?;
        let mut want = here.clone();
        want["image"]["registry"] = json!("registry.example.com/team");
        for (service, path) in IMAGES {
            let mut at = &mut want;
            for key in path {
                at = &mut at[*key];
            }
            at["digest"] = json!(digests()[service]);
        }
        assert_ne!(here, want);
        assert_eq!(packed(&facts(Some("registry.example.com/team")))?, want);
        Ok(())
    }

    #[test]
    fn without_a_registry_the_packaged_chart_names_none() -> anyhow::Result<()> {
        assert_eq!(packed(&facts(None))?["image"]["registry"], "");
        Ok(())
    }

    #[test]
    fn comments_stay_and_a_key_is_found_by_its_path_only() -> anyhow::Result<()> {
        let text =
            "# digest: none\na:\n  # -- digest: of a\n  digest: \"\"\nb:\n  c:\n    digest: \"\"\n";
        let want = "# digest: none\na:\n  # -- digest: of a\n  digest: \"\"\nb:\n  c:\n    digest: \"new\"\n";
        assert_eq!(set(text, &["b", "c", "digest"], "new")?, want);
        assert!(set(text, &["b", "digest"], "new").is_err());
        Ok(())
    }

    #[test]
    fn the_oci_artifact_holds_the_archive_under_helms_media_types() -> anyhow::Result<()> {
        let facts = facts(None);
        let out = scratch("chart")?;
        let files = files(&folder(), &facts, &digests())?;
        let archive = write(&out, &facts, &files)?;
        let layout = out.join(NAME);
        let read = |path: &Path| anyhow::Ok(serde_json::from_slice::<Value>(&fs::read(path)?)?);
        let blob = |digest: &Value| {
            let digest = digest.as_str().unwrap_or_default().replace(':', "/");
            layout.join("blobs").join(digest)
        };
        let index = read(&layout.join("index.json"))?;
        let manifest = read(&blob(&index["manifests"][0]["digest"]))?;
        assert_eq!(manifest["config"]["mediaType"], CONFIG);
        assert_eq!(read(&blob(&manifest["config"]["digest"]))?["name"], NAME);
        assert_eq!(manifest["layers"][0]["mediaType"], CONTENT);
        let content = fs::read(blob(&manifest["layers"][0]["digest"]))?;
        assert_eq!(content, fs::read(out.join(archive))?);
        Ok(())
    }

    /// The list here and the chart's own must not drift apart.
    #[test]
    fn what_helm_ignores_is_not_packed() -> anyhow::Result<()> {
        let ignored = fs::read_to_string(folder().join(".helmignore"))?;
        let patterns = ignored
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        for pattern in patterns {
            let name = pattern.trim_matches('/').replace('*', "some");
            assert!(!is_packed(&name), "{pattern}");
        }
        assert!(is_packed("templates/tests"));
        Ok(())
    }
}
