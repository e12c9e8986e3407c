//! What a meshed client gets from each service that runs in another cluster, and by whom it is answered.
//!
//! The caller's own proxy says whom it called: by the certificate of the other end, and not by what an application claims.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use meshproof_probe::{Dial, Outcome, Phase, Protocol, Request};

use super::inventory::{Inventory, ServiceFacts, ServicePort};
use super::pace::{Pace, Rates, Sharing};
use super::pod::{Pod, PortKey, Transport};
use super::targets::ENDING;
use super::{Error, Result};
use crate::cluster::{Cluster, Testbed};
use crate::identity::{SpiffeId, Trust, Verified};
use crate::istio::{AccessEntry, outbound};
use crate::probe::{self, Exchange, Vantage};
use crate::report::Claim;

/// Path of a request to a service that speaks HTTP. No application knows it.
const PATH: &str = "/.well-known/meshproof-audit";

/// Method of a call to a service that speaks gRPC. No application knows it.
const METHOD: &str = "/meshproof.audit.v1.Nothing/Nothing";

/// Most calls of one command to a probe.
const BATCH: usize = 64;

/// What a client gets from a port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCell {
    /// The caller's cluster.
    pub from: Arc<str>,
    /// The clusters in which the service has endpoints.
    pub to: Vec<String>,
    /// Namespace.
    pub namespace: String,
    /// Service.
    pub service: String,
    /// Port of the service.
    pub port: PortKey,
    /// What the client got.
    pub got: Got,
    /// What explains it.
    pub why: Vec<String>,
}

/// What a meshed client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// A workload of the service, over mutual TLS.
    Answered {
        /// Who answered, as proven.
        by: Verified,
        /// How the call ended. A denial by policy, or an unknown path, is an answer.
        how: String,
    },
    /// Another workload, or one that proved nothing.
    Wrong {
        /// Who, and what is wrong.
        what: String,
    },
    /// Nobody.
    Nobody {
        /// What the caller's proxy says.
        why: String,
    },
    /// It was not told.
    Unclear {
        /// Why.
        why: String,
    },
    /// It was not asked.
    NotJudged {
        /// Why.
        why: String,
    },
}

impl ServiceCell {
    /// The claim. `None` if nothing was asked.
    pub fn claim(&self) -> Option<Claim> {
        let Self { from, to, namespace, service, port, got, .. } = self;
        let stated = Claim::about(
            format!("service/{from}/{namespace}/{service}/{port}"),
            "a meshed client in another cluster reaches a workload of the service, over mutual TLS",
        )
        .from(format!("the calling probe of {from}"))
        .to(format!("{service}.{namespace}:{port}"))
        .expects(format!("a workload of the service in {}", to.join(" or ")));
        let claim = match got {
            Got::NotJudged { .. } => return None,
            Got::Unclear { why } => stated.not_judged(why.clone()),
            _ => stated.observes(got, ToString::to_string, |got| matches!(got, Got::Answered { .. })),
        };
        Some(self.why.iter().cloned().fold(claim, Claim::with_evidence))
    }
}

impl std::fmt::Display for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered { by, how } => write!(f, "answered by {by}: {how}"),
            Self::Wrong { what } => write!(f, "not answered by the service: {what}"),
            Self::Nobody { why } => write!(f, "answered by nobody: {why}"),
            Self::Unclear { why } => write!(f, "unclear: {why}"),
            Self::NotJudged { why } => write!(f, "not judged: {why}"),
        }
    }
}

/// A port of a service that runs in other clusters than the caller's.
#[derive(Debug, Clone)]
struct Call<'a> {
    service: &'a ServiceFacts,
    port: &'a ServicePort,
    /// Clusters with endpoints.
    to: Vec<String>,
    /// Identities of the pods of the service.
    identities: BTreeSet<SpiffeId>,
    /// Why the caller cannot be expected to reach it, if so.
    unasked: Option<String>,
}

/// Calls, from the calling probe of each cluster, every service that has endpoints in another cluster.
///
/// # Errors
/// The probe of a cluster cannot be found, or cannot dial.
pub(super) async fn services(testbed: &Testbed, inventories: &[Inventory], rates: Rates) -> Result<Vec<ServiceCell>> {
    if inventories.len() < 2 {
        return Ok(Vec::new());
    }
    let from = inventories.iter().map(|caller| async {
        let calls = calls(&testbed.trust, caller, inventories);
        let mut cells = from(&testbed.trust, &caller.cluster, calls, rates, inventories.len()).await?;
        cells.iter_mut().for_each(|cell| explain(caller, cell));
        Ok::<_, Error>(cells)
    });
    Ok(futures::future::try_join_all(from).await?.concat())
}

/// Adds what explains that a client was not answered by the service.
fn explain(caller: &Inventory, cell: &mut ServiceCell) {
    if matches!(cell.got, Got::Wrong { .. } | Got::Nobody { .. }) {
        let domain = &caller.cluster.record().domain;
        cell.why = caller.rules.iter().filter_map(|rule| rule.about(&cell.service, &cell.namespace, domain)).collect();
    }
}

/// The services that a client of `caller`'s cluster can be expected to reach in the others.
fn calls<'a>(trust: &Trust, caller: &Inventory, inventories: &'a [Inventory]) -> Vec<Call<'a>> {
    let mut found: BTreeMap<(&str, &str, PortKey), Call<'a>> = BTreeMap::new();
    for other in inventories {
        for service in other.services.iter().filter(|one| one.has_endpoints && !other.is_system(&one.namespace)) {
            let pods: Vec<&Pod> = other.pods.iter().filter(|pod| is_of(pod, service)).collect();
            if pods.is_empty() || !pods.iter().all(|pod| pod.proxy.is_sidecar()) {
                continue;
            }
            let identities =
                pods.iter().map(|pod| SpiffeId::workload(trust.domain(), &pod.namespace, &pod.service_account));
            for port in service.ports.iter().filter(|port| port.key.transport == Transport::Tcp) {
                let key = (service.namespace.as_str(), service.name.as_str(), port.key);
                let ends = inventories.iter().any(|inventory| inventory.is_ending(&service.namespace));
                let unasked = if ends { Some(ENDING.to_owned()) } else { unasked(caller, other, service) };
                let (to, none) = (Vec::new(), BTreeSet::new());
                let call = found.entry(key).or_insert(Call { service, port, to, identities: none, unasked });
                call.to.push(other.cluster.name().into());
                call.identities.extend(identities.clone());
            }
        }
    }
    // A service that runs in the caller's cluster only is no business of another cluster's.
    let own = caller.cluster.name();
    found.into_values().filter(|call| call.to.iter().any(|cluster| cluster != own)).collect()
}

fn is_of(pod: &Pod, service: &ServiceFacts) -> bool {
    pod.namespace == service.namespace && pod.ports.values().any(|port| port.services.contains(&service.name))
}

/// Why a client of `caller`'s cluster cannot be expected to reach a service of `other`.
fn unasked(caller: &Inventory, other: &Inventory, service: &ServiceFacts) -> Option<String> {
    let known = |one: &&ServiceFacts| one.namespace == service.namespace && one.name == service.name;
    let own = caller.cluster.name();
    if !caller.services.iter().any(|one| known(&one)) {
        return Some(format!("{own} has no Service of this name"));
    }
    let crosses = caller.cluster.record().network != other.cluster.record().network;
    (service.headless && crosses).then(|| "Istio leads to no headless service of another network".to_owned())
}

/// Makes the calls of one cluster.
async fn from(
    trust: &Trust,
    cluster: &Arc<Cluster>,
    calls: Vec<Call<'_>>,
    rates: Rates,
    callers: usize,
) -> Result<Vec<ServiceCell>> {
    let (asked, unasked): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.unasked.is_none());
    let mut cells: Vec<ServiceCell> = unasked
        .iter()
        .map(|call| cell(cluster, call, Got::NotJudged { why: call.unasked.clone().unwrap_or_default() }))
        .collect();
    if asked.is_empty() {
        return Ok(cells);
    }
    if cluster.record().istio.access_log.is_none() {
        let why = "the proxies write no log that says whom they called";
        cells.extend(asked.iter().map(|call| cell(cluster, call, Got::NotJudged { why: why.into() })));
        return Ok(cells);
    }
    let caller = probe::caller(cluster).await?;
    let vantage = Vantage::Meshed(caller.clone());
    for (nth, batch) in asked.chunks(BATCH).enumerate() {
        let mut pace = Pace::new(rates, Sharing { all: callers, one_pod: callers });
        let dials = batch.iter().enumerate().map(|(at, call)| {
            let due = pace.due(at, Duration::ZERO);
            let not_before_ms = Some(u64::try_from(due.as_millis()).unwrap_or(u64::MAX));
            Dial { not_before_ms, ..dial(&format!("service/{nth}/{at}"), call, &cluster.record().domain) }
        });
        let exchanges = vantage.dial(dials.collect()).await?;
        let entries = outbound(&exchanges, &caller).await?;
        let got = exchanges.iter().zip(&entries).map(|(exchange, entry)| (exchange, entry.as_ref()));
        cells.extend(
            batch
                .iter()
                .zip(got)
                .map(|(call, (exchange, entry))| cell(cluster, call, got_by(trust, call, exchange, entry))),
        );
    }
    Ok(cells)
}

fn cell(from: &Cluster, call: &Call<'_>, got: Got) -> ServiceCell {
    ServiceCell {
        from: from.name().into(),
        to: call.to.clone(),
        namespace: call.service.namespace.clone(),
        service: call.service.name.clone(),
        port: call.port.key,
        got,
        why: Vec::new(),
    }
}

/// A call. HTTP and gRPC ask for what no application knows; anything else is a connection on which nothing is asked for.
fn dial(id: &str, call: &Call<'_>, domain: &str) -> Dial {
    let host = format!("{}.{}.svc.{domain}", call.service.name, call.service.namespace);
    let is = |known: &str| {
        let mut names = call.port.names.names.iter().map(|name| name.to_ascii_lowercase());
        let starts =
            |name: String| name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        names.any(starts)
    };
    let port = call.port.key.number;
    if is("grpc") {
        let request = Request::Grpc { method: METHOD.into(), message: Vec::new(), code: 12 };
        return Dial { request: Some(request), ..probe::dial(id, Protocol::Grpc, host, port) };
    }
    if is("http") || is("http2") {
        let protocol = if is("http2") { Protocol::Http2 } else { Protocol::Http1 };
        let request = Request::Http { path: PATH.into(), status: 404 };
        return Dial { request: Some(request), ..probe::dial(id, protocol, host, port) };
    }
    // Envoy waits for the first bytes of a port whose name does not say what it speaks.
    let bytes = if call.port.names.names.is_empty() { b"?\r\n\r\n".to_vec() } else { Vec::new() };
    let request = Request::Bytes { bytes, quiet_ms: 100, listen_ms: 500 };
    Dial { request: Some(request), ..probe::dial(id, Protocol::Bytes, host, port) }
}

/// How a call ended. A connection on which nothing was asked for stays silent.
fn how(exchange: &Exchange) -> String {
    match (exchange.dial.protocol, exchange.outcome()) {
        (Protocol::Bytes, Outcome::Timeout { phase: Phase::Response }) => "connected".into(),
        (_, outcome) => outcome.to_string(),
    }
}

/// What the client got, by its own proxy's account.
fn got_by(trust: &Trust, call: &Call<'_>, exchange: &Exchange, entry: Option<&AccessEntry>) -> Got {
    let outcome = exchange.outcome();
    if let Outcome::Dns { reason } = outcome {
        return Got::Nobody { why: format!("its name does not resolve: {reason}") };
    }
    let Some(entry) = entry else {
        return Got::Unclear { why: format!("the caller's proxy did not log the call ({outcome})") };
    };
    let field = |name| entry.get(name).unwrap_or("-");
    match entry.called(trust) {
        Some(Ok(by)) if !call.identities.contains(&by.id) => {
            Got::Wrong { what: format!("{by} is no workload of the service") }
        }
        Some(Ok(by)) if !by.issued_by.is_empty() && !by.issued_by.iter().any(|cluster| call.to.contains(cluster)) => {
            Got::Wrong { what: format!("{by}, where the service has no endpoint") }
        }
        Some(Ok(by)) => Got::Answered { by, how: how(exchange) },
        Some(Err(fault)) => Got::Wrong { what: format!("its certificate is not to be trusted: {fault}") },
        None if field("upstream_host") == "-" => {
            let failure = field("upstream_transport_failure_reason");
            Got::Nobody { why: format!("{outcome}, flags {}, {failure}", field("response_flags")) }
        }
        None => {
            let (host, flags) = (field("upstream_host"), field("response_flags"));
            Got::Wrong { what: format!("{host} answered without mutual TLS ({outcome}, flags {flags})") }
        }
    }
}

#[cfg(test)]
mod tests;
