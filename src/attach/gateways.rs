//! Finds the gateways of a cluster: by what their proxies are and what leads to them, not by their names.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{PodTemplateSpec, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::discovery::ApiResource;
use serde_json::Value;

use crate::istio::MeshConfig;
use crate::record::{Gateway, GatewayKind, Gateways, HostPort};

/// Port of east-west gateways for mutual TLS to services.
const EASTWEST: u16 = 15443;

/// Label of a Service that leads to a network.
const NETWORK: &str = "topology.istio.io/network";

/// The objects from which gateways are found.
pub(super) struct Sources<'a> {
    pub(super) deployments: &'a [Deployment],
    pub(super) daemon_sets: &'a [DaemonSet],
    pub(super) services: &'a [Service],
    /// Istio's Gateway objects.
    pub(super) listeners: &'a [DynamicObject],
    pub(super) config: &'a MeshConfig,
    pub(super) network: &'a str,
}

/// The gateways for the record, and the names of the others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) gateways: Gateways,
    pub(super) others: Vec<String>,
}

/// Kind of Istio's Gateway.
pub(super) fn listener_kind() -> ApiResource {
    ApiResource {
        group: "networking.istio.io".into(),
        version: "v1".into(),
        api_version: "networking.istio.io/v1".into(),
        kind: "Gateway".into(),
        plural: "gateways".into(),
    }
}

/// How sure it is that a gateway has a role. The more, the surer.
type Likelihood = u8;

/// An object that runs pods.
struct Runner<'a> {
    kind: GatewayKind,
    namespace: String,
    name: String,
    selector: &'a LabelSelector,
    template: &'a PodTemplateSpec,
}

/// A proxy that is a gateway.
struct Candidate<'a> {
    runner: Runner<'a>,
    labels: BTreeMap<String, String>,
    services: Vec<&'a Service>,
    /// The servers of the Gateway objects that select it.
    servers: Vec<Value>,
}

/// The candidate that is the likeliest by `of`. None if none is likely at all.
fn likeliest<'c, 'a>(
    candidates: &'c [Candidate<'a>],
    of: impl Fn(&Candidate<'a>) -> Likelihood,
) -> Option<&'c Candidate<'a>> {
    let best = candidates.iter().map(&of).max().filter(|best| *best > 0)?;
    candidates.iter().find(|candidate| of(candidate) == best)
}

impl Sources<'_> {
    /// Finds the gateways.
    pub(super) fn find(&self) -> Found {
        let candidates: Vec<Candidate<'_>> = self.runners().filter_map(|runner| self.candidate(runner)).collect();
        let eastwest = likeliest(&candidates, Candidate::eastwest);
        let ingress = likeliest(&candidates, |candidate| match eastwest {
            Some(eastwest) if std::ptr::eq(eastwest, candidate) => 0,
            _ => candidate.ingress(),
        });
        let names = |one: Option<&Candidate<'_>>| one.map(Candidate::name);
        let chosen = [names(eastwest), names(ingress)];
        let others = candidates.iter().map(Candidate::name).filter(|name| !chosen.contains(&Some(name.clone())));
        let gateways = Gateways {
            ingress: ingress.and_then(|candidate| candidate.entry(80).or_else(|| candidate.entry(443))),
            eastwest: eastwest.map(|candidate| self.crossing(candidate)),
        };
        Found { gateways, others: others.collect() }
    }

    fn runners(&self) -> impl Iterator<Item = Runner<'_>> {
        let deployments = self.deployments.iter().filter_map(|one| {
            let spec = one.spec.as_ref()?;
            Some(Runner::of(GatewayKind::Deployment, one, &spec.selector, &spec.template))
        });
        let daemon_sets = self.daemon_sets.iter().filter_map(|one| {
            let spec = one.spec.as_ref()?;
            Some(Runner::of(GatewayKind::DaemonSet, one, &spec.selector, &spec.template))
        });
        deployments.chain(daemon_sets)
    }

    /// The object as a gateway, if its proxies are gateways.
    fn candidate<'a>(&'a self, runner: Runner<'a>) -> Option<Candidate<'a>> {
        let template = runner.template;
        let metadata = template.metadata.as_ref();
        let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
        let injected = annotations.and_then(|annotations| annotations.get("inject.istio.io/templates"));
        let injected = injected.is_some_and(|names| names.split(',').any(|name| name.trim() == "gateway"));
        let arguments = template.spec.iter().flat_map(|pod| &pod.containers).flat_map(|one| one.args.iter().flatten());
        let is_router = arguments.into_iter().any(|argument| argument == "router");
        if !injected && !is_router {
            return None;
        }
        let labels = metadata.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
        let selects = |service: &&Service| {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            service.namespace().as_ref() == Some(&runner.namespace)
                && selector.is_some_and(|selector| is_within(selector, &labels))
        };
        let services = self.services.iter().filter(selects).collect();
        let leads = |listener: &&DynamicObject| {
            let selector = listener.data.pointer("/spec/selector").cloned().unwrap_or_default();
            let selector: BTreeMap<String, String> = serde_json::from_value(selector).unwrap_or_default();
            !selector.is_empty() && is_within(&selector, &labels)
        };
        let servers = self.listeners.iter().filter(leads);
        let servers = servers.flat_map(|listener| {
            listener.data.pointer("/spec/servers").and_then(Value::as_array).cloned().unwrap_or_default()
        });
        let servers = servers.collect();
        Some(Candidate { runner, labels, services, servers })
    }

    /// The east-west gateway, with the address at which other networks reach it.
    fn crossing(&self, candidate: &Candidate<'_>) -> Gateway {
        let port = candidate.passthrough().unwrap_or(EASTWEST);
        let published = candidate.published(i32::from(port));
        let address = published.or_else(|| self.config.address_of(self.network));
        candidate.gateway(port, address)
    }
}

impl<'a> Runner<'a> {
    fn of(
        kind: GatewayKind,
        object: &impl ResourceExt,
        selector: &'a LabelSelector,
        template: &'a PodTemplateSpec,
    ) -> Self {
        let namespace = object.namespace().unwrap_or_default();
        Self { kind, namespace, name: object.name_any(), selector, template }
    }
}

impl Candidate<'_> {
    fn name(&self) -> String {
        format!("{}/{}", self.runner.namespace, self.runner.name)
    }

    /// The port at which a Gateway object lets mutual TLS through by its server name.
    fn passthrough(&self) -> Option<u16> {
        let mode = |server: &&Value| server.pointer("/tls/mode").and_then(Value::as_str) == Some("AUTO_PASSTHROUGH");
        let server = self.servers.iter().find(mode)?;
        server.pointer("/port/number").and_then(Value::as_u64).and_then(|port| port.try_into().ok())
    }

    fn eastwest(&self) -> Likelihood {
        let environment = self.runner.template.spec.iter().flat_map(|pod| &pod.containers);
        let mut environment = environment.flat_map(|container| container.env.iter().flatten());
        let by_mode = environment
            .any(|variable| variable.name == "ISTIO_META_ROUTER_MODE" && variable.value.as_deref() == Some("sni-dnat"));
        let of_network = |service: &&&Service| service.labels().contains_key(NETWORK);
        let has_port = |service: &&Service| port_of(service, EASTWEST.into()).is_some();
        if self.passthrough().is_some() {
            4
        } else if by_mode {
            3
        } else if self.services.iter().filter(of_network).any(has_port) {
            2
        } else {
            self.services.iter().any(has_port).into()
        }
    }

    fn ingress(&self) -> Likelihood {
        let protocol = |server: &Value| server.pointer("/port/protocol").and_then(Value::as_str).map(str::to_uppercase);
        let http = |server: &Value| protocol(server).is_some_and(|protocol| protocol.starts_with("HTTP"));
        let serves = self.services.iter().any(|service| [80, 443].iter().any(|port| port_of(service, *port).is_some()));
        let published = [80, 443].iter().any(|port| self.published(*port).is_some());
        match (serves, published, self.servers.iter().any(http)) {
            (true, true, true) => 3,
            (true, true, false) => 2,
            (true, false, true) => 1,
            _ => 0,
        }
    }

    /// The gateway at this port of its Service.
    fn entry(&self, port: u16) -> Option<Gateway> {
        let service = self.services.iter().find(|service| port_of(service, port.into()).is_some())?;
        let target = port_of(service, port.into())?;
        let pod_port = match target {
            IntOrString::Int(target) => u16::try_from(target).ok()?,
            IntOrString::String(name) => self.named(&name)?,
        };
        Some(self.gateway(pod_port, self.published(port.into())))
    }

    fn named(&self, name: &str) -> Option<u16> {
        let containers = self.runner.template.spec.iter().flat_map(|pod| &pod.containers);
        let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
        u16::try_from(ports.find(|port| port.name.as_deref() == Some(name))?.container_port).ok()
    }

    fn gateway(&self, port: u16, address: Option<HostPort>) -> Gateway {
        let selector = self.runner.selector.match_labels.as_ref().unwrap_or(&self.labels);
        let selector: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Gateway {
            namespace: self.runner.namespace.clone(),
            deployment: self.runner.name.clone(),
            kind: self.runner.kind,
            selector: selector.join(","),
            port,
            address,
        }
    }

    /// The address outside the cluster of a port of its Services.
    fn published(&self, port: i32) -> Option<HostPort> {
        self.services.iter().filter(|service| port_of(service, port).is_some()).find_map(|service| {
            let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let ingress = ingress.and_then(|balancer| balancer.ingress.as_ref()?.first());
            let balanced = ingress.and_then(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone()));
            let external = service.spec.as_ref().and_then(|spec| spec.external_ips.as_ref()?.first().cloned());
            Some(HostPort::new(balanced.or(external)?, u16::try_from(port).ok()?))
        })
    }
}

/// The target of a Service's port.
fn port_of(service: &Service, port: i32) -> Option<IntOrString> {
    let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let found = ports.find(|one| one.port == port)?;
    Some(found.target_port.clone().unwrap_or(IntOrString::Int(port)))
}

/// Whether `labels` has all of `selector`.
fn is_within(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests;
