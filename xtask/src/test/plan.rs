//! Which steps, in which order: what fails fastest comes first.

use super::step::{Action, Step};
use super::workspace::{Package, Workspace};
use super::{Args, Part};

/// The variable that the simulation reads its number of seeds from.
const SEEDS_VARIABLE: &str = "CLICKSTREAM_SIM_SEEDS";

/// The steps of a run.
#[derive(Debug)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The steps that `args` ask for in this workspace.
    pub fn new(args: &Args, workspace: &Workspace) -> Self {
        let mut plan = Self { steps: Vec::new() };
        if args.wants(Part::Lint) {
            plan.lint(args.fast, workspace);
        }
        if args.wants(Part::Unit) {
            plan.unit(args.fast, workspace);
        }
        if args.wants(Part::Simulation) {
            plan.simulation(args.seeds(), workspace);
        }
        if args.wants(Part::Integration) {
            plan.integration(workspace);
            plan.charts();
        }
        plan
    }

    fn lint(&mut self, fast: bool, workspace: &Workspace) {
        self.cargo("format", ["fmt", "--all", "--check"], []);
        let mut clippy = strings(["clippy", "--workspace", "--all-targets"]);
        let features = workspace.lintable_features();
        if !features.is_empty() {
            clippy.extend(["--features".to_owned(), features.join(",")]);
        }
        clippy.extend(strings(["--", "-D", "warnings"]));
        self.cargo("clippy", clippy, []);
        if fast {
            return;
        }
        self.cargo(
            "documentation",
            ["doc", "--workspace", "--no-deps"],
            [("RUSTDOCFLAGS", "-D warnings".to_owned())],
        );
        self.steps.push(Step {
            name: "dependency audit".to_owned(),
            action: Action::Audit,
        });
    }

    /// The pure crates first: they compile in seconds, librdkafka does not.
    fn unit(&mut self, fast: bool, workspace: &Workspace) {
        let mut pure = test(workspace.pure());
        pure.extend(strings(["--lib", "--bins"]));
        for package in workspace.pure() {
            pure.extend(targets(&package.other_tests()));
        }
        self.cargo("unit: pure crates", pure, []);

        let mut services = test(workspace.on_servers());
        services.extend(strings(["--lib", "--bins"]));
        self.cargo("unit: services and tools", services, []);

        if !fast {
            self.cargo(
                "documentation examples",
                ["test", "--workspace", "--doc"],
                [],
            );
        }
    }

    fn simulation(&mut self, seeds: u64, workspace: &Workspace) {
        let packages: Vec<&Package> = workspace
            .pure()
            .chain(workspace.on_servers())
            .filter(|package| !package.simulations().is_empty())
            .collect();
        let name = format!("simulation: {seeds} seeds");
        if packages.is_empty() {
            let action = Action::Missing("no test target is called simulation");
            self.steps.push(Step { name, action });
            return;
        }
        let mut args = test(packages.iter().copied());
        for package in packages {
            args.extend(targets(&package.simulations()));
        }
        self.cargo(name, args, [(SEEDS_VARIABLE, seeds.to_string())]);
    }

    fn integration(&mut self, workspace: &Workspace) {
        self.steps.push(Step {
            name: "real servers: tools".to_owned(),
            action: Action::Servers,
        });
        // one step for each package: the table shows where time goes, and servers of two never run at once
        for package in workspace.on_servers() {
            let tests = package.other_tests();
            if tests.is_empty() {
                continue;
            }
            let mut args = test([package]);
            args.extend(targets(&tests));
            self.cargo(format!("integration: {}", package.name), args, []);
        }
    }

    /// What is installed with Helm, and its twin in plain YAML: they hold pipelines too, so the services are built by now. Helm
    /// itself is built where it is missing and there is Go.
    fn charts(&mut self) {
        self.steps.push(Step {
            name: "chart and manifests".to_owned(),
            action: Action::Script("charts/test.sh", &["--install"]),
        });
    }

    fn cargo<A, E>(&mut self, name: impl Into<String>, args: A, env: E)
    where
        A: IntoIterator,
        A::Item: Into<String>,
        E: IntoIterator<Item = (&'static str, String)>,
    {
        self.steps.push(Step {
            name: name.into(),
            action: Action::Cargo {
                args: args.into_iter().map(Into::into).collect(),
                env: env.into_iter().collect(),
            },
        });
    }
}

/// `cargo test` of these packages, every failure shown, with the features that their tests require.
fn test<'a>(packages: impl IntoIterator<Item = &'a Package>) -> Vec<String> {
    let mut args = strings(["test", "--no-fail-fast"]);
    let mut features = Vec::new();
    for package in packages {
        args.extend(["--package".to_owned(), package.name.clone()]);
        features.extend(package.test_features());
    }
    if !features.is_empty() {
        args.extend(["--features".to_owned(), features.join(",")]);
    }
    args
}

fn targets(names: &[&str]) -> Vec<String> {
    names
        .iter()
        .flat_map(|name| ["--test".to_owned(), (*name).to_owned()])
        .collect()
}

fn strings<const N: usize>(items: [&str; N]) -> Vec<String> {
    items.map(str::to_owned).to_vec()
}
