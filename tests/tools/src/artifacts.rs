//! Kafka and PostgreSQL from Maven Central and axe-core from npm, fetched once into the cache.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{
    packages::{self, Tool},
    workspace_root,
};

/// The Kafka release that everything is tested with.
pub const KAFKA: &str = "4.1.1";
const LOG4J: &str = "2.24.3";
const POSTGRES_18: &str = "18.1.0";
const AXE: &str = "4.10.3";

/// Where fetched things are kept: `CLICKSTREAM_CACHE`, or `target/testbed` of the workspace.
pub fn cache_dir() -> PathBuf {
    std::env::var_os("CLICKSTREAM_CACHE")
        .map_or_else(|| workspace_root().join("target/testbed"), PathBuf::from)
}

/// The folder with Kafka's jars. Blocks, the first time for seconds.
pub fn kafka_jars() -> anyhow::Result<PathBuf> {
    cached(
        &cache_dir(),
        &format!("kafka-{KAFKA}"),
        &[Tool::Java, Tool::Maven],
        |target| {
            let dependencies = [
                ("org.apache.kafka", "kafka_2.13", KAFKA),
                // Kafka's own logging binding is not among its dependencies
                ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J),
            ];
            maven("copy-dependencies", &dependencies, target)
        },
    )
}

/// The `bin` folder of PostgreSQL 18, in a place that any user can reach. Blocks, the first time
/// for seconds.
pub fn postgres_18_bin() -> anyhow::Result<PathBuf> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64v8",
        other => bail!("no PostgreSQL 18 binaries for {other}; use PostgresVersion::V15"),
    };
    // root starts PostgreSQL as another user, which cannot search its home
    let cache = cache_dir();
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let parent = if searchable_by_all(&cache) {
        cache
    } else {
        std::env::temp_dir().join("clickstream-testbed")
    };
    let root = cached(
        &parent,
        &format!("postgres-{POSTGRES_18}"),
        &[Tool::Java, Tool::Maven, Tool::Xz],
        |target| {
            let artifact = format!("embedded-postgres-binaries-linux-{arch}");
            let jar = target.join("jar");
            maven(
                "unpack-dependencies",
                &[("io.zonky.test.postgres", &artifact, POSTGRES_18)],
                &jar,
            )?;
            let archive = fs::read_dir(&jar)?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .find(|path| path.extension() == Some(OsStr::new("txz")))
                .with_context(|| format!("no .txz in {artifact}"))?;
            run(Command::new("tar")
                .arg("-xJf")
                .arg(archive)
                .arg("-C")
                .arg(target))?;
            Ok(fs::remove_dir_all(jar)?)
        },
    )?;
    Ok(root.join("bin"))
}

/// The source of axe-core, the accessibility checker that browsers run: None where there is no npm
/// to fetch it with. Blocks.
pub fn axe_core() -> anyhow::Result<Option<String>> {
    if !packages::in_path("npm") {
        return Ok(None);
    }
    let name = format!("axe-core-{AXE}");
    let folder = cached(&cache_dir(), &name, &[], |target| {
        let package = format!("axe-core@{AXE}");
        run(Command::new("npm")
            .args(["pack", "--silent", "--pack-destination", ".", &package])
            .current_dir(target))?;
        run(Command::new("tar")
            .args(["-xzf", &format!("{name}.tgz")])
            .current_dir(target))
    })?;
    Ok(Some(fs::read_to_string(folder.join("package/axe.min.js"))?))
}

/// `parent/name`, filled by `fill` if it is not there yet. Whoever comes second waits; a
/// half-filled folder never gets the name.
pub fn cached(
    parent: &Path,
    name: &str,
    tools: &[Tool],
    fill: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let path = parent.join(name);
    if path.exists() {
        return Ok(path);
    }
    packages::ensure(tools)?;
    let _lock = packages::lock(name)?;
    if path.exists() {
        return Ok(path);
    }
    crate::notice(&format!("preparing {name} in {}", parent.display()));
    let partial = parent.join(format!("{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    fill(&partial).with_context(|| format!("cannot prepare {name}"))?;
    fs::rename(&partial, &path)?;
    Ok(path)
}

/// Runs `command` to its end.
///
/// # Errors
/// When it fails; the message holds its output.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !output.status.success() {
        let (stdout, stderr) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        bail!(
            "{} failed ({}):\n{stdout}\n{stderr}",
            command.get_program().display(),
            output.status
        );
    }
    Ok(())
}

fn maven(goal: &str, dependencies: &[(&str, &str, &str)], target: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(target)?;
    let dependencies: String = dependencies
        .iter()
        .map(|(group, artifact, version)| {
            format!(
                "    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>\n"
            )
        })
        .collect();
    let pom = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  <groupId>dev.clickstream</groupId>\n  \
         <artifactId>testbed</artifactId>\n  <version>1</version>\n  <packaging>pom</packaging>\n  <dependencies>\n{dependencies}  </dependencies>\n\
         </project>\n"
    );
    let pom_path = target.join("pom.xml");
    fs::write(&pom_path, pom)?;
    run(Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom_path)
        .arg(format!("dependency:{goal}"))
        .arg(format!("-DoutputDirectory={}", target.display()))
        .arg("-DincludeScope=runtime"))
}

fn searchable_by_all(path: &Path) -> bool {
    path.ancestors().all(|dir| {
        fs::metadata(dir).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    })
}
