//! `cargo xtask bots`: what the pipeline takes over from the npm package `crawler-user-agents`.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;
use clickstream_tools::workspace_root;
use flate2::read::GzDecoder;
use serde::Deserialize;

/// The version whose patterns are in the repository. Another one is another version of `BotList`.
const VERSION: &str = "1.60.0";

/// Where the files are, below the workspace.
const FOLDER: &str = "services/pipeline/src/bots/crawler-user-agents";

/// Of every so many patterns the first sample is kept for tests.
const SAMPLED: usize = 12;

/// Options of `bots`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  cargo xtask bots")]
pub struct Args {}

/// One program that the package knows.
#[derive(Debug, Deserialize)]
struct Crawler {
    /// A regular expression that is part of its user agents.
    pattern: String,
    /// User agents that were seen.
    #[serde(default)]
    instances: Vec<String>,
    /// What it is for.
    #[serde(default)]
    tags: Vec<String>,
}

/// The package, as far as it is used.
#[derive(Debug)]
struct Package {
    crawlers: Vec<Crawler>,
    license: String,
}

/// Writes patterns, samples and licence into the repository.
///
/// # Errors
/// npm cannot get the package, or a file cannot be written.
pub fn run(_: &Args) -> Result<ExitCode> {
    let package = Package::fetch()?;
    for (name, text) in package.files() {
        let path = workspace_root().join(FOLDER).join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        eprintln!("{FOLDER}/{name}");
    }
    Ok(ExitCode::SUCCESS)
}

impl Package {
    /// Gets the package by npm, into a folder that is gone afterwards.
    fn fetch() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("clickstream-bots-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let package = pack(&folder).and_then(|()| Self::unpack(&folder));
        fs::remove_dir_all(&folder)?;
        package
    }

    fn unpack(folder: &Path) -> Result<Self> {
        let file = fs::File::open(folder.join(format!("crawler-user-agents-{VERSION}.tgz")))?;
        let (mut crawlers, mut license) = (None, None);
        for entry in tar::Archive::new(GzDecoder::new(file)).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let mut text = String::new();
            match path.to_str() {
                Some("package/crawler-user-agents.json") => {
                    entry.read_to_string(&mut text)?;
                    crawlers = Some(serde_json::from_str(&text)?);
                }
                Some("package/LICENSE") => {
                    entry.read_to_string(&mut text)?;
                    license = Some(text);
                }
                _ => {}
            }
        }
        Ok(Self {
            crawlers: crawlers.context("the package has no crawler-user-agents.json")?,
            license: license.context("the package has no LICENSE")?,
        })
    }

    /// Every file by its name.
    fn files(&self) -> [(&'static str, String); 3] {
        [
            ("patterns.txt", self.patterns()),
            ("samples.txt", self.samples()),
            ("LICENSE", self.license.clone()),
        ]
    }

    /// A line for each pattern, in order: what it names, and the pattern.
    fn patterns(&self) -> String {
        let mut lines: Vec<String> = self.crawlers.iter().map(Crawler::line).collect();
        lines.sort_unstable();
        lines.dedup();
        format!("{}{}\n", header("patterns"), lines.join("\n"))
    }

    /// A few of the user agents that were seen.
    fn samples(&self) -> String {
        let samples = self.crawlers.iter().step_by(SAMPLED);
        let samples = samples.filter_map(|crawler| crawler.instances.first());
        let samples: Vec<&str> = samples.map(|agent| agent.trim()).collect();
        format!("{}{}\n", header("some samples"), samples.join("\n"))
    }
}

impl Crawler {
    fn line(&self) -> String {
        let is_driven = self.tags.iter().any(|tag| tag == "browser-automation");
        let kind = if is_driven { "driven" } else { "named" };
        // at the end of a line nobody sees a space, and editors take it away
        let pattern = match self.pattern.strip_suffix(' ') {
            Some(rest) => format!("{rest}\\x20"),
            None => self.pattern.clone(),
        };
        format!("{kind} {pattern}")
    }
}

fn header(what: &str) -> String {
    format!(
        "# {what} of crawler-user-agents {VERSION}, MIT (LICENSE beside this file); \
         made by: cargo xtask bots\n"
    )
}

fn pack(folder: &Path) -> Result<()> {
    let output = Command::new("npm")
        .args([
            "pack",
            "--silent",
            "--fetch-retries=0",
            "--fetch-timeout=20000",
        ])
        .arg(format!("crawler-user-agents@{VERSION}"))
        .current_dir(folder)
        .output()
        .context("run npm")?;
    if !output.status.success() {
        bail!("npm pack: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use std::collections::BTreeSet;

    use clickstream_pipeline::bots::{BotList, signals};

    use super::*;

    #[test]
    fn the_files_are_what_the_package_holds_and_its_samples_have_signals() {
        let package = match Package::fetch() {
            Ok(package) => package,
            Err(error) => {
                eprintln!("notice: not compared with the package: {error:#}");
                return;
            }
        };
        for (name, text) in package.files() {
            let stored = fs::read_to_string(workspace_root().join(FOLDER).join(name)).unwrap();
            assert!(stored == text, "{name} differs: cargo xtask bots");
        }
        let samples = package.crawlers.iter().flat_map(|crawler| {
            let pattern = crawler.pattern.as_str();
            crawler.instances.iter().map(move |agent| (pattern, agent))
        });
        let (mut all, mut unmarked, mut patterns) = (0, 0, BTreeSet::new());
        for (pattern, agent) in samples {
            all += 1;
            if signals(BotList::NEWEST, Some(agent)) == 0 {
                unmarked += 1;
                patterns.insert(pattern);
            }
        }
        // agents of people all the same: `NARROWED` of the pipeline says why
        let of_people = [
            r"AP3A\.240617\.008",
            "Amazon CloudFront",
            "Fluid",
            "MetaIAB Facebook",
            "okhttp",
        ];
        assert_eq!(patterns.into_iter().collect::<Vec<_>>(), of_people);
        assert_eq!((all, unmarked), (2_118, 9));
    }
}
