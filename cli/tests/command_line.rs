//! What the plugin does without a cluster, as a person types it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

const VALID: &str = "\
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: { name: web }
spec:
  kafka: { bootstrapServers: 'kafka:9092' }
  targets:
  - connection: { secret: { name: postgres } }
";

fn plugin(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-clickstream"))
        .args(args)
        // no test of these may find a cluster
        .env("KUBECONFIG", "/nonexistent")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // one that has ended already reads nothing
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn what_init_prints_is_valid() {
    let init = plugin(&["init", "shop", "--namespace", "news"], "");
    assert!(init.status.success());
    let validate = plugin(&["validate", "-"], &text(&init.stdout));
    assert_eq!(text(&validate.stdout), "standard input: news/shop: valid\n");
    assert_eq!(validate.status.code(), Some(0));
}

#[test]
fn every_problem_is_listed_at_once_with_its_field() {
    let broken = VALID.replace("name: web", "name: Web").replace(
        "'kafka:9092'",
        "kafka, sasl: { mechanism: Plain, secret: { name: u } }",
    ) + "    schema: pg_a\n  window: { size: 7s }\n";
    let said = plugin(&["validate", "-"], &broken);
    let lines = text(&said.stdout);
    for field in [
        "metadata.name",
        "spec.kafka.bootstrapServers",
        "spec.kafka.sasl.mechanism",
        "spec.targets[0].schema",
        "spec.window.size",
    ] {
        let count = lines.matches(&format!("\n  {field}: ")).count();
        assert_eq!(count, 1, "{field} in\n{lines}");
    }
    assert!(
        lines.starts_with("standard input: Web: 5 problems\n"),
        "{lines}"
    );
    assert_eq!(said.status.code(), Some(1));
}

#[test]
fn a_document_that_cannot_be_read_shows_its_other_problems_too() {
    let broken = VALID.replace("bootstrapServers", "servers")
        + "    schema: pg_a\n    replicas: many\n  window: { size: 7s }\n  suspend: maybe\n  paused: true\n";
    let lines = text(&plugin(&["validate", "-"], &broken).stdout);
    for said in [
        "spec.kafka.servers: unknown field, expected one of bootstrapServers, tls, sasl, admin (line 5)",
        "spec.kafka.bootstrapServers: required, but missing",
        "spec.targets[0].replicas: expected a whole number from 1 to 1000, found a string",
        "spec.targets[0].schema: ",
        "spec.window.size: ",
        "spec.suspend: expected true or false, found a string",
        "spec.paused: unknown field",
    ] {
        assert!(lines.contains(said), "no `{said}` in\n{lines}");
    }
}

#[test]
fn only_pipelines_are_looked_at_and_lines_are_those_of_the_file() {
    let file = format!(
        "kind: Secret\nmetadata: {{ name: postgres }}\n---\n{}---\n{VALID}",
        VALID.replace("  targets:", "  sets:")
    );
    let said = plugin(&["validate", "-"], &file);
    let lines = text(&said.stdout);
    assert!(lines.contains("Secret postgres: not looked at"), "{lines}");
    assert!(
        lines.contains("spec.sets: unknown field") && lines.contains("(line 9)"),
        "{lines}"
    );
    assert!(lines.contains("web: valid"), "{lines}");
    assert_eq!(said.status.code(), Some(1));
}

#[test]
fn what_the_api_adds_to_a_pipeline_is_no_problem() {
    let kept = VALID.replace(
        "{ name: web }",
        "{ name: web, uid: u, generation: 3, managedFields: [], finalizers: [clickstream.dev/cleanup] }",
    ) + "status: { lag: 3, conditions: [] }\n";
    let said = plugin(&["validate", "-"], &kept);
    assert_eq!(text(&said.stdout), "standard input: web: valid\n");
}

#[test]
fn a_file_without_a_pipeline_is_a_mistake() {
    let said = plugin(&["validate", "-"], "kind: Secret\n");
    assert_eq!(said.status.code(), Some(1));
    assert!(text(&said.stderr).contains("no ClickstreamPipeline"));
}

#[test]
fn the_examples_of_the_manifests_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    files.insert(0, "validate".to_owned());
    let args: Vec<&str> = files.iter().map(String::as_str).collect();
    let said = plugin(&args, "");
    assert_eq!(said.status.code(), Some(0), "{}", text(&said.stdout));
    assert!(text(&said.stdout).matches(": valid").count() + 1 >= files.len());
}

#[test]
fn help_is_written_for_kubectl_and_wrong_usage_is_code_2() {
    let help = text(&plugin(&["--help"], "").stdout);
    assert!(help.contains("Usage: kubectl clickstream"), "{help}");
    assert!(help.contains("Exit codes:"), "{help}");
    let status = text(&plugin(&["status", "--help"], "").stdout);
    assert!(
        status.contains("Usage: kubectl clickstream status"),
        "{status}"
    );
    let wrong = plugin(&["status", "web", "--all-namespaces"], "");
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = plugin(&["completion", shell], "");
        assert_eq!(said.status.code(), Some(0));
        let script = text(&said.stdout);
        assert!(
            script.contains("kubectl-clickstream") && script.contains("resume"),
            "{shell}"
        );
    }
}

#[test]
fn without_a_cluster_the_reason_says_what_to_set() {
    let said = plugin(&["status"], "");
    assert_eq!(said.status.code(), Some(1));
    let error = text(&said.stderr);
    assert!(
        error.contains("KUBECONFIG") && error.lines().count() == 1,
        "{error}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    for args in [["init", "web"], ["completion", "zsh"]] {
        let (reader, stdout) = std::io::pipe().unwrap();
        drop(reader);
        let said = Command::new(env!("CARGO_BIN_EXE_kubectl-clickstream"))
            .args(args)
            .stdout(stdout)
            .output()
            .unwrap();
        assert_eq!(text(&said.stderr), "", "{args:?}");
        assert_eq!(said.status.code(), Some(141), "{args:?}");
    }
}
