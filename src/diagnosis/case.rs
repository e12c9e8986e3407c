//! One call, with the facts about it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodIP, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::facts::{ClusterFacts, ProxyFacts};
use crate::identity::Trust;
use crate::istio::{Upstream, UpstreamTls, sni_of};
use crate::record::Gateway;
use crate::report::{Call, Cause, Ended, Layer, Must, Place, Speaks};

/// All that was read.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) clusters: BTreeMap<String, ClusterFacts>,
    pub(super) proxies: BTreeMap<Place, ProxyFacts>,
    /// The `AuthorizationPolicy` objects that denied something at a pod lately, as its proxy logged it.
    pub(super) denials: BTreeMap<Place, Vec<String>>,
    /// Ports of a pod at which its proxy found nobody lately.
    pub(super) silent: BTreeMap<Place, Vec<u16>>,
}

/// How a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// By the name of a Service, through the caller's proxy.
    Named,
    /// To an east-west gateway, with a server name.
    Gateway,
    /// To something else that calls the destination, such as a gateway of the application's own.
    Through,
    /// To the destination's address.
    Direct,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) port: u16,
}

/// A call, and the facts about it.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) facts: &'a Facts,
    pub(super) trust: &'a Trust,
    pub(super) call: &'a Call,
    pub(super) target: Option<&'a Target>,
    pub(super) route: Route,
}

impl<'a> Case<'a> {
    /// The caller's cluster.
    pub(super) fn from(&self) -> Option<&'a ClusterFacts> {
        self.facts.clusters.get(&self.call.source.as_ref()?.cluster)
    }

    /// The destination's cluster.
    pub(super) fn to(&self) -> Option<&'a ClusterFacts> {
        self.facts.clusters.get(&self.call.destination.as_ref()?.cluster)
    }

    pub(super) fn source(&self) -> Option<&'a Pod> {
        self.from()?.pod(self.call.source.as_ref()?)
    }

    pub(super) fn destination(&self) -> Option<&'a Pod> {
        self.to()?.pod(self.call.destination.as_ref()?)
    }

    pub(super) fn proxy_of(&self, place: Option<&Place>) -> Option<&'a ProxyFacts> {
        self.facts.proxies.get(place?)
    }

    /// What the caller's proxy says of the target, if the caller has a proxy that was asked.
    pub(super) fn upstream(&self) -> Option<Option<&'a Upstream>> {
        let target = self.target?;
        let proxy = self.proxy_of(self.call.source.as_ref())?;
        let answer = proxy.upstreams.get(&(target.host.clone(), target.port))?;
        answer.as_ref().ok().map(Option::as_ref)
    }

    /// The TLS that the caller's proxy speaks to the target, if it is known.
    fn speaks(&self) -> Option<UpstreamTls> {
        self.upstream().flatten().map(|upstream| upstream.tls)
    }

    /// Whether the caller shows its certificate: it calls a Service, and its proxy speaks mutual TLS to it.
    pub(super) fn is_authenticated(&self) -> bool {
        self.route == Route::Named && matches!(self.speaks(), Some(UpstreamTls::Automatic | UpstreamTls::Mutual))
    }

    /// Whether the call can come to the destination only if that has a sidecar: it comes through an east-west gateway,
    /// or with mutual TLS that the caller does not choose by the endpoint. What should have been refused, or was answered
    /// without its proofs, needs one as well.
    pub(super) fn needs_sidecar(&self) -> bool {
        let is_handshake = self.call.speaks == Speaks::Anything;
        let is_open = self.call.must == Must::Refuse || self.call.ended == Ended::Answered;
        is_open || self.crosses() || is_handshake || self.speaks() == Some(UpstreamTls::Mutual)
    }

    /// Whether the call goes into another network.
    pub(super) fn crosses(&self) -> bool {
        let network = |facts: Option<&'a ClusterFacts>| facts.map(|facts| facts.cluster.record().network.as_str());
        self.route == Route::Gateway || network(self.from()) != network(self.to())
    }

    /// The port of the destination's pod.
    pub(super) fn pod_port(&self) -> Option<u16> {
        let Some(target) = self.target else { return Some(self.call.port) };
        let service = self.to()?.service(&target.namespace, &target.name)?;
        let port = port_of(service, target.port)?;
        match &port.target_port {
            None => Some(target.port),
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
            Some(IntOrString::String(name)) => {
                let containers = self.destination()?.spec.iter().flat_map(|spec| &spec.containers);
                let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
                let named = ports.find(|port| port.name.as_ref() == Some(name))?;
                u16::try_from(named.container_port).ok()
            }
        }
    }

    /// The server name of the target at a gateway.
    pub(super) fn server_name(&self) -> Option<String> {
        let chosen = self.call.server_name.clone().filter(|_| self.route == Route::Gateway);
        chosen.or_else(|| self.target.map(|target| sni_of(target.port, &target.host)))
    }
}

/// How the call goes, and to which Service.
pub(super) fn route(call: &Call, facts: &Facts) -> (Route, Option<Target>) {
    let to = call.destination.as_ref().and_then(|place| facts.clusters.get(&place.cluster));
    let domain = to.map_or("cluster.local", |to| to.cluster.record().domain.as_str());
    let own = call.source.as_ref().map_or("", |source| source.namespace.as_str());
    let is_namespace = |name: &str| facts.clusters.values().any(|of| of.namespaces.contains_key(name));
    let relative =
        || relative(call, own, domain).filter(|target| target.namespace == own || is_namespace(&target.namespace));
    if let Some(target) = named(&call.host, call.port, domain).or_else(relative) {
        return (Route::Named, Some(target));
    }
    let pod = to.zip(call.destination.as_ref()).and_then(|(to, place)| to.pod(place));
    if pod.is_some_and(|pod| ips(pod).iter().any(|ip| ip.ip == call.host)) {
        return (Route::Direct, None);
    }
    let routed = call.server_name.as_ref().map(|name| by_server_name(name, domain));
    if let Some(target) = routed.filter(|target| target.is_some() || is_eastwest(&call.host, facts)) {
        return (Route::Gateway, target);
    }
    // A caller outside of all clusters uses a gateway of the record, whose proxy calls the Service.
    let is_ingress = call.source.as_ref().is_some_and(|source| is_ingress(source, facts));
    let route = if is_ingress { Route::Named } else { Route::Through };
    (route, to.zip(pod).and_then(|(to, pod)| serving(to, pod, call.speaks)))
}

/// Whether an address is that of an east-west gateway, or of one of its pods.
fn is_eastwest(address: &str, facts: &Facts) -> bool {
    facts.clusters.values().any(|of| {
        let record = of.cluster.record();
        let has = |pod: &Pod| ips(pod).iter().any(|ip| ip.ip == address);
        let is_of_pod = |gateway: &Gateway| of.selected(&gateway.namespace, &gateway.selector).any(has);
        record.eastwest_address().is_ok_and(|gateway| gateway.host == address)
            || record.gateways.eastwest.as_ref().is_some_and(is_of_pod)
    })
}

fn is_ingress(place: &Place, facts: &Facts) -> bool {
    let of = facts.clusters.get(&place.cluster);
    let gateway = of.and_then(|of| of.cluster.record().gateways.ingress.as_ref());
    of.zip(gateway).is_some_and(|(of, gateway)| of.ready_pods_of(gateway).contains(place))
}

/// The addresses of a pod.
pub(super) fn ips(pod: &Pod) -> &[PodIP] {
    pod.status.as_ref().and_then(|status| status.pod_ips.as_deref()).unwrap_or_default()
}

fn named(host: &str, port: u16, domain: &str) -> Option<Target> {
    let (name, namespace) = host.strip_suffix(&format!(".svc.{domain}"))?.split_once('.')?;
    Some(Target { namespace: namespace.into(), name: name.into(), host: host.into(), port })
}

/// The Service of a name that is relative to the caller's namespace: `probe`, `probe.shop` or `probe.shop.svc`. A host
/// elsewhere, such as `ledger.example`, looks the same.
fn relative(call: &Call, own: &str, domain: &str) -> Option<Target> {
    if own.is_empty() || call.host.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    let host = match call.host.trim_end_matches(".svc").split('.').collect::<Vec<_>>().as_slice() {
        [name] => format!("{name}.{own}.svc.{domain}"),
        [name, namespace] => format!("{name}.{namespace}.svc.{domain}"),
        _ => return None,
    };
    named(&host, call.port, domain)
}

/// The Service in a server name such as `outbound_.8080_._.probe.shop.svc.cluster.local`.
fn by_server_name(name: &str, domain: &str) -> Option<Target> {
    let (port, host) = name.strip_prefix("outbound_.")?.split_once("_._.")?;
    named(host, port.parse().ok()?, domain)
}

/// A Service that leads to the pod, by a port of the protocol: for a call that comes through a gateway.
fn serving(to: &ClusterFacts, pod: &Pod, speaks: Speaks) -> Option<Target> {
    let selects = |service: &&Service| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        service.namespace() == pod.namespace() && selector.is_some_and(|selector| matches(selector, pod.labels()))
    };
    to.services.iter().filter(selects).find_map(|service| {
        let ports = service.spec.as_ref()?.ports.iter().flatten();
        let port = ports.clone().find(|port| protocol(port) == Some(speaks)).or_else(|| ports.clone().next())?;
        let (name, namespace) = (service.name_any(), service.namespace()?);
        let host = format!("{name}.{namespace}.svc.{}", to.cluster.record().domain);
        Some(Target { namespace, name, host, port: u16::try_from(port.port).ok()? })
    })
}

/// Whether `labels` have all that `selector` asks for.
pub(super) fn matches(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The port of this number.
pub(super) fn port_of(service: &Service, port: u16) -> Option<&ServicePort> {
    service.spec.as_ref()?.ports.iter().flatten().find(|one| one.port == i32::from(port))
}

/// The protocol that Istio takes a port for, by `appProtocol` or by its name. `None`: Istio looks at the bytes, or the
/// protocol is one that no probe speaks.
/// Source: <https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/>.
pub(super) fn protocol(port: &ServicePort) -> Option<Speaks> {
    let name = port.app_protocol.as_deref().or(port.name.as_deref())?;
    let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let names = |prefix: &str| name == prefix || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'));
    match () {
        () if names("http2") || names("grpc") || name == "h2c" => Some(Speaks::Http2),
        () if names("http") => Some(Speaks::Http1),
        () if names("tls") || names("https") => Some(Speaks::Tls),
        () if names("tcp") => Some(Speaks::Tcp),
        () => None,
    }
}

/// Makes the cause that blames `object`.
pub(super) fn blame(
    layer: Layer,
    of: &ClusterFacts,
    object: impl Into<String>,
    finding: impl Into<String>,
    command: String,
) -> Cause {
    Cause { layer, cluster: of.cluster.name().into(), object: object.into(), finding: finding.into(), command }
}
