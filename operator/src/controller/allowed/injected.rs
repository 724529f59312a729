//! Annotations by which pods choose the images of containers that somebody else adds to them. Where
//! a platform says which images pipelines may name, these are no way around it. Pure.

use std::collections::BTreeMap;

use clickstream_pipeline::spec::Problem;

/// Keys, where `*` stands for anything, and what they choose.
const CHOOSING: [(&str, &str); 11] = [
    ("sidecar.istio.io/proxyImage", "Istio's proxy"),
    // a template is a pod of somebody's own, images included
    (
        "inject.istio.io/templates",
        "Istio's template of what is added",
    ),
    ("proxy.istio.io/overrides", "containers over those of Istio"),
    ("config.linkerd.io/*-image", "Linkerd's containers"),
    ("config.linkerd.io/*-version", "Linkerd's containers"),
    ("vault.hashicorp.com/agent-image", "Vault's agent"),
    ("vault.security.banzaicloud.io/*-image", "Vault's helpers"),
    ("*.security.bank-vaults.io/*-image", "Vault's helpers"),
    ("dapr.io/sidecar-image", "Dapr's sidecar"),
    (
        "admission.datadoghq.com/*.custom-image",
        "Datadog's library",
    ),
    ("admission.datadoghq.com/*-lib.version", "Datadog's library"),
];

/// What may not stand among the annotations of this place.
pub fn problems<'p>(
    place: &'p str,
    annotations: &'p BTreeMap<String, String>,
) -> impl Iterator<Item = Problem> + 'p {
    annotations.keys().filter_map(move |key| {
        let (_, what) = CHOOSING.iter().find(|(form, _)| fits(form, key))?;
        Some(Problem {
            path: format!("{place}.annotations.{key}"),
            message: format!(
                "it chooses the image of {what}, and this platform says which images run (pipelines.allowed.images): remove it, and let the injector's own settings choose the image"
            ),
        })
    })
}

/// Whether a key is of this form.
fn fits(form: &str, key: &str) -> bool {
    let Some((start, rest)) = form.split_once('*') else {
        return form == key;
    };
    let Some(key) = key.strip_prefix(start) else {
        return false;
    };
    match rest.contains('*') {
        // whatever the first one stands for
        true => (0..=key.len()).any(|at| key.get(at..).is_some_and(|key| fits(rest, key))),
        false => key.ends_with(rest),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use clickstream_pipeline::spec::ClickstreamPipeline as Document;

    use crate::controller::allowed::Allowed;

    fn allowed(images: &[&str]) -> Allowed {
        let images: Vec<_> = images.iter().map(|&text| text.to_owned()).collect();
        Allowed::new(&images, &[], &[], None).unwrap()
    }

    #[test]
    fn injectors_are_told_of_no_image_where_images_are_limited() {
        let document = |key: &str| {
            let yaml = format!(
                "apiVersion: clickstream.dev/v1alpha1\nkind: ClickstreamPipeline\nmetadata: {{ name: web, namespace: shop }}\nspec:\n  kafka: {{ bootstrapServers: 'b:9093' }}\n  targets: [{{ connection: {{ secret: {{ name: postgres }} }}, migration: {{ podTemplate: {{ annotations: {{ {key}: evil }} }} }} }}]\n  processor: {{ annotations: {{ {key}: evil }} }}\n"
            );
            Document::from_yaml(&yaml).unwrap()
        };
        let limited = allowed(&["r.example.com/team"]);
        for key in [
            "sidecar.istio.io/proxyImage",
            "inject.istio.io/templates",
            "proxy.istio.io/overrides",
            "config.linkerd.io/proxy-image",
            "config.linkerd.io/init-image-version",
            "vault.hashicorp.com/agent-image",
            "vault.security.banzaicloud.io/vault-env-image",
            "secrets-webhook.security.bank-vaults.io/secret-init-image",
            "dapr.io/sidecar-image",
            "admission.datadoghq.com/java-lib.custom-image",
            "admission.datadoghq.com/processor.java-lib.version",
        ] {
            let told = limited.problems(&document(key));
            let told: Vec<_> = told.iter().map(ToString::to_string).collect();
            assert_eq!(told.len(), 2, "{key}: {told:?}");
            for (told, place) in told.iter().zip([
                "spec.processor.annotations",
                "spec.targets[0].migration.podTemplate.annotations",
            ]) {
                for part in [
                    &format!("{place}.{key}"),
                    "pipelines.allowed.images",
                    "remove it",
                ] {
                    assert!(told.contains(part), "{part}: {told}");
                }
            }
            // as elsewhere, no list is no limit
            let everything = allowed(&[]);
            assert!(everything.problems(&document(key)).is_empty(), "{key}");
        }
        for key in [
            "sidecar.istio.io/inject",
            "config.linkerd.io/proxy-log-level",
            "config.linkerd.io/image-pull-policy",
            "vault.hashicorp.com/agent-inject",
            "images.example.com/owner",
        ] {
            assert!(limited.problems(&document(key)).is_empty(), "{key}");
        }
    }
}
