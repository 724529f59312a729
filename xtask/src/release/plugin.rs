//! `kubectl clickstream` as archives, and krew's manifest of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clickstream_tools::workspace_root;

use super::Facts;
use super::archive::{self, File};
use super::manifests::NOWHERE;
use super::programs::{PLUGIN, Program};

/// Writes an archive for each of these programs, and the manifest.
///
/// # Errors
/// They cannot be read or written.
pub fn write(folder: &Path, facts: &Facts, programs: &[Program]) -> anyhow::Result<usize> {
    fs::create_dir_all(folder)?;
    let license = fs::read(workspace_root().join("LICENSE"))?;
    let mut archives = BTreeMap::new();
    for built in programs {
        let files = [
            File::program(PLUGIN, fs::read(&built.path)?),
            File::new("LICENSE", license.clone()),
        ];
        let bytes = archive::gzip(&archive::tar(&files, facts.time)?)?;
        let name = format!("{PLUGIN}-v{}-linux-{}.tar.gz", facts.version, built.arch);
        fs::write(folder.join(&name), &bytes)?;
        archives.insert(name, archive::sha256(&bytes));
    }
    let template = fs::read_to_string(workspace_root().join("cli/krew/clickstream.yaml"))?;
    let url = facts.downloads.clone();
    let url = url.unwrap_or_else(|| format!("https://{NOWHERE}/v{}", facts.version));
    fs::write(
        folder.join("clickstream.yaml"),
        krew(&template, facts, &url, &archives)?,
    )?;
    Ok(archives.len())
}

/// The manifest with versions, addresses and checksums; platforms without an archive are left out.
fn krew(
    template: &str,
    facts: &Facts,
    url: &str,
    archives: &BTreeMap<String, String>,
) -> anyhow::Result<String> {
    let filled = template
        .replace("BASE_URL", url)
        .replace("VERSION", &facts.version);
    let (head, platforms) = filled
        .split_once("  platforms:\n")
        .context("krew's manifest lists no platforms")?;
    let head = head.lines().filter(|line| !line.starts_with('#'));
    let mut text: String = head.map(|line| format!("{line}\n")).collect();
    text.push_str("  platforms:\n");
    for platform in platforms.split("  - selector:").skip(1) {
        let archive = archives
            .iter()
            .find(|(name, _)| platform.contains(&format!("/{name}\n")));
        if let Some((_, sum)) = archive {
            text.push_str("  - selector:");
            text.push_str(&platform.replace("CHECKSUM", sum));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::tests::facts;
    use super::*;

    #[test]
    fn krew_is_told_of_the_archives_that_there_are() -> anyhow::Result<()> {
        let template = fs::read_to_string(workspace_root().join("cli/krew/clickstream.yaml"))?;
        let name = "kubectl-clickstream-v1.2.3-linux-arm64.tar.gz";
        let archives = [(name.to_owned(), "e".repeat(64))].into();
        let text = krew(
            &template,
            &facts(None),
            "https://example.com/v1.2.3",
            &archives,
        )?;
        let read: Value = serde_yaml::from_str(&text)?;
        assert_eq!(read["spec"]["version"], "v1.2.3");
        let platforms = read["spec"]["platforms"].as_array().context("platforms")?;
        assert_eq!(platforms.len(), 1, "{text}");
        assert_eq!(
            platforms[0]["uri"],
            format!("https://example.com/v1.2.3/{name}")
        );
        assert_eq!(platforms[0]["sha256"], "e".repeat(64));
        Ok(())
    }
}
