//! Two installations of the operator that watch one namespace: a pipeline belongs to the one that
//! has it, for as long as that one lives. Installations know each other by their Leases.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::context::{Context, Error};
use crate::{crd::ClickstreamPipeline, leader::LEASE};

/// The other installation that holds a pipeline, if there is one and it lives.
///
/// # Errors
/// What the API server says.
pub async fn held_by_another(
    pipeline: &ClickstreamPipeline,
    context: &Context,
) -> Result<Option<String>, Error> {
    let Some(holder) = pipeline
        .status
        .as_ref()
        .and_then(|status| status.held_by.clone())
    else {
        return Ok(None);
    };
    if Some(&holder) == context.settings.installation.as_ref() {
        return Ok(None);
    }
    let leases: Api<Lease> = Api::namespaced(context.client.clone(), &holder);
    let lives = match leases.get_opt(LEASE).await {
        Ok(lease) => lease.is_some_and(|lease| is_alive(&lease, Timestamp::now())),
        // who may not look cannot know, and two that act at once do no harm
        Err(kube::Error::Api(status)) if status.is_forbidden() => false,
        Err(error) => return Err(error.into()),
    };
    Ok(lives.then_some(holder))
}

/// Whether somebody holds a Lease and has renewed it in time.
fn is_alive(lease: &Lease, now: Timestamp) -> bool {
    let Some(spec) = &lease.spec else {
        return false;
    };
    let held = spec
        .holder_identity
        .as_ref()
        .is_some_and(|holder| !holder.is_empty());
    let duration = SignedDuration::from_secs(spec.lease_duration_seconds.unwrap_or(0).into());
    let renewed = spec.renew_time.as_ref().map(|time| time.0);
    held && renewed.is_some_and(|renewed| now.duration_since(renewed) <= duration)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use k8s_openapi::api::coordination::v1::Lease;
    use serde_json::json;

    use super::is_alive;

    fn lease(holder: &str) -> Lease {
        serde_json::from_value(json!({ "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 15,
            "renewTime": "2026-01-01T00:00:00.000000Z",
        } }))
        .unwrap()
    }

    #[test]
    fn an_installation_lives_while_its_lease_is_held_and_renewed() {
        let at = |text: &str| text.parse().unwrap();
        assert!(is_alive(&lease("a"), at("2026-01-01T00:00:15Z")));
        assert!(!is_alive(&lease("a"), at("2026-01-01T00:00:16Z")));
        assert!(!is_alive(&lease(""), at("2026-01-01T00:00:01Z")));
    }
}
