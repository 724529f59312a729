//! compose.yaml beside what it refers to: settings, files, and the services that Grafana is told
//! of.

use std::{collections::BTreeMap, fs};

use clickstream_testbed::workspace_root;
use regex::Regex;
use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(workspace_root().join(path)).unwrap()
}

#[test]
fn the_example_of_settings_holds_every_setting_with_its_default() {
    let variable = Regex::new(r"\$\{([A-Z_]+):-([^}]*)\}").unwrap();
    let compose = read("compose.yaml");
    let used: BTreeMap<String, String> = variable
        .captures_iter(&compose)
        .map(|found| (found[1].to_owned(), found[2].to_owned()))
        .collect();
    for found in variable.captures_iter(&compose) {
        assert_eq!(used[&found[1]], &found[2], "{} has two defaults", &found[1]);
    }
    let example = read(".env.example");
    let offered: BTreeMap<String, String> = example
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| !name.starts_with('#'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(used, offered);
    assert!(
        !compose.replace("${", "").contains("$("),
        "no command is run"
    );
}

#[test]
fn every_file_that_compose_mounts_is_in_the_checkout_and_readable_by_all() {
    use std::os::unix::fs::PermissionsExt as _;
    let mount = Regex::new(r"(?m)^\s*- (\./[^:\s]+):").unwrap();
    let compose = read("compose.yaml");
    let mut mounts = 0;
    for found in mount.captures_iter(&compose) {
        mounts += 1;
        let path = workspace_root().join(&found[1]);
        // a missing one would be made, as an empty folder of root's
        let mode = fs::metadata(&path).expect(&found[1]).permissions().mode();
        assert!(mode & 0o004 != 0, "{} has mode {mode:o}", &found[1]);
    }
    assert!(mounts >= 6, "only {mounts} mounts were found");
}

#[test]
fn grafana_is_provisioned_with_what_the_stack_has() {
    let compose: Value = serde_yaml::from_str(&read("compose.yaml")).unwrap();
    let services = compose["services"].as_object().unwrap();
    let sources = read("compose/grafana/provisioning/datasources/datasources.yaml");
    let sources: Value = serde_yaml::from_str(&sources).unwrap();
    let sources = sources["datasources"].as_array().unwrap();
    assert_eq!(sources.len(), 2);
    for source in sources {
        let url = source["url"].as_str().unwrap();
        let host = url.trim_start_matches("http://").split(':').next().unwrap();
        assert!(services.contains_key(host), "there is no service {host}");
    }
    let postgres = sources
        .iter()
        .find(|source| source["name"] == "PostgreSQL")
        .unwrap();
    assert_eq!(postgres["type"], "grafana-postgresql-datasource");
    assert_eq!(postgres["user"], "dashboard");
    // filled in by Grafana from the environment that compose.yaml gives it
    assert_eq!(
        postgres["secureJsonData"]["password"],
        "$DASHBOARD_PASSWORD"
    );
    assert!(services["grafana"]["environment"]["DASHBOARD_PASSWORD"].is_string());

    let boards = read("compose/grafana/provisioning/dashboards/dashboards.yaml");
    let boards: Value = serde_yaml::from_str(&boards).unwrap();
    let inside = boards["providers"][0]["options"]["path"].as_str().unwrap();
    let mounted = format!("./charts/clickstream-operator/files/dashboards:{inside}:ro");
    let volumes = services["grafana"]["volumes"].as_array().unwrap();
    assert!(volumes.contains(&Value::String(mounted)), "{volumes:?}");
}

#[test]
fn every_image_that_compose_builds_is_a_stage_of_the_dockerfile() {
    let compose = read("compose.yaml");
    let dockerfile = read("Dockerfile");
    let target = Regex::new(r"build: \{ context: \., target: (\w+) \}").unwrap();
    let image = Regex::new(r"image: clickstream/(\w+):\$\{CLICKSTREAM_TAG:-([^}]+)\}").unwrap();
    let mut built: Vec<&str> = target
        .captures_iter(&compose)
        .map(|found| found.get(1).unwrap().as_str())
        .collect();
    let mut named = Vec::new();
    for found in image.captures_iter(&compose) {
        assert_eq!(&found[2], env!("CARGO_PKG_VERSION"), "the tag of a release");
        named.push(found.get(1).unwrap().as_str());
    }
    built.sort_unstable();
    named.sort_unstable();
    assert_eq!(built, named);
    assert!(built.len() >= 3, "{built:?}");
    for stage in built {
        assert!(
            dockerfile.contains(&format!("FROM base AS {stage}\n")),
            "{stage}"
        );
        assert!(
            dockerfile.contains(&format!("[\"/clickstream-{stage}\"]")),
            "{stage}"
        );
    }
}
