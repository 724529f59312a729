//! Our programs as the tests have them, in images: this checkout's, without the minutes that
//! release builds take.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{build_binary, server_dir};

use crate::engine::{self, docker};

/// The services.
const SERVICES: [&str; 3] = ["processor", "producer", "console"];

/// Names of the images with this tag.
pub fn names(tag: &str) -> Vec<String> {
    SERVICES
        .iter()
        .map(|service| format!("clickstream/{service}:{tag}"))
        .collect()
}

/// Builds them all. As in a release nothing is in an image but the program; here the libraries that
/// it is linked to come with it.
pub async fn build(tag: &str) -> anyhow::Result<()> {
    for (service, name) in SERVICES.iter().zip(names(tag)) {
        let package = format!("clickstream-{service}");
        let context = tokio::task::spawn_blocking(move || lay_out(&package)).await??;
        engine::output(
            docker()
                .args(["build", "--quiet", "--tag", &name])
                .arg(&context)
                // the builder without a plugin does all that is needed here
                .env("DOCKER_BUILDKIT", "0"),
        )
        .await?;
        fs::remove_dir_all(context)?;
    }
    Ok(())
}

fn lay_out(package: &str) -> anyhow::Result<PathBuf> {
    let program = build_binary(package)?;
    let context = server_dir("image")?;
    let root = context.join("root");
    fs::create_dir_all(root.join("etc"))?;
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
    fs::copy(&program, root.join(package))?;
    for library in libraries(&program)? {
        let inside = root.join(library.strip_prefix("/")?);
        fs::create_dir_all(inside.parent().context("a library has a folder")?)?;
        fs::copy(&library, inside)?;
    }
    fs::write(
        context.join("Dockerfile"),
        format!("FROM scratch\nCOPY root /\nUSER 65532:65532\nENTRYPOINT [\"/{package}\"]\n"),
    )?;
    Ok(context)
}

/// The shared libraries of a program, the loader among them, as absolute paths.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let told = std::process::Command::new("ldd").arg(program).output()?;
    ensure!(told.status.success(), "ldd {}: {told:?}", program.display());
    // `name => /path (0x…)`, and `/path (0x…)` for the loader; the kernel's own has no path
    Ok(String::from_utf8_lossy(&told.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect())
}
