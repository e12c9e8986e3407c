//! Verdicts on synthetic outcomes and logs. Each wrong case is wrong in one respect.

use std::time::Instant;

use meshproof_probe::{DialReport, Phase, Protocol, TlsSeen, WhoAmI};
use rcgen::ExtendedKeyUsagePurpose;

use super::*;
use crate::cluster::tests::workload_of;
use crate::identity::Validity;
use crate::probe::{Vantage, dial};
use crate::report::Judgement;

fn exchange(outcome: Outcome) -> Exchange {
    let workload = crate::cluster::tests::workload();
    let mut dial = dial("http1/cluster1", Protocol::Http1, "192.168.0.7", 8080);
    dial.nonce = "0123456789ab".into();
    dial.source_port = None;
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
        served_by: None,
        tls: None,
        received: None,
        elapsed_us: 1,
    };
    Exchange { vantage: Vantage::Naked(workload), dial, report, started: Instant::now() }
}

fn answer() -> Exchange {
    exchange(Outcome::http(200))
}

#[tokio::test]
async fn a_denial_stands_only_with_its_control_and_in_the_way_named() {
    let reset = exchange(Outcome::Reset { phase: Phase::Response });
    let timeout = exchange(Outcome::Timeout { phase: Phase::Response });
    let verdict = |refused: &Exchange, control: &Exchange| {
        denied("plaintext", "r", refused, Expected::Reset, control, None).verdict()
    };
    assert_eq!(verdict(&reset, &answer()), Judgement::Pass);
    assert_eq!(verdict(&reset, &timeout), Judgement::Fail, "no control");
    assert_eq!(verdict(&timeout, &answer()), Judgement::Fail, "a timeout is not a denial");
    assert_eq!(verdict(&answer(), &answer()), Judgement::Fail, "answered");
}

#[tokio::test]
async fn a_control_from_elsewhere_or_to_elsewhere_proves_nothing() {
    let reset = exchange(Outcome::Reset { phase: Phase::Response });
    let judged = |control: &Exchange| denied("plaintext", "r", &reset, Expected::Reset, control, None);
    let mut other_pod = answer();
    other_pod.vantage = Vantage::Naked(workload_of("cluster2"));
    let mut other_host = answer();
    other_host.dial.host = "192.168.0.8".into();
    let mut other_port = answer();
    other_port.dial.port = 8081;
    for (control, fault) in [
        (other_pod, "the control was dialled from naked pinnacle/probe-0 in cluster2"),
        (Exchange { vantage: Vantage::Host, ..answer() }, "the control was dialled from this machine"),
        (other_host, "the control went to 192.168.0.8:8080, the denial to 192.168.0.7:8080"),
        (other_port, "the control went to 192.168.0.7:8081, the denial to 192.168.0.7:8080"),
    ] {
        let claim = judged(&control);
        assert_eq!(claim.verdict(), Judgement::Fail, "{claim}");
        assert!(claim.to_string().contains(fault), "{claim}");
    }
}

#[tokio::test]
async fn an_answer_from_another_pod_is_not_the_one_claimed() {
    let destination = crate::cluster::tests::workload();
    assert_eq!(answered("a", "r", &answer(), &destination).verdict(), Judgement::Pass);
    let other = Workload { pod: "other".into(), ..destination };
    let claim = answered("a", "r", &answer(), &other);
    assert_eq!(claim.verdict(), Judgement::Fail);
    assert!(claim.to_string().contains("pinnacle/probe-0 in cluster1 answered instead of"), "{claim}");
    let nobody = answered("a", "r", &exchange(Outcome::Reset { phase: Phase::Response }), &other);
    assert_eq!(nobody.verdict(), Judgement::Fail);
}

#[tokio::test]
async fn a_service_that_is_no_probe_is_known_by_what_it_says_of_itself() {
    let destination = crate::cluster::tests::workload();
    let claim = |served_by: Option<&str>| {
        let mut exchange = answer();
        (exchange.report.who, exchange.report.served_by) = (None, served_by.map(str::to_owned));
        answered("a", "r", &exchange, &destination)
    };
    assert_eq!(claim(Some("cluster1/probe-0")).verdict(), Judgement::Pass);
    let other = claim(Some("cluster2/probe-0"));
    assert_eq!(other.verdict(), Judgement::Fail);
    assert!(other.to_string().contains("cluster2/probe-0 answered instead of"), "{other}");
    assert_eq!(claim(None).verdict(), Judgement::Fail, "it does not say");
}

#[tokio::test]
async fn a_request_came_through_only_by_the_word_of_the_destinations_proxy() {
    let destination = crate::cluster::tests::workload();
    let account = |details: &str| {
        let line = serde_json::json!({ "downstream_peer_cert": null, "response_code_details": details });
        AccessEntry::parse(&line.to_string()).unwrap()
    };
    // Bytes do not say who sent them.
    let mut answer = answer();
    answer.report.who = None;
    let verdict = |exchange: &Exchange, how: Expected, account: Option<&AccessEntry>| {
        let_through("a", "r", exchange, how, &destination, account).verdict()
    };
    let (by_workload, by_proxy) = (account("via_upstream"), account("direct_response"));
    assert_eq!(verdict(&answer, Expected::Answered, Some(&by_workload)), Judgement::Pass);
    assert_eq!(verdict(&answer, Expected::Answered, Some(&by_proxy)), Judgement::Fail, "the proxy answered");
    assert_eq!(verdict(&answer, Expected::Answered, None), Judgement::Fail, "not logged");
    let missing = exchange(Outcome::Http { status: 404, body: String::new(), server: None });
    assert_eq!(verdict(&missing, Expected::Http(404), Some(&by_workload)), Judgement::Pass, "no such page");
    assert_eq!(verdict(&missing, Expected::Http(403), Some(&by_workload)), Judgement::Fail);
    let mut of_another = answer.clone();
    of_another.report.served_by = Some("cluster2/other".into());
    assert_eq!(verdict(&of_another, Expected::Answered, Some(&by_workload)), Judgement::Fail);
}

#[tokio::test]
async fn the_server_of_a_control_must_be_the_destination() {
    let (trust, minters) = crate::identity::trust::tests::mesh();
    let destination = workload_of("cluster1");
    let issued_by = |cluster: usize| {
        let minted = minters[cluster].mint(&destination.spiffe_id(trust.domain()), Validity::Now).unwrap();
        let mut control = answer();
        control.report.tls = Some(TlsSeen { peer_chain_pem: minted.chain_pem, ..TlsSeen::default() });
        control
    };
    let verdict = |control: &Exchange| {
        let refused = exchange(Outcome::Reset { phase: Phase::Response });
        let claim = denied("plaintext", "r", &refused, Expected::Reset, control, None);
        with_server_of_control(claim, control, &destination, &trust).verdict()
    };
    assert_eq!(verdict(&issued_by(0)), Judgement::Pass);
    assert_eq!(verdict(&issued_by(1)), Judgement::Fail, "another cluster's issuer");
    assert_eq!(verdict(&answer()), Judgement::Fail, "no handshake");
}

/// The claim for a call from cluster1 to cluster2 after `change`. Before `change`, each peer is certified by its own
/// cluster.
fn judged(change: impl FnOnce(&mut serde_json::Value, &mut serde_json::Value, &mut Exchange)) -> Claim {
    let both = || vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    judged_for([both(), both()], change)
}

/// Like [`judged`], with certificates for these purposes: the source's, and the destination's.
fn judged_for(
    purposes: [Vec<ExtendedKeyUsagePurpose>; 2],
    change: impl FnOnce(&mut serde_json::Value, &mut serde_json::Value, &mut Exchange),
) -> Claim {
    let (trust, minters) = crate::identity::trust::tests::mesh();
    let (source, destination) = (workload_of("cluster1"), workload_of("cluster2"));
    let ids = [&source, &destination].map(|workload| workload.spiffe_id(trust.domain()));
    let encoded = |index: usize| {
        let purposes = purposes[index].clone();
        let minted =
            minters[index].mint_with(&ids[index], Validity::Now, |params| params.extended_key_usages = purposes);
        minted.unwrap().chain_pem.replace('\n', "%0A").replace('+', "%2B").replace('=', "%3D")
    };
    let mut at_source = serde_json::json!({
        "downstream_peer_cert": "-", "upstream_local_uri_san": ids[0].to_string(),
        "upstream_peer_uri_san": ids[1].to_string(), "upstream_peer_cert": encoded(1), "upstream_tls_version": "TLSv1.3",
    });
    let mut at_destination = serde_json::json!({
        "downstream_remote_address": "b", "downstream_local_uri_san": ids[1].to_string(),
        "downstream_peer_uri_san": ids[0].to_string(), "downstream_peer_cert": encoded(0), "downstream_tls_version": "TLSv1.3",
    });
    let mut exchange = answer();
    let who = exchange.report.who.as_mut().unwrap();
    who.cluster = "cluster2".into();
    who.forwarded_client_cert = Some(format!("By={};URI={}", ids[1], ids[0]));
    change(&mut at_source, &mut at_destination, &mut exchange);
    let entry = |fields: serde_json::Value| AccessEntry::parse(&fields.to_string()).unwrap();
    let ends = Ends { source: entry(at_source), destination: entry(at_destination) };
    let peers = Peers { source: &source, destination: &destination };
    mutual_tls("mutual-tls", &exchange, Some(&ends), peers, &trust)
}

#[tokio::test]
async fn mutual_tls_holds_where_both_ends_saw_the_right_certificates() {
    let claim = judged(|_, _, _| {});
    assert_eq!(claim.verdict(), Judgement::Pass, "{claim}");
    assert!(claim.to_string().contains("(issued by cluster2)"), "{claim}");
}

#[tokio::test]
async fn mutual_tls_fails_where_an_end_saw_another_or_nobody() {
    let faults: [(&str, Claim); 7] = [
        ("authenticated spiffe://x", judged(|source, _, _| source["upstream_peer_uri_san"] = "spiffe://x".into())),
        ("authenticated nobody", judged(|_, destination, _| destination["downstream_peer_uri_san"] = "-".into())),
        ("no certificate was logged", judged(|_, destination, _| destination["downstream_peer_cert"] = "-".into())),
        (
            "it is the certificate of",
            judged(|source, destination, _| source["upstream_peer_cert"] = destination["downstream_peer_cert"].clone()),
        ),
        ("TLSv1.1 as its TLS version", judged(|source, _, _| source["upstream_tls_version"] = "TLSv1.1".into())),
        ("answered instead of", judged(|_, _, exchange| exchange.report.who.as_mut().unwrap().pod = "other".into())),
        (
            "was told of its caller",
            judged(|_, _, exchange| exchange.report.who.as_mut().unwrap().forwarded_client_cert = None),
        ),
    ];
    for (fault, claim) in faults {
        assert_eq!(claim.verdict(), Judgement::Fail, "{claim}");
        assert!(claim.to_string().contains(fault), "`{fault}` is not in: {claim}");
    }
}

#[tokio::test]
async fn a_certificate_of_the_wrong_clusters_intermediate_fails_mutual_tls() {
    let (trust, minters) = crate::identity::trust::tests::mesh();
    let destination = workload_of("cluster2");
    let id = destination.spiffe_id(trust.domain());
    let minted = minters[0].mint(&id, Validity::Now).unwrap();
    let leaf = Certificate::from_pem("test", &minted.chain_pem).unwrap();
    let verified = trust.verify(&leaf, Usage::Server, SystemTime::now());
    let fault = proven(&trust, verified, &id, &destination).unwrap_err();
    assert_eq!(fault, "it was issued by cluster1, not by cluster2");
}

#[tokio::test]
async fn the_source_is_a_client_and_the_destination_a_server() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let apart = judged_for([vec![ClientAuth], vec![ServerAuth]], |_, _, _| {});
    assert_eq!(apart.verdict(), Judgement::Pass, "{apart}");
    for (purposes, end, lacks) in [
        ([vec![ServerAuth], vec![ServerAuth]], "what the destination's proxy saw", "lacks clientAuth"),
        ([vec![ClientAuth], vec![ClientAuth]], "what the source's proxy saw", "lacks serverAuth"),
    ] {
        let claim = judged_for(purposes, |_, _, _| {});
        assert_eq!(claim.verdict(), Judgement::Fail, "{claim}");
        let text = claim.to_string();
        let faults: Vec<_> = text.lines().filter(|line| line.contains("is not to be trusted")).collect();
        assert!(faults.len() == 1 && faults[0].contains(end) && faults[0].contains(lacks), "{claim}");
    }
}

#[tokio::test]
async fn the_server_that_answered_the_control_proves_who_it_is() {
    let (trust, minters) = crate::identity::trust::tests::mesh();
    let (reset, destination) = (exchange(Outcome::Reset { phase: Phase::Response }), workload_of("cluster1"));
    let judged = |seen: Option<TlsSeen>| {
        let mut control = answer();
        control.report.tls = seen;
        refused_by_certificate("certificate", "r", &reset, Expected::Reset, &control, &destination, &trust)
    };
    let with = |purpose: ExtendedKeyUsagePurpose| {
        let id = destination.spiffe_id(trust.domain());
        let minted = minters[0].mint_with(&id, Validity::Now, |params| params.extended_key_usages = vec![purpose]);
        judged(Some(TlsSeen { peer_chain_pem: minted.unwrap().chain_pem, ..TlsSeen::default() }))
    };
    let claim = with(ExtendedKeyUsagePurpose::ServerAuth);
    assert_eq!(claim.verdict(), Judgement::Pass, "{claim}");
    let claims =
        [("lacks serverAuth", with(ExtendedKeyUsagePurpose::ClientAuth)), ("no certificate in it", judged(None))];
    for (fault, claim) in claims {
        assert_eq!(claim.verdict(), Judgement::Fail, "{claim}");
        assert!(claim.to_string().contains(fault), "{claim}");
    }
}

#[tokio::test]
async fn who_issued_is_judged_as_far_as_the_record_names_issuers() {
    let (trust, _) = crate::identity::trust::tests::mesh();
    let judged = |issued_by: &[&str], cluster: &str| {
        let of = workload_of(cluster);
        let id = of.spiffe_id(trust.domain());
        let issued_by = issued_by.iter().map(|&name| name.to_owned()).collect();
        proven(&trust, Ok(Verified { id: id.clone(), issued_by, expires: SystemTime::now() }), &id, &of)
    };
    judged(&["cluster1", "cluster2"], "cluster2").unwrap();
    let unnamed = judged(&[], "cluster3").unwrap();
    assert!(unnamed.ends_with("(the record does not name its issuer)"), "{unnamed}");
    let fault = judged(&[], "cluster2").unwrap_err();
    assert_eq!(fault, "it was issued by none of the issuers that the record names of cluster2");
    assert_eq!(judged(&["cluster1"], "cluster3").unwrap_err(), "it was issued by cluster1, not by cluster3");
}

#[tokio::test]
async fn an_id_in_an_alias_of_the_trust_domain_is_another_id() {
    let (trust, _) = crate::identity::trust::tests::mesh();
    let of = workload_of("cluster1");
    let id = of.spiffe_id(trust.domain());
    let fault = |domain: &str| {
        let id_there = id.in_trust_domain(domain);
        let verified = Verified { id: id_there, issued_by: vec!["cluster1".into()], expires: SystemTime::now() };
        proven(&trust, Ok(verified), &id, &of).unwrap_err()
    };
    let of_alias = fault("old.local");
    assert!(of_alias.ends_with("(`old.local` is an alias of the mesh's trust domain)"), "{of_alias}");
    let foreign = fault("example.com");
    assert!(foreign.ends_with(&format!("not of {id}")), "{foreign}");
}

#[tokio::test]
async fn mutual_tls_without_evidence_of_both_ends_is_not_a_pass() {
    let (trust, _) = crate::identity::trust::tests::mesh();
    let workload = workload_of("cluster1");
    let peers = Peers { source: &workload, destination: &workload };
    let claim = mutual_tls("mutual-tls", &answer(), None, peers, &trust);
    assert_eq!(claim.verdict(), Judgement::Fail);
    assert!(claim.to_string().contains("unknown"), "{claim}");
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
      required  a STRICT namespace takes no plaintext
      from      naked pinnacle/probe-0 in cluster1
      to        192.168.0.7:8080 over http1
      expected  reset after the request
      seen      answered with HTTP status 200 by pinnacle/probe-0 in cluster1
      evidence  connection from 192.168.0.9:55000, nonce 0123456789ab
                control: naked pinnacle/probe-0 in cluster1 → 192.168.0.7:8080 over http1: answered with HTTP status 200
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
