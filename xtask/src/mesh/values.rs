//! What a declaration puts into the fixtures of `fixtures/mesh/`.

use std::collections::BTreeSet;

use meshproof::record::Label;
use serde_json::{Value, json};

use super::application::NAMESPACE;
use super::install::SYSTEM;
use crate::declaration::{Cluster, Declaration, Gateway, Istio, PodSecurity};
use crate::template::Values;

/// Values that are the same in every cluster.
pub(super) fn of_mesh(declaration: &Declaration) -> Values {
    let Declaration { mesh, istio, .. } = declaration;
    let hosts: Vec<String> = declaration.names().iter().map(|name| format!("probe-{name}.{NAMESPACE}")).collect();
    let of_namespace = |name: &str| format!("*.{name}.svc.cluster.local");
    let exposed: Vec<String> = match (declaration.prepared, declaration.namespaces.as_slice()) {
        (true, _) => vec![of_namespace(NAMESPACE)],
        (false, []) => vec!["*.local".into()],
        (false, namespaces) => namespaces.iter().map(|namespace| of_namespace(&namespace.name)).collect(),
    };
    Values::from([
        ("MESH", mesh.id.clone()),
        ("TRUST_DOMAIN", mesh.trust_domain.clone()),
        ("TRUST_DOMAIN_ALIASES", json!(mesh.aliases).to_string()),
        ("REVISION", istio.revision.clone().unwrap_or_default()),
        ("REVISION_TAGS", json!(istio.tags).to_string()),
        ("DEFAULT_REVISION", default_revision(istio)),
        ("NATIVE_SIDECARS", istio.native_sidecars.to_string()),
        ("CNI", istio.cni.to_string()),
        ("PROXY_SECCOMP", seccomp(istio).to_string()),
        ("INJECTED", injection(istio, true)),
        ("PROBE_HOSTS", json!(hosts).to_string()),
        ("EXPOSED", json!(exposed).to_string()),
    ])
}

/// The revision that validates the objects of the whole cluster. Empty: none is the default.
fn default_revision(istio: &Istio) -> String {
    match &istio.revision {
        None => "default".to_owned(),
        Some(revision) if istio.tags.iter().any(|tag| tag == "default") => revision.clone(),
        Some(_) => String::new(),
    }
}

/// Values of one cluster's gateways.
pub(super) fn of_gateways(cluster: &Cluster) -> Values {
    // istioctl reads the name of a gateway that is not enabled as well: it removes the gateway.
    let name = |gateway: &Option<Gateway>, default: &str| {
        gateway.as_ref().map_or_else(|| default.to_owned(), |gateway| gateway.name.clone())
    };
    let namespace =
        |gateway: &Option<Gateway>| gateway.as_ref().map_or(SYSTEM, |gateway| &gateway.namespace).to_owned();
    let labels = |gateway: &Option<Gateway>| gateway.as_ref().map(|gateway| gateway.labels.clone()).unwrap_or_default();
    let Cluster { ingress, eastwest, .. } = cluster;
    let mut on_eastwest = labels(eastwest);
    on_eastwest.insert("topology.istio.io/network".into(), cluster.network.clone());
    let namespaces: BTreeSet<&str> =
        cluster.gateways().map(|gateway| gateway.namespace.as_str()).chain([NAMESPACE, SYSTEM]).collect();
    Values::from([
        ("INGRESS_NAME", name(ingress, "istio-ingressgateway")),
        ("INGRESS_NAMESPACE", namespace(ingress)),
        ("INGRESS_ENABLED", ingress.is_some().to_string()),
        ("INGRESS_LABELS", json!(labels(ingress)).to_string()),
        ("EASTWEST_NAME", name(eastwest, "istio-eastwestgateway")),
        ("EASTWEST_NAMESPACE", namespace(eastwest)),
        ("EASTWEST_ENABLED", eastwest.is_some().to_string()),
        ("EASTWEST_LABELS", json!(labels(eastwest)).to_string()),
        ("EASTWEST_POD_LABELS", json!(on_eastwest).to_string()),
        ("GATEWAY_NAMESPACES", json!(namespaces).to_string()),
    ])
}

/// Seccomp profile of the proxies. Pod Security `restricted` requires one. Without CNI, `restricted` refuses every sidecar
/// because of its init container, and Istio's default stays.
fn seccomp(istio: &Istio) -> Value {
    if istio.cni { json!({"type": "RuntimeDefault"}) } else { json!({}) }
}

/// Labels of a declared namespace.
pub(super) fn of_namespace(istio: &Istio, injected: bool, pod_security: Option<PodSecurity>) -> String {
    let mut labels = injection_label(istio, injected);
    if let Some(level) = pod_security {
        labels["pod-security.kubernetes.io/enforce"] = level.name().into();
    }
    labels.to_string()
}

/// Labels of a namespace whose pods get proxies, or get none.
pub(super) fn injection(istio: &Istio, enabled: bool) -> String {
    injection_label(istio, enabled).to_string()
}

fn injection_label(istio: &Istio, enabled: bool) -> Value {
    if !enabled {
        return json!({"istio-injection": "disabled"});
    }
    let Label { key, value } = istio.injection_label();
    json!({key: value})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declaration::Injection;

    #[test]
    fn the_default_revision_is_the_only_one_or_the_one_with_the_tag_default() {
        let istio = |revision: Option<&str>, tags: &[&str]| Istio {
            revision: revision.map(str::to_owned),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            injection: Injection::Revision,
            native_sidecars: true,
            cni: false,
        };
        assert_eq!(default_revision(&istio(None, &[])), "default");
        assert_eq!(default_revision(&istio(Some("1-31"), &["prod", "default"])), "1-31");
        assert_eq!(default_revision(&istio(Some("1-31"), &["prod"])), "");
    }
}
