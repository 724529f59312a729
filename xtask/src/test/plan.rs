//! Which steps, in which order: what fails fastest comes first.

use clickstream_tools::cargo::TEST_FEATURES;

use super::budget::Budget;
use super::programs::TestProgram;
use super::step::Action;
pub use super::step::Step;
use super::workspace::Workspace;
use super::{Args, Part};
use crate::images::programs::{host, toolchain};

/// The variable that the simulation reads its number of seeds from.
const SEEDS_VARIABLE: &str = "CLICKSTREAM_SIM_SEEDS";

/// Libraries in C whose compilation takes long, by the `links` of their crates: linting links
/// nothing.
const UNLINKED: [&str; 2] = ["rdkafka", "zstd"];

/// The steps that read code and run none of it.
///
/// # Errors
/// The compiler does not name this machine.
pub fn lint(fast: bool, workspace: &Workspace) -> anyhow::Result<Vec<Step>> {
    let mut steps = vec![cargo("format", ["fmt", "--all", "--check"])];
    let host = host()?;
    // what a build script would print stands for the script, so that its C code is not compiled
    let without_c: Vec<String> = UNLINKED
        .iter()
        .flat_map(|name| {
            let output = format!("target.{host}.{name}.rustc-link-lib = [\"{name}\"]");
            ["--config".to_owned(), output]
        })
        .collect();
    let mut clippy = strings(["clippy", "--workspace", "--all-targets"]);
    let mut what = without_c;
    let features = workspace.lintable_features();
    if !features.is_empty() {
        what.extend(["--features".to_owned(), features.join(",")]);
    }
    clippy.extend(what.clone());
    clippy.extend(strings(["--", "-D", "warnings"]));
    steps.push(cargo("clippy", clippy));
    if fast {
        return Ok(steps);
    }
    let mut doc = strings(["doc", "--workspace", "--no-deps"]);
    // with the features of clippy, whose dependencies it takes over
    doc.extend(what);
    let mut doc = cargo("documentation", doc);
    doc.env.push(("RUSTDOCFLAGS", "-D warnings".to_owned()));
    doc.env.extend(as_clippy_has_it()?);
    steps.push(doc);
    steps.push(step("dependency audit", Action::Audit));
    Ok(steps)
}

/// What `cargo clippy` tells cargo when it denies warnings. With the same words `cargo doc` takes
/// over what clippy has read of our own crates, and does not have them read once more; where a
/// clippy uses other words one day, it has.
fn as_clippy_has_it() -> anyhow::Result<Vec<(&'static str, String)>> {
    let driver = toolchain()?.join("bin/clippy-driver");
    if !driver.is_file() {
        return Ok(Vec::new());
    }
    let arguments = "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__".to_owned();
    Ok(vec![
        ("RUSTC_WORKSPACE_WRAPPER", driver.display().to_string()),
        ("CLIPPY_ARGS", arguments),
    ])
}

/// The steps that run what was compiled.
pub fn tests(
    args: &Args,
    budget: &Budget,
    workspace: &Workspace,
    programs: &[TestProgram],
) -> Vec<Step> {
    let mut steps = Vec::new();
    let of = |wanted: &dyn Fn(&TestProgram) -> bool| -> Vec<TestProgram> {
        programs
            .iter()
            .filter(|program| wanted(program))
            .cloned()
            .collect()
    };
    if args.wants(Part::Unit) {
        let unit = of(&|program| program.is_unit(workspace));
        steps.push(step("unit tests", Action::Tests(unit)));
        if !args.fast {
            let mut doc = strings(["test", "--workspace", "--doc", "--features"]);
            doc.push(TEST_FEATURES.join(","));
            steps.push(cargo("documentation examples", doc));
        }
    }
    if args.wants(Part::Simulation) {
        let simulations = of(&TestProgram::is_simulation);
        let action = if simulations.is_empty() {
            Action::Missing("no test target called simulation was compiled")
        } else {
            Action::Tests(simulations)
        };
        let mut simulation = step(format!("simulation: {} seeds", budget.seeds), action);
        simulation
            .env
            .push((SEEDS_VARIABLE, budget.seeds.to_string()));
        steps.push(simulation);
    }
    if args.wants(Part::Integration) {
        steps.push(step("real servers: tools", Action::Servers));
        // one step for each package: the table shows where time goes, and servers of two never run
        // at once
        for package in workspace.on_servers() {
            let tests = of(&|program| program.is_integration_of(package));
            if !tests.is_empty() {
                steps.push(step(
                    format!("integration: {}", package.name),
                    Action::Tests(tests),
                ));
            }
        }
        // Helm itself is built where it is missing and there is Go
        let charts = Action::Script("charts/test.sh", &["--install"]);
        steps.push(step("chart and manifests", charts));
    }
    steps
}

fn cargo<A>(name: impl Into<String>, args: A) -> Step
where
    A: IntoIterator,
    A::Item: Into<String>,
{
    step(
        name,
        Action::Cargo(args.into_iter().map(Into::into).collect()),
    )
}

fn step(name: impl Into<String>, action: Action) -> Step {
    Step {
        name: name.into(),
        action,
        env: Vec::new(),
    }
}

fn strings<const N: usize>(items: [&str; N]) -> Vec<String> {
    items.map(str::to_owned).to_vec()
}
