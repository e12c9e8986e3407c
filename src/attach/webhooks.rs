//! The webhooks that inject sidecars: which control plane each asks, and for which namespaces.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use kube::ResourceExt;

use crate::record::Label;

/// Label of a configuration with the name of a tag.
const TAG: &str = "istio.io/tag";

/// Label with a revision.
pub(super) const REVISION: &str = "istio.io/rev";

/// Begins the path at which istiod injects.
const PATH: &str = "/inject";

/// An injecting webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Injecting {
    /// The revision that the configuration names.
    pub(super) revision: Option<String>,
    /// The tag that the configuration is of.
    pub(super) tag: Option<String>,
    /// The Service that the API server asks. `None`: a URL outside the cluster.
    pub(super) service: Option<Service>,
    /// The URL that the API server asks.
    pub(super) url: Option<String>,
    /// PEM of the authorities of the injector's certificate.
    pub(super) authorities: Vec<u8>,
    /// The label of a namespace that this webhook injects into. `None` if it goes by labels of pods.
    pub(super) label: Option<Label>,
}

/// A port and path of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) port: i32,
    pub(super) path: String,
}

/// The injecting webhooks among all.
pub(super) fn injecting(configurations: &[MutatingWebhookConfiguration]) -> Vec<Injecting> {
    let of = |configuration: &MutatingWebhookConfiguration| {
        let labels = configuration.labels().clone();
        let webhooks = configuration.webhooks.clone().unwrap_or_default().into_iter();
        webhooks.filter_map(move |webhook| one(&labels, &webhook)).collect::<Vec<_>>()
    };
    configurations.iter().flat_map(of).collect()
}

fn one(labels: &BTreeMap<String, String>, webhook: &MutatingWebhook) -> Option<Injecting> {
    let client = &webhook.client_config;
    let service = client.service.as_ref().map(|service| Service {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        port: service.port.unwrap_or(443),
        path: service.path.clone().unwrap_or_default(),
    });
    let path = service.as_ref().map(|service| service.path.clone());
    let is_path = |path: &String| path.starts_with(PATH);
    // An injector outside the cluster is named by a URL.
    let is_url = |url: &String| url.contains(PATH);
    if !path.as_ref().is_some_and(is_path) && !client.url.as_ref().is_some_and(is_url) {
        return None;
    }
    Some(Injecting {
        revision: labels.get(REVISION).cloned(),
        tag: labels.get(TAG).cloned(),
        service,
        url: client.url.clone(),
        authorities: client.ca_bundle.clone().map(|bundle| bundle.0).unwrap_or_default(),
        label: demanded(webhook),
    })
}

/// The label that a namespace must have, if that is all that the webhook asks for.
fn demanded(webhook: &MutatingWebhook) -> Option<Label> {
    let of_pods = webhook.object_selector.as_ref();
    let positive = |operator: &str| matches!(operator, "In" | "Exists");
    let by_pod = of_pods.is_some_and(|selector| {
        let expressions = selector.match_expressions.iter().flatten();
        expressions.into_iter().any(|expression| positive(&expression.operator)) || selector.match_labels.is_some()
    });
    if by_pod {
        return None;
    }
    let selector = webhook.namespace_selector.as_ref()?;
    let by_name = |key: &str| key == "kubernetes.io/metadata.name";
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| (key, Some(value)));
    let listed = selector.match_expressions.iter().flatten().filter(|expression| expression.operator == "In");
    let listed = listed.map(|expression| (&expression.key, expression.values.iter().flatten().next()));
    let mut demanded = equal.chain(listed).filter(|(key, _)| !by_name(key));
    let (key, value) = demanded.next()?;
    // A second label could not be told in the record.
    if demanded.next().is_some() {
        return None;
    }
    Some(Label { key: key.clone(), value: value?.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configuration(labels: serde_json::Value, webhooks: serde_json::Value) -> MutatingWebhookConfiguration {
        serde_json::from_value(json!({ "metadata": { "name": "c", "labels": labels }, "webhooks": webhooks })).unwrap()
    }

    fn webhook(namespaces: serde_json::Value, pods: serde_json::Value, path: &str) -> serde_json::Value {
        json!({
            "name": "x", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": { "service": { "name": "istiod-1-31", "namespace": "istio-system", "path": path } },
            "namespaceSelector": { "matchExpressions": namespaces }, "objectSelector": { "matchExpressions": pods },
        })
    }

    #[test]
    fn the_label_is_the_one_that_the_webhook_for_namespaces_asks_for() {
        let revision = json!([
            { "key": "istio.io/rev", "operator": "In", "values": ["1-31"] },
            { "key": "istio-injection", "operator": "DoesNotExist" },
        ]);
        let out = json!([{ "key": "sidecar.istio.io/inject", "operator": "NotIn", "values": ["false"] }]);
        let by_pod = json!([{ "key": "istio.io/rev", "operator": "In", "values": ["1-31"] }]);
        let some = json!([{ "key": "istio-injection", "operator": "In", "values": ["enabled"] }]);
        let labels = json!({ "istio.io/rev": "1-31", "istio.io/tag": "prod" });
        let found = injecting(&[configuration(
            labels,
            json!([
                webhook(revision, out, "/inject/cluster/east/net/vpc"),
                webhook(some, by_pod, "/inject"),
                webhook(json!([]), json!([]), "/validate"),
            ]),
        )]);
        assert_eq!(found.len(), 2, "a webhook of another path injects nothing");
        let first = &found[0];
        assert_eq!(first.label, Some(Label { key: "istio.io/rev".into(), value: "1-31".into() }));
        assert_eq!((first.revision.as_deref(), first.tag.as_deref()), (Some("1-31"), Some("prod")));
        assert_eq!(first.service.as_ref().unwrap().port, 443);
        assert_eq!(found[1].label, None, "it asks for a label of the pods, too");
    }

    #[test]
    fn a_selector_with_two_labels_or_by_name_is_no_label() {
        let two = json!([
            { "key": "team", "operator": "In", "values": ["shop"] },
            { "key": "istio-injection", "operator": "In", "values": ["enabled"] },
        ]);
        let by_name = json!([{ "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["shop"] }]);
        for selector in [two, by_name, json!([])] {
            let found = injecting(&[configuration(json!({}), json!([webhook(selector, json!([]), "/inject")]))]);
            assert_eq!(found[0].label, None);
        }
    }
}
