//! The way to the destination: from the name at the caller to the edge of the caller's network.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use super::case::{Case, Route, Target, blame, ips, matches, port_of, protocol};
use super::ends::missing;
use super::facts::{ClusterFacts, owner};
use crate::cluster::{is_ready, trouble};
use crate::istio::{MULTI_CLUSTER, UpstreamTls};
use crate::report::{Cause, Ended, Layer, Must, Speaks};

/// The name does not resolve at the caller.
pub(super) fn dns(case: Case<'_>) -> Option<Cause> {
    let (from, target) = (case.from()?, case.target?);
    if case.call.ended != Ended::NoName {
        return None;
    }
    let Target { namespace, name, host, .. } = target;
    if from.service(namespace, name).is_none() {
        let finding = format!("{} has no Service {namespace}/{name}, so {host} does not resolve", from.cluster.name());
        let command = from.kubectl(format_args!("-n {namespace} get service {name}"));
        return Some(blame(Layer::Dns, from, format!("Service {namespace}/{name}"), finding, command));
    }
    let (namespace, name) = ("kube-system", "kube-dns");
    if from.service(namespace, name).is_some() && ready_endpoints(from, namespace, name) == 0 {
        let finding = format!("no DNS server of {} is ready", from.cluster.name());
        let command = from.kubectl(format_args!("-n {namespace} get endpointslices,pods -l k8s-app=kube-dns"));
        return Some(blame(Layer::Dns, from, format!("Service {namespace}/{name}"), finding, command));
    }
    let pod = case.source()?;
    let finding = format!("the Service is there, and the resolver of {} does not know {host}", pod.name_any());
    let at = case.call.source.as_ref()?;
    let command = from.kubectl(format_args!(
        "-n {} get pod {} -o jsonpath='{{.spec.dnsPolicy}} {{.spec.dnsConfig}}'",
        at.namespace, at.pod
    ));
    Some(blame(Layer::Dns, from, owner(pod), finding, command))
}

/// The Service is not there, lacks the port, or names another protocol.
pub(super) fn service(case: Case<'_>) -> Option<Cause> {
    let target = case.target?;
    let caller = case.from().filter(|_| case.route == Route::Named && case.source().is_some());
    let to = case.to()?;
    let Target { namespace, name, port, .. } = target;
    let object = format!("Service {namespace}/{name}");
    let command = |of: &ClusterFacts| of.kubectl(format_args!("-n {namespace} get service {name} -o yaml"));
    if to.service(namespace, name).is_none() {
        let finding = format!("{} has no Service {namespace}/{name}", to.cluster.name());
        return Some(blame(Layer::Service, to, object, finding, command(to)));
    }
    for of in caller.into_iter().chain([to]) {
        // A caller's cluster without the Service may know the name in another way, such as a ServiceEntry.
        let Some(found) = of.service(namespace, name) else { continue };
        let Some(spec) = port_of(found, *port) else {
            let finding = format!("it has no port {port}");
            return Some(blame(Layer::Service, of, object, finding, command(of)));
        };
        let speaks = case.call.speaks;
        if speaks == Speaks::Anything || case.call.must == Must::Refuse {
            continue;
        }
        if let Some(taken) = protocol(spec).filter(|taken| *taken != speaks) {
            let called = spec.app_protocol.as_deref().or(spec.name.as_deref()).unwrap_or_default();
            let finding =
                format!("its port {port} is named `{called}`, so Istio takes {} for {}", word(speaks), word(taken));
            return Some(blame(Layer::Service, of, object, finding, command(of)));
        }
    }
    None
}

fn word(speaks: Speaks) -> &'static str {
    match speaks {
        Speaks::Http1 => "HTTP/1.1",
        Speaks::Http2 => "HTTP/2",
        Speaks::Tcp => "TCP",
        Speaks::Tls => "TLS",
        Speaks::Anything => "what was sent",
    }
}

/// The Service has no ready endpoint in the destination's cluster.
pub(super) fn endpoints(case: Case<'_>) -> Option<Cause> {
    let (to, Target { namespace, name, .. }) = (case.to()?, case.target?);
    let service = to.service(namespace, name)?;
    if ready_endpoints(to, namespace, name) > 0 {
        return None;
    }
    let selector = service.spec.as_ref()?.selector.clone()?;
    let words = selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    unready(to, namespace, &words).or_else(|| {
        let finding = format!("its selector {words} matches no pod, so it has no endpoints");
        let command = to.kubectl(format_args!("-n {namespace} get pods -l {words} --show-labels"));
        Some(blame(Layer::Endpoints, to, format!("Service {namespace}/{name}"), finding, command))
    })
}

/// Why none of the pods with these labels is ready. `None` if one is, or if nothing has these labels.
pub(super) fn unready(of: &ClusterFacts, namespace: &str, selector: &str) -> Option<Cause> {
    let pods: Vec<&Pod> = of.selected(namespace, selector).collect();
    if pods.iter().any(|pod| is_ready(pod)) {
        return None;
    }
    let command = of.kubectl(format_args!("-n {namespace} describe pods -l {selector}"));
    let running = pods.iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
    if let Some(pod) = running {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("of no known phase");
        let words = trouble(pod).unwrap_or_else(|| format!("pod {} is {phase} and not ready", pod.name_any()));
        return Some(blame(Layer::Application, of, owner(pod), format!("none of its pods is ready: {words}"), command));
    }
    let wanted: std::collections::BTreeMap<String, String> = selector
        .split(',')
        .filter_map(|one| one.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect();
    let deployment = of.deployments.iter().find(|deployment| {
        let labels = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.as_ref());
        deployment.namespace().as_deref() == Some(namespace) && labels.is_some_and(|labels| matches(&wanted, labels))
    })?;
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let name = deployment.name_any();
    let finding = format!("it has {replicas} replicas and no pod");
    let command = of.kubectl(format_args!("-n {namespace} get deployment {name}"));
    Some(blame(Layer::Endpoints, of, format!("Deployment {namespace}/{name}"), finding, command))
}

fn ready_endpoints(of: &ClusterFacts, namespace: &str, name: &str) -> usize {
    let is = |slice: &&EndpointSlice| {
        slice.namespace().as_deref() == Some(namespace)
            && slice.labels().get("kubernetes.io/service-name").is_some_and(|service| service == name)
    };
    let endpoints = of.slices.iter().filter(is).flat_map(|slice| &slice.endpoints);
    let ready = endpoints.filter(|one| one.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false));
    ready.count()
}

/// The caller's istiod keeps the Service from the caller's proxy.
pub(super) fn visibility(case: Case<'_>) -> Option<Cause> {
    let (from, target, pod) = (case.from()?, case.target?, case.source()?);
    let Target { namespace, name, host, .. } = target;
    let service = from.service(namespace, name)?;
    if case.upstream()?.is_some() {
        return None;
    }
    let at = case.call.source.as_ref()?;
    let command = from.istioctl(format_args!("proxy-config clusters {}.{} --fqdn {host}", at.pod, at.namespace));
    let not_told = format!("so the proxy of {} is not told of {host}", at.pod);
    if let Some(sidecar) = scoping(from, pod) {
        let object = format!("Sidecar {}/{}", sidecar.namespace().unwrap_or_default(), sidecar.name_any());
        let finding = format!("its egress hosts leave out {namespace}/{name}, {not_told}");
        return Some(blame(Layer::Visibility, from, object, finding, command));
    }
    let exported = service.annotations().get("networking.istio.io/exportTo");
    let finding = match exported {
        Some(value) => format!("its annotation networking.istio.io/exportTo is `{value}`, {not_told}"),
        None => format!("istiod has not told the proxy of {} about it", at.pod),
    };
    Some(blame(Layer::Visibility, from, format!("Service {namespace}/{name}"), finding, command))
}

/// The `Sidecar` that counts for a pod: one that selects it, or else its namespace's, or else the mesh's.
fn scoping<'a>(of: &'a ClusterFacts, pod: &Pod) -> Option<&'a DynamicObject> {
    let selector = |one: &DynamicObject| -> Option<std::collections::BTreeMap<String, String>> {
        serde_json::from_value(one.data.pointer("/spec/workloadSelector/labels")?.clone()).ok()
    };
    let within = |namespace: &str| {
        let namespace = namespace.to_owned();
        of.sidecars.iter().filter(move |one| one.namespace().as_ref() == Some(&namespace))
    };
    let own = pod.namespace().unwrap_or_default();
    let selecting = within(&own).find(|one| selector(one).is_some_and(|labels| matches(&labels, pod.labels())));
    let of_namespace = || within(&own).find(|one| selector(one).is_none());
    let of_mesh = || within(&of.cluster.record().istio.namespace).find(|one| selector(one).is_none());
    selecting.or_else(of_namespace).or_else(of_mesh)
}

/// The caller's istiod does not read the destination's cluster.
pub(super) fn remote_secret(case: Case<'_>) -> Option<Cause> {
    let (from, to) = (case.from()?, case.to()?);
    let (own, peer) = (from.cluster.name(), to.cluster.name());
    if own == peer || case.route != Route::Named {
        return None;
    }
    unread(from, peer)
}

/// Why the istiod of a cluster does not read `peer`. `None` if it does, or if that is unknown.
fn unread(from: &ClusterFacts, peer: &str) -> Option<Cause> {
    let (own, seen) = (from.cluster.name(), from.seen.as_ref().ok()?);
    let status = seen.get(peer);
    if status.is_some_and(|status| status == crate::istio::Registered::SYNCED) {
        return None;
    }
    let namespace = &from.cluster.record().istio.namespace;
    let secret = from.remote_secrets.as_ref().ok().and_then(|secrets| secrets.get(peer));
    let object = format!("Secret {namespace}/{}", secret.cloned().unwrap_or(format!("istio-remote-secret-{peer}")));
    let istiod = from.istioctl("remote-clusters");
    let (finding, command) = match (secret, status, &from.remote_secrets) {
        (None, _, Ok(_)) => (
            format!("{own} has no remote secret of {peer}"),
            from.kubectl(format_args!("-n {namespace} get secrets -l {MULTI_CLUSTER}=true")),
        ),
        (_, Some(status), _) => (
            format!(
                "istiod of {own} does not read {peer} (it says `{status}`): the API server of {peer} refuses the token, or does not answer"
            ),
            istiod,
        ),
        _ => (format!("istiod of {own} does not know {peer}"), istiod),
    };
    Some(blame(Layer::RemoteSecret, from, object, finding, command))
}

/// The caller's proxy does not speak mutual TLS to the Service.
pub(super) fn client_tls(case: Case<'_>) -> Option<Cause> {
    let (from, target, upstream) = (case.from()?, case.target?, case.upstream()??);
    let how = match upstream.tls {
        UpstreamTls::Plaintext => "plaintext",
        UpstreamTls::Simple => "TLS without a client certificate",
        UpstreamTls::Automatic | UpstreamTls::Mutual => return None,
    };
    let (host, at) = (&target.host, case.call.source.as_ref()?);
    let finding = format!("it makes the proxy of {} speak {how} to {host}", at.pod);
    Some(match upstream.rule.as_deref().and_then(|rule| rule.split_once('/')) {
        Some((namespace, name)) => {
            let command = from.kubectl(format_args!("-n {namespace} get destinationrule {name} -o yaml"));
            blame(Layer::ClientTls, from, format!("DestinationRule {namespace}/{name}"), finding, command)
        }
        None => {
            let command =
                from.istioctl(format_args!("proxy-config clusters {}.{} --fqdn {host} -o yaml", at.pod, at.namespace));
            let finding = format!("the proxy of {} speaks {how} to {host}, and no DestinationRule says so", at.pod);
            blame(Layer::ClientTls, from, owner(case.source()?), finding, command)
        }
    })
}

/// The caller's proxy knows no endpoint that leads to the destination.
pub(super) fn network(case: Case<'_>) -> Option<Cause> {
    let (from, to, target) = (case.from()?, case.to()?, case.target?);
    case.upstream()??;
    let known = case.proxy_of(case.call.source.as_ref())?.endpoints.as_ref().ok()?;
    let name = crate::istio::outbound_name(target.port, &target.host);
    let known: Vec<_> = known.iter().filter(|endpoint| endpoint.upstream_cluster == name).collect();
    let at = case.call.source.as_ref()?;
    let command = from.istioctl(format_args!("proxy-config endpoints {}.{} --cluster '{name}'", at.pod, at.namespace));
    if !case.crosses() {
        if from.cluster.name() != to.cluster.name() && known.is_empty() {
            return Some(untold(case, from, to, command));
        }
        let addresses = ips(case.destination()?);
        let is_there = known.iter().any(|one| one.healthy && addresses.iter().any(|address| address.ip == one.address));
        let finding = format!("istiod has not told the proxy of {} of the endpoint in {}", at.pod, to.cluster.name());
        let object = format!("Service {}/{}", target.namespace, target.name);
        return (!is_there).then(|| blame(Layer::Endpoints, from, object, finding, command));
    }
    // istiod tells other networks of endpoints with a sidecar only: without one, a gateway has nothing to pass on.
    if let Some(missing) = case.destination().and_then(|pod| missing(to, pod)) {
        return Some(missing);
    }
    let gateways = gateways_to(case);
    let expected: Vec<String> =
        gateways.iter().filter_map(|of| Some(of.cluster.record().eastwest_address().ok()?.host.clone())).collect();
    if known.iter().any(|one| one.healthy && expected.contains(&one.address)) {
        return None;
    }
    let of = gateways.first().copied().unwrap_or(to);
    let Ok(gateway) = of.cluster.record().eastwest() else {
        let network = &to.cluster.record().network;
        let finding = format!("the record names no east-west gateway into {network}");
        return Some(blame(Layer::Network, to, format!("network {network}"), finding, command));
    };
    let services = of.services.iter().filter(|service| service.namespace().as_ref() == Some(&gateway.namespace));
    let selects = |service: &&Service| service.name_any() == gateway.deployment;
    let addressed = services.clone().find(selects).is_none_or(has_address);
    let network = &of.cluster.record().network;
    if addressed && known.is_empty() {
        return Some(untold(case, from, to, command));
    }
    let told: Vec<String> = known.iter().map(|one| format!("{}:{}", one.address, one.port)).collect();
    let told = told.join(", ");
    let finding = match addressed {
        false => "it has no external address, so no other network can reach it".into(),
        true => format!(
            "the proxy of {} knows {told} for {}, and no gateway of {network} ({})",
            at.pod,
            target.host,
            expected.join(", ")
        ),
    };
    let object = format!("Service {}/{}", gateway.namespace, gateway.deployment);
    Some(blame(Layer::Network, of, object, finding, command))
}

/// istiod says that it reads the other cluster, and tells of no endpoint there: what it reads is old.
fn untold(case: Case<'_>, from: &ClusterFacts, to: &ClusterFacts, command: String) -> Cause {
    let (own, peer, namespace) = (from.cluster.name(), to.cluster.name(), &from.cluster.record().istio.namespace);
    let secret = from.remote_secrets.as_ref().ok().and_then(|secrets| secrets.get(peer)).cloned();
    let object = format!("Secret {namespace}/{}", secret.unwrap_or(format!("istio-remote-secret-{peer}")));
    let host = case.target.map_or("the service", |target| target.host.as_str());
    let finding = format!(
        "istiod of {own} says that it reads {peer}, and knows no endpoint of {host} there: {peer} may refuse its token"
    );
    blame(Layer::RemoteSecret, from, object, finding, command)
}

fn has_address(service: &Service) -> bool {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let is_balanced = service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
    !is_balanced || status.is_some_and(|status| status.ingress.as_ref().is_some_and(|all| !all.is_empty()))
}

/// The clusters with a gateway into the destination's network, the destination's own first.
pub(super) fn gateways_to<'a>(case: Case<'a>) -> Vec<&'a ClusterFacts> {
    let Some(to) = case.to() else { return Vec::new() };
    let network = &to.cluster.record().network;
    let others = case.facts.clusters.values().filter(|one| one.cluster.name() != to.cluster.name());
    let others = others.filter(|one| one.cluster.record().network == *network);
    std::iter::once(to).chain(others).filter(|one| one.cluster.record().gateways.eastwest.is_some()).collect()
}

/// The list of texts at a pointer.
pub(super) fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}
