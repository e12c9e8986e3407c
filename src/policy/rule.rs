//! The `DestinationRule` by which a client speaks to a service, as Istio chooses it.
//!
//! Source: <https://istio.io/latest/docs/reference/config/networking/destination-rule/> and, for the order of the
//! namespaces, <https://istio.io/latest/docs/ops/best-practices/traffic-management/#cross-namespace-configuration>.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::object::{Named, named, spec};
use super::parties::{Client, Service};

/// How a client speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientTls {
    /// Plaintext.
    Disable,
    /// TLS without a client certificate.
    Simple,
    /// TLS with the mesh's certificates.
    IstioMutual,
    /// TLS with certificates of the rule's own.
    Mutual,
}

impl ClientTls {
    /// The mode of this name.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "DISABLE" => Some(Self::Disable),
            "SIMPLE" => Some(Self::Simple),
            "ISTIO_MUTUAL" => Some(Self::IstioMutual),
            "MUTUAL" => Some(Self::Mutual),
            _ => None,
        }
    }
}

impl fmt::Display for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "DISABLE",
            Self::Simple => "SIMPLE",
            Self::IstioMutual => "ISTIO_MUTUAL",
            Self::Mutual => "MUTUAL",
        })
    }
}

/// A `DestinationRule`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationRule {
    object: Named,
    host: String,
    export_to: Vec<String>,
    /// The clients that the rule is for. All if it is empty.
    selector: BTreeMap<String, String>,
    /// Whether the rule has a traffic policy, with or without TLS.
    has_policy: bool,
    mode: Option<ClientTls>,
    /// Modes by port of the service.
    ports: BTreeMap<u16, ClientTls>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    host: String,
    export_to: Vec<String>,
    workload_selector: Selector,
    traffic_policy: Option<TrafficPolicy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TrafficPolicy {
    tls: Option<Tls>,
    port_level_settings: Vec<PortSettings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PortSettings {
    port: Port,
    tls: Option<Tls>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    number: u16,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tls {
    mode: String,
}

impl Tls {
    /// The mode. A rule that names TLS without a mode means `DISABLE`, the first of the list.
    fn mode(&self) -> Option<ClientTls> {
        if self.mode.is_empty() { Some(ClientTls::Disable) } else { ClientTls::of(&self.mode) }
    }
}

impl DestinationRule {
    /// Reads an object. `None` if its `spec` is not that of a `DestinationRule`.
    pub fn of(object: &Value) -> Option<Self> {
        let Spec { host, export_to, workload_selector, traffic_policy } = spec(object)?;
        let has_policy = traffic_policy.is_some();
        let TrafficPolicy { tls, port_level_settings } = traffic_policy.unwrap_or_default();
        let ports = port_level_settings.iter();
        Some(Self {
            object: named(object),
            host,
            export_to,
            selector: workload_selector.match_labels,
            has_policy,
            mode: tls.as_ref().and_then(Tls::mode),
            ports: ports.filter_map(|one| Some((one.port.number, one.tls.as_ref()?.mode()?))).collect(),
        })
    }

    /// The mode for a port of the service. `None` leaves it to the mesh: mutual TLS where the server takes it.
    pub fn mode_of(&self, port: u16) -> Option<ClientTls> {
        self.ports.get(&port).copied().or(self.mode)
    }

    /// What the rule says of a service, if it sets a TLS mode and may be about the service. Takes also those names that
    /// Istio does not complete: a rule without effect explains something, too.
    pub fn about(&self, service: &str, namespace: &str, domain: &str) -> Option<String> {
        let full = format!("{service}.{namespace}.svc.{domain}");
        let is_about = match self.host.strip_prefix('*') {
            Some(end) => full.ends_with(end),
            None if self.host.contains('.') => self.host == full || full.starts_with(&format!("{}.", self.host)),
            None => self.host == service && self.object.namespace == namespace,
        };
        let mode = self.mode.filter(|_| is_about)?;
        Some(format!("{self} of the caller's cluster sets TLS mode {mode}"))
    }

    /// How well the rule's host matches a service: the length of what matches, and whether it is all of the name.
    fn matches(&self, service_host: &str, domain: &str) -> Option<(bool, usize)> {
        let host = match self.host.contains('.') || self.host.starts_with('*') {
            true => self.host.clone(),
            false => format!("{}.{}.svc.{domain}", self.host, self.object.namespace),
        };
        match host.strip_prefix('*') {
            Some(end) => service_host.ends_with(end).then_some((false, end.len())),
            None => (host == service_host).then_some((true, host.len())),
        }
    }

    /// Whether clients of the rule's own namespace see it.
    fn is_visible_at_home(&self) -> bool {
        let home = |one: &String| one == "." || one == "*" || *one == self.object.namespace;
        self.export_to.is_empty() || self.export_to.iter().any(home)
    }

    /// Whether clients of another namespace see it.
    fn is_exported_to(&self, namespace: &str) -> bool {
        let names = |one: &String| one == "*" || one == namespace;
        !self.is_private() && (self.export_to.is_empty() || self.export_to.iter().any(names))
    }

    /// Whether only clients of the rule's own namespace see it.
    fn is_private(&self) -> bool {
        let home = |one: &String| one == "." || *one == self.object.namespace;
        !self.selector.is_empty() || matches!(self.export_to.as_slice(), [only] if home(only))
    }

    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Of several rules with one host, Istio takes the policy of the first: rules for chosen clients, then the oldest.
    fn order(&self) -> impl Ord + '_ {
        (!self.has_policy, self.selector.is_empty(), self.object.age())
    }
}

impl fmt::Display for DestinationRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DestinationRule {}", self.object)
    }
}

/// The rule that counts for a client, of the `rules` in the client's own cluster: from the client's namespace, otherwise
/// the service's, otherwise the root namespace. The first namespace with a rule for the service decides, also if that
/// rule says nothing of TLS. Clients in the root namespace see there only what is private, until the last step.
pub(super) fn choose<'a>(
    rules: &'a [DestinationRule],
    client: &Client,
    service: &Service,
    root: &str,
    domain: &str,
) -> Option<&'a DestinationRule> {
    let of = |namespace: &str, is_seen: &dyn Fn(&DestinationRule) -> bool| {
        let here = rules.iter().filter(|rule| rule.object.namespace == namespace && is_seen(rule));
        let matching: Vec<_> = here.filter_map(|rule| Some((rule.matches(&service.host, domain)?, rule))).collect();
        let best = matching.iter().map(|(how, _)| *how).max()?;
        let best = matching.into_iter().filter(|(how, _)| *how == best).map(|(_, rule)| rule);
        best.filter(|rule| rule.selects(&client.labels)).min_by(|one, other| one.order().cmp(&other.order()))
    };
    let exported = |rule: &DestinationRule| rule.is_exported_to(&client.namespace);
    let own = match client.namespace == root {
        true => of(root, &DestinationRule::is_private),
        false => of(&client.namespace, &DestinationRule::is_visible_at_home),
    };
    own.or_else(|| of(&service.namespace, &exported)).or_else(|| of(root, &exported))
}

#[cfg(test)]
mod tests;
