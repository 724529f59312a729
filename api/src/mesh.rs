//! Service meshes, as far as pods that end are concerned: a proxy beside a Job goes on when the Job
//! is done, so that the Job never is, unless the mesh makes proxies of a kind that Kubernetes ends.

use serde_json::{Map, Value, json};

const ISTIO: &str = "sidecar.istio.io/inject";
const LINKERD: &str = "linkerd.io/inject";

/// Asks Istio and Linkerd to leave a pod alone, unless its labels or annotations say what is to
/// become of it: who says so knows the mesh, and a database may be reached through it only. Istio
/// heeds the label, and releases before the annotation.
pub fn without_sidecar(labels: &mut Map<String, Value>, annotations: &mut Map<String, Value>) {
    let is_said = |key: &str| labels.contains_key(key) || annotations.contains_key(key);
    let (istio, linkerd) = (is_said(ISTIO), is_said(LINKERD));
    if !istio {
        labels.insert(ISTIO.to_owned(), json!("false"));
        annotations.insert(ISTIO.to_owned(), json!("false"));
    }
    if !linkerd {
        annotations.insert(LINKERD.to_owned(), json!("disabled"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_says_what_is_to_become_of_a_pod_is_heeded() {
        let (mut labels, mut annotations) = (Map::new(), Map::new());
        without_sidecar(&mut labels, &mut annotations);
        assert_eq!(labels[ISTIO], "false");
        assert_eq!(
            (&annotations[ISTIO], &annotations[LINKERD]),
            (&json!("false"), &json!("disabled"))
        );
        let (mut labels, mut annotations) = (Map::new(), Map::new());
        annotations.insert(ISTIO.to_owned(), json!("true"));
        without_sidecar(&mut labels, &mut annotations);
        assert!(labels.is_empty(), "{labels:?}");
        assert_eq!(annotations[ISTIO], "true");
        assert_eq!(annotations[LINKERD], "disabled");
    }
}
