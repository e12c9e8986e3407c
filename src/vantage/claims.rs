//! Judging exchanges: each function here turns what was observed into one claim, once.

use std::time::SystemTime;

use meshproof_probe::{Dial, Outcome};

use super::{Ends, Exchange, Expected};
use crate::cluster::Workload;
use crate::identity::{Certificate, SpiffeId, Trust};
use crate::report::{Claim, Judgement};

/// Claims that `exchange` was answered, by `destination` and nobody else.
pub fn answered(id: &str, requirement: &str, exchange: &Exchange, destination: &Workload) -> Claim {
    let faults = faults_of_answer(exchange, destination);
    let expected = format!("{} by {destination}", Expected::Answered);
    claim(id, requirement, exchange, (Expected::Answered, &expected), &faults)
        .next(commands(exchange, Some(destination)))
}

/// Claims that `refused` was denied, in the way named by `how`, while `control`, its positive control, was answered.
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
    claim(id, requirement, refused, (how, &how.to_string()), &faults)
        .evidence(format!("control: {control_says}"))
        .next(commands(refused, destination))
}

/// Claims that `exchange` was answered by `destination` over TLS in which each end authenticated the other: by the
/// right SPIFFE id, in a certificate of the right cluster's intermediate.
pub fn mutual_tls(
    id: &str,
    exchange: &Exchange,
    ends: Option<&Ends>,
    (source, destination): (&Workload, &Workload),
    trust: &Trust,
) -> Claim {
    let requirement = "meshed workloads reach each other over TLS in which both ends are authenticated";
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
            let at = [
                (
                    "the source's proxy",
                    ends.source.side("upstream"),
                    (source, &source_id),
                    (destination, &destination_id),
                ),
                (
                    "the destination's proxy",
                    ends.destination.side("downstream"),
                    (destination, &destination_id),
                    (source, &source_id),
                ),
            ];
            for (end, side, (_, own), (peer, peer_id)) in at {
                if !side.is_between(own, peer_id) {
                    let (was, saw) = (side.own.unwrap_or("nobody"), side.peer.unwrap_or("nobody"));
                    faults.push(format!("{end} was {was} and authenticated {saw}"));
                }
                if !matches!(side.tls, Some("TLSv1.2" | "TLSv1.3")) {
                    faults.push(format!("{end} logged {} as its TLS version", side.tls.unwrap_or("nothing")));
                }
                match side.certificate().and_then(|leaf| verified(trust, &leaf, peer_id, peer)) {
                    Ok(seen) => evidence.push(format!("{end} saw {seen} over {}", side.tls.unwrap_or("no TLS"))),
                    Err(fault) => faults.push(format!("what {end} saw is not to be trusted: {fault}")),
                }
            }
        }
    }
    if exchange.dial.protocol.is_http() && exchange.outcome().is_answered() {
        faults.extend(fault_of_forwarded(exchange, &source_id, &destination_id));
    }
    let kind = (Expected::Answered, expected.as_str());
    let mut claim = claim(id, requirement, exchange, kind, &faults).next(commands(exchange, Some(destination)));
    for line in evidence {
        claim = claim.evidence(line);
    }
    claim
}

/// Claims that a raw handshake with `destination` was refused by `alert`, while `control`, which differs only in its
/// certificate, was answered, and answered by a server whose own chain holds.
pub fn refused_by_certificate(
    id: &str,
    requirement: &str,
    refused: &Exchange,
    alert: Expected,
    (control, destination): (&Exchange, &Workload),
    trust: &Trust,
) -> Claim {
    let mut claim = denied(id, requirement, refused, alert, control, Some(destination));
    match server(control, destination, trust) {
        Ok(seen) => claim = claim.evidence(format!("the control's server is {seen}")),
        Err(fault) => claim = claim.fault(format!("the control's server is not the one that was meant: {fault}")),
    }
    claim
}

/// Who the server of a raw handshake proved to be.
fn server(exchange: &Exchange, destination: &Workload, trust: &Trust) -> Result<String, String> {
    let chain = exchange.report.tls.as_ref().map(|seen| seen.peer_chain_pem.as_str()).unwrap_or_default();
    let chain = Certificate::all_from_pem("the server's chain", chain).map_err(|error| error.to_string())?;
    trust.verify_sent(&chain, SystemTime::now()).map_err(|distrust| distrust.to_string())?;
    verified(trust, &chain[0], &destination.spiffe_id(trust.domain()), destination)
}

fn verified(trust: &Trust, leaf: &Certificate, id: &SpiffeId, of: &Workload) -> Result<String, String> {
    let verified = trust.verify(leaf, SystemTime::now()).map_err(|distrust| distrust.to_string())?;
    if verified.id != *id {
        return Err(format!("it is the certificate of {}, not of {id}", verified.id));
    }
    if verified.issued_by != of.cluster.name() {
        return Err(format!("it was issued by {}, not by {}", verified.issued_by, of.cluster.name()));
    }
    Ok(verified.to_string())
}

fn faults_of_answer(exchange: &Exchange, destination: &Workload) -> Vec<String> {
    if !exchange.outcome().is_answered() {
        return Vec::new();
    }
    match &exchange.report.who {
        Some(who) if who.pod == destination.pod && who.cluster == destination.cluster.name() => Vec::new(),
        Some(who) => {
            vec![format!("{}/{} in {} answered instead of {destination}", who.namespace, who.pod, who.cluster)]
        }
        None => vec!["the answer does not say whose it is".into()],
    }
}

/// What the application was told about its caller must agree with what its proxy saw.
fn fault_of_forwarded(exchange: &Exchange, source: &SpiffeId, destination: &SpiffeId) -> Option<String> {
    let told = exchange.report.who.as_ref()?.forwarded_client_cert.as_deref();
    let told = told.unwrap_or_default();
    // Proxies append: the last element is the nearest proxy's.
    let last = told.rsplit(',').next().unwrap_or_default();
    let names = |key: &str, id: &SpiffeId| {
        last.split(';')
            .filter_map(|part| part.split_once('='))
            .any(|(name, value)| name == key && value == id.to_string())
    };
    let right = names("URI", source) && names("By", destination);
    (!right).then(|| format!("the application was told of its caller: `{told}`"))
}

/// A claim that holds where the outcome is of the kind expected and nothing speaks against it.
fn claim(
    id: &str,
    requirement: &str,
    exchange: &Exchange,
    (kind, expected): (Expected, &str),
    faults: &[String],
) -> Claim {
    let mut claim = Claim {
        id: format!("{id}/{}", exchange.dial.id),
        requirement: requirement.into(),
        source: exchange.vantage.to_string(),
        destination: exchange.destination(),
        expected: expected.into(),
        observed: observed(exchange),
        evidence: Vec::new(),
        verdict: if kind.is_met_by(exchange.outcome()) { Judgement::Pass } else { Judgement::Fail },
        next: Vec::new(),
    };
    for fault in faults {
        claim = claim.fault(fault.clone());
    }
    if let Some(local) = &exchange.report.local_address {
        claim = claim.evidence(format!("connection from {local}, nonce {}", exchange.dial.nonce));
    }
    claim
}

fn observed(exchange: &Exchange) -> String {
    let by = match (exchange.outcome(), &exchange.report.who) {
        (Outcome::Answered { .. }, Some(who)) => format!(" by {}/{} in {}", who.namespace, who.pod, who.cluster),
        _ => String::new(),
    };
    format!("{}{by}", exchange.outcome())
}

/// What to run to see it again, and to see why.
fn commands(exchange: &Exchange, destination: Option<&Workload>) -> Vec<String> {
    let mut commands = Vec::new();
    if let Some(source) = exchange.vantage.workload() {
        let kubectl = source.cluster.command("kubectl");
        let secret = exchange.dial.tls.as_ref().is_some_and(|tls| tls.client_key_pem.is_some());
        // A key does not belong in a terminal's history: such a dial is repeated by its test.
        if let (false, Ok(dial)) = (secret, serde_json::to_string::<[&Dial]>(&[&exchange.dial])) {
            let (namespace, pod) = (&source.namespace, &source.pod);
            commands.push(format!("{kubectl} -n {namespace} exec {pod} -c probe -- /probe dial '{dial}'"));
        }
    }
    if let Some(destination) = destination {
        let Workload { cluster, namespace, pod, .. } = destination;
        commands.push(format!("{} -n {namespace} logs {pod} -c istio-proxy --since=10m", cluster.command("kubectl")));
        commands.push(format!("{} proxy-config listeners {pod}.{namespace} --port 15006", cluster.command("istioctl")));
        commands.push(format!("{} get peerauthentications,destinationrules -A", cluster.command("kubectl")));
    }
    commands
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use meshproof_probe::{DialReport, Phase, Protocol, WhoAmI};

    use super::super::Vantage;
    use super::*;

    fn exchange(outcome: Outcome) -> Exchange {
        let workload = crate::cluster::tests::workload();
        let mut dial = super::super::dial("http1/cluster1", Protocol::Http1, "192.168.0.7", 8080);
        dial.nonce = "0123456789ab".into();
        let who = outcome.is_answered().then(|| WhoAmI {
            cluster: "cluster1".into(),
            namespace: "pinnacle".into(),
            pod: "probe-0".into(),
            ..WhoAmI::default()
        });
        let report = DialReport {
            id: dial.id.clone(),
            outcome,
            local_address: Some("192.168.0.9:55000".into()),
            remote_address: None,
            who,
            tls: None,
            elapsed_us: 1,
        };
        Exchange { vantage: Vantage::Naked(workload), dial, report, started: Instant::now() }
    }

    fn answer() -> Exchange {
        exchange(Outcome::Answered { status: Some(200) })
    }

    #[tokio::test]
    async fn a_denial_stands_only_with_its_control_and_in_the_way_named() {
        let reset = exchange(Outcome::Reset { phase: Phase::Response });
        let timeout = exchange(Outcome::Timeout { phase: Phase::Response });
        let verdict = |refused: &Exchange, control: &Exchange| {
            denied("plaintext", "r", refused, Expected::Reset, control, None).verdict
        };
        assert_eq!(verdict(&reset, &answer()), Judgement::Pass);
        assert_eq!(verdict(&reset, &timeout), Judgement::Fail, "no control");
        assert_eq!(verdict(&timeout, &answer()), Judgement::Fail, "a timeout is not a denial");
        assert_eq!(verdict(&answer(), &answer()), Judgement::Fail, "answered");
    }

    #[tokio::test]
    async fn an_answer_from_another_pod_is_not_the_one_claimed() {
        let destination = crate::cluster::tests::workload();
        assert_eq!(answered("a", "r", &answer(), &destination).verdict, Judgement::Pass);
        let other = Workload { pod: "other".into(), ..destination };
        let claim = answered("a", "r", &answer(), &other);
        assert_eq!(claim.verdict, Judgement::Fail);
        assert!(claim.to_string().contains("pinnacle/probe-0 in cluster1 answered instead of"), "{claim}");
        let nobody = answered("a", "r", &exchange(Outcome::Reset { phase: Phase::Response }), &other);
        assert_eq!(nobody.verdict, Judgement::Fail);
    }

    #[tokio::test]
    async fn a_failure_says_everything_needed_to_go_on() {
        let claim = denied(
            "plaintext-is-reset",
            "a STRICT namespace takes no plaintext",
            &answer(),
            Expected::Reset,
            &answer(),
            Some(&crate::cluster::tests::workload()),
        );
        insta::assert_snapshot!(claim, @r#"
        claim plaintext-is-reset/http1/cluster1 does not hold
          owed      a STRICT namespace takes no plaintext
          from      naked pinnacle/probe-0 in cluster1
          to        192.168.0.7:8080 over http1
          expected  reset after the request
          seen      answered with status 200 by pinnacle/probe-0 in cluster1
          evidence  connection from 192.168.0.9:55000, nonce 0123456789ab
                    control: naked pinnacle/probe-0 in cluster1 → 192.168.0.7:8080 over http1: answered with status 200
          run next  kubectl --kubeconfig /testbed/kubeconfig --context cluster1 -n pinnacle exec probe-0 -c probe -- /probe dial '[{"id":"http1/cluster1","protocol":"http1","host":"192.168.0.7","port":8080,"timeout_ms":8000,"nonce":"0123456789ab"}]'
                    kubectl --kubeconfig /testbed/kubeconfig --context cluster1 -n pinnacle logs probe-0 -c istio-proxy --since=10m
                    istioctl --kubeconfig /testbed/kubeconfig --context cluster1 proxy-config listeners probe-0.pinnacle --port 15006
                    kubectl --kubeconfig /testbed/kubeconfig --context cluster1 get peerauthentications,destinationrules -A
        "#);
    }

    #[tokio::test]
    async fn the_command_to_repeat_a_dial_never_shows_a_key() {
        let mut refused = exchange(Outcome::Reset { phase: Phase::Response });
        let tls = meshproof_probe::TlsOptions { client_key_pem: Some("SECRET".into()), ..Default::default() };
        refused.dial.tls = Some(tls);
        let claim = denied("a", "r", &refused, Expected::Answered, &answer(), None);
        assert!(!claim.to_string().contains("SECRET"), "{claim}");
    }

    #[tokio::test]
    async fn the_nearest_proxys_word_on_the_caller_is_what_counts() {
        let id = |name| SpiffeId::workload("cluster.local", "pinnacle", name);
        let told = |text: &str| {
            let mut exchange = answer();
            exchange.report.who.as_mut().unwrap().forwarded_client_cert = Some(text.into());
            fault_of_forwarded(&exchange, &id("a"), &id("b"))
        };
        let right = format!("By={};Hash=0;Subject=\"\";URI={}", id("b"), id("a"));
        assert_eq!(told(&right), None);
        assert_eq!(told(&format!("By=x;URI=forged,{right}")), None);
        assert!(told(&format!("{right},By=x;URI=y")).is_some());
        assert!(told("").is_some());
    }
}
