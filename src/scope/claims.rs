//! Judging exchanges: each function turns one observation into one claim.

mod subject;

use std::time::SystemTime;

use meshproof_probe::{Dial, Outcome};

use crate::cluster::Workload;
use crate::identity::{Certificate, Distrust, SpiffeId, Trust, Usage, Verified};
use crate::istio::{AccessEntry, Ends, Side};
use crate::probe::{Exchange, Expected};
use crate::report::{Claim, Must};
pub use subject::must_be_answered;
use subject::subject;

/// The two workloads of a call.
#[derive(Debug, Clone, Copy)]
pub struct Peers<'a> {
    /// The caller, or the gateway that the caller used.
    pub source: &'a Workload,
    /// The workload that must answer.
    pub destination: &'a Workload,
}

/// Claims that `exchange` was answered, by `destination` and by no other workload.
pub fn answered(id: &str, requirement: &str, exchange: &Exchange, destination: &Workload) -> Claim {
    let faults = faults_of_answer(exchange, destination);
    let expected = format!("{} by {destination}", Expected::Answered);
    claim(id, requirement, exchange, Expectation { kind: Expected::Answered, words: &expected }, &faults)
        .with_subject(subject(exchange, None, Some(destination), Must::Answer))
        .with_commands(commands(exchange, Some(destination)))
}

/// Claims that `refused` was denied as `how` describes, while its positive control was answered. The control must be
/// dialled from the same vantage to the same host and port. Otherwise the claim fails.
///
/// ```compile_fail,E0061
/// # use meshproof::probe::{Exchange, Expected};
/// # fn claim(refused: &Exchange) {
/// meshproof::scope::claims::denied("plaintext", "no plaintext", refused, Expected::Reset, None);
/// # }
/// ```
pub fn denied(
    id: &str,
    requirement: &str,
    refused: &Exchange,
    how: Expected,
    control: &Exchange,
    destination: Option<&Workload>,
) -> Claim {
    let mut faults = Vec::new();
    let control_says = format!("{} → {}: {}", control.vantage, control.destination(), control.outcome());
    if !control.outcome().is_answered() {
        faults.push(format!("the control was not answered, so the denial proves nothing ({control_says})"));
    }
    if !refused.vantage.is(&control.vantage) {
        faults.push(format!("the control was dialled from {}, the denial from {}", control.vantage, refused.vantage));
    }
    if refused.place() != control.place() {
        faults.push(format!("the control went to {}, the denial to {}", control.place(), refused.place()));
    }
    let subject = match control.outcome().is_answered() {
        true => subject(refused, None, destination, Must::Refuse),
        // The path itself is broken.
        false => subject(control, None, destination, Must::Answer),
    };
    claim(id, requirement, refused, Expectation { kind: how, words: &how.to_string() }, &faults)
        .with_subject(subject)
        .with_evidence(format!("control: {control_says}"))
        .with_commands(commands(refused, destination))
}

/// Claims like [`denied`], and that the destination's own proxy turned the connection away: `account` is its log entry.
/// A closed port, or a node that drops the connection, does not satisfy the claim.
pub fn denied_by_proxy(
    id: &str,
    requirement: &str,
    refused: &Exchange,
    how: Expected,
    control: &Exchange,
    destination: &Workload,
    account: Option<&AccessEntry>,
) -> Claim {
    let claim = denied(id, requirement, refused, how, control, Some(destination));
    match account {
        Some(account) => {
            let field = |name| account.get(name).unwrap_or("nothing");
            let details = ["response_code_details", "connection_termination_details"].map(field).join(", ");
            let reason = field("downstream_transport_failure_reason");
            claim.with_evidence(format!("the destination's proxy says {details}, {reason}"))
        }
        None => claim.with_fault("the destination's proxy does not say that it turned the connection away"),
    }
}

/// Claims that `exchange` came through to `destination`: the outcome is of the kind `how`, and the destination's own proxy
/// says that the workload behind it answered. `account` is its log entry. [`Expected::Http`] is for a workload that has
/// no such page: the request came through all the same.
pub fn let_through(
    id: &str,
    requirement: &str,
    exchange: &Exchange,
    how: Expected,
    destination: &Workload,
    account: Option<&AccessEntry>,
) -> Claim {
    let is_named = exchange.report.who.is_some() || exchange.report.served_by.is_some();
    let mut faults = if is_named { faults_of_answer(exchange, destination) } else { Vec::new() };
    match account {
        None => faults.push(format!("the proxy of {destination} does not say what became of it")),
        Some(account) if !account.is_from_workload() => {
            let details = account.get("response_code_details").unwrap_or("nothing");
            faults.push(format!("the proxy of {destination} says {details}, not that the workload answered"));
        }
        Some(_) => {}
    }
    let words = format!("{how} by {destination}");
    claim(id, requirement, exchange, Expectation { kind: how, words: &words }, &faults)
        .with_commands(commands(exchange, Some(destination)))
}

/// Claims that `exchange` was answered by `destination` over mutual TLS: each end authenticated the other by the right
/// SPIFFE ID, in a certificate that the right cluster issued.
pub fn mutual_tls(id: &str, exchange: &Exchange, ends: Option<&Ends>, peers: Peers<'_>, trust: &Trust) -> Claim {
    let requirement = "meshed workloads reach each other over TLS in which both ends are authenticated";
    let Peers { source, destination } = peers;
    let (source_id, destination_id) = (source.spiffe_id(trust.domain()), destination.spiffe_id(trust.domain()));
    let expected = format!(
        "answered; {source_id} of {} and {destination_id} of {} authenticated each other",
        source.cluster.name(),
        destination.cluster.name()
    );
    let mut faults = faults_of_answer(exchange, destination);
    let mut evidence = Vec::new();
    match ends {
        None if !exchange.outcome().is_answered() => {}
        None => faults.push("the proxies' logs do not both show it, so who was authenticated is unknown".into()),
        Some(ends) => {
            let seen = authenticated(ends, peers, trust);
            faults.extend(seen.faults);
            evidence.extend(seen.evidence);
        }
    }
    if exchange.dial.protocol.is_http() && exchange.outcome().is_answered() {
        faults.extend(fault_of_forwarded(exchange, &source_id, &destination_id));
    }
    let expectation = Expectation { kind: Expected::Answered, words: &expected };
    let mut claim = claim(id, requirement, exchange, expectation, &faults)
        .with_subject(subject(exchange, Some(source), Some(destination), Must::Answer))
        .with_commands(commands(exchange, Some(destination)));
    for line in evidence {
        claim = claim.with_evidence(line);
    }
    claim
}

/// Claims that `exchange` was answered by `destination`, whose proxy told it who the caller is: `source`, by its SPIFFE ID
/// in `trust_domain`. Needs no log of the proxies.
pub fn told_of_caller(
    id: &str,
    requirement: &str,
    exchange: &Exchange,
    Peers { source, destination }: Peers<'_>,
    trust_domain: &str,
) -> Claim {
    let (source_id, destination_id) = (source.spiffe_id(trust_domain), destination.spiffe_id(trust_domain));
    let mut faults = faults_of_answer(exchange, destination);
    faults.extend(fault_of_forwarded(exchange, &source_id, &destination_id));
    let words = format!("answered by {destination}, which is told that its caller is {source_id}");
    claim(id, requirement, exchange, Expectation { kind: Expected::Answered, words: &words }, &faults)
        .with_subject(subject(exchange, Some(source), Some(destination), Must::Answer))
        .with_commands(commands(exchange, Some(destination)))
}

/// Faults and evidence of a mutual authentication.
#[derive(Debug, Default)]
pub struct Authenticated {
    /// Facts against the authentication.
    pub faults: Vec<String>,
    /// What each end saw of the other.
    pub evidence: Vec<String>,
}

/// One end of a call between two proxies: the proxy, its log entry, the expected peer and the peer's TLS role.
struct End<'a> {
    name: &'static str,
    logged: Side<'a>,
    own: &'a SpiffeId,
    peer: &'a Workload,
    peer_id: &'a SpiffeId,
    peer_is: Usage,
}

/// Checks that each proxy had the right identity and authenticated the other: by SPIFFE ID, over TLS 1.2 or newer, with
/// a certificate for the peer's TLS role that chains to a root of the mesh through an issuer of the peer's cluster.
pub fn authenticated(ends: &Ends, Peers { source, destination }: Peers<'_>, trust: &Trust) -> Authenticated {
    let (source_id, destination_id) = (source.spiffe_id(trust.domain()), destination.spiffe_id(trust.domain()));
    let mut seen = Authenticated::default();
    let at_source = End {
        name: "the source's proxy",
        logged: ends.source.side("upstream"),
        own: &source_id,
        peer: destination,
        peer_id: &destination_id,
        peer_is: Usage::Server,
    };
    let at_destination = End {
        name: "the destination's proxy",
        logged: ends.destination.side("downstream"),
        own: &destination_id,
        peer: source,
        peer_id: &source_id,
        peer_is: Usage::Client,
    };
    for End { name, logged, own, peer, peer_id, peer_is } in [at_source, at_destination] {
        if !logged.is_between(own, peer_id) {
            let (was, saw) = (logged.own.unwrap_or("nobody"), logged.peer.unwrap_or("nobody"));
            seen.faults.push(format!("{name} was {was} and authenticated {saw}"));
        }
        if !matches!(logged.tls, Some("TLSv1.2" | "TLSv1.3")) {
            seen.faults.push(format!("{name} logged {} as its TLS version", logged.tls.unwrap_or("nothing")));
        }
        let proven = logged.certificate().and_then(|leaf| {
            let verified = trust.verify(&leaf, peer_is, SystemTime::now());
            proven(trust, verified, peer_id, peer)
        });
        match proven {
            Ok(by) => seen.evidence.push(format!("{name} saw {by} over {}", logged.tls.unwrap_or("no TLS"))),
            Err(fault) => seen.faults.push(format!("what {name} saw is not to be trusted: {fault}")),
        }
    }
    seen
}

/// Claims that `destination` refused a raw handshake with `alert`, while `control` was answered by a server with a
/// valid chain. `control` differs only in its certificate.
pub fn refused_by_certificate(
    id: &str,
    requirement: &str,
    refused: &Exchange,
    alert: Expected,
    control: &Exchange,
    destination: &Workload,
    trust: &Trust,
) -> Claim {
    let claim = denied(id, requirement, refused, alert, control, Some(destination));
    with_server_of_control(claim, control, destination, trust)
}

/// Adds to a claim the proven identity of the server that answered its control, a raw handshake. The claim fails if the
/// server is not `destination`.
#[must_use]
pub fn with_server_of_control(claim: Claim, control: &Exchange, destination: &Workload, trust: &Trust) -> Claim {
    match server(control, destination, trust) {
        Ok(seen) => claim.with_evidence(format!("the control's server is {seen}")),
        Err(fault) => claim.with_fault(format!("the control's server is not the one that was meant: {fault}")),
    }
}

/// The proven identity of the server of a raw handshake.
fn server(exchange: &Exchange, destination: &Workload, trust: &Trust) -> Result<String, String> {
    let chain = exchange.report.tls.as_ref().map(|seen| seen.peer_chain_pem.as_str()).unwrap_or_default();
    let chain = Certificate::all_from_pem("the server's chain", chain).map_err(|error| error.to_string())?;
    let verified = trust.verify_sent(&chain, Usage::Server, SystemTime::now());
    proven(trust, verified, &destination.spiffe_id(trust.domain()), destination)
}

/// Checks that a certificate proves `id`, and that the cluster of the workload `of` issued the certificate. IDs are
/// compared exactly: an ID in an alias of the trust domain is a different ID.
pub(crate) fn proven(
    trust: &Trust,
    verified: Result<Verified, Distrust>,
    id: &SpiffeId,
    of: &Workload,
) -> Result<String, String> {
    let verified = verified.map_err(|distrust| distrust.to_string())?;
    if verified.id != *id {
        let domain = verified.id.trust_domain();
        let is_alias = verified.id.in_trust_domain(trust.domain()) == *id && trust.is_own_domain(domain);
        let hint =
            if is_alias { format!(" (`{domain}` is an alias of the mesh's trust domain)") } else { String::new() };
        return Err(format!("it is the certificate of {}, not of {id}{hint}", verified.id));
    }
    let cluster = of.cluster.name();
    let issued_by = &verified.issued_by;
    match issued_by.iter().any(|issuer| issuer == cluster) {
        true => Ok(verified.to_string()),
        // The record names no issuer of this cluster, and no other cluster's issuer signed the certificate.
        false if issued_by.is_empty() && !trust.names_issuer_of(cluster) => Ok(verified.to_string()),
        false if issued_by.is_empty() => {
            Err(format!("it was issued by none of the issuers that the record names of {cluster}"))
        }
        false => Err(format!("it was issued by {}, not by {cluster}", issued_by.join(" and "))),
    }
}

fn faults_of_answer(exchange: &Exchange, destination: &Workload) -> Vec<String> {
    if !exchange.outcome().is_answered() {
        return Vec::new();
    }
    let right = (destination.cluster.name(), destination.pod.as_str());
    match (&exchange.report.who, &exchange.report.served_by) {
        (Some(who), _) if (who.cluster.as_str(), who.pod.as_str()) == right => Vec::new(),
        (Some(who), _) => {
            vec![format!("{}/{} in {} answered instead of {destination}", who.namespace, who.pod, who.cluster)]
        }
        (None, Some(by)) if by.split_once('/') == Some(right) => Vec::new(),
        (None, Some(by)) => vec![format!("{by} answered instead of {destination}")],
        (None, None) => vec!["the answer does not say whose it is".into()],
    }
}

/// Checks that the caller's identity in `x-forwarded-client-cert` agrees with what the destination's proxy saw.
fn fault_of_forwarded(exchange: &Exchange, source: &SpiffeId, destination: &SpiffeId) -> Option<String> {
    let told = exchange.report.who.as_ref()?.forwarded_client_cert.as_deref();
    let told = told.unwrap_or_default();
    // Proxies append to the header: the last element is the nearest proxy's.
    let last = told.rsplit(',').next().unwrap_or_default();
    let names = |key: &str, id: &SpiffeId| {
        last.split(';')
            .filter_map(|part| part.split_once('='))
            .any(|(name, value)| name == key && value == id.to_string())
    };
    let right = names("URI", source) && names("By", destination);
    (!right).then(|| format!("the application was told of its caller: `{told}`"))
}

/// An expected outcome: its kind, and the words of the claim.
struct Expectation<'a> {
    kind: Expected,
    words: &'a str,
}

/// A claim that holds if the outcome is of the expected kind and there are no faults.
fn claim(id: &str, requirement: &str, exchange: &Exchange, expected: Expectation<'_>, faults: &[String]) -> Claim {
    let mut claim = Claim::about(format!("{id}/{}", exchange.dial.id), requirement)
        .from(&exchange.vantage)
        .to(exchange.destination())
        .expects(expected.words)
        .observes(exchange, observed, |exchange| expected.kind.is_met_by(exchange.outcome()));
    for fault in faults {
        claim = claim.with_fault(fault.clone());
    }
    if let Some(local) = &exchange.report.local_address {
        claim = claim.with_evidence(format!("connection from {local}, nonce {}", exchange.dial.nonce));
    }
    claim
}

fn observed(exchange: &Exchange) -> String {
    let by = match (exchange.outcome(), &exchange.report.who, &exchange.report.served_by) {
        (Outcome::Answered { .. }, Some(who), _) => format!(" by {}/{} in {}", who.namespace, who.pod, who.cluster),
        (_, None, Some(service)) => format!(" by {service}"),
        _ => String::new(),
    };
    format!("{}{by}", exchange.outcome())
}

/// Commands that repeat the exchange and show its causes.
fn commands(exchange: &Exchange, destination: Option<&Workload>) -> Vec<String> {
    let mut commands = Vec::new();
    if let Some(source) = exchange.vantage.workload() {
        let kubectl = source.cluster.command("kubectl");
        let secret = exchange.dial.tls.as_ref().is_some_and(|tls| tls.client_key_pem.is_some());
        // Do not print a dial with a private key: keys do not belong in a shell history.
        if let (false, Ok(dial)) = (secret, serde_json::to_string::<[&Dial]>(&[&exchange.dial])) {
            let (namespace, pod) = (&source.namespace, &source.pod);
            let container = source.cluster.record().probes.as_ref().map(|probes| probes.container.as_str());
            let container = container.map(|name| format!(" -c {name}")).unwrap_or_default();
            commands.push(format!("{kubectl} -n {namespace} exec {pod}{container} -- /probe dial '{dial}'"));
        }
    }
    if let Some(destination) = destination {
        let Workload { cluster, namespace, pod, .. } = destination;
        let proxy = &cluster.record().istio.proxy.container;
        commands.push(format!("{} -n {namespace} logs {pod} -c {proxy} --since=10m", cluster.command("kubectl")));
        commands.push(format!("{} proxy-config listeners {pod}.{namespace} --port 15006", cluster.command("istioctl")));
        commands.push(format!("{} get peerauthentications,destinationrules -A", cluster.command("kubectl")));
    }
    commands
}

#[cfg(test)]
mod tests;
