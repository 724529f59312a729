//! etcd and kube-apiserver: found, or built from their Go modules.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::{Relative, artifacts};

/// The Kubernetes release that everything is tested with.
const KUBERNETES: &str = "1.34.4";
const ETCD: &str = "3.6.16";
/// Go that Kubernetes of this release asks for.
const GO: &str = "1.24";
/// Longest time that `setup-envtest` may download.
const DOWNLOAD: Duration = Duration::from_secs(180);

/// The programs.
#[derive(Debug, Clone)]
pub struct Assets {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub api_server: PathBuf,
}

impl Assets {
    /// Those in `KUBEBUILDER_ASSETS`; else those built or fetched before; else what `setup-envtest`
    /// fetches, if there is one in the path; else both are built, which takes minutes once. Blocks.
    ///
    /// # Errors
    /// When nothing of that is possible; the message says what to do.
    pub fn find() -> anyhow::Result<Self> {
        if let Some(dir) = env::var_os("KUBEBUILDER_ASSETS") {
            let dir = PathBuf::from(dir);
            return Self::in_dir(&dir).with_context(|| {
                format!(
                    "KUBEBUILDER_ASSETS={}: no etcd and kube-apiserver there",
                    dir.display()
                )
            });
        }
        let tools = tools_dir()?;
        let bin = tools.join("bin");
        if let Some(found) = Self::in_dir(&bin) {
            return Ok(found);
        }
        fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
        let _lock = lock(&tools)?;
        // asked again: whoever held the lock may have built them
        if let Some(found) = Self::in_dir(&bin) {
            return Ok(found);
        }
        if let Some(found) = fetched() {
            return Ok(found);
        }
        build(&tools).context(
            "cannot build etcd and kube-apiserver; a folder that holds both can be given as KUBEBUILDER_ASSETS \
             (`setup-envtest use -p path` prints one)",
        )?;
        Self::in_dir(&bin).context("the build left no programs")
    }

    fn in_dir(dir: &Path) -> Option<Self> {
        let assets = Self {
            etcd: dir.join("etcd"),
            api_server: dir.join("kube-apiserver"),
        };
        (assets.etcd.is_file() && assets.api_server.is_file()).then_some(assets)
    }
}

/// Where Kubernetes' programs are kept, below `bin`: `CLICKSTREAM_TOOLS`, or a folder in the user's
/// cache, since they take minutes to build and outlive a checkout's `target`.
///
/// # Errors
/// When the user has no home.
pub fn tools_dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = env::var_os("CLICKSTREAM_TOOLS") {
        return Ok(PathBuf::from(dir));
    }
    let cache = match env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => {
            PathBuf::from(env::var_os("HOME").context("neither CLICKSTREAM_TOOLS nor HOME is set")?)
                .join(".cache")
        }
    };
    Ok(cache.join("clickstream-tools"))
}

/// One build at a time in this folder; released when the file is dropped.
pub(crate) fn lock(tools: &Path) -> anyhow::Result<File> {
    let path = tools.join(".build.lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// What `setup-envtest` has or downloads; nothing where it is not installed or reaches nobody.
fn fetched() -> Option<Assets> {
    let (major, _) = KUBERNETES.rsplit_once('.')?;
    let mut child = Command::new("setup-envtest")
        .args(["use", &format!("{major}.x"), "-p", "path"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let ended = Relative::open(child.id()).is_none_or(|it| it.has_ended_within(DOWNLOAD));
    if !ended {
        child.kill().ok()?;
    }
    let output = child.wait_with_output().ok()?;
    Assets::in_dir(Path::new(String::from_utf8_lossy(&output.stdout).trim()))
}

fn build(tools: &Path) -> anyhow::Result<()> {
    let Ok(version) = output(Command::new("go").args(["env", "GOVERSION"])) else {
        bail!("no `go` in the path; install Go {GO} or newer");
    };
    crate::notice(&format!(
        "building etcd {ETCD} and kube-apiserver {KUBERNETES} with {} in {} (once, up to 10 minutes)",
        version.trim(),
        tools.display()
    ));
    build_etcd(tools)?;
    build_api_server(tools)
}

fn build_etcd(tools: &Path) -> anyhow::Result<()> {
    let package = "go.etcd.io/etcd/server/v3";
    // a module of our own around it: `go install` refuses modules with replacements
    let module = fresh_dir(&tools.join("mod/testbed-etcd"))?;
    artifacts::run(go(&module).args(["mod", "init", "clickstream.test/etcd"]))?;
    artifacts::run(go(&module).args(["get", "-tool", &format!("{package}@v{ETCD}")]))?;
    compile(&module, package, "", &tools.join("bin/etcd"))
}

/// k8s.io/kubernetes replaces its staging modules by folders of its own tree, which are not in its
/// module archive. The same code is published as k8s.io/NAME v0.X.Y, so the replacements are
/// pointed there.
fn build_api_server(tools: &Path) -> anyhow::Result<()> {
    let package = "k8s.io/kubernetes/cmd/kube-apiserver";
    let module = fresh_dir(&tools.join("mod/testbed-kubernetes"))?;
    let wanted = format!("k8s.io/kubernetes@v{KUBERNETES}");
    let told = output(go(&module).args(["mod", "download", "-json", &wanted]))?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    let source = told["Dir"]
        .as_str()
        .with_context(|| format!("{wanted} was not downloaded"))?;
    let theirs = fs::read_to_string(Path::new(source).join("go.mod"))?;
    fs::write(module.join("go.mod"), go_mod(&theirs, package)?)?;
    artifacts::run(go(&module).args(["mod", "tidy"]))?;
    let version = "k8s.io/component-base/version";
    let minor = KUBERNETES.split('.').nth(1).unwrap_or_default();
    let flags = format!(
        "-X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor={minor}"
    );
    compile(&module, package, &flags, &tools.join("bin/kube-apiserver"))
}

/// Our go.mod, from Kubernetes' own.
fn go_mod(theirs: &str, package: &str) -> anyhow::Result<String> {
    let language = theirs
        .lines()
        .find(|line| line.starts_with("go "))
        .context("Kubernetes' go.mod names no language version")?;
    let (_, staging) = KUBERNETES.split_once('.').context("a version has dots")?;
    let replacements: String = theirs
        .lines()
        .filter_map(|line| line.trim().split_once(" => ./staging/"))
        .map(|(name, _)| format!("\t{name} => {name} v0.{staging}\n"))
        .collect();
    Ok(format!(
        "module clickstream.test/kubernetes\n\n{language}\n\nrequire k8s.io/kubernetes v{KUBERNETES}\n\n\
         replace (\n{replacements})\n\ntool {package}\n"
    ))
}

/// The program gets its name when it is whole.
fn compile(module: &Path, package: &str, flags: &str, program: &Path) -> anyhow::Result<()> {
    let partial = program.with_extension("partial");
    artifacts::run(
        go(module)
            .args(["build", "-trimpath", "-ldflags", &format!("-s -w {flags}")])
            .arg("-o")
            .arg(&partial)
            .arg(package),
    )?;
    Ok(fs::rename(partial, program)?)
}

pub(crate) fn go(dir: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(dir)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off");
    go
}

pub(crate) fn fresh_dir(dir: &Path) -> anyhow::Result<PathBuf> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir.to_owned())
}

pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| {
        let program: &OsStr = command.get_program();
        format!("cannot run {}", program.display())
    })?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_modules_are_replaced_by_the_published_ones() -> anyhow::Result<()> {
        let theirs = "module k8s.io/kubernetes\n\ngo 1.24.0\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n";
        let ours = go_mod(theirs, "k8s.io/kubernetes/cmd/kube-apiserver")?;
        assert!(ours.contains("\ngo 1.24.0\n"), "{ours}");
        assert!(
            ours.contains("\tk8s.io/api => k8s.io/api v0.34.4\n"),
            "{ours}"
        );
        assert!(
            ours.contains("tool k8s.io/kubernetes/cmd/kube-apiserver"),
            "{ours}"
        );
        Ok(())
    }
}
