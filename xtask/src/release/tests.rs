//! A release of programs of a few bytes.

use clickstream_tools::packages;

use super::*;

/// An empty folder for a test of this name.
pub(super) fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let folder = workspace_root().join("target/release-tests").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

pub(super) fn facts(registry: Option<&str>) -> Facts {
    Facts {
        version: "1.2.3".to_owned(),
        commit: "a".repeat(40),
        source: None,
        dirty: false,
        time: 1_700_000_000,
        registry: registry.map(str::to_owned),
        downloads: None,
    }
}

#[test]
fn a_registry_is_a_host_with_or_without_a_path() {
    for good in [
        "registry.example.com/team",
        "localhost:5000",
        "docker.io/me",
    ] {
        assert_eq!(facts::registry(good).as_deref(), Ok(good));
    }
    for bad in ["", "team", "docker.io", "https://registry.example.com"] {
        assert!(facts::registry(bad).is_err(), "{bad}");
    }
}

#[test]
fn only_a_release_is_replaced() -> anyhow::Result<()> {
    let folder = scratch("emptied")?;
    emptied(&folder)?;
    fs::write(folder.join("old"), "")?;
    emptied(&folder)?;
    assert!(!folder.join("old").exists());
    fs::remove_file(folder.join(MARK))?;
    fs::write(folder.join("thesis"), "")?;
    assert!(emptied(&folder).is_err());
    assert!(folder.join("thesis").exists());
    Ok(())
}

/// Programs of a few bytes, in the place of ours.
fn programs(name: &str) -> anyhow::Result<Vec<Program>> {
    let folder = scratch(&format!("{name}-programs"))?;
    let services = SERVICES.map(context::program_name);
    let names = || services.iter().cloned().chain([PLUGIN.to_owned()]);
    let mut built = Vec::new();
    for arch in Arch::ALL {
        for name in names() {
            let path = folder.join(format!("{name}-{arch}"));
            fs::write(&path, format!("{name} for {arch}"))?;
            built.push(Program { name, arch, path });
        }
    }
    Ok(built)
}

/// Whether there is a Helm, or a Go to build it with; as in charts/test.sh, a machine without is
/// told so.
fn renders() -> bool {
    let has = packages::in_path("go") || manifests::helm().is_ok();
    if !has {
        eprintln!("skipped: there is no Helm, and no Go to build it with");
    }
    has
}

/// A release but for programs and SBOMs.
fn made(name: &str, registry: Option<&str>) -> anyhow::Result<PathBuf> {
    let out = scratch(name)?;
    let (facts, built) = (facts(registry), programs(name)?);
    let digests = images(&out, &facts, &built)?;
    rest(&out, &facts, &built, &digests)?;
    Ok(out)
}

#[test]
fn the_same_programs_make_the_same_release() -> anyhow::Result<()> {
    if !renders() {
        return Ok(());
    }
    let one = sign::sums(&made("once-more", None)?)?;
    assert_eq!(one, sign::sums(&made("and-again", None)?)?);
    assert!(one.len() > 30, "{one:?}");
    Ok(())
}

#[test]
fn manifests_and_bundle_name_images_by_their_digests_and_no_other_way() -> anyhow::Result<()> {
    if !renders() {
        return Ok(());
    }
    let registry = "registry.example.com/team";
    let out = made("named", Some(registry))?;
    let images = fs::read_to_string(out.join(MARK))?;
    let install = fs::read_to_string(out.join("manifests/clickstream-operator.yaml"))?;
    let version = "olm/manifests/clickstream-operator.clusterserviceversion.yaml";
    let version = fs::read_to_string(out.join(version))?;
    assert_eq!(images.lines().count(), SERVICES.len());
    for image in images.lines() {
        assert!(
            image.starts_with(registry) && image.contains("@sha256:"),
            "{image}"
        );
        assert!(version.contains(image), "{image}");
        // the console is not installed unless it is asked for
        let is_console = image.contains("/console@");
        assert_eq!(install.contains(image), !is_console, "{image}");
    }
    for text in [install, version] {
        assert!(
            !text.contains("clickstream/operator:"),
            "a tag can be moved"
        );
    }
    Ok(())
}

#[test]
fn a_release_for_no_registry_installs_nothing_until_one_is_named() -> anyhow::Result<()> {
    if !renders() {
        return Ok(());
    }
    let out = made("unnamed", None)?;
    let install = fs::read_to_string(out.join("manifests/clickstream-operator.yaml"))?;
    let names = install.lines().filter(|line| line.contains("@sha256:"));
    let nowhere = names.filter(|line| line.contains("registry.invalid/clickstream/"));
    assert_eq!(nowhere.count(), 3, "{install}");
    let mut helm = Command::new(manifests::helm()?);
    helm.args(["template", "clicks"])
        .arg(out.join("chart/clickstream-operator-1.2.3.tgz"));
    helm.args([
        "--kube-version",
        "1.33.0",
        "--set",
        "watchAllNamespaces=true",
    ]);
    let refused = program::output(&mut helm).map_err(|error| format!("{error:#}"));
    assert!(refused.is_err_and(|said| said.contains("set image.registry=")));
    Ok(())
}
