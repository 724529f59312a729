//! The connection file for Power BI.

use std::fs;

use clickstream_testbed::workspace_root;
use serde_json::{Value, json};

#[test]
fn the_power_bi_file_names_the_quickstarts_database_and_no_password() {
    let text = fs::read_to_string(workspace_root().join("power-bi/clickstream.pbids")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file["version"], "0.1");
    let [connection] = file["connections"].as_array().unwrap().as_slice() else {
        panic!("one connection a file: {text}");
    };
    assert_eq!(connection["details"]["protocol"], "postgresql");
    assert_eq!(
        connection["details"]["address"],
        json!({ "server": "127.0.0.1:5432", "database": "analytics" })
    );
    assert!(["DirectQuery", "Import"].contains(&connection["mode"].as_str().unwrap()));
    assert!(!text.to_lowercase().contains("password"), "{text}");

    let compose = fs::read_to_string(workspace_root().join("compose.yaml")).unwrap();
    let compose: Value = serde_yaml::from_str(&compose).unwrap();
    let postgres = &compose["services"]["postgres"];
    assert_eq!(postgres["environment"]["POSTGRES_DB"], "analytics");
    assert_eq!(
        postgres["ports"],
        json!(["127.0.0.1:${POSTGRES_PORT:-5432}:5432"])
    );
}
