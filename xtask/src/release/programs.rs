//! Our programs as static executables of each architecture, with the list of their dependencies
//! inside.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clickstream_tools::cargo::{Said, cargo, programs};
use clickstream_tools::packages::in_path;
use clickstream_tools::{Tool, tools_dir, workspace_root};

use super::arch::Arch;
use crate::images::SERVICES;
use crate::images::programs::{host, toolchain};
use crate::program;

/// The plugin's package and program.
pub const PLUGIN: &str = "kubectl-clickstream";

/// Pinned, so that a new release changes no byte by itself.
pub const AUDITABLE: &str = "0.7.7";

/// What OpenSSL takes for the time of its build and writes into the program. Not the commit's time:
/// it is not compiled again with each commit, and what was compiled before would differ from what
/// is compiled from nothing.
const BUILD_TIME: &str = "315532800";

/// A program that was built.
#[derive(Clone, Debug)]
pub struct Program {
    /// Of the package and of the executable.
    pub name: String,
    /// What runs it.
    pub arch: Arch,
    /// The executable.
    pub path: PathBuf,
}

/// Makes sure that everything is here that [`build`] runs, where that is possible without asking.
///
/// # Errors
/// Something is missing that cannot be installed here; the message says what.
pub fn prepare(archs: &[Arch]) -> anyhow::Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "a release holds programs for Linux, and is made on Linux: the linker and its libc are the system's"
    );
    auditable()?;
    let host = host()?;
    let root = toolchain()?;
    for arch in archs {
        let triple = arch.triple();
        if !root.join("lib/rustlib").join(&triple).is_dir() {
            let mut rustup = Command::new("rustup");
            rustup.args(["target", "add", &triple]);
            program::output(rustup.current_dir(workspace_root()))
                .with_context(|| format!("the standard library for {triple} is missing"))?;
        }
        if triple == host {
            continue;
        }
        let tool = match arch {
            Arch::Amd64 => Tool::CrossAmd64,
            Arch::Arm64 => Tool::CrossArm64,
        };
        clickstream_tools::ensure(&[tool])?;
    }
    Ok(())
}

/// Builds everything for one architecture: the services, then the plugin. `hear` gets what cargo
/// says.
///
/// All packages in one build, so that no crate is compiled twice. They share the target folder with
/// `cargo xtask images`, and not what is compiled: paths of this machine are not in these programs.
///
/// # Errors
/// The build fails; the message holds the compiler's.
pub fn build(arch: Arch, hear: impl FnMut(Said) + Send) -> anyhow::Result<Vec<Program>> {
    let names = names();
    let triple = arch.triple();
    let mut command = cargo(["auditable", "build", "--locked", "--profile", "image"]);
    command
        .args(["--target", &triple, "--target-dir"])
        .arg(workspace_root().join("target/images"))
        .env("PATH", path_with_tools()?)
        .env("RUSTFLAGS", flags()?)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("SOURCE_DATE_EPOCH", BUILD_TIME)
        // the system's own would be linked dynamically
        .env("LIBZ_SYS_STATIC", "1");
    if triple != host()? {
        // CC is read by librdkafka's configure, which knows no other name; HOST_CC then is for
        // build scripts
        let linker = format!(
            "CARGO_TARGET_{}_LINKER",
            triple.to_uppercase().replace('-', "_")
        );
        for (name, tool, own) in [
            ("CC", "gcc", "cc"),
            ("CXX", "g++", "c++"),
            ("AR", "ar", "ar"),
        ] {
            command.env(name, arch.gnu(tool));
            command.env(format!("HOST_{name}"), own);
        }
        command.env(linker, arch.gnu("gcc"));
    }
    let to_kafka = ["operator", "processor", "producer"];
    let features = to_kafka.map(|service| format!("clickstream-{service}/tls-vendored"));
    command.arg("--features").arg(features.join(","));
    for name in &names {
        command.args(["--package", name]);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let built = programs(command, &names, hear)?;
    let made = names.iter().zip(built).map(|(name, path)| Program {
        name: (*name).to_owned(),
        arch,
        path,
    });
    Ok(made.collect())
}

/// The services' programs in the order of [`SERVICES`], then the plugin.
fn names() -> Vec<String> {
    let services = SERVICES
        .iter()
        .map(|service| format!("clickstream-{service}"));
    services.chain([PLUGIN.to_owned()]).collect()
}

/// Static; and what panics name is the same wherever it was compiled.
fn flags() -> anyhow::Result<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    Ok(format!(
        "-C target-feature=+crt-static --remap-path-prefix={}=/cargo --remap-path-prefix={}=/build",
        home.display(),
        workspace_root().display()
    ))
}

/// How a program was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It ran.
    Here,
    /// It ran in an emulator.
    Emulated,
    /// Nothing here runs it.
    Not,
}

/// Runs the program once.
///
/// # Errors
/// It runs, and fails.
pub fn try_out(built: &Program) -> anyhow::Result<Tried> {
    let (mut command, tried) = if built.arch.triple() == host()? {
        (Command::new(&built.path), Tried::Here)
    } else if in_path(&built.arch.emulator()) {
        let mut command = Command::new(built.arch.emulator());
        command.arg(&built.path);
        (command, Tried::Emulated)
    } else {
        return Ok(Tried::Not);
    };
    let argument = if built.name == PLUGIN {
        "--help"
    } else {
        "--version"
    };
    program::output(command.arg(argument))?;
    Ok(tried)
}

/// The version of glibc, which becomes part of the programs, as the compiler's headers have it.
///
/// # Errors
/// The compiler cannot be run.
pub fn glibc(arch: Arch) -> anyhow::Result<String> {
    let source = workspace_root().join("target/images/glibc.c");
    fs::write(
        &source,
        "#include <features.h>\nversion __GLIBC__ . __GLIBC_MINOR__\n",
    )?;
    let compiler = if arch.triple() == host()? {
        "cc".to_owned()
    } else {
        arch.gnu("gcc")
    };
    let mut compile = Command::new(compiler);
    let told = program::output(compile.args(["-E", "-P"]).arg(&source))?;
    let version = told.lines().find_map(|line| line.strip_prefix("version "));
    let version = version.context("the headers name no version of glibc")?;
    Ok(version.replace(' ', ""))
}

/// Installs the pinned cargo-auditable unless it is there.
fn auditable() -> anyhow::Result<()> {
    let tools = tools_dir()?;
    let installed = fs::read_to_string(tools.join(".crates.toml")).unwrap_or_default();
    let wanted = format!("\"cargo-auditable {AUDITABLE} ");
    if installed.contains(&wanted) && tools.join("bin/cargo-auditable").is_file() {
        return Ok(());
    }
    let mut install = cargo([
        "install",
        "cargo-auditable",
        "--locked",
        "--debug",
        "--quiet",
    ]);
    install
        .args(["--version", AUDITABLE, "--root"])
        .arg(&tools)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_CODEGEN_UNITS", "4");
    program::output(&mut install)
        .map(|_| ())
        .context("cannot install cargo-auditable")
}

fn path_with_tools() -> anyhow::Result<OsString> {
    let own = tools_dir()?.join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(own).chain(std::env::split_paths(&path));
    Ok(std::env::join_paths(folders)?)
}

/// The JSON that cargo-auditable has put into a program.
///
/// # Errors
/// The program cannot be read, or holds none.
pub fn dependencies(path: &Path) -> anyhow::Result<(Vec<u8>, String)> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let list = auditable_info::json_from_slice(&bytes, 16 << 20)
        .with_context(|| format!("{} has no list of its dependencies", path.display()))?;
    Ok((bytes, list))
}
