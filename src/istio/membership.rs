//! What puts the pods of a namespace into the mesh or keeps them out, makes their proxies refuse plaintext, and lets
//! other networks reach them.

use serde_json::{Map, Value, json};

use crate::record::{Gateway, Istio, Label};

/// The label of a namespace whose pods get a proxy, or get none.
pub fn injection(istio: &Istio, meshed: bool) -> Label {
    // Also keeps the proxy away where the mesh injects into namespaces without a label.
    if meshed { istio.injection.clone() } else { Label { key: "istio-injection".into(), value: "disabled".into() } }
}

/// Whether it is the mesh that keeps pods from starting: a container that injection added is in trouble, or the API
/// server says that the injector is. Otherwise their surroundings do: a quota, admission, an image, a node.
pub(crate) fn keeps_from_starting(container: Option<&str>, reason: &str) -> bool {
    let is_injected = |name: &str| name.starts_with("istio-");
    let injector_fails = reason.contains("failed calling webhook") && reason.contains("/inject");
    container.is_some_and(is_injected) || injector_fails || reason.contains("sidecar-injector.istio.io")
}

/// The policy by which every workload of `namespace` takes mutual TLS only.
pub fn strict(namespace: &str) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "default", "namespace": namespace },
        "spec": { "mtls": { "mode": "STRICT" } },
    })
}

/// The listener by which an east-west gateway leads to the services of `namespace`, from its own namespace. `None` if the
/// gateway's selector is not a list of `KEY=VALUE`.
pub fn exposed(gateway: &Gateway, namespace: &str, domain: &str) -> Option<Value> {
    let label = |one: &str| one.split_once('=').map(|(key, value)| (key.trim().to_owned(), json!(value.trim())));
    let selector: Map<String, Value> = gateway.selector.split(',').map(label).collect::<Option<_>>()?;
    Some(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": { "name": "exposed", "namespace": namespace },
        "spec": {
            "selector": selector,
            "servers": [{
                "port": { "number": gateway.port, "name": "tls", "protocol": "TLS" },
                "tls": { "mode": "AUTO_PASSTHROUGH" },
                "hosts": [format!("*.{namespace}.svc.{domain}")],
            }],
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_selected_by_the_labels_of_its_record() {
        let gateway = |selector: &str| Gateway {
            namespace: "edge".into(),
            deployment: "crossing".into(),
            kind: Default::default(),
            selector: selector.into(),
            port: 15443,
            address: None,
        };
        let object = exposed(&gateway("gateway=crossing,tier=edge"), "probes", "cluster.local").unwrap();
        assert_eq!(object["spec"]["selector"], json!({"gateway": "crossing", "tier": "edge"}));
        assert_eq!(object["spec"]["servers"][0]["hosts"], json!(["*.probes.svc.cluster.local"]));
        assert_eq!(exposed(&gateway("gateway"), "probes", "cluster.local"), None);
    }

    #[test]
    fn what_injection_added_is_told_from_what_surrounds_the_mesh() {
        let unreachable = "FailedCreate: Internal error occurred: failed calling webhook \"inject.example\": failed to \
                           call webhook: Post \"https://istiod.istio-system.svc:443/inject?timeout=10s\": EOF";
        let denied = "FailedCreate: admission webhook \"rev.namespace.sidecar-injector.istio.io\" denied the request";
        assert!(keeps_from_starting(None, unreachable) && keeps_from_starting(None, denied));
        assert!(keeps_from_starting(Some("istio-proxy"), "CrashLoopBackOff"));
        let quota = "FailedCreate: pods \"probe-1\" is forbidden: exceeded quota: none";
        let other = "FailedCreate: Internal error occurred: failed calling webhook \"validate.kyverno.svc-fail\": EOF";
        // Pod Security names the containers of the mesh, but the surroundings refuse them.
        let level = "FailedCreate: pods \"probe-1\" is forbidden: violates PodSecurity \"restricted:latest\": \
                     unrestricted capabilities (container \"istio-init\" must not include \"NET_ADMIN\")";
        for reason in [quota, other, level] {
            assert!(!keeps_from_starting(None, reason), "{reason}");
        }
        assert!(!keeps_from_starting(Some("probe"), "ErrImagePull: not found"));
    }
}
