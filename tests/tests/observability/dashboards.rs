//! The dashboards as files: Grafana's own types take them, and they keep our rules.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use clickstream_testbed::{tools_dir, unique_name, workspace_root};
use serde_json::Value;

use crate::rules::chart;

/// The types of Grafana 11.6, as its publisher numbers them.
const GRAFANA_TYPES: &str = "grafana-foundation-sdk==1769699379!11.6.0";
/// What the first row of every board answers.
const FIRST_ROW: &str = "Is it right, fresh and complete?";

/// A dashboard.
pub struct Board {
    /// Name of its file.
    pub name: String,
    json: Value,
}

/// One expression of one panel.
pub struct Query {
    /// Board and panel, for messages.
    pub place: String,
    /// PromQL or SQL.
    pub text: String,
    /// Whether it is SQL.
    pub is_sql: bool,
}

impl Board {
    /// Every expression of every panel.
    pub fn queries(&self) -> Vec<Query> {
        let mut queries = Vec::new();
        for panel in self.panels() {
            for target in panel["targets"].as_array().unwrap() {
                let is_sql = target["rawSql"].is_string();
                let text = if is_sql {
                    &target["rawSql"]
                } else {
                    &target["expr"]
                };
                queries.push(Query {
                    place: format!(
                        "{}: {} ({})",
                        self.name,
                        panel["title"].as_str().unwrap(),
                        target["refId"].as_str().unwrap()
                    ),
                    text: text.as_str().unwrap().to_owned(),
                    is_sql,
                });
            }
        }
        queries
    }

    /// What its variables ask Prometheus for.
    pub fn variable_queries(&self) -> Vec<String> {
        let list = self.json["templating"]["list"].as_array().unwrap();
        list.iter()
            .filter(|variable| variable["type"] == "query")
            .map(|variable| variable["query"]["query"].as_str().unwrap().to_owned())
            .collect()
    }

    fn panels(&self) -> impl Iterator<Item = &Value> {
        let panels = self.json["panels"].as_array().unwrap();
        panels.iter().filter(|panel| panel["type"] != "row")
    }
}

/// All dashboards.
pub fn boards() -> Vec<Board> {
    let mut boards: Vec<Board> = files()
        .into_iter()
        .map(|path| Board {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            json: serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap(),
        })
        .collect();
    boards.sort_by(|one, other| one.name.cmp(&other.name));
    boards
}

fn files() -> Vec<PathBuf> {
    let folder = fs::read_dir(chart().join("files/dashboards")).unwrap();
    folder.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn boards_have_a_lasting_identity_and_begin_with_whether_they_can_be_trusted() {
    let boards = boards();
    let names: Vec<&str> = boards.iter().map(|board| board.name.as_str()).collect();
    assert_eq!(names, ["operator", "overview", "processor", "traffic"]);
    for board in &boards {
        let json = &board.json;
        assert_eq!(json["uid"], format!("clickstream-{}", board.name).as_str());
        assert!(json["id"].is_null(), "{}: the server gives ids", board.name);
        assert!(json["schemaVersion"].as_u64().unwrap() >= 39);
        assert!(!json["description"].as_str().unwrap().is_empty());
        assert_eq!(json["panels"][0]["title"], FIRST_ROW, "{}", board.name);
        assert!(!json.to_string().contains("__inputs"));
    }
}

#[test]
fn every_panel_has_a_title_a_description_a_unit_and_a_datasource_that_can_be_chosen() {
    for board in boards() {
        let variables: BTreeSet<String> = board.json["templating"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|variable| variable["type"] == "datasource")
            .map(|variable| format!("${{{}}}", variable["name"].as_str().unwrap()))
            .collect();
        let mut titles = BTreeSet::new();
        for panel in board.panels() {
            let title = panel["title"].as_str().unwrap();
            let place = format!("{}: {title}", board.name);
            assert!(titles.insert(title), "{place}: twice");
            let description = panel["description"].as_str().unwrap();
            assert!(description.ends_with('.'), "{place}: description");
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
            assert!(unit.is_some_and(|unit| !unit.is_empty()), "{place}: unit");
            for source in panel["targets"]
                .as_array()
                .unwrap()
                .iter()
                .map(|target| &target["datasource"])
                .chain([&panel["datasource"]])
            {
                let uid = source["uid"].as_str().unwrap();
                assert!(variables.contains(uid), "{place}: {uid} is no variable");
                let kind = if uid == "${DS_POSTGRES}" {
                    "grafana-postgresql-datasource"
                } else {
                    "prometheus"
                };
                assert_eq!(source["type"], kind, "{place}");
            }
        }
    }
}

/// Grafana chooses an interval of which a panel has room for so many; by windows, 90 days were
/// 129,600 points.
#[test]
fn what_is_drawn_over_time_has_a_point_for_an_interval_and_never_a_sum_of_visitors() {
    let mut drawn = 0;
    for board in boards() {
        for panel in board.panels() {
            let place = format!("{}: {}", board.name, panel["title"]);
            for target in panel["targets"].as_array().unwrap() {
                let Some(sql) = target["rawSql"].as_str() else {
                    continue;
                };
                for number in [
                    "sum(visitors",
                    "sum(sessions",
                    "avg(visitors",
                    "avg(sessions",
                ] {
                    assert!(!sql.contains(number), "{place}: {number})");
                }
                if panel["type"] == "timeseries" {
                    drawn += 1;
                    assert!(sql.contains("$__timeGroupAlias("), "{place}: {sql}");
                    assert!(sql.contains(", $__interval)"), "{place}: {sql}");
                    // windows are a minute at the least
                    assert_eq!(panel["interval"], "1m", "{place}");
                }
            }
        }
    }
    assert!(drawn >= 8, "{drawn} panels");
}

#[test]
fn no_panel_covers_another_or_leaves_the_page() {
    for board in boards() {
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in board.json["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()));
            let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(
                at("x") + at("w") <= 24,
                "{}: {}",
                board.name,
                panel["title"]
            );
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{}: {}", board.name, panel["title"]);
                }
            }
        }
    }
}

#[test]
fn grafanas_own_types_read_the_boards_without_losing_anything() {
    let Some(types) = grafana_types() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "python3 with pip is needed here"
        );
        eprintln!("skipped: {GRAFANA_TYPES} cannot be installed, python3 has no pip");
        return;
    };
    let output = Command::new("python3")
        .arg(workspace_root().join("tests/tests/observability/grafana_types.py"))
        .args(files())
        .env("PYTHONPATH", types)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The folder with Grafana's types, installed once; `None` where nothing can be installed.
fn grafana_types() -> Option<PathBuf> {
    let tools = tools_dir().unwrap();
    let folder = tools.join("grafana-types-11.6");
    if folder.exists() {
        return Some(folder);
    }
    let pip = |arguments: &[&str]| {
        Command::new("python3")
            .args(["-m", "pip"])
            .args(arguments)
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !pip(&["--version"]) {
        return None;
    }
    let partial = tools.join(unique_name("grafana_types"));
    let into = partial.to_string_lossy().into_owned();
    let installed = pip(&["install", "--quiet", "--target", &into, GRAFANA_TYPES]);
    assert!(installed, "pip cannot install {GRAFANA_TYPES}");
    if fs::rename(&partial, &folder).is_err() {
        // somebody else was faster
        fs::remove_dir_all(&partial).ok();
    }
    Some(folder)
}
