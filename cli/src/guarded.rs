//! Pods whose `/status` and `/metrics` want a token (docs/monitoring-access.md). The API server's proxy to a pod keeps `Authorization`
//! for itself, so the token goes by a header of its own; it is read from the Secret that the pod mounts, by whoever may read that.

use anyhow::{Context as _, anyhow};
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

/// The token that a container wants, if it does.
///
/// # Errors
/// It may not be read, or is not there; the message says which Secret it is.
pub async fn token(
    access: &Access,
    pod: &Pod,
    container: &Container,
) -> anyhow::Result<Option<String>> {
    let Some(secret) = place(pod, container) else {
        return Ok(None);
    };
    let secrets: Api<Secret> = Api::namespaced(access.client.clone(), &access.namespace);
    let found = secrets.get(&secret).await.map_err(|error| {
        if is_forbidden(&error) {
            return anyhow!("it wants a token, which takes get on secrets/{secret}");
        }
        explained(error).context(format!("it wants a token of secrets/{secret}"))
    })?;
    // every key is good
    let values = found.data.unwrap_or_default().into_values();
    let tokens = values.filter_map(|value| {
        let text = String::from_utf8(value.0).ok()?;
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| !line.is_empty()).map(ToOwned::to_owned)
    });
    let first = tokens.min();
    let first = first.with_context(|| format!("secrets/{secret} holds no token"))?;
    Ok(Some(first))
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
