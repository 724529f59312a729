//! Every command of the documentation is run somewhere, or says here why it is not. A new one has
//! to be entered.

use std::{collections::BTreeSet, fs};

use clickstream_testbed::workspace_root;

use crate::markdown::{Page, page, pages};

/// What becomes of a command.
pub enum Tried {
    /// Run as it stands, in its place, by tests/tests/compose.
    Compose,
    /// Run as it stands against a real Kubernetes API, by kubernetes.rs beside this file.
    Api,
    /// Run as it stands by backup.rs beside this file.
    Backup,
    /// Run with other arguments, or by another way to the same program, by this file, which holds
    /// these words.
    Alike(&'static str, &'static str),
    /// Not run, for this reason.
    Not(&'static str),
}

use Tried::{Alike, Api, Backup, Compose, Not};

/// How commands begin, and what becomes of them; the longest beginning that fits counts. Those for
/// the Kubernetes API are run in the order of this table.
pub const COMMANDS: &[(&str, Tried)] = &[
    // contributors
    ("cargo xtask test", Alike(".ci/run", "cargo xtask test")),
    (
        "cargo xtask test --only simulation --seeds 1000000",
        Not("half an hour; `cargo xtask test` runs the same with fewer seeds"),
    ),
    (
        "cargo xtask faults",
        Not("runs tests that `cargo xtask test` runs as well, by name and again"),
    ),
    (
        "cargo xtask e2e --without-tls",
        Alike(".ci/run", "cargo xtask e2e --without-tls"),
    ),
    (
        "cargo xtask e2e --figures",
        Not(
            "measures, for which the machine has to do nothing else; continuous integration runs `cargo xtask e2e`",
        ),
    ),
    (
        "cargo xtask e2e --full",
        Not("an hour on a cluster; run before a release"),
    ),
    (
        "cargo xtask e2e --upgrade-from 71ba38b",
        Not("compiles another release as well, which takes twenty minutes; run before a release"),
    ),
    (
        "cargo xtask e2e --in restricted-v2,default-deny,quota",
        Alike(".ci/run", "cargo xtask e2e --without-tls"),
    ),
    (
        "cargo xtask bench",
        Not("half an hour on an idle machine; docs/benchmarks.md holds what came of it"),
    ),
    (
        "CLICKSTREAM_UPDATE=1 cargo test",
        Not("writes files; the same tests without the variable compare them"),
    ),
    (
        "charts/readme.sh && charts/render.sh",
        Alike("charts/test.sh", "charts/render.sh --check"),
    ),
    // releases
    (
        "cargo xtask release",
        Not("compiles everything for two architectures; xtask's tests make one of small programs"),
    ),
    (
        "openssl dgst -sha256 -verify",
        Alike("xtask/src/release/sign.rs", "\"-verify\""),
    ),
    (
        "sha256sum --check --quiet SHA256SUMS",
        Alike("xtask/src/release/sign.rs", "\"--check\""),
    ),
    (
        "openssl genpkey",
        Alike("xtask/src/release/sign.rs", "\"genpkey\""),
    ),
    (
        "cosign verify",
        Not("needs the identity of a workflow and a public log"),
    ),
    ("crane push", Alike("xtask/src/release/push.rs", "\"push\"")),
    (
        "skopeo copy",
        Not("needs a registry; it is another way to do what `crane push` does"),
    ),
    // quickstart
    (
        "cargo xtask up",
        Alike("tests/tests/documentation/up.rs", "\"up\""),
    ),
    ("cargo xtask kind up", Alike(".ci/run", "cargo xtask e2e")),
    ("cargo xtask kind down", Alike(".ci/run", "cargo xtask e2e")),
    (
        "cargo xtask images --push",
        Not("needs a registry; `cargo xtask e2e` builds the same images"),
    ),
    ("docker compose", Compose),
    ("echo \"{\\\"event_id", Compose),
    // Helm
    (
        "helm install",
        Alike("lab/src/kind/stack.rs", "\"--install\""),
    ),
    (
        "helm install shop",
        Alike("charts/test.sh", "helm template"),
    ),
    (
        "helm upgrade",
        Alike("lab/src/kind/stack.rs", "\"upgrade\""),
    ),
    (
        "helm test",
        Not("needs nodes; the pod that it starts is rendered and checked by charts/test.sh"),
    ),
    // Kubernetes, in an order in which they make sense
    ("kubectl apply -f manifests/crd", Api),
    ("sed 's#registry.invalid#", Api),
    ("kubectl explain clickstreampipeline.spec", Api),
    ("kubectl create secret generic postgres", Api),
    ("kubectl create secret generic clickstream-scrape", Api),
    ("kubectl apply -f manifests/examples/minimal.yaml", Api),
    ("kubectl get clickstreampipelines", Api),
    ("kubectl describe clickstreampipeline web", Api),
    ("kubectl scale clickstreampipeline web", Api),
    ("kubectl annotate clickstreampipeline web", Api),
    ("kubectl logs --selector", Api),
    ("kubectl get configmaps --selector", Api),
    ("kubectl clickstream version", Api),
    ("kubectl clickstream init web > web.yaml", Api),
    ("kubectl clickstream validate web.yaml", Api),
    ("kubectl apply -f web.yaml", Api),
    ("kubectl clickstream status web", Api),
    ("kubectl clickstream pause web", Api),
    ("kubectl clickstream resume web", Api),
    (
        "kubectl clickstream reconcile web",
        Alike("tests/tests/operator_api/incidents.rs", "\"reconcile\""),
    ),
    (
        "kubectl clickstream restart web",
        Alike("tests/tests/operator_api/incidents.rs", "\"restart\""),
    ),
    (
        "kubectl clickstream migrate web",
        Alike("tests/tests/operator_api/incidents.rs", "\"migrate\""),
    ),
    (
        "kubectl clickstream accept-loss web --all",
        Alike("tests/tests/operator_api/incidents.rs", "\"accept-loss\""),
    ),
    ("kubectl clickstream accept-loss web", Api),
    ("kubectl clickstream take-over web", Api),
    (
        "kubectl clickstream take-over web --from old/web",
        Alike("tests/tests/operator_api/incidents.rs", "\"take-over\""),
    ),
    (
        "kubectl clickstream top web",
        Alike("cli/tests/incidents/main.rs", "\"top\""),
    ),
    (
        "kubectl clickstream logs web",
        Alike("cli/tests/incidents/main.rs", "\"logs\""),
    ),
    (
        "kubectl clickstream report web",
        Alike("cli/tests/incidents/main.rs", "\"report\""),
    ),
    (
        "kubectl clickstream status quickstart",
        Alike("tests/tests/operator_api/plugin.rs", "\"status\""),
    ),
    (
        "kubectl clickstream status web -n shop",
        Alike("tests/tests/operator_api/plugin.rs", "\"status\""),
    ),
    (
        "kubectl clickstream pause web -n shop",
        Alike("tests/tests/operator_api/plugin.rs", "\"pause\""),
    ),
    (
        "kubectl clickstream resume web -n shop",
        Alike("tests/tests/operator_api/plugin.rs", "\"resume\""),
    ),
    (
        "kubectl clickstream audit",
        Alike("tests/tests/operator_api/plugin.rs", "\"audit\""),
    ),
    (
        "kubectl clickstream validate shop.yaml",
        Not("a screen; `validate` is tried with every rule in cli's own tests"),
    ),
    (
        "cargo install --locked --path cli",
        Not("compiles the plugin once more, in the release profile; its tests build it"),
    ),
    (
        "ln -s \"$(command -v kubectl-clickstream)\"",
        Not("writes into the home folder; completion is tried in cli's own tests"),
    ),
    // console
    (
        "PGPASSWORD=... clickstream-console run",
        Alike("tests/tests/console/stage.rs", "clickstream-console"),
    ),
    ("kubectl -n shop get services -l", Api),
    (
        "kubectl -n clickstream-system port-forward service/clickstream-operator-console",
        Not("needs the console's pod; its page is opened in tests/tests/console and with Compose"),
    ),
    // operations
    ("pg_dump", Backup),
    ("pg_restore", Backup),
    (
        "clickstream-producer replay",
        Alike("services/producer/tests/kafka.rs", "\"replay\""),
    ),
    (
        "clickstream-producer inspect",
        Alike("services/producer/tests/your_data.rs", "\"inspect\""),
    ),
];

/// A command and where it stands.
pub struct Command {
    pub page: String,
    pub line: String,
}

/// The commands of a page: lines of `sh` blocks, and what is typed in `console` blocks. One that
/// ends with `\` goes on in the next line.
pub fn commands_of(page: &Page) -> Vec<Command> {
    let mut commands = Vec::new();
    for block in page.blocks() {
        let joined = block.text.replace("\\\n", " ");
        for line in joined.lines().map(str::trim) {
            let typed = match block.language.as_str() {
                "sh" | "bash" | "shell" => Some(line),
                "console" => line.strip_prefix("$ "),
                _ => None,
            };
            // a remark stands behind two spaces or more
            let line = typed
                .unwrap_or_default()
                .split("  #")
                .next()
                .unwrap_or_default()
                .trim();
            if !line.is_empty() && !line.starts_with('#') {
                commands.push(Command {
                    page: page.path.clone(),
                    line: line.to_owned(),
                });
            }
        }
    }
    commands
}

/// What becomes of a command, by its place in the table.
pub fn entry(line: &str) -> Option<usize> {
    let fitting = COMMANDS
        .iter()
        .enumerate()
        .filter(|(_, (begins, _))| line.starts_with(begins));
    fitting
        .max_by_key(|(_, (begins, _))| begins.len())
        .map(|(place, _)| place)
}

#[test]
fn every_command_is_run_or_has_a_reason() {
    let mut unknown = Vec::new();
    let mut used = BTreeSet::new();
    let quickstart: BTreeSet<String> = commands_of(&page("docs/quickstart.md"))
        .into_iter()
        .map(|command| command.line)
        .collect();
    for command in pages().iter().flat_map(commands_of) {
        let Some(place) = entry(&command.line) else {
            unknown.push(format!("{}: {}", command.page, command.line));
            continue;
        };
        used.insert(place);
        // only those of the quickstart are run as they stand
        if matches!(COMMANDS[place].1, Compose) && !quickstart.contains(&command.line) {
            unknown.push(format!("{}: {}", command.page, command.line));
        }
    }
    assert!(
        unknown.is_empty(),
        "run these in a test, or give a reason, in {}: {unknown:#?}",
        file!()
    );
    let stale: Vec<&str> = (0..COMMANDS.len())
        .filter(|place| !used.contains(place))
        .map(|place| COMMANDS[place].0)
        .collect();
    assert!(stale.is_empty(), "no page has these any more: {stale:#?}");
}

#[test]
fn what_is_said_to_run_commands_does() {
    for (begins, tried) in COMMANDS {
        match tried {
            Alike(file, words) => {
                let text = fs::read_to_string(workspace_root().join(file)).unwrap();
                assert!(
                    text.contains(words),
                    "{file} does not run `{begins}`: no {words}"
                );
            }
            Not(reason) => assert!(reason.len() > 10, "`{begins}`: {reason}"),
            Compose | Api | Backup => {}
        }
    }
}
