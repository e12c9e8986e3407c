//! A pod as an audit sees it: its ports, its proxy or the reason why it has none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod as Object, PodSpec};
use kube::ResourceExt;

use crate::record::Istio;

/// Name of the label, and of the annotation, that puts a pod into the mesh or keeps the pod out.
const INJECT: &str = "sidecar.istio.io/inject";

/// A pod, reduced to what an audit needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Kubernetes' unique id. A successor of the same name has another.
    pub uid: String,
    /// Service account.
    pub service_account: String,
    /// Name of the node. Empty until the pod is scheduled.
    pub node: String,
    /// What the pod belongs to.
    pub owner: Owner,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// IP addresses: one, or one for each address family.
    pub addresses: Vec<String>,
    /// The proxy.
    pub proxy: Proxy,
    /// Why the pod cannot be judged now, if it cannot.
    pub absent: Option<String>,
    /// Whether the pod shares its node's network.
    pub host_network: bool,
    /// Whether the pod is ready.
    pub ready: bool,
    /// Inbound ports that the proxy is told not to capture: the annotation and its value.
    pub uncaptured: Option<Uncaptured>,
    /// Ports, by number and transport.
    pub ports: BTreeMap<PortKey, Port>,
}

/// What a pod belongs to, for example `Deployment/cart`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.to_lowercase(), self.name)
    }
}

/// The proxy of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    /// A sidecar among the containers.
    Container,
    /// A native sidecar: an init container that keeps running.
    Native,
    /// The pod is a gateway of Istio's: the proxy is all that it has.
    Gateway,
    /// The pod is in ambient mode, without a sidecar.
    Ambient,
    /// None, although the namespace is in the mesh.
    Missing {
        /// Why.
        why: String,
    },
    /// None, and the namespace is not in the mesh.
    Outside {
        /// Why.
        why: String,
    },
}

impl Proxy {
    /// Whether a sidecar takes the pod's connections.
    pub fn is_sidecar(&self) -> bool {
        matches!(self, Self::Container | Self::Native)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container => f.write_str("sidecar"),
            Self::Native => f.write_str("native sidecar"),
            Self::Gateway => f.write_str("gateway"),
            Self::Ambient => f.write_str("ambient"),
            Self::Missing { why } => write!(f, "no sidecar: {why}"),
            Self::Outside { why } => write!(f, "outside the mesh: {why}"),
        }
    }
}

/// The annotation by which a sidecar leaves ports alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncaptured {
    /// Name of the annotation.
    pub annotation: &'static str,
    /// Its value.
    pub value: String,
}

impl Uncaptured {
    /// The annotations of a pod that leave ports to the application.
    fn of(pod: &Object) -> Option<Self> {
        let value = |annotation: &'static str| {
            let value = pod.annotations().get(annotation)?.trim().to_owned();
            Some(Self { annotation, value })
        };
        let excluded = value("traffic.sidecar.istio.io/excludeInboundPorts").filter(|one| !one.value.is_empty());
        excluded.or_else(|| value("traffic.sidecar.istio.io/includeInboundPorts").filter(|one| one.value != "*"))
    }

    /// Whether the sidecar leaves this port alone.
    pub fn covers(&self, port: u16) -> bool {
        let lists = self.value.split(',').any(|one| one.trim() == port.to_string() || one.trim() == "*");
        if self.annotation.ends_with("excludeInboundPorts") { lists } else { !lists }
    }
}

/// A port's number and transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// Number.
    pub number: u16,
    /// Transport.
    pub transport: Transport,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// What Kubernetes calls a protocol. TCP if it is absent.
    pub fn of(protocol: Option<&str>) -> Self {
        match protocol {
            Some("UDP") => Self::Udp,
            Some("SCTP") => Self::Sctp,
            _ => Self::Tcp,
        }
    }
}

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Tcp => write!(f, "{}", self.number),
            Transport::Udp => write!(f, "{}/udp", self.number),
            Transport::Sctp => write!(f, "{}/sctp", self.number),
        }
    }
}

/// A port of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Port {
    /// Names of the port, and application protocols, by which Istio chooses what it speaks.
    pub names: BTreeSet<String>,
    /// Services that target the port.
    pub services: BTreeSet<String>,
    /// Whether the proxy declares the port, as its own.
    pub is_proxys: bool,
}

impl Port {
    /// Whether the port speaks HTTP/2, by its names.
    pub fn is_http2(&self) -> bool {
        let http2 = |name: &String| {
            let name = name.to_ascii_lowercase();
            ["http2", "grpc", "kubernetes.io/h2c"]
                .iter()
                .any(|known| name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
        };
        self.names.iter().any(http2)
    }
}

impl Pod {
    /// Reduces a pod. `namespace` has the labels of its namespace, if they are known.
    pub fn of(pod: &Object, namespace: Option<&BTreeMap<String, String>>, istio: &Istio) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        let addresses = match status.pod_ips.unwrap_or_default() {
            ips if ips.is_empty() => status.pod_ip.into_iter().collect(),
            ips => ips.into_iter().map(|ip| ip.ip).collect(),
        };
        let absent = match (pod.metadata.deletion_timestamp.is_some(), status.phase.as_deref()) {
            (true, _) => Some("it is terminating".into()),
            (_, Some("Succeeded" | "Failed")) => Some("it has ended".into()),
            _ if Vec::is_empty(&addresses) => Some("it has no address yet".to_owned()),
            _ => None,
        };
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            service_account: spec.service_account_name.clone().unwrap_or_else(|| "default".into()),
            node: spec.node_name.clone().unwrap_or_default(),
            owner: owner(pod),
            labels: pod.labels().clone(),
            addresses,
            proxy: proxy(pod, &spec, namespace, istio),
            absent,
            host_network: spec.host_network.unwrap_or(false),
            ready: crate::cluster::is_ready(pod),
            uncaptured: Uncaptured::of(pod),
            ports: declared(&spec, &istio.proxy.container),
        }
    }
}

/// The workload of a pod. A ReplicaSet of a Deployment is the Deployment. A static pod belongs to its node, and is its own
/// workload.
fn owner(pod: &Object) -> Owner {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true)).or(owners.first());
    let Some(owner) = owner.filter(|owner| owner.kind != "Node") else {
        return Owner { kind: "Pod".into(), name: pod.name_any() };
    };
    let hash = pod.labels().get("pod-template-hash").map(|hash| format!("-{hash}"));
    match hash.and_then(|hash| owner.name.strip_suffix(&hash)) {
        Some(name) if owner.kind == "ReplicaSet" => Owner { kind: "Deployment".into(), name: name.into() },
        _ => Owner { kind: owner.kind.clone(), name: owner.name.clone() },
    }
}

/// The ports that the containers declare.
fn declared(spec: &PodSpec, proxy: &str) -> BTreeMap<PortKey, Port> {
    let mut ports: BTreeMap<PortKey, Port> = BTreeMap::new();
    let native = spec.init_containers.iter().flatten().filter(|one| is_native(one));
    for container in spec.containers.iter().chain(native) {
        for ContainerPort { container_port, name, protocol, .. } in container.ports.iter().flatten() {
            let Ok(number) = u16::try_from(*container_port) else { continue };
            let port = ports.entry(PortKey { number, transport: Transport::of(protocol.as_deref()) }).or_default();
            port.names.extend(name.clone());
            port.is_proxys |= container.name == proxy;
        }
    }
    ports
}

fn is_native(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Finds the proxy, among the containers and the init containers.
fn proxy(pod: &Object, spec: &PodSpec, namespace: Option<&BTreeMap<String, String>>, istio: &Istio) -> Proxy {
    let is_proxy = |container: &&Container| container.name == istio.proxy.container;
    if let Some(proxy) = spec.containers.iter().find(is_proxy) {
        let is_router = proxy.args.iter().flatten().any(|argument| argument == "router");
        return if is_router { Proxy::Gateway } else { Proxy::Container };
    }
    if spec.init_containers.iter().flatten().filter(is_proxy).any(is_native) {
        return Proxy::Native;
    }
    let mode = |labels: Option<&BTreeMap<String, String>>| labels?.get("istio.io/dataplane-mode").cloned();
    let redirected = pod.annotations().get("ambient.istio.io/redirection").is_some_and(|value| value == "enabled");
    if redirected || mode(Some(pod.labels())).or_else(|| mode(namespace)).as_deref() == Some("ambient") {
        return Proxy::Ambient;
    }
    let why = why_not(pod, spec, namespace, istio);
    if is_in_mesh(namespace, istio) { Proxy::Missing { why } } else { Proxy::Outside { why } }
}

/// Whether a namespace's labels ask for sidecars.
fn is_in_mesh(namespace: Option<&BTreeMap<String, String>>, istio: &Istio) -> bool {
    let Some(labels) = namespace else { return false };
    let is = |key: &str, value: &str| labels.get(key).is_some_and(|found| found == value);
    let disabled = is("istio-injection", "disabled");
    let revision = labels.contains_key("istio.io/rev");
    !disabled && (is(&istio.injection.key, &istio.injection.value) || is("istio-injection", "enabled") || revision)
}

/// Why a pod got no sidecar, in the order in which Istio decides.
fn why_not(pod: &Object, spec: &PodSpec, namespace: Option<&BTreeMap<String, String>>, istio: &Istio) -> String {
    if spec.host_network == Some(true) {
        return "it shares its node's network".into();
    }
    let label = pod.labels().get(INJECT).map(|value| format!("its label {INJECT} is `{value}`"));
    let annotation = pod.annotations().get(INJECT).map(|value| format!("its annotation {INJECT} is `{value}`"));
    let said = label.or(annotation).filter(|said| said.ends_with("`false`"));
    if let Some(said) = said {
        return said;
    }
    let Some(labels) = namespace else { return "the labels of its namespace could not be read".into() };
    if labels.get("istio-injection").is_some_and(|value| value == "disabled") {
        return "its namespace is labelled istio-injection=disabled".into();
    }
    let own = istio.revision.as_deref().unwrap_or("default");
    match labels.get("istio.io/rev").or_else(|| pod.labels().get("istio.io/rev")) {
        Some(revision) if istio.injection.key == "istio.io/rev" && *revision != istio.injection.value => {
            format!("its revision is `{revision}`, and the control plane's is `{own}`")
        }
        _ if is_in_mesh(namespace, istio) => {
            "its namespace asks for one: the pod is older than the label, or the injector did not act".into()
        }
        _ => "its namespace has no label that asks for one".into(),
    }
}

#[cfg(test)]
mod tests;
