//! `cargo xtask release`: all that is published, in one folder, made without a container engine.
//!
//! ```text
//! cargo auditable build, each architecture ──> programs ─┬─> SBOM of each
//!                                                        ├─> images ──> digests ─┬─> chart
//!                                                        └─> plugin, krew        ├─> manifests
//!                                                                                └─> OLM bundle
//! everything ──> provenance ──> SHA256SUMS ──> push ──> signature
//! ```
//! Times are the commit's, archives have one owner and one order: the same commit gives the same bytes.

mod arch;
mod archive;
mod chart;
mod facts;
mod json;
mod manifests;
mod oci;
mod olm;
mod plugin;
mod programs;
mod provenance;
mod push;
mod sbom;
mod sign;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod workflows;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context as _, bail};
use clickstream_tools::workspace_root;
use serde_json::Value;

use self::arch::Arch;
use self::archive::File;
use self::facts::{Facts, date};
use self::oci::{Image, Layout};
use self::programs::{PLUGIN, Program, Tried};
use crate::images::{SERVICES, VERSION, context};
use crate::lab::Progress;
use crate::program;
use crate::speed;
use crate::steps::Steps;

/// What to make, and where it will be.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask release                                            into target/release-VERSION
  cargo xtask release --only amd64 --allow-dirty                 while working on it
  cargo xtask release --key release.pem --registry registry.example.com/team --push

In the folder: images for amd64 and arm64 as OCI layouts, SBOMs, the chart, manifests, the OLM bundle, archives of the
kubectl plugin, provenance and SHA256SUMS; docs/release.md tells how to check and use them. Two runs at the same commit,
in the same folder of the same system, are meant to give the same SHA256SUMS. With the crates and tools of an earlier run it
needs no network, except for --push and --keyless.

Exit codes: 0 the folder is whole; 1 something failed, and the folder is not to be used; 2 wrong usage.")]
pub struct Args {
    /// One architecture, for a look: such a release is not complete.
    #[arg(long, value_enum, value_name = "ARCH")]
    only: Option<Arch>,

    /// Registry in which the images will be, with or without a path; chart and manifests name it.
    #[arg(long, value_name = "REGISTRY", env = "CLICKSTREAM_REGISTRY", value_parser = facts::registry)]
    registry: Option<String>,

    /// Push images, OLM bundle and chart there.
    #[arg(long, requires = "registry")]
    push: bool,

    /// Address from which the archives of the plugin will be downloaded, for krew.
    #[arg(long, value_name = "URL")]
    downloads: Option<String>,

    /// Sign with this private key: PEM, ECDSA on P-256.
    #[arg(long, value_name = "FILE", conflicts_with = "keyless")]
    key: Option<PathBuf>,

    /// Sign with the identity of the workflow that this runs in, by cosign.
    #[arg(long)]
    keyless: bool,

    /// Where to write everything; a folder of an earlier release is replaced.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,

    /// Take files that differ from the commit; the provenance says so.
    #[arg(long)]
    allow_dirty: bool,
}

/// Says that a folder is of this command, which replaces no other.
const MARK: &str = "images.txt";

/// Makes the release.
///
/// # Errors
/// Files differ from the commit, a tool is missing, a build fails, or a registry refuses.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let steps = Steps::new();
    let facts = facts::facts(args)?;
    let out = args.output.clone();
    let out = out.unwrap_or_else(|| workspace_root().join(format!("target/release-{VERSION}")));
    let archs = args
        .only
        .map_or_else(|| Arch::ALL.to_vec(), |arch| vec![arch]);
    emptied(&out)?;
    prepare(args, &archs, &steps)?;
    let speed = speed::measured();
    let mut built = Vec::new();
    for arch in &archs {
        built.extend(compile(*arch, speed, &steps)?);
    }
    let step = steps.begin("bills");
    let bills = step.ended(bills(&out, &facts, &built), |made| {
        format!("{made} SBOMs, CycloneDX")
    })?;
    let step = steps.begin("images");
    let digests = images(&out, &facts, &built);
    let digests = step.ended(digests, |made| format!("{} OCI layouts", made.len()))?;
    let step = steps.begin("chart");
    let rest = rest(&out, &facts, &built, &digests);
    step.ended(rest, |()| "chart, manifests, OLM bundle, plugin".to_owned())?;
    let step = steps.begin("checksums");
    let summed = provenance(&out, args, &facts, &archs).and_then(|()| sign::write_sums(&out));
    step.ended(summed, |files| {
        format!("{files} files, of which {bills} bills")
    })?;
    let mut pushed = Vec::new();
    if args.push {
        let step = steps.begin("push");
        let done = publish(&out, &facts, |note| step.note(note));
        pushed = step.ended(done, |names| format!("{} artifacts", names.len()))?;
    }
    if args.keyless || args.key.is_some() {
        let step = steps.begin("sign");
        let signed = match &args.key {
            Some(key) => sign::with_key(&out, key),
            None => push::cosign().and_then(|cosign| sign::keyless(&cosign, &out, &pushed)),
        };
        step.ended(signed, |()| sign::SUMS.to_owned())?;
    }
    steps.say(&format!("{}", out.display()));
    Ok(ExitCode::SUCCESS)
}

/// What is missing is said before anything is compiled.
fn prepare(args: &Args, archs: &[Arch], steps: &Steps) -> anyhow::Result<()> {
    let step = steps.begin("tools");
    let ready = programs::prepare(archs).and_then(|()| {
        manifests::helm()?;
        if args.push {
            push::crane()?;
        }
        if args.keyless {
            push::cosign()?;
        }
        match &args.key {
            Some(key) if !key.is_file() => bail!("no key {}", key.display()),
            _ => Ok(()),
        }
    });
    step.ended(ready, |()| "compilers, cargo-auditable, Helm".to_owned())
}

fn compile(arch: Arch, speed: f64, steps: &Steps) -> anyhow::Result<Vec<Program>> {
    let step = steps.begin(&arch.to_string());
    let mut progress = Progress::new(steps, &step, speed);
    let built = programs::build(arch, |said| progress.hear(said));
    let tried = built.and_then(|built| {
        let tried: Vec<Tried> = built
            .iter()
            .map(programs::try_out)
            .collect::<anyhow::Result<_>>()?;
        Ok((built, tried))
    });
    let tried = step.ended(tried, |(built, tried)| {
        let how = match tried.first() {
            Some(Tried::Here) => "run here".to_owned(),
            Some(Tried::Emulated) => "run in an emulator".to_owned(),
            _ => format!("not run: no {}", arch.emulator()),
        };
        format!("{} static programs, {how}", built.len())
    })?;
    Ok(tried.0)
}

/// A bill of materials for each program.
fn bills(out: &Path, facts: &Facts, built: &[Program]) -> anyhow::Result<usize> {
    let folder = out.join("sbom");
    fs::create_dir_all(&folder)?;
    let licenses = licenses()?;
    let mut libraries = BTreeMap::new();
    for program in built {
        let glibc = match libraries.get(&program.arch) {
            Some(version) => version,
            None => libraries
                .entry(program.arch)
                .or_insert(programs::glibc(program.arch)?),
        };
        let (bytes, dependencies) = programs::dependencies(&program.path)?;
        let subject = sbom::Subject {
            name: &program.name,
            bytes: &bytes,
            dependencies: &dependencies,
            glibc,
            time: facts.time,
        };
        let bill = sbom::cyclonedx(&subject, &licenses)?;
        let name = format!("{}-linux-{}.cdx.json", program.name, program.arch);
        fs::write(folder.join(name), json::pretty(&bill))?;
    }
    Ok(built.len())
}

/// The licences of all crates, as their authors declare them.
fn licenses() -> anyhow::Result<BTreeMap<String, String>> {
    let mut metadata =
        clickstream_tools::cargo::cargo(["metadata", "--format-version=1", "--locked"]);
    let metadata: Value = serde_json::from_str(&program::output(&mut metadata)?)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    let declared = packages.iter().filter_map(|package| {
        let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
        Some((
            format!("{name}@{version}"),
            package["license"].as_str()?.to_owned(),
        ))
    });
    Ok(declared.collect())
}

/// Writes the images, side by side since compressing takes longest, and returns their digests by service.
fn images(
    out: &Path,
    facts: &Facts,
    built: &[Program],
) -> anyhow::Result<BTreeMap<String, String>> {
    let digests: BTreeMap<String, String> = thread::scope(|scope| {
        let packing = SERVICES.map(|service| {
            let folder = out.join("images").join(service);
            scope.spawn(move || {
                let digest = pack(service, &folder, facts, built)?;
                anyhow::Ok((service.to_owned(), digest))
            })
        });
        let packed = packing.into_iter().map(|thread| {
            let ended = thread.join();
            ended.map_err(|_| anyhow::anyhow!("the thread that packs an image has panicked"))?
        });
        packed.collect::<anyhow::Result<_>>()
    })?;
    let lines = digests.iter();
    let lines: String = lines
        .map(|(service, digest)| format!("{}\n", facts.name(service, digest)))
        .collect();
    fs::write(out.join(MARK), lines)?;
    Ok(digests)
}

/// Writes the image of a service for every architecture and returns the digest over all.
fn pack(service: &str, folder: &Path, facts: &Facts, built: &[Program]) -> anyhow::Result<String> {
    let title = context::program_name(service);
    let image = image(facts, &title, Some(format!("/{title}")), Vec::new());
    let layout = Layout::create(folder)?;
    let mut each = Vec::new();
    for program in built.iter().filter(|program| program.name == title) {
        let common = context::files().into_iter();
        let mut files: Vec<File> = common.map(|(path, text)| File::new(path, text)).collect();
        files.push(File::program(title.clone(), fs::read(&program.path)?));
        each.push(layout.image(&image, program.arch, &files)?);
    }
    let index = layout.index(&image, &each)?;
    layout.finish(&facts.version, &index)?;
    Ok(index.digest)
}

fn image<'a>(
    facts: &Facts,
    title: &'a str,
    entrypoint: Option<String>,
    labels: Vec<(String, String)>,
) -> Image<'a> {
    let own = [
        ("org.opencontainers.image.version", &facts.version),
        ("org.opencontainers.image.revision", &facts.commit),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value.clone()));
    Image {
        title,
        entrypoint,
        labels: own.into_iter().chain(labels).collect(),
        time: facts.time,
    }
}

/// What names images by their digests, and the plugin.
fn rest(
    out: &Path,
    facts: &Facts,
    built: &[Program],
    digests: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let packed = chart::files(&chart::folder(), facts, digests)?;
    let archive = out
        .join("chart")
        .join(chart::write(&out.join("chart"), facts, &packed)?);
    let folder = out.join("manifests");
    fs::create_dir_all(&folder)?;
    fs::write(
        folder.join("clickstream-operator.yaml"),
        manifests::install(&archive, facts)?,
    )?;
    let about = olm::Chart::read()?;
    fs::write(folder.join("clickstreampipelines.yaml"), &about.definition)?;

    let settings = ["watchAllNamespaces=true", "crds.enabled=false"];
    let rendered = manifests::render(&archive, facts, olm::NAMESPACE, &settings)?;
    let names = digests.iter();
    let names = names.map(|(service, digest)| (service.clone(), facts.name(service, digest)));
    let bundle = olm::bundle(&about, &rendered, facts, &names.collect())?;
    for file in &bundle {
        let path = out.join("olm").join(&file.path);
        fs::create_dir_all(path.parent().unwrap_or(out))?;
        fs::write(path, &file.bytes)?;
    }
    let layout = Layout::create(&out.join("images/operator-bundle"))?;
    let image = image(facts, "clickstream-operator-bundle", None, olm::labels());
    // files without a program: the same for every architecture, and named as that of most build machines
    let top = layout.image(&image, Arch::Amd64, &bundle)?;
    layout.finish(&facts.version, &top)?;

    let plugins = built.iter().filter(|program| program.name == PLUGIN);
    let plugins: Vec<Program> = plugins.cloned().collect();
    plugin::write(&out.join("plugin"), facts, &plugins).map(|_| ())
}

fn provenance(out: &Path, args: &Args, facts: &Facts, archs: &[Arch]) -> anyhow::Result<()> {
    let version = |program: &str, argument: &str| {
        let told = program::output(
            Command::new(program)
                .arg(argument)
                .current_dir(workspace_root()),
        )?;
        anyhow::Ok(told.lines().next().unwrap_or_default().to_owned())
    };
    let mut tools = vec![
        ("rustc".to_owned(), version("rustc", "--version")?),
        ("cc".to_owned(), version("cc", "--version")?),
        ("cargo-auditable".to_owned(), programs::AUDITABLE.to_owned()),
    ];
    let host = crate::images::programs::host()?;
    for arch in archs.iter().filter(|arch| arch.triple() != host) {
        let compiler = arch.gnu("gcc");
        tools.push((compiler.clone(), version(&compiler, "--version")?));
    }
    let mut command = vec!["cargo".to_owned(), "xtask".to_owned(), "release".to_owned()];
    if let Some(arch) = args.only {
        command.extend(["--only".to_owned(), arch.to_string()]);
    }
    if let Some(registry) = &facts.registry {
        command.extend(["--registry".to_owned(), registry.clone()]);
    }
    if let Some(url) = &facts.downloads {
        command.extend(["--downloads".to_owned(), url.clone()]);
    }
    let materials = ["Cargo.lock", "Cargo.toml", "rust-toolchain.toml"].map(|name| {
        let bytes = fs::read(workspace_root().join(name))?;
        anyhow::Ok((name.to_owned(), archive::sha256(&bytes)))
    });
    let origin = provenance::Origin {
        commit: facts.commit.clone(),
        source: facts.source.clone(),
        dirty: facts.dirty,
        command,
        tools,
        materials: materials.into_iter().collect::<anyhow::Result<_>>()?,
    };
    let mut subjects = Vec::new();
    for line in fs::read_to_string(out.join(MARK))?.lines() {
        let (name, digest) = line
            .split_once("@sha256:")
            .context("an image without a digest")?;
        subjects.push((name.to_owned(), digest.to_owned()));
    }
    // blobs are what digests of images lead to
    let files = sign::sums(out)?.into_iter();
    subjects.extend(files.filter(|(name, _)| !name.contains("/blobs/")));
    let statement = provenance::statement(&origin, &subjects);
    Ok(fs::write(
        out.join("provenance.intoto.json"),
        json::pretty(&statement),
    )?)
}

/// Pushes everything that a registry holds and returns the names with digests.
fn publish(out: &Path, facts: &Facts, note: impl Fn(&str)) -> anyhow::Result<Vec<String>> {
    let crane = push::crane()?;
    let registry = facts.registry.as_deref().context("no registry")?;
    push::login(&crane, registry)?;
    let images = SERVICES.iter().copied().chain(["operator-bundle"]);
    let mut layouts: Vec<(PathBuf, String)> = images
        .map(|name| {
            (
                out.join("images").join(name),
                format!("{registry}/clickstream/{name}"),
            )
        })
        .collect();
    layouts.push((
        out.join("chart").join(chart::NAME),
        format!("{registry}/charts/{}", chart::NAME),
    ));
    let mut pushed = Vec::new();
    for (folder, name) in layouts {
        note(&name);
        let digest = push::layout(&crane, &folder, &format!("{name}:{}", facts.version))?;
        pushed.push(format!("{name}@{digest}"));
    }
    Ok(pushed)
}

/// Takes what an earlier release left there away, and nothing else.
fn emptied(out: &Path) -> anyhow::Result<()> {
    let is_empty = !out.exists() || fs::read_dir(out)?.next().is_none();
    if !is_empty {
        if !out.join(MARK).is_file() {
            bail!("{} holds something else than a release", out.display());
        }
        fs::remove_dir_all(out)?;
    }
    fs::create_dir_all(out)?;
    // what is written from here on is a release, also when it ends early
    Ok(fs::write(out.join(MARK), "")?)
}
