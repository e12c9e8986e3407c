//! What was found, for a person.

use std::collections::BTreeMap;
use std::fmt;

use super::found::{FoundCluster, FoundControlPlane, FoundMesh, Surroundings};
use crate::record::{AddressFamily, Gateway, GatewayKind, Label};

impl fmt::Display for FoundMesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for found in &self.clusters {
            write!(f, "{found}")?;
        }
        if !self.findings.is_empty() {
            writeln!(f, "\nto know:")?;
        }
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FoundCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = &self.record;
        writeln!(f)?;
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<16}{value}");
        let istio = &record.istio;
        row("CLUSTER", format!("{} (context {}, Kubernetes {})", record.name, self.context, self.kubernetes))?;
        let revision = istio.revision.as_deref().unwrap_or("default");
        row("istio", format!("{} in {}, revision {revision}", self.istio_version, istio.namespace))?;
        for other in self.control_planes.iter().filter(|plane| plane.revision != istio.revision) {
            row("not judged", other.to_string())?;
        }
        let aliases = match self.trust.aliases.as_slice() {
            [] => String::new(),
            aliases => format!(" (also {})", aliases.join(", ")),
        };
        row("mesh", format!("{}, trust domain {}{aliases}", self.mesh_id, self.trust.name))?;
        row("network", if record.network.is_empty() { "(no name)".into() } else { record.network.clone() })?;
        row("trust", trust(self))?;
        row("injection", injection(self))?;
        row("ingress", gateway(record.gateways.ingress.as_ref()))?;
        row("east-west", gateway(record.gateways.eastwest.as_ref()))?;
        if !self.other_gateways.is_empty() {
            row("other gateways", self.other_gateways.join(", "))?;
        }
        row("peers", peers(self))?;
        let families = record.address_families.iter().map(|family| match family {
            AddressFamily::Ipv4 => "IPv4",
            AddressFamily::Ipv6 => "IPv6",
        });
        row("services", format!("in {}, {}", record.domain, families.collect::<Vec<_>>().join(" and ")))?;
        row("nodes", counted(&self.surroundings.architectures, ""))?;
        row("namespaces", namespaces(&self.surroundings))?;
        for unread in &self.unread {
            row("could not read", unread.to_string())?;
        }
        Ok(())
    }
}

impl fmt::Display for FoundControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {} in {}", self.revision.as_deref().unwrap_or("default"), self.namespace)?;
        if !self.tags.is_empty() {
            write!(f, ", tags {}", self.tags.join(", "))?;
        }
        Ok(())
    }
}

fn trust(found: &FoundCluster) -> String {
    let roots = match found.trust.roots.len() {
        1 => "1 root".to_owned(),
        several => format!("{several} roots"),
    };
    let issuer = match found.record.issuers.first() {
        None => "the CA that signs workloads is unknown".to_owned(),
        Some(issuer) => match issuer.certificates.len() {
            0 => "which signs workloads".to_owned(),
            1 => "an intermediate CA signs workloads".to_owned(),
            depth => format!("{depth} intermediate CAs, one below the other"),
        },
    };
    format!("{roots}, {issuer}")
}

fn injection(found: &FoundCluster) -> String {
    let istio = &found.record.istio;
    let Label { key, value } = &istio.injection;
    let kind = if istio.proxy.native_sidecar { "native sidecar" } else { "sidecar" };
    let redirect = if istio.proxy.init_container { "init container" } else { "no init container" };
    let cni = if found.surroundings.cni { ", Istio CNI" } else { "" };
    let plane = found.control_planes.iter().find(|plane| plane.revision == istio.revision);
    let others = plane.iter().flat_map(|plane| &plane.injection).filter(|label| **label != istio.injection);
    let others: Vec<String> = others.map(|Label { key, value }| format!("{key}={value}")).collect();
    let others = if others.is_empty() { String::new() } else { format!(" (also {})", others.join(", ")) };
    format!("{key}={value}{others}; {kind}, {redirect}{cni}")
}

fn gateway(gateway: Option<&Gateway>) -> String {
    let Some(gateway) = gateway else { return "none".into() };
    let address = gateway.address.as_ref().map_or("no address".to_owned(), |address| format!("at {address}"));
    let kind = match gateway.kind {
        GatewayKind::Deployment => String::new(),
        other => format!("{other} "),
    };
    format!("{kind}{}/{}, {address}", gateway.namespace, gateway.deployment)
}

fn peers(found: &FoundCluster) -> String {
    let seen = found.peers.seen.as_ref().map(|seen| {
        let states: Vec<String> = seen.iter().map(|(peer, state)| format!("{peer} {state}")).collect();
        if states.is_empty() {
            "istiod sees no other cluster".into()
        } else {
            format!("istiod sees {}", states.join(", "))
        }
    });
    let seen = seen.unwrap_or_else(|| "unknown".to_owned());
    match &found.peers.secrets {
        None => format!("{seen}; remote secrets may not be listed"),
        Some(secrets) if secrets.is_empty() => format!("{seen}; no remote secret"),
        Some(secrets) => {
            format!("{seen}; remote secrets of {}", secrets.iter().cloned().collect::<Vec<_>>().join(", "))
        }
    }
}

fn namespaces(surroundings: &Surroundings) -> String {
    let Surroundings { namespaces, injected, quotas, pod_security, .. } = surroundings;
    let mut text = format!("{namespaces}, {injected} with the label of injection");
    if !pod_security.is_empty() {
        text += &format!("; Pod Security {}", counted(pod_security, " in "));
    }
    if !quotas.is_empty() {
        text += &format!("; quotas in {}", quotas.join(", "));
    }
    text
}

/// `AMOUNT VALUE` of each, or `VALUE in AMOUNT` with the word ` in `.
fn counted(values: &BTreeMap<String, usize>, word: &str) -> String {
    let one = |(value, count): (&String, &usize)| {
        if word.is_empty() { format!("{count} {value}") } else { format!("{value}{word}{count}") }
    };
    let text: Vec<String> = values.iter().map(one).collect();
    if text.is_empty() { "unknown".into() } else { text.join(", ") }
}
