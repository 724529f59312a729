//! Programs of the system's package manager, installed where that is possible without asking.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::artifacts::cache_dir;

/// A program that the testbed runs but does not bring along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Java 17 or newer, for Kafka.
    Java,
    /// `mvn`, which fetches Kafka and PostgreSQL 18.
    Maven,
    /// `tar` with `xz`, to unpack PostgreSQL 18.
    Xz,
    /// PostgreSQL 15 as Debian packages it, with `psql` and `pg_dump`.
    Postgres15,
    /// PgBouncer, to put between a processor and its database.
    PgBouncer,
    /// Prometheus with `promtool`.
    Prometheus,
    /// `setpriv`, which ties children to the life of their parent.
    Setpriv,
    /// `ip`, which takes addresses away from a network that a test has made.
    Ip,
    /// Chromium, for tests of pages.
    Chromium,
    /// A typeface for it.
    Fonts,
    /// OpenSSL's headers, for programs that speak TLS to Kafka.
    OpenSsl,
    /// `pkg-config`, which finds them.
    PkgConfig,
    /// GNU's compilers for x86-64 on another machine, for releases.
    CrossAmd64,
    /// The same for AArch64.
    CrossArm64,
}

impl Tool {
    /// Every tool, for a machine that shall run everything but make a release.
    pub const ALL: [Self; 12] = [
        Self::Java,
        Self::Maven,
        Self::Xz,
        Self::Postgres15,
        Self::PgBouncer,
        Self::Prometheus,
        Self::Setpriv,
        Self::Ip,
        Self::Chromium,
        Self::Fonts,
        Self::OpenSsl,
        Self::PkgConfig,
    ];

    /// Debian packages that bring the tool, best first; the first one that the machine's release
    /// knows is taken.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Java => &["openjdk-21-jre-headless", "openjdk-17-jre-headless"],
            Self::Maven => &["maven"],
            Self::Xz => &["xz-utils"],
            Self::Postgres15 => &["postgresql-15"],
            Self::PgBouncer => &["pgbouncer"],
            Self::Prometheus => &["prometheus"],
            Self::Setpriv => &["util-linux"],
            Self::Ip => &["iproute2"],
            Self::Chromium => &["chromium", "chromium-browser"],
            Self::Fonts => &["fonts-inter", "fonts-liberation2", "fonts-liberation"],
            Self::OpenSsl => &["libssl-dev"],
            Self::PkgConfig => &["pkgconf", "pkg-config"],
            Self::CrossAmd64 => &["crossbuild-essential-amd64"],
            Self::CrossArm64 => &["crossbuild-essential-arm64"],
        }
    }

    fn is_present(self) -> bool {
        match self {
            Self::Java => java_version().is_some_and(|version| version >= 17),
            Self::Maven => in_path("mvn"),
            Self::Xz => in_path("xz") && in_path("tar"),
            Self::Postgres15 => Path::new(POSTGRES_15_BIN).join("postgres").exists(),
            Self::PgBouncer => in_path("pgbouncer"),
            Self::Prometheus => in_path("prometheus") && in_path("promtool"),
            Self::Setpriv => in_path("setpriv"),
            Self::Ip => in_path("ip"),
            Self::Chromium => chromium().is_some(),
            Self::OpenSsl => Path::new("/usr/include/openssl/ssl.h").exists(),
            Self::PkgConfig => in_path("pkg-config"),
            Self::CrossAmd64 => in_path("x86_64-linux-gnu-g++"),
            Self::CrossArm64 => in_path("aarch64-linux-gnu-g++"),
            Self::Fonts => [
                "opentype/inter",
                "truetype/liberation2",
                "truetype/liberation",
            ]
            .iter()
            .any(|folder| Path::new("/usr/share/fonts").join(folder).is_dir()),
        }
    }
}

/// Where Debian puts PostgreSQL 15.
pub const POSTGRES_15_BIN: &str = "/usr/lib/postgresql/15/bin";

/// Makes sure that `tools` are there: as root on Debian or Ubuntu by installing what is missing
/// (progress on stderr), elsewhere by saying what to install.
///
/// Two processes at once wait for each other. Blocks; call it from `spawn_blocking` in async code.
///
/// # Errors
/// When something is missing that cannot be installed here; the message names the packages.
pub fn ensure(tools: &[Tool]) -> anyhow::Result<()> {
    if tools.iter().all(|tool| tool.is_present()) {
        return Ok(());
    }
    let _lock = lock("install")?;
    // asked again: whoever held the lock may have installed it
    let missing: Vec<Tool> = tools
        .iter()
        .copied()
        .filter(|tool| !tool.is_present())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() || !in_path("apt-get") {
        let packages = missing
            .iter()
            .map(|tool| known_package(*tool).unwrap_or(tool.packages()[0]));
        bail!(
            "missing on this machine: {missing:?}; install them as root, on Debian and Ubuntu with: apt-get install {}",
            packages.collect::<Vec<_>>().join(" ")
        );
    }
    if let Err(error) = apt_get(&["update"]) {
        // one broken archive of several need not matter; installing shows whether it does
        crate::notice(&format!("{error:#}"));
    }
    let packages: Vec<&str> = missing
        .iter()
        .map(|tool| known_package(*tool))
        .collect::<anyhow::Result<_>>()?;
    let mut arguments = vec!["install", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&arguments)?;
    if let Some(tool) = missing.iter().find(|tool| !tool.is_present()) {
        bail!(
            "{tool:?} is still not usable after apt-get {}",
            arguments.join(" ")
        );
    }
    Ok(())
}

/// A lock between processes; released when the file is dropped.
pub fn lock(name: &str) -> anyhow::Result<File> {
    let cache = cache_dir();
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let path = cache.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    crate::notice(&format!("apt-get {}", arguments.join(" ")));
    let output = Command::new("apt-get")
        .args(["-y", "-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("cannot run apt-get")?;
    if !output.status.success() {
        bail!(
            "apt-get {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn known_package(tool: Tool) -> anyhow::Result<&'static str> {
    let known = |package: &&&str| {
        // `apt-cache show` also succeeds for packages that exist by name only; a candidate is what
        // can be installed
        Command::new("apt-cache")
            .args(["policy", package])
            .output()
            .is_ok_and(|output| {
                let policy = String::from_utf8_lossy(&output.stdout).into_owned();
                policy.contains("Candidate:") && !policy.contains("Candidate: (none)")
            })
    };
    let packages = tool.packages();
    packages.iter().find(known).copied().with_context(|| {
        format!(
            "no package for {tool:?} in this release's archive; install {} by hand",
            packages.join(" or ")
        )
    })
}

/// The major version of the `java` in the path.
fn java_version() -> Option<u32> {
    let output = Command::new("java").arg("-version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // openjdk version "17.0.15" 2025-04-15
    text.split('"')
        .nth(1)?
        .split(['.', '-', '+'])
        .next()?
        .parse()
        .ok()
}

/// Chromium, under one of the names that distributions give it.
pub fn chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome-stable"]
        .iter()
        .find_map(|program| find_in_path(program))
}

/// Whether a program is found in the path.
#[must_use]
pub fn in_path(program: &str) -> bool {
    find_in_path(program).is_some()
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}
