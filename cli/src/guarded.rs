//! Pods whose `/status` and `/metrics` want a token (docs/monitoring-access.md). The API server's
//! proxy to a pod keeps `Authorization` for itself, so the token goes by a header of its own; it is
//! read from the Secret that the pod mounts, by whoever may read that.

use anyhow::{anyhow, ensure};
use clickstream_protocol::{ADMIN_TLS, ADMIN_TOKENS};
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use kube::Api;

use crate::access::{Access, explained, is_forbidden};

/// Where the admin server takes a token beside `Authorization`.
pub const TOKEN_HEADER: &str = "x-clickstream-token";

/// Whether a container is asked by TLS. Its probes do not say: a mesh makes them its proxy's.
pub fn by_tls(container: &Container) -> bool {
    let mut variables = container.env.iter().flatten();
    variables.any(|variable| variable.name == ADMIN_TLS)
}

/// Tokens of which a container wants one; none where it wants none. Each key of its Secret is good
/// once the pod has read it, which takes a minute or two, so one that was added a moment ago is
/// refused: they are to be tried in turn.
///
/// # Errors
/// They may not be read, or are not there; the message says which Secret it is.
pub async fn tokens(
    access: &Access,
    pod: &Pod,
    container: &Container,
) -> anyhow::Result<Vec<String>> {
    let Some(secret) = place(pod, container) else {
        return Ok(Vec::new());
    };
    let secrets: Api<Secret> = Api::namespaced(access.client.clone(), &access.namespace);
    let found = secrets.get(&secret).await.map_err(|error| {
        if is_forbidden(&error) {
            return anyhow!("it wants a token, which takes get on secrets/{secret}");
        }
        explained(error).context(format!("it wants a token of secrets/{secret}"))
    })?;
    let mut values: Vec<_> = found.data.unwrap_or_default().into_iter().collect();
    // the one that the chart has Prometheus show goes first, unless its name was changed
    values.sort_by_key(|(key, _)| key != "token");
    let tokens = values.into_iter().filter_map(|(_, value)| {
        let text = String::from_utf8(value.0).ok()?;
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| !line.is_empty()).map(ToOwned::to_owned)
    });
    let tokens: Vec<_> = tokens.collect();
    ensure!(!tokens.is_empty(), "secrets/{secret} holds no token");
    Ok(tokens)
}

/// The Secret whose keys are the container's files of tokens.
fn place(pod: &Pod, container: &Container) -> Option<String> {
    let mut env = container.env.iter().flatten();
    let folder = env
        .find(|variable| variable.name == ADMIN_TOKENS)?
        .value
        .clone()?;
    let mut mounts = container.volume_mounts.iter().flatten();
    let mount = mounts.find(|mount| mount.mount_path == folder)?;
    let mut volumes = pod.spec.as_ref()?.volumes.iter().flatten();
    let volume = volumes.find(|volume| volume.name == mount.name)?;
    volume.secret.as_ref()?.secret_name.clone()
}
