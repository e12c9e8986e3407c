//! Both ends of the call: proxies, certificates, policies, and the application.

use std::collections::BTreeSet;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::case::{Case, blame};
use super::facts::{ClusterFacts, owner};
use crate::cluster::{is_ready, trouble};
use crate::identity::Usage;
use crate::istio::Authorizing;
use crate::policy::{Mode, Policies};
use crate::report::{Cause, Ended, Layer, Must, Place, Speaks};

/// One end of a call.
#[derive(Clone, Copy)]
struct End<'a> {
    of: &'a ClusterFacts,
    place: &'a Place,
    pod: &'a Pod,
    usage: Usage,
}

/// The destination.
fn destination(case: Case<'_>) -> Option<End<'_>> {
    let place = case.call.destination.as_ref()?;
    Some(End { of: case.to()?, place, pod: case.destination()?, usage: Usage::Server })
}

/// The caller, if it must be in the mesh.
fn source(case: Case<'_>) -> Option<End<'_>> {
    let place = case.call.source.as_ref().filter(|_| case.call.is_meshed)?;
    Some(End { of: case.from()?, place, pod: case.source()?, usage: Usage::Client })
}

/// An end has no sidecar, or its sidecar does not capture the port.
pub(super) fn sidecar(case: Case<'_>) -> Option<Cause> {
    let destination = destination(case).filter(|_| case.needs_sidecar());
    let missing = source(case).into_iter().chain(destination).find_map(|end| missing(end.of, end.pod));
    missing.or_else(|| uncaptured(case))
}

/// Why a pod has no sidecar, if it has none.
pub(super) fn missing(of: &ClusterFacts, pod: &Pod) -> Option<Cause> {
    if of.has_proxy(pod) {
        return None;
    }
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let refuses = |value: Option<&String>| value.is_some_and(|value| value == "false");
    let inject = "sidecar.istio.io/inject";
    let labels = of.namespaces.get(&namespace).map(|namespace| namespace.labels().clone()).unwrap_or_default();
    let (istio, disabled) =
        (&of.cluster.record().istio, labels.get("istio-injection").is_some_and(|value| value == "disabled"));
    let why = match () {
        () if refuses(pod.labels().get(inject)) => format!("its label {inject} is `false`"),
        () if refuses(pod.annotations().get(inject)) => format!("its annotation {inject} is `false`"),
        () if disabled => format!("namespace {namespace} is labelled istio-injection=disabled"),
        () if labels.get(&istio.injection.key) != Some(&istio.injection.value) => {
            format!("namespace {namespace} lacks the label {}={}", istio.injection.key, istio.injection.value)
        }
        () => "the pod is older than its namespace's label, or the injector did not act".into(),
    };
    let finding = format!("pod {name} has no sidecar: {why}");
    let command = of.kubectl(format_args!("-n {namespace} get pod {name} -o yaml"));
    Some(blame(Layer::Sidecar, of, owner(pod), finding, command))
}

fn has_sidecar(end: &End<'_>) -> bool {
    end.of.has_proxy(end.pod)
}

fn uncaptured(case: Case<'_>) -> Option<Cause> {
    let (end, port) = (destination(case).filter(has_sidecar)?, case.pod_port()?);
    let annotations = end.pod.annotations();
    let lists = |value: &str| value.split(',').any(|one| one.trim() == port.to_string());
    let excluded = ("traffic.sidecar.istio.io/excludeInboundPorts", true);
    let included = ("traffic.sidecar.istio.io/includeInboundPorts", false);
    let (name, value) = [excluded, included].into_iter().find_map(|(name, leaves)| {
        let value = annotations.get(name)?;
        (value != "*" && lists(value) == leaves).then_some((name, value))
    })?;
    let finding = format!("its annotation {name} is `{value}`: the sidecar leaves port {port} to the application");
    let Place { namespace, pod, .. } = end.place;
    let command = end.of.kubectl(format_args!("-n {namespace} get pod {pod} -o jsonpath='{{.metadata.annotations}}'"));
    Some(blame(Layer::Sidecar, end.of, owner(end.pod), finding, command))
}

/// An end has no valid certificate, or trusts other roots than the mesh's.
pub(super) fn certificate(case: Case<'_>) -> Option<Cause> {
    source(case).into_iter().chain(destination(case)).find_map(|end| {
        let secrets = case.facts.proxies.get(end.place)?.secrets.as_ref().ok()?;
        let Place { namespace, pod, .. } = end.place;
        let command = end.of.istioctl(format_args!("proxy-config secret {pod}.{namespace}"));
        let finding = match case.trust.verify_sent(&secrets.chain, end.usage, SystemTime::now()) {
            Err(distrust) => format!("the certificate of the proxy of {pod} is not valid: {distrust}"),
            Ok(_) if !secrets.roots.iter().any(|root| case.trust.roots().contains(root)) => {
                format!("the proxy of {pod} trusts no root of the mesh")
            }
            Ok(_) => return None,
        };
        Some(blame(Layer::Certificate, end.of, owner(end.pod), finding, command))
    })
}

/// The mode in effect at the destination is not what the call needs.
pub(super) fn peer_authentication(case: Case<'_>) -> Option<Cause> {
    let (end, port) = (destination(case).filter(has_sidecar)?, case.pod_port()?);
    let namespace = &end.place.namespace;
    let ports: BTreeSet<u16> = end
        .pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .flat_map(|container| {
            container.ports.iter().flatten().filter_map(|port| u16::try_from(port.container_port).ok())
        })
        .collect();
    let effective = end.of.policies.effective(namespace, end.pod.labels(), port, &ports)?;
    let is_meshed = case.call.is_meshed;
    // A handshake of the probe's own has a certificate of the mesh, as far as it must be answered.
    let is_handshake = case.call.speaks == Speaks::Anything;
    let wrong = match (case.call.must, effective.mode) {
        (Must::Refuse, Mode::Disable) => "takes plaintext",
        // A client with a certificate is not let in by the mode.
        (Must::Refuse, Mode::Permissive) if !case.is_authenticated() => "takes plaintext",
        (Must::Answer, Mode::Disable) if is_meshed || is_handshake => "takes no mutual TLS",
        (Must::Answer, Mode::Strict) if !is_meshed && !is_handshake => "takes no plaintext",
        _ => return None,
    };
    let pod = &end.place.pod;
    let mut finding = format!("port {port} of {pod} {wrong}: {}", effective.by);
    for hint in &effective.without_effect {
        finding.push_str(&format!("; {hint}"));
    }
    let root = match &end.of.policies {
        Policies::Known { root, .. } => root.as_str(),
        Policies::Unknown { .. } => return None,
    };
    let object = effective.policy.unwrap_or_else(|| format!("PeerAuthentication {root}/default (there is none)"));
    let command = end.of.kubectl("get peerauthentications -A");
    Some(blame(Layer::PeerAuthentication, end.of, object, finding, command))
}

/// An authorization policy refuses the call, or lets it in.
pub(super) fn authorization(case: Case<'_>) -> Option<Cause> {
    let (end, port) = (destination(case)?, case.pod_port()?);
    let listeners = case.facts.proxies.get(end.place)?.listeners.as_ref().ok()?;
    let concerns = |one: &&Authorizing| one.ports.is_empty() || one.ports.contains(&port);
    let rules: Vec<&Authorizing> = listeners.iter().flat_map(|one| &one.authorization).filter(concerns).collect();
    if case.call.must == Must::Refuse {
        return let_in(case, &end, &rules);
    }
    if case.call.ended == Ended::Answered || case.call.ended == Ended::NoName {
        return None;
    }
    let logged = case.facts.denials.get(end.place);
    // Without an answer that says so, a refusal by policy is known from the proxy's log alone.
    if case.call.ended != Ended::Denied && logged.is_none() {
        return None;
    }
    let by_log = logged.and_then(|denials| denials.iter().find(|denial| !denial.is_empty()));
    let allowing: BTreeSet<&str> = rules.iter().filter(|one| !one.denies).map(|one| one.policy.as_str()).collect();
    let denying: BTreeSet<&str> = rules.iter().filter(|one| one.denies).map(|one| one.policy.as_str()).collect();
    let (policy, finding) = match (by_log, denying.first(), allowing.first()) {
        (Some(policy), ..) => (policy.clone(), "it denies the call".to_owned()),
        (None, _, Some(policy)) => {
            let all = allowing.iter().copied().collect::<Vec<_>>().join(", ");
            ((*policy).to_owned(), format!("no rule of {all} allows the call"))
        }
        (None, Some(policy), None) => ((*policy).to_owned(), "it denies the call".to_owned()),
        (None, None, None) => return None,
    };
    by_policy(&end, &policy, finding)
}

/// The policies let in a caller that they know by its certificate. Where there is none, none was to refuse the call.
fn let_in(case: Case<'_>, end: &End<'_>, rules: &[&Authorizing]) -> Option<Cause> {
    if case.call.ended != Ended::Answered || !case.is_authenticated() {
        return None;
    }
    let of = |denies: bool| -> BTreeSet<&str> {
        rules.iter().filter(|one| one.denies == denies).map(|one| one.policy.as_str()).collect()
    };
    let (allowing, denying) = (of(false), of(true));
    let all = |policies: &BTreeSet<&str>| policies.iter().copied().collect::<Vec<_>>().join(", ");
    let (policy, finding) = match (allowing.first(), denying.first()) {
        (Some(policy), _) => (policy, format!("a rule of {} allows the call", all(&allowing))),
        (None, Some(policy)) => (policy, format!("no rule of {} denies the call", all(&denying))),
        (None, None) => return None,
    };
    by_policy(end, policy, finding)
}

fn by_policy(end: &End<'_>, policy: &str, finding: String) -> Option<Cause> {
    let (namespace, name) = policy.split_once('/')?;
    let command = end.of.kubectl(format_args!("-n {namespace} get authorizationpolicy {name} -o yaml"));
    Some(blame(Layer::Authorization, end.of, format!("AuthorizationPolicy {policy}"), finding, command))
}

/// The application does not run, or does not listen.
pub(super) fn application(case: Case<'_>) -> Option<Cause> {
    let end = destination(case)?;
    let Place { namespace, pod, .. } = end.place;
    if !is_ready(end.pod) {
        let why = trouble(end.pod).unwrap_or_else(|| format!("pod {pod} is not ready"));
        let command = end.of.kubectl(format_args!("-n {namespace} describe pod {pod}"));
        return Some(blame(Layer::Application, end.of, owner(end.pod), why, command));
    }
    let port = case.pod_port()?;
    if case.call.ended == Ended::Answered || !case.facts.silent.get(end.place)?.contains(&port) {
        return None;
    }
    let finding = format!("nothing listens on port {port} of {pod}, as its proxy says");
    let proxy = &end.of.cluster.record().istio.proxy.container;
    let command = end.of.kubectl(format_args!("-n {namespace} logs {pod} -c {proxy} --since=10m"));
    Some(blame(Layer::Application, end.of, owner(end.pod), finding, command))
}
