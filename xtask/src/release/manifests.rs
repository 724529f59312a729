//! The operator without Helm: what the packaged chart renders, for `kubectl apply -f`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Facts, push};
use crate::program;

/// Stands for a registry that is not known yet; there can never be one of this name.
pub const NOWHERE: &str = "registry.invalid";

const NAMESPACE: &str = "clickstream-system";

/// The Helm that HELM names, or that of the tools.
///
/// # Errors
/// It cannot be built.
pub fn helm() -> anyhow::Result<PathBuf> {
    match std::env::var_os("HELM") {
        Some(given) => Ok(given.into()),
        None => push::helm(),
    }
}

/// What Helm renders of a chart, with these settings beside what is always set.
///
/// # Errors
/// Helm refuses.
pub fn render(
    chart: &Path,
    facts: &Facts,
    namespace: &str,
    settings: &[&str],
) -> anyhow::Result<String> {
    let mut helm = Command::new(helm()?);
    helm.args(["template", super::chart::NAME]).arg(chart);
    helm.args([
        "--namespace",
        namespace,
        "--kube-version",
        "1.33.0",
        "--skip-tests",
    ]);
    let registry = facts.registry.as_deref().unwrap_or(NOWHERE);
    helm.arg("--set").arg(format!("image.registry={registry}"));
    for setting in settings {
        helm.args(["--set", setting]);
    }
    program::output(&mut helm)
}

/// The installation as one file.
///
/// # Errors
/// Helm refuses.
pub fn install(chart: &Path, facts: &Facts) -> anyhow::Result<String> {
    let settings = ["watchAllNamespaces=true", "crds.enabled=false"];
    let rendered = render(chart, facts, NAMESPACE, &settings)?;
    Ok(format!("{}{}", head(facts), plain(&rendered)))
}

fn head(facts: &Facts) -> String {
    let apply = match &facts.registry {
        Some(_) => "kubectl apply -f clickstream-operator.yaml".to_owned(),
        None => format!(
            "sed 's#{NOWHERE}#registry.example.com/team#' clickstream-operator.yaml | kubectl apply -f -"
        ),
    };
    let whose = match &facts.registry {
        Some(registry) => format!("# Images are those of {registry}, by their digests."),
        None => format!(
            "# This release was made for no registry: push its images to yours, whose name takes the place of\n\
             # {NOWHERE}. The digests stay what they are."
        ),
    };
    format!(
        "# The operator {version} for every namespace, without Helm; the resource's definition comes first:\n\
         #\n\
         #   kubectl apply --server-side -f clickstreampipelines.yaml\n\
         #   {apply}\n\
         #\n\
         {whose}\n\
         apiVersion: v1\n\
         kind: Namespace\n\
         metadata:\n  \
           name: {NAMESPACE}\n  \
           labels:\n    \
             app.kubernetes.io/part-of: clickstream\n    \
             pod-security.kubernetes.io/enforce: restricted\n",
        version = facts.version
    )
}

/// Without what only Helm has a use for; documents of Helm 3 and of Helm 4 alike.
fn plain(rendered: &str) -> String {
    let ours = |line: &&str| {
        let bare = line.trim_start();
        let of_helm =
            bare.starts_with("helm.sh/chart: ") || bare == "app.kubernetes.io/managed-by: Helm";
        !of_helm && !line.starts_with("# Source: ")
    };
    let mut text = String::new();
    let mut empty = 0;
    for line in rendered.lines().filter(ours) {
        if line.is_empty() {
            empty += 1;
            continue;
        }
        // Helm 4 ends each document with an empty line, Helm 3 does not
        let kept = if line.starts_with("---") { 0 } else { empty };
        empty = 0;
        text.push_str(&"\n".repeat(kept));
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::facts;
    use super::*;

    #[test]
    fn what_only_helm_needs_is_left_out() {
        let rendered = "---\n# Source: chart/a.yaml\nkind: A\nlabels:\n  helm.sh/chart: a-1\n  app.kubernetes.io/managed-by: Helm\n\n---\nkind: B\n";
        assert_eq!(plain(rendered), "---\nkind: A\nlabels:\n---\nkind: B\n");
    }

    #[test]
    fn the_head_says_what_is_left_to_do() {
        assert!(head(&facts(None)).contains("sed 's#registry.invalid#"));
        let named = head(&facts(Some("registry.example.com/team")));
        assert!(
            named.contains("those of registry.example.com/team"),
            "{named}"
        );
        assert!(!named.contains(NOWHERE), "{named}");
    }
}
