//! The commands of the documentation that ask the Kubernetes API, against a real one. There are no
//! nodes: what needs pods is tried by `cargo xtask e2e`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{KubeApi, build_binary, server_dir, tools_dir, workspace_root};
use tokio::process::Command;

use crate::{
    commands::{COMMANDS, Tried, commands_of, entry},
    markdown::pages,
    pipeline::PATIENCE,
};

/// Commands that watch are ended after this long; it is what `timeout` calls exit code 124.
const WATCH: Duration = Duration::from_secs(3);
const WATCHED: i32 = 124;
/// How long a command is repeated that fails.
const SETTLED: Duration = Duration::from_secs(15);

#[tokio::test]
async fn the_documented_kubectl_commands_work_on_a_real_api() -> anyhow::Result<()> {
    let Some(kubectl) = kubectl()? else {
        eprintln!("skipped: there is no kubectl in KUBEBUILDER_ASSETS, the tools' cache or PATH");
        return Ok(());
    };
    let api = KubeApi::start().await?;
    let home = home(&kubectl).await?;
    // the operator's namespace, which `helm install --create-namespace` makes
    api.create_namespace("clickstream-system").await?;

    let mut commands: Vec<(usize, String)> = pages()
        .iter()
        .flat_map(commands_of)
        .filter_map(|command| Some((entry(&command.line)?, command.line)))
        .filter(|(place, _)| matches!(COMMANDS[*place].1, Tried::Api))
        .collect();
    // in the order of the table; the same command on several pages is run once
    commands.sort_by_key(|(place, _)| *place);
    let mut seen = BTreeSet::new();
    commands.retain(|(_, line)| seen.insert(line.clone()));
    ensure!(
        commands.len() > 15,
        "only {} commands were found",
        commands.len()
    );

    let mut failures = Vec::new();
    for (_, line) in commands {
        let begun = Instant::now();
        while let Err(error) = type_in(&line, &home, &api).await {
            // what a definition brings is known to the API server a moment after the definition
            if begun.elapsed() > SETTLED {
                failures.push(format!("{error:#}"));
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

async fn type_in(line: &str, home: &Path, api: &KubeApi) -> anyhow::Result<()> {
    let watches = line.ends_with("--watch") || line.ends_with(" -w");
    let patience = if watches { WATCH } else { PATIENCE };
    let path = std::env::var("PATH").context("PATH is set")?;
    let output = Command::new("timeout")
        .arg(patience.as_secs().to_string())
        .args(["bash", "-o", "pipefail", "-c", line])
        .current_dir(home)
        .env("KUBECONFIG", api.kubeconfig_path())
        .env("PATH", format!("{}:{path}", home.join("bin").display()))
        .env("PASSWORD", "secret")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let code = output.status.code();
    ensure!(
        code == Some(0) || (watches && code == Some(WATCHED)),
        "`{line}` ends with {code:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A folder with what the commands name: the checkout's folders, and programs under the names that
/// are typed.
async fn home(kubectl: &Path) -> anyhow::Result<PathBuf> {
    let home = server_dir("kubectl")?;
    std::os::unix::fs::symlink(workspace_root().join("manifests"), home.join("manifests"))?;
    let bin = home.join("bin");
    fs::create_dir(&bin)?;
    std::os::unix::fs::symlink(kubectl, bin.join("kubectl"))?;
    let plugin = "kubectl-clickstream";
    let build = || build_binary("kubectl-clickstream");
    let built = tokio::task::spawn_blocking(build).await??;
    std::os::unix::fs::symlink(built, bin.join(plugin))?;
    Ok(home)
}

fn kubectl() -> anyhow::Result<Option<PathBuf>> {
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from));
    folders.push(tools_dir()?.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    Ok(folders
        .into_iter()
        .map(|folder| folder.join("kubectl"))
        .find(|program| program.is_file()))
}
