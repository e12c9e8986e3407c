//! Derives the objects of each member cluster and a DNS zone, from a declaration and the services of its members.
//! Pure: no function here queries a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{Declaration, LABEL};
use crate::declaration::{Cluster, Gateway};

/// First two octets of the services' addresses: the range of Istio's automatic addresses. The range is reserved
/// (class E), so no workload has such an address. A sidecar intercepts the connection before it is routed.
const RANGE: [u8; 2] = [240, 240];

/// A service of the global namespace, in any cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GlobalService {
    name: String,
    namespace: String,
    /// Clusters where the service has workloads.
    homes: BTreeSet<String>,
    selector: BTreeMap<String, String>,
    ports: Vec<Port>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Port {
    number: i32,
    target: i32,
    name: String,
    protocol: String,
}

/// Merges the members' services, listed by cluster, into the services of the global namespace.
///
/// # Errors
/// Fails if two members disagree about a service, or other clusters cannot call one. The error names the service.
pub(super) fn services(declaration: &Declaration, found: &[(String, Vec<Service>)]) -> Result<Vec<GlobalService>> {
    let mut services: BTreeMap<String, GlobalService> = BTreeMap::new();
    for (cluster, found) in found {
        for service in found.iter().filter(|service| declaration.includes(cluster, service)) {
            let this = GlobalService::of(cluster, service)
                .with_context(|| format!("service {} of {cluster}", service.name_any()))?;
            let Some(known) = services.get_mut(&this.name) else {
                services.insert(this.name.clone(), this);
                continue;
            };
            let same = |known: &GlobalService| {
                (&known.namespace, &known.selector, &known.ports) == (&this.namespace, &this.selector, &this.ports)
            };
            if !same(known) {
                let home = known.homes.iter().next().map(String::as_str).unwrap_or_default();
                bail!(
                    "service {} is one thing in {home} and another in {cluster} (namespace, selector or ports differ): \
                     under one name there can be only one",
                    this.name
                );
            }
            known.homes.insert(cluster.clone());
        }
    }
    for public in &declaration.public_services {
        if !services.contains_key(&public.service) {
            let known: Vec<&str> = services.keys().map(String::as_str).collect();
            bail!("no member has the public service `{}`; there are {}", public.service, known.join(", "));
        }
    }
    Ok(services.into_values().collect())
}

impl Declaration {
    /// Whether a service of `cluster` belongs to the global namespace: it is in a member namespace, has the labels, and
    /// has its own workloads.
    fn includes(&self, cluster: &str, service: &Service) -> bool {
        let labels = service.labels();
        self.has(cluster, &service.namespace().unwrap_or_default())
            && self.selector.iter().all(|(label, value)| labels.get(label) == Some(value))
            && service.spec.as_ref().is_some_and(|spec| spec.selector.as_ref().is_some_and(|s| !s.is_empty()))
    }
}

impl GlobalService {
    fn of(cluster: &str, service: &Service) -> Result<Self> {
        let spec = service.spec.clone().unwrap_or_default();
        let ports = spec.ports.unwrap_or_default().iter().map(Port::of).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            name: service.name_any(),
            namespace: service.namespace().unwrap_or_default(),
            homes: BTreeSet::from([cluster.to_owned()]),
            selector: spec.selector.unwrap_or_default(),
            ports,
        })
    }

    /// The namespace of the service entry: a service entry selects only workloads of its own namespace.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Port {
    fn of(port: &ServicePort) -> Result<Self> {
        let name = port.name.clone().unwrap_or_else(|| format!("port-{}", port.port));
        let target = match &port.target_port {
            None => port.port,
            Some(IntOrString::Int(0)) => port.port,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(named)) => {
                bail!("port {name} goes to the container port named `{named}`: give its number")
            }
        };
        // Istio's protocol selection: the port's `appProtocol`, otherwise the prefix of the port's name.
        let says = port.app_protocol.clone().unwrap_or_else(|| name.clone());
        let protocol = match says.split('-').next().unwrap_or_default() {
            known @ ("http" | "http2" | "https" | "grpc" | "tls" | "mongo") => known.to_uppercase(),
            _ => "TCP".to_owned(),
        };
        Ok(Self { number: port.port, target, name, protocol })
    }
}

/// The address of each service: a hash of the service's name, or the next free address after a collision. The same in
/// every cluster. Adding or removing other services hardly changes an address.
fn addresses(declaration: &Declaration, services: &[GlobalService]) -> Vec<Ipv4Addr> {
    let mut taken = BTreeSet::new();
    let mut one = |service: &GlobalService| {
        let mut suffix = fnv1a(&format!("{}.{}", service.name, declaration.domain));
        // Skip the range's network address and broadcast address.
        while matches!(suffix, 0 | u16::MAX) || !taken.insert(suffix) {
            suffix = suffix.wrapping_add(1);
        }
        let [high, low] = suffix.to_be_bytes();
        Ipv4Addr::new(RANGE[0], RANGE[1], high, low)
    };
    services.iter().map(&mut one).collect()
}

/// FNV-1a (Fowler, Noll, Vo), folded to 16 bits. The hash is the same on every machine and in every version.
fn fnv1a(text: &str) -> u16 {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    ((hash >> 16) ^ (hash & 0xffff)) as u16
}

/// The CoreDNS server block of a member for the domain. A name without a service does not exist.
pub(super) fn zone(declaration: &Declaration, services: &[GlobalService]) -> String {
    let mut entries = String::new();
    for (service, address) in services.iter().zip(addresses(declaration, services)) {
        let _ = writeln!(entries, "        {address} {}.{}", service.name, declaration.domain);
    }
    // There are no IPv6 addresses. An AAAA query gets an empty answer, not NXDOMAIN.
    format!("{}:53 {{\n    errors\n    hosts {{\n{entries}        ttl 5\n    }}\n}}\n", declaration.domain)
}

/// API group of Istio's routing objects.
const NETWORKING: &str = "networking.istio.io/v1";

/// API group of Istio's security policies.
const SECURITY: &str = "security.istio.io/v1";

/// The objects of a member cluster.
pub(super) fn objects(declaration: &Declaration, services: &[GlobalService], cluster: &Cluster) -> Vec<Value> {
    let namespaces: Vec<&str> = declaration.namespaces(&cluster.name).collect();
    let mut objects = entries(declaration, services, cluster);
    objects.extend(namespaces.iter().map(|namespace| mutual_tls(declaration, cluster, namespace)));
    objects.extend(cluster.eastwest.as_ref().map(|gateway| passthrough(declaration, gateway)));
    let ingress = cluster.ingress.as_ref().filter(|_| !declaration.public_services.is_empty());
    if let (Some(home), Some(ingress)) = (namespaces.first(), ingress) {
        objects.extend(public(declaration, services, home, ingress));
    }
    objects
}

/// Namespace, kind and name of an object.
struct Place<'a> {
    api_version: &'static str,
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
}

/// A derived object, with the label of its declaration.
fn object(declaration: &Declaration, place: Place<'_>, spec: Value) -> Value {
    let Place { api_version, kind, namespace, name } = place;
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {LABEL: declaration.name}},
        "spec": spec,
    })
}

/// The namespaces of the cluster's gateways.
fn gateways(cluster: &Cluster) -> impl Iterator<Item = &str> {
    cluster.gateways().map(|gateway| gateway.namespace.as_str())
}

/// A service entry for each service, and STRICT mutual TLS for each service with workloads in the cluster.
fn entries(declaration: &Declaration, services: &[GlobalService], cluster: &Cluster) -> Vec<Value> {
    let seen_from: BTreeSet<&str> = declaration.namespaces(&cluster.name).chain(gateways(cluster)).collect();
    let mut entries = Vec::new();
    for (service, address) in services.iter().zip(addresses(declaration, services)) {
        let (namespace, host) = (service.namespace.as_str(), format!("{}.{}", service.name, declaration.domain));
        let ports = service.ports.iter().map(|port| {
            json!({"number": port.number, "targetPort": port.target, "name": port.name, "protocol": port.protocol})
        });
        // The entry selects workloads in every cluster whose API server istiod reads. Traffic to workloads in
        // another network goes through that network's east-west gateway.
        let entry = json!({
            "hosts": [host],
            "addresses": [address],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": ports.collect::<Vec<_>>(),
            "workloadSelector": {"labels": service.selector},
            "exportTo": seen_from,
        });
        let place = Place { api_version: NETWORKING, kind: "ServiceEntry", namespace, name: &host };
        entries.push(object(declaration, place, entry));
        if service.homes.contains(&cluster.name) {
            let strict = json!({"selector": {"matchLabels": service.selector}, "mtls": {"mode": "STRICT"}});
            let place = Place { api_version: SECURITY, kind: "PeerAuthentication", namespace, name: &host };
            entries.push(object(declaration, place, strict));
        }
    }
    entries
}

/// Mutual TLS for calls from `namespace` to the domain.
fn mutual_tls(declaration: &Declaration, cluster: &Cluster, namespace: &str) -> Value {
    let seen_from: BTreeSet<&str> = gateways(cluster).chain(["."]).collect();
    let rule = json!({
        "host": format!("*.{}", declaration.domain),
        "exportTo": seen_from,
        "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}},
    });
    let name = format!("{}-mtls", declaration.name);
    object(declaration, Place { api_version: NETWORKING, kind: "DestinationRule", namespace, name: &name }, rule)
}

/// The gateway for calls from other networks.
fn passthrough(declaration: &Declaration, gateway: &Gateway) -> Value {
    let servers = json!({
        "selector": gateway.labels,
        "servers": [{
            "port": {"number": 15443, "name": "tls", "protocol": "TLS"},
            "tls": {"mode": "AUTO_PASSTHROUGH"},
            "hosts": [format!("*.{}", declaration.domain)],
        }],
    });
    let name = format!("{}-eastwest", declaration.name);
    object(
        declaration,
        Place { api_version: NETWORKING, kind: "Gateway", namespace: &gateway.namespace, name: &name },
        servers,
    )
}

/// Ingress from outside the mesh: a route in `namespace` for each public service, and one gateway for all routes.
fn public(declaration: &Declaration, services: &[GlobalService], namespace: &str, ingress: &Gateway) -> Vec<Value> {
    let gateway = format!("{}-public", declaration.name);
    let (mut objects, mut all_hosts) = (Vec::new(), Vec::new());
    for public in &declaration.public_services {
        let host = format!("{}.{}", public.service, declaration.domain);
        let hosts: Vec<&String> = std::iter::once(&host).chain(&public.hosts).collect();
        let port = services.iter().find(|service| service.name == public.service).and_then(|found| found.ports.first());
        let destination = json!({"host": host, "port": {"number": port.map_or(80, |port| port.number)}});
        let route = json!({
            "hosts": hosts,
            "gateways": [gateway],
            "http": [{"route": [{"destination": destination}]}],
        });
        let place = Place { api_version: NETWORKING, kind: "VirtualService", namespace, name: &host };
        objects.push(object(declaration, place, route));
        all_hosts.extend(hosts.into_iter().cloned());
    }
    let servers = json!({
        "selector": ingress.labels,
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": all_hosts}],
    });
    let place = Place { api_version: NETWORKING, kind: "Gateway", namespace, name: &gateway };
    objects.push(object(declaration, place, servers));
    objects
}

#[cfg(test)]
mod tests;
