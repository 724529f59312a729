//! What a deletion could not delete, written down where it is found after the resource is gone: a
//! ConfigMap without an owner in the same namespace, and a Warning.

use clickstream_protocol::conditions::Reason;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::warn;

use crate::{
    controller::{
        applier::{FIELD_MANAGER, refused::is_terminating},
        context::{Context, Error},
    },
    events::Happening,
};

/// Label of such a ConfigMap: the pipeline's name.
const LEFT_BEHIND: &str = "clickstream.dev/left-behind";

/// Something that is still there.
pub struct Left {
    /// What it is.
    pub what: String,
    /// Why it is still there.
    pub why: String,
    /// Deletes it.
    pub command: String,
    /// Whether trying again is of use. What is still being done is never given up.
    pub is_going_on: bool,
}

impl Left {
    /// One line about it.
    pub fn line(&self) -> String {
        format!("{}: {}", self.what, self.why)
    }
}

/// Drops the tables of one target, or of the first, from wherever the servers are reached.
pub fn drop_command(target: Option<&str>) -> String {
    let target = target.map(|target| format!(" --target {target}"));
    format!(
        "clickstream-processor drop --pipeline pipeline.yaml{} --secrets-dir FOLDER",
        target.unwrap_or_default()
    )
}

/// Writes down what is left, and tells. `document`: the resource, where the commands need it.
///
/// # Errors
/// What the API server says.
pub async fn tell(
    of: &ObjectReference,
    left: &[Left],
    document: Option<String>,
    context: &Context,
) -> Result<(), Error> {
    let (namespace, pipeline, uid) = (
        of.namespace.as_deref().unwrap_or_default(),
        of.name.as_deref().unwrap_or_default(),
        of.uid.as_deref().unwrap_or_default(),
    );
    let lines: Vec<_> = left.iter().map(Left::line).collect();
    // one of another incarnation stays as it is
    let begin = uid.split('-').next().unwrap_or_default();
    let name = format!("{pipeline}-left-behind-{begin}");
    let commands: Vec<_> = left.iter().map(|left| left.command.as_str()).collect();
    let mut data = json!({
        "left": lines.join("\n"),
        "commands": commands.join("\n"),
        "gaveUpAt": format!("{:.0}", Timestamp::now()),
        "uid": uid,
    });
    if let Some(document) = document {
        data["pipeline.yaml"] = json!(document);
    }
    let body = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "labels": { LEFT_BEHIND: pipeline } },
        "data": data,
    });
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let found = match api.patch(&name, &params, &Patch::Apply(&body)).await {
        Ok(_) => format!("; ConfigMap {name} says how to remove it"),
        // it goes with everything else in it
        Err(kube::Error::Api(status)) if is_terminating(&status) => String::new(),
        Err(error) => return Err(error.into()),
    };
    let note = format!("gave up; left behind: {}{found}", lines.join("; "));
    warn!(namespace, pipeline, note, "cleanup is incomplete");
    let happening = Happening {
        warning: true,
        reason: Reason::CleanupIncomplete.into(),
        action: "Delete",
        note,
    };
    context.events.publish_about(of, happening).await;
    Ok(())
}
