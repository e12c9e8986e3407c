//! What puts the pods of a namespace into the mesh or keeps them out, makes their proxies refuse plaintext, and lets
//! other networks reach them.

use serde_json::{Map, Value, json};

use crate::record::{Gateway, Istio, Label};

/// The label of a namespace whose pods get a proxy, or get none.
pub fn injection(istio: &Istio, meshed: bool) -> Label {
    // Also keeps the proxy away where the mesh injects into namespaces without a label.
    if meshed { istio.injection.clone() } else { Label { key: "istio-injection".into(), value: "disabled".into() } }
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
}
