//! The gateway of the destination's network.

use kube::ResourceExt;
use kube::api::DynamicObject;

use super::case::{Case, blame};
use super::facts::ClusterFacts;
use super::way::{gateways_to, texts, unready};
use crate::istio::Listening;
use crate::record::{Gateway, GatewayKind};
use crate::report::{Cause, Layer, Place};

/// The gateway that the call goes through: its cluster, and its entry in the record.
fn entry<'a>(case: Case<'a>) -> Option<(&'a ClusterFacts, &'a Gateway)> {
    if !case.crosses() {
        return None;
    }
    gateways_to(case).into_iter().find_map(|of| Some((of, of.cluster.record().eastwest().ok()?)))
}

/// No pod of the gateway is ready.
pub(super) fn down(case: Case<'_>) -> Option<Cause> {
    let (of, gateway) = entry(case)?;
    if !of.ready_pods_of(gateway).is_empty() {
        return None;
    }
    let Gateway { namespace, deployment, kind, selector, .. } = gateway;
    let found =
        of.deployments.iter().find(|one| one.name_any() == *deployment && one.namespace().as_ref() == Some(namespace));
    let replicas = found.and_then(|one| one.spec.as_ref()?.replicas);
    let finding = match (found, unready(of, namespace, selector)) {
        (None, _) if *kind == GatewayKind::Deployment => "the east-west gateway is not there".into(),
        (_, Some(why)) if why.layer == Layer::Application => format!("the east-west gateway is down: {}", why.finding),
        _ if *kind == GatewayKind::DaemonSet => "the east-west gateway is down: it has no pod on any node".into(),
        _ => format!("the east-west gateway is down: it has {} replicas and no pod", replicas.unwrap_or(1)),
    };
    let kind = kind.to_string().to_lowercase();
    let command = of.kubectl(format_args!("-n {namespace} get {kind} {deployment}"));
    Some(blame(Layer::Gateway, of, gateway.object(), finding, command))
}

/// The listener of the gateway for other networks. The outer `None`: it is not known.
fn listener<'a>(case: Case<'a>) -> Option<(&'a ClusterFacts, &'a Gateway, Place, Option<&'a Listening>)> {
    let (of, gateway) = entry(case)?;
    let place = of.ready_pods_of(gateway).into_iter().next()?;
    let listeners = case.facts.proxies.get(&place)?.listeners.as_ref().ok()?;
    Some((of, gateway, place, listeners.iter().find(|one| one.port == gateway.port)))
}

/// The gateway does not listen on its port.
pub(super) fn not_listening(case: Case<'_>) -> Option<Cause> {
    let (of, gateway, place, found) = listener(case)?;
    if found.is_some() {
        return None;
    }
    let port = gateway.port;
    let finding = format!("no Gateway object makes it listen on port {port} with AUTO_PASSTHROUGH");
    let command = of.istioctl(format_args!("proxy-config listeners {}.{} --port {port}", place.pod, place.namespace));
    Some(match exposing(of, gateway).first() {
        Some(one) => {
            let finding = format!("it should make the gateway listen on port {port}, and the gateway does not");
            blame(Layer::GatewayListener, of, named(one), finding, command)
        }
        None => blame(Layer::GatewayListener, of, gateway.object(), finding, command),
    })
}

/// The gateway does not route the server name of the Service.
pub(super) fn not_routed(case: Case<'_>) -> Option<Cause> {
    let (of, gateway, place, found) = listener(case)?;
    let (listening, name) = (found?, case.server_name()?);
    if listening.server_names.iter().any(|one| is_for(one, &name)) {
        return None;
    }
    let port = gateway.port;
    let command = of.istioctl(format_args!("proxy-config listeners {}.{} --port {port}", place.pod, place.namespace));
    let objects = exposing(of, gateway);
    let host = case.target.map_or(name.clone(), |target| target.host.clone());
    let hosts: Vec<String> = objects.iter().flat_map(|one| hosts(one)).collect();
    let exposed = hosts.iter().any(|pattern| is_for(pattern.rsplit('/').next().unwrap_or(pattern), &host));
    let object = objects.first().map_or(gateway.object(), |one| named(one));
    let finding = match exposed {
        false => format!("no Gateway object exposes {host} on the east-west gateway, only {}", hosts.join(", ")),
        true => {
            format!("{host} is exposed, and the gateway does not route {name}: istiod knows no such Service or port")
        }
    };
    Some(blame(Layer::Sni, of, object, finding, command))
}

/// The `Gateway` objects that expose Services on this gateway.
fn exposing<'a>(of: &'a ClusterFacts, gateway: &Gateway) -> Vec<&'a DynamicObject> {
    let Ok(objects) = &of.gateways else { return Vec::new() };
    let selects = |one: &&DynamicObject| {
        let selector = one.data.pointer("/spec/selector").and_then(serde_json::Value::as_object);
        let pods: Vec<_> = of.selected(&gateway.namespace, &gateway.selector).collect();
        let all = |labels: &std::collections::BTreeMap<String, String>| {
            selector.is_some_and(|selector| {
                selector.iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
            })
        };
        pods.first().is_some_and(|pod| all(pod.labels())) && !hosts(one).is_empty()
    };
    objects.iter().filter(selects).collect()
}

/// The hosts that a `Gateway` object exposes with AUTO_PASSTHROUGH.
fn hosts(object: &DynamicObject) -> Vec<String> {
    let servers = object.data.pointer("/spec/servers").and_then(serde_json::Value::as_array);
    let passing = servers.into_iter().flatten().filter(|server| server["tls"]["mode"] == "AUTO_PASSTHROUGH");
    passing.flat_map(|server| texts(server, "/hosts")).map(str::to_owned).collect()
}

fn named(object: &DynamicObject) -> String {
    format!("Gateway {}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Whether a pattern such as `*.shop.svc.cluster.local` is for a name.
fn is_for(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => name.ends_with(end),
        None => pattern == name,
    }
}
