//! The alerts as the chart has them, filled in without Helm: by its values, or by shorter ones for
//! a test.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clickstream_testbed::workspace_root;
use serde_yaml::Value;

/// A rule file as it is in the chart.
pub struct Alert {
    /// Name of the alert, and of its file.
    pub name: String,
    /// Its text, with `${..}` for what the values say.
    pub text: String,
}

/// All alerts, by name.
pub fn alerts() -> anyhow::Result<Vec<Alert>> {
    let mut alerts = Vec::new();
    for entry in fs::read_dir(chart().join("files/alerts"))? {
        let path = entry?.path();
        let name = path.file_stem().context("a file without a name")?;
        alerts.push(Alert {
            name: name.to_string_lossy().into_owned(),
            text: fs::read_to_string(&path)?,
        });
    }
    alerts.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(alerts)
}

/// The namespace that the rule files name as the operator's.
pub const OPERATORS_NAMESPACE: &str = "clickstream-system";

/// The rules: the chart's values, but for these, each as alert, key and value.
pub fn rules(changes: &[(&str, &str, &str)]) -> anyhow::Result<String> {
    let values: Value = serde_yaml::from_str(&fs::read_to_string(chart().join("values.yaml"))?)?;
    let mut rules = "groups:\n- name: clickstream\n  rules:\n".to_owned();
    for alert in alerts()? {
        let (first, rest) = alert.name.split_at(1);
        let key = format!("{}{rest}", first.to_lowercase());
        let settings = values["alerts"]["rules"][key.as_str()]
            .as_mapping()
            .with_context(|| format!("values.yaml has no alerts.rules.{key}"))?;
        let runbooks = values["alerts"]["runbooks"].as_str().unwrap_or_default();
        let mut text = alert.text.replace("${namespace}", OPERATORS_NAMESPACE);
        // without an address there is no link
        text = text
            .lines()
            .filter(|line| !runbooks.is_empty() || !line.contains("${runbooks}"))
            .map(|line| line.replace("${runbooks}", runbooks) + "\n")
            .collect();
        for (setting, value) in settings {
            let setting = setting.as_str().unwrap_or_default();
            let changed = changes
                .iter()
                .find(|(name, key, _)| *name == alert.name && *key == setting);
            let value = match changed {
                Some((_, _, value)) => (*value).to_owned(),
                None => scalar(value),
            };
            text = text.replace(&format!("${{{setting}}}"), &value);
        }
        let mut lead = "  - ";
        for line in text.lines() {
            rules.push_str(lead);
            rules.push_str(line);
            rules.push('\n');
            lead = "    ";
        }
    }
    Ok(rules)
}

/// The folder of the chart.
pub fn chart() -> PathBuf {
    workspace_root().join("charts/clickstream-operator")
}

/// The folder of the rule files and their tests.
pub fn monitoring() -> PathBuf {
    workspace_root().join("manifests/monitoring")
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_yaml::to_string(other)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default(),
    }
}
