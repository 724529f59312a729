//! The audit's Job, its log and its end, with an API server that plays its part word by word.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

mod api;
#[path = "../shared/stand_in.rs"]
mod stand_in;

use std::process::Stdio;

use api::{Api, PodStage};
use serde_json::Value;
use tokio::process::{Child, Command};

/// A report as JSON, between what is logged and shown.
const LOG: &str = r#"2026-11-22T18:00:00.100000000Z {"timestamp":"t","level":"WARN","message":"slow broker","target":"m"}
2026-11-22T18:00:00.200000000Z audit: 5 of 10 offsets, 50 %, 9/s
2026-11-22T18:00:01.300000000Z {
2026-11-22T18:00:01.300000001Z   "clean": false
2026-11-22T18:00:01.300000002Z }
"#;

fn audit(api: &Api, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_kubectl-clickstream"))
        .args(["audit", "web", "--kubeconfig"])
        .arg(api.kubeconfig())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn ended(child: Child) -> (Option<i32>, String, String) {
    stand_in::ended(child.wait_with_output()).await
}

#[tokio::test]
async fn differences_are_code_3_and_standard_output_is_the_report_alone() {
    let api = Api::start(&["default"]).await;
    api.plays(&[
        PodStage::Absent,
        PodStage::Running(LOG),
        PodStage::Ended(3, LOG),
    ]);
    let (code, out, err) = ended(audit(&api, &["-o", "json"])).await;
    assert_eq!(code, Some(3), "{err}");
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    assert_eq!(report["clean"], false);
    assert!(
        err.contains("WARN slow broker") && err.contains("audit: 5 of 10"),
        "{err}"
    );
    let job = &api.jobs()[0];
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["args"],
        serde_json::json!(["audit", "--output", "json"])
    );
    assert_eq!(api.deleted(), ["web-audit-1"]);
}

#[tokio::test]
async fn a_log_that_breaks_off_is_read_on_without_a_line_twice_or_missing() {
    let api = Api::start(&["default"]).await;
    let first = &LOG[..LOG.match_indices('\n').nth(2).unwrap().0 + 1];
    let first: &'static str = Box::leak(first.to_owned().into_boxed_str());
    api.plays(&[
        PodStage::Running(first),
        PodStage::Running(LOG),
        PodStage::Ended(0, LOG),
    ]);
    let (code, out, _) = ended(audit(&api, &["-o", "json"])).await;
    assert_eq!(code, Some(0));
    assert_eq!(out, "{\n  \"clean\": false\n}\n");
}

#[tokio::test]
async fn ctrl_c_removes_the_job_and_ends_with_130() {
    let api = Api::start(&["default"]).await;
    api.plays(&[PodStage::Waiting("ImagePullBackOff")]);
    let child = audit(&api, &[]);
    api.asked_for_pods(2).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let (code, out, err) = ended(child).await;
    assert_eq!((code, out.as_str()), (Some(130), ""));
    assert!(
        err.contains("waiting for the pod: ImagePullBackOff"),
        "{err}"
    );
    assert_eq!(api.deleted(), ["web-audit-1"]);
}

#[tokio::test]
async fn a_pod_that_never_starts_is_given_up_with_what_holds_it() {
    let api = Api::start(&["default"]).await;
    api.plays(&[PodStage::Waiting("CreateContainerConfigError")]);
    let (code, _, err) = ended(audit(&api, &["--start-timeout", "1"])).await;
    assert_eq!(code, Some(1));
    assert!(
        err.contains("does not start within 1s: CreateContainerConfigError"),
        "{err}"
    );
    assert_eq!(api.deleted(), ["web-audit-1"]);
}

#[tokio::test]
async fn an_audit_that_could_not_be_done_is_a_failure_and_no_difference() {
    let api = Api::start(&["default"]).await;
    let log = "2026-11-22T18:00:00Z error: no such role\n";
    api.plays(&[PodStage::Ended(1, log)]);
    let (code, out, err) = ended(audit(&api, &[])).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("error: no such role") && err.contains("target default failed"),
        "{err}"
    );
}

#[tokio::test]
async fn all_targets_are_audited_one_after_the_other_and_one_difference_counts() {
    let api = Api::start(&["warehouse", "live"]).await;
    api.plays(&[
        PodStage::Ended(3, "2026-11-22T18:00:00Z audit found 1 differences\n"),
        PodStage::Ended(0, "2026-11-22T18:00:00Z audit clean\n"),
    ]);
    let (code, out, err) = ended(audit(&api, &[])).await;
    assert_eq!(code, Some(3));
    assert_eq!(out, "audit found 1 differences\naudit clean\n");
    assert_eq!(err, "target live:\ntarget warehouse:\n");
    assert_eq!(api.deleted(), ["web-audit-1", "web-audit-2"]);
}

#[tokio::test]
async fn what_is_not_proven_is_code_4_unless_something_differs() {
    let not_proven = PodStage::Ended(
        4,
        "2026-11-22T18:00:00Z audit not proven: nothing differs\n",
    );
    let clean = PodStage::Ended(0, "2026-11-22T18:00:00Z audit clean\n");
    let differs = PodStage::Ended(3, "2026-11-22T18:00:00Z audit found 1 differences\n");
    for (stages, expected) in [([not_proven, clean], 4), ([not_proven, differs], 3)] {
        let api = Api::start(&["warehouse", "live"]).await;
        api.plays(&stages);
        let (code, out, err) = ended(audit(&api, &[])).await;
        assert_eq!(code, Some(expected), "{err}");
        assert!(
            out.starts_with("audit not proven: nothing differs\n"),
            "{out}"
        );
    }
}

#[tokio::test]
async fn a_target_that_is_not_there_is_named_with_those_that_are() {
    let api = Api::start(&["warehouse", "live"]).await;
    let (code, _, err) = ended(audit(&api, &["--target", "lake"])).await;
    assert_eq!(code, Some(1));
    assert!(
        err.contains("--target lake: shop/web has live, warehouse"),
        "{err}"
    );
    assert!(api.jobs().is_empty());
}
