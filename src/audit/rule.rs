//! The `DestinationRule`s that set how clients of a cluster speak TLS. They explain what a client gets.

use kube::ResourceExt;
use kube::api::DynamicObject;

/// A rule with a TLS mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    namespace: String,
    name: String,
    host: String,
    mode: String,
}

impl Rule {
    /// Reads an object. `None` if it sets no TLS mode.
    pub(super) fn of(object: &DynamicObject) -> Option<Self> {
        let text = |pointer: &str| object.data.pointer(pointer).and_then(|value| value.as_str()).map(str::to_owned);
        Some(Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            host: text("/spec/host")?,
            mode: text("/spec/trafficPolicy/tls/mode")?,
        })
    }

    /// What the rule says of a service, if it may be about the service.
    pub(super) fn about(&self, service: &str, namespace: &str, domain: &str) -> Option<String> {
        let full = format!("{service}.{namespace}.svc.{domain}");
        let is_about = match self.host.strip_prefix('*') {
            Some(end) => full.ends_with(end),
            None if self.host.contains('.') => self.host == full || full.starts_with(&format!("{}.", self.host)),
            None => self.host == service && self.namespace == namespace,
        };
        let Self { namespace, name, mode, .. } = self;
        is_about.then(|| format!("DestinationRule {namespace}/{name} of the caller's cluster sets TLS mode {mode}"))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::full_name("cart.shop.svc.cluster.local", true)]
    #[case::wildcard("*.shop.svc.cluster.local", true)]
    #[case::short_name("cart", true)]
    #[case::with_namespace("cart.shop", true)]
    #[case::another("web.shop.svc.cluster.local", false)]
    #[case::another_namespace("*.other.svc.cluster.local", false)]
    fn a_rule_is_about_the_services_that_its_host_names(#[case] host: &str, #[case] owed: bool) {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": { "name": "cart-off", "namespace": "shop" },
            "spec": { "host": host, "trafficPolicy": { "tls": { "mode": "DISABLE" } } },
        });
        let rule = Rule::of(&serde_json::from_value(object).unwrap()).unwrap();
        let said = rule.about("cart", "shop", "cluster.local");
        assert_eq!(said.is_some(), owed, "{said:?}");
        assert!(said.is_none_or(|said| said.contains("shop/cart-off") && said.contains("DISABLE")));
    }

    #[test]
    fn a_rule_without_a_tls_mode_is_none() {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": { "name": "a" },
            "spec": { "host": "cart" },
        });
        assert_eq!(Rule::of(&serde_json::from_value(object).unwrap()), None);
    }
}
