//! `logs`, `top` and `report`, with an API server that plays its part word by word.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

mod api;
#[path = "../shared/stand_in.rs"]
mod stand_in;

use std::{collections::BTreeMap, io::Read as _, path::Path, process::Stdio, time::Duration};

use api::{Api, SECRET, TOKEN};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

fn command(api: &Api, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-clickstream"));
    command
        .args(args)
        .arg("--kubeconfig")
        .arg(api.kubeconfig())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn typed(api: &Api, args: &[&str]) -> (Option<i32>, String, String) {
    stand_in::ended(command(api, args).output()).await
}

#[tokio::test]
async fn logs_of_all_pods_stand_in_the_order_of_their_times() {
    let api = Api::start().await;
    let (code, out, err) = typed(&api, &["logs", "web"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let pods: Vec<&str> = out
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(pods.len(), 8, "{out}");
    assert_eq!(
        pods[..4],
        ["[web-0]", "[web-1]", "[web-0]", "[web-1]"],
        "{out}"
    );
    // what a mesh puts beside our containers is not ours to print
    assert!(
        !api.asked().iter().any(|path| path.contains("istio")),
        "{:?}",
        api.asked()
    );
}

#[tokio::test]
async fn a_log_that_may_not_be_read_is_a_failure_with_the_way_out() {
    let api = Api::start().await;
    api.forbids("/log");
    let (code, out, err) = typed(&api, &["logs", "web"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("you may not") && err.contains("docs/plugin.md"),
        "{err}"
    );
}

#[tokio::test]
async fn logs_that_are_followed_go_on_with_pods_that_come() {
    let api = Api::start().await;
    let mut following = command(&api, &["logs", "web", "--follow"]).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut until = async |what: &str| {
        tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it ended");
                if line.contains(what) {
                    break;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no {what}"));
    };
    until("first of web-1").await;
    api.scales();
    until("first of web-2").await;
}

#[tokio::test]
async fn top_shows_the_furthest_behind_and_says_who_is_silent() {
    let api = Api::start().await;
    let (code, out, _) = typed(&api, &["top", "web", "--interval", "1"]).await;
    // one of two processors answers
    assert_eq!(code, Some(4), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].starts_with("3 partitions of 1 processors; lag unknown"),
        "{out}"
    );
    let place = |what: &str| lines.iter().position(|line| line.contains(what)).unwrap();
    assert!(
        place("halted") < place("70000") && place("70000") < place("2s"),
        "{out}"
    );
    assert!(out.contains("web-1 does not answer"), "{out}");

    let (_, json, _) = typed(
        &api,
        &[
            "top",
            "web",
            "--interval",
            "1",
            "-o",
            "json",
            "--sort",
            "rate",
        ],
    )
    .await;
    let told: Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let first = &told["partitions"][0];
    assert_eq!(
        (&first["partition"], &first["owner"]),
        (&0.into(), &"web-0".into()),
        "{json}"
    );
    assert!(
        first["rate"].as_f64().is_some_and(|rate| rate > 1.0),
        "{json}"
    );
    assert!(told["silent"]["web-1"].is_string(), "{json}");

    api.forbids("/proxy/");
    let (code, out, err) = typed(&api, &["top", "web", "--interval", "1"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("pods/proxy"), "{err}");
}

#[tokio::test]
async fn pods_that_want_a_token_are_shown_it_by_who_may_read_it() {
    let api = Api::start().await;
    api.guards();
    let (code, out, err) = typed(&api, &["top", "web", "--interval", "1"]).await;
    assert_eq!(code, Some(4), "{out}{err}");
    assert!(out.starts_with("3 partitions of 1 processors"), "{out}");

    let folder = Folder::new("guarded");
    let file = folder.file();
    let path = file.display().to_string();
    let (code, out, err) = typed(&api, &["report", "web", "--file", &path]).await;
    assert_eq!(code, Some(4), "{out}{err}");
    let files = unpacked(&file);
    assert!(files["status/web-0.json"].contains("70000"), "{files:?}");
    assert!(files["metrics/web-1.txt"].contains("clickstream_records"));
    for (name, text) in &files {
        assert!(!text.contains(TOKEN), "the token is in {name}:\n{text}");
    }

    api.forbids("/secrets/");
    let (code, out, err) = typed(&api, &["top", "web", "--interval", "1"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("takes get on secrets/scrape"), "{err}");
    assert!(!err.contains(TOKEN), "{err}");
}

/// The files of an archive, by their names within its folder.
fn unpacked(file: &Path) -> BTreeMap<String, String> {
    let packed = std::fs::File::open(file).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let (folder, name) = path.split_once('/').unwrap();
        assert!(folder.starts_with("clickstream-report-shop-web-"), "{path}");
        (name.to_owned(), text)
    });
    entries.collect()
}

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.join("report.tar.gz")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[tokio::test]
async fn a_report_has_everything_but_secrets_and_events() {
    let api = Api::start().await;
    let folder = Folder::new("report");
    let file = folder.file();
    let path = file.display().to_string();
    let (code, out, err) = typed(&api, &["report", "web", "--file", &path]).await;
    // the /status of one pod cannot be had
    assert_eq!(code, Some(4), "{out}{err}");
    assert!(
        out.starts_with(&path) && err.contains("status/web-1.json"),
        "{out}{err}"
    );

    let files = unpacked(&file);
    for (name, says) in [
        ("index.txt", "missing: status/web-1.json"),
        ("resource.yaml", "bootstrapServers: kafka:9092"),
        ("resource.yaml", "clickstream.dev/restart-at"),
        ("pods/web-0.yaml", "CLICKSTREAM_TARGET"),
        ("configmaps/web-default.yaml", "bootstrapServers"),
        ("events.txt", "Pod/web-0"),
        ("versions.yaml", "v1.33.1"),
        ("versions.yaml", "registry/processor:1"),
        ("logs/web-0/processor.log", "first of web-0"),
        ("logs/web-0/processor.log", "\"message\":\"odd\""),
        ("logs/web-0/processor.log", "refused"),
        ("logs/web-1/processor.previous.log", "the run before"),
        ("status/web-0.json", "70000"),
        ("metrics/web-0.txt", "clickstream_records_total"),
    ] {
        let text = files
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {:?}", files.keys()));
        assert!(text.contains(says), "{name} does not say {says}:\n{text}");
    }
    // what was planted in resource, annotations, variables, logs, Events, ConfigMaps and /status
    for planted in [
        SECRET,
        "018f3a52-0000-7000-8000-00000000beef",
        "planted@example.com",
        "planted-path",
    ] {
        for (name, text) in &files {
            assert!(!text.contains(planted), "{planted} is in {name}:\n{text}");
        }
    }
    assert!(!files["events.txt"].contains("another pipeline"));
    // no Secret is asked for, and no container that is not ours
    for path in api.asked() {
        assert!(
            !path.contains("secrets") && !path.contains("istio"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_report_is_for_its_owners_eyes_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let api = Api::start().await;
    let folder = Folder::new("owned");
    let file = folder.file();
    let path = file.display().to_string();
    std::fs::write(&file, "mine").unwrap();
    let (code, _, err) = typed(&api, &["report", "web", "--file", &path]).await;
    assert!(code == Some(1) && err.contains("--file"), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    std::fs::remove_file(&file).unwrap();

    // parts that may not be seen are named, and the rest is there
    api.forbids("/log");
    api.forbids("/events");
    let (code, _, err) = typed(&api, &["report", "web", "--file", &path]).await;
    assert_eq!(code, Some(4), "{err}");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let files = unpacked(&file);
    assert!(files.contains_key("resource.yaml") && files.contains_key("status/web-0.json"));
    assert!(
        files["index.txt"].contains("missing: events.txt: you may not"),
        "{}",
        files["index.txt"]
    );

    let (code, _, err) = typed(
        &api,
        &[
            "report",
            "shop",
            "--file",
            &folder.0.join("x").display().to_string(),
        ],
    )
    .await;
    assert!(code == Some(1) && err.contains("no pipeline shop"), "{err}");
    assert!(!folder.0.join("x").exists());
}
