//! How a Job has ended.

use jiff::Timestamp;
use serde_json::{Value, json};

/// Whether a Job has ended, how, and when.
pub fn ended(status: &Value) -> Option<(bool, Timestamp)> {
    let conditions = status.get("conditions")?.as_array()?;
    conditions.iter().find_map(|condition| {
        if condition["status"] != json!("True") {
            return None;
        }
        let succeeded = match condition["type"].as_str()? {
            "Complete" => true,
            "Failed" => false,
            _ => return None,
        };
        let at = condition["lastTransitionTime"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(Timestamp::now);
        Some((succeeded, at))
    })
}
