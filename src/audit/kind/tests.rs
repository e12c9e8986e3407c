//! What ports of every kind look like on the wire, as seen at real proxies and applications.

use meshproof_probe::{Received, TlsSeen};
use rstest::rstest;

use super::*;
use crate::identity::{Minter, SpiffeId, Validity};

/// A mesh, and the chain that a proxy of cluster1 serves.
struct Mesh {
    trust: Trust,
    chain: String,
}

fn mesh() -> Mesh {
    let (trust, [issuer, _]) = crate::identity::trust::tests::mesh();
    let id = SpiffeId::workload("cluster.local", "boutique", "cart");
    Mesh { trust, chain: issuer.mint(&id, Validity::Now).unwrap().chain_pem }
}

/// The chain of an application's own certificate.
fn own() -> String {
    let id = SpiffeId::workload("cluster.local", "boutique", "cart");
    Minter::authority("own").unwrap().mint(&id, Validity::Now).unwrap().chain_pem
}

fn report(outcome: Outcome, chain: &str) -> DialReport {
    let tls = TlsSeen { version: Some("TLS 1.3".into()), peer_chain_pem: chain.into(), ..TlsSeen::default() };
    DialReport {
        id: "id".into(),
        outcome,
        local_address: None,
        remote_address: None,
        who: None,
        served_by: None,
        tls: (!chain.is_empty()).then_some(tls),
        received: None,
        elapsed_us: 1,
    }
}

fn answer(start: &[u8], unasked: bool, chain: &str) -> DialReport {
    let received = Some(Received { start: start.to_vec(), unasked });
    DialReport { received, ..report(Outcome::Answered { status: None }, chain) }
}

fn alert(code: u8, chain: &str) -> DialReport {
    report(Outcome::TlsAlert { phase: Phase::Request, code, name: String::new() }, chain)
}

const ENDED: Outcome = Outcome::Reset { phase: Phase::Response };
const SILENT: Outcome = Outcome::Timeout { phase: Phase::Response };
const NO_TLS: Outcome = Outcome::Timeout { phase: Phase::Handshake };
const DROPPED: Outcome = Outcome::Timeout { phase: Phase::Connect };

/// A port of a STRICT sidecar, in front of an application that answers with 400.
fn strict(chain: &str) -> Reports {
    Reports {
        plaintext: report(ENDED, ""),
        anybody: alert(116, chain),
        foreign: alert(48, chain),
        of_mesh: answer(b"HTTP/1.1 400", false, chain),
    }
}

fn tell_of(reports: &Reports, trust: &Trust) -> Wire {
    tell(reports, trust, SystemTime::now())
}

#[test]
fn a_strict_port_refuses_plaintext_that_it_takes_over_mutual_tls() {
    let Mesh { trust, chain } = mesh();
    let wire = tell_of(&strict(&chain), &trust);
    assert_eq!((wire.kind, wire.faults.len(), wire.doubts.len()), (Kind::Strict, 0, 0));
    assert_eq!(wire.served.unwrap().id.to_string(), "spiffe://cluster.local/ns/boutique/sa/cart");
    assert_eq!(wire.negotiated, Some("TLS 1.3"));
}

#[test]
fn an_answer_in_plaintext_is_permissive_behind_a_proxy_and_plaintext_only_without() {
    let Mesh { trust, chain } = mesh();
    let plaintext = answer(b"HTTP/1.1 400", false, "");
    let behind = Reports { plaintext: plaintext.clone(), anybody: report(NO_TLS, ""), ..strict(&chain) };
    assert_eq!(tell_of(&behind, &trust).kind, Kind::Permissive);
    let none = report(NO_TLS, "");
    let without = Reports { plaintext, anybody: none.clone(), foreign: none.clone(), of_mesh: none };
    let wire = tell_of(&without, &trust);
    assert_eq!((wire.kind, wire.served), (Kind::PlaintextOnly, None));
}

#[test]
fn a_server_that_speaks_first_is_strict_only_if_it_greets_over_mutual_tls_and_not_in_plaintext() {
    let Mesh { trust, chain } = mesh();
    let greeting = answer(b"5.7-hello", true, &chain);
    let wire = tell_of(&Reports { of_mesh: greeting.clone(), ..strict(&chain) }, &trust);
    assert!(wire.kind == Kind::Strict && wire.server_first);
    let open = Reports { plaintext: answer(b"5.7-hello", false, ""), of_mesh: greeting.clone(), ..strict(&chain) };
    let wire = tell_of(&Reports { anybody: report(NO_TLS, ""), ..open }, &trust);
    assert!(wire.kind == Kind::Permissive && wire.server_first);
    let silent = Reports { plaintext: report(SILENT, ""), of_mesh: greeting, ..strict(&chain) };
    let kind = tell_of(&silent, &trust).kind;
    assert!(matches!(kind, Kind::Inconclusive { .. }), "silence is no refusal: {kind}");
}

#[rstest]
#[case::dropped(DROPPED)]
#[case::without_a_route(Outcome::Unreachable { reason: "no route".into() })]
#[case::failing_at_the_prober(Outcome::Local { phase: Phase::Connect, reason: "EMFILE".into() })]
fn a_port_without_a_connection_is_inconclusive_and_never_refused(#[case] outcome: Outcome) {
    let Mesh { trust, .. } = mesh();
    let all = report(outcome, "");
    let reports = Reports { plaintext: all.clone(), anybody: all.clone(), foreign: all.clone(), of_mesh: all };
    let kind = tell_of(&reports, &trust).kind;
    assert!(matches!(kind, Kind::Inconclusive { .. }), "{kind}");
}

#[test]
fn a_plaintext_connection_that_is_dropped_is_inconclusive_although_mutual_tls_is_taken() {
    let Mesh { trust, chain } = mesh();
    for outcome in [DROPPED, SILENT] {
        let kind = tell_of(&Reports { plaintext: report(outcome, ""), ..strict(&chain) }, &trust).kind;
        assert!(matches!(kind, Kind::Inconclusive { .. }), "{kind}");
    }
}

#[test]
fn a_closed_port_is_unreachable_with_and_without_a_proxy() {
    let Mesh { trust, chain } = mesh();
    let all = report(Outcome::Refused, "");
    let reports = Reports { plaintext: all.clone(), anybody: all.clone(), foreign: all.clone(), of_mesh: all };
    assert!(matches!(tell_of(&reports, &trust).kind, Kind::Unreachable { .. }));
    let behind = Reports {
        anybody: report(NO_TLS, ""),
        of_mesh: report(Outcome::Closed { phase: Phase::Request }, &chain),
        ..strict(&chain)
    };
    assert!(matches!(tell_of(&behind, &trust).kind, Kind::Unreachable { .. }));
}

#[test]
fn an_application_that_ends_every_connection_is_strict_only_if_the_proxy_itself_answers_tls_of_anybody() {
    let Mesh { trust, chain } = mesh();
    let ending = Reports { of_mesh: report(ENDED, &chain), ..strict(&chain) };
    assert_eq!(tell_of(&ending, &trust).kind, Kind::Strict);
    // TLS of anybody was not answered by the proxy: it may have gone to the application.
    let unknown = Reports { anybody: report(NO_TLS, ""), ..ending.clone() };
    assert!(matches!(tell_of(&unknown, &trust).kind, Kind::Inconclusive { .. }));
    // It went to the application, which has a certificate of its own.
    let passed = Reports { anybody: report(ENDED, &own()), ..ending };
    assert_eq!(tell_of(&passed, &trust).kind, Kind::Permissive);
}

#[test]
fn tls_of_the_applications_own_is_told_from_the_meshs() {
    let Mesh { trust, .. } = mesh();
    let own = own();
    let reports = |plaintext: DialReport| Reports {
        plaintext,
        anybody: answer(b"HTTP/1.1 400", false, &own),
        foreign: answer(b"HTTP/1.1 400", false, &own),
        of_mesh: answer(b"HTTP/1.1 400", false, &own),
    };
    let tls_alert = [21, 3, 3, 0, 2, 2, 70];
    for plaintext in [report(ENDED, ""), answer(&tls_alert, false, "")] {
        let wire = tell_of(&reports(plaintext), &trust);
        assert_eq!((wire.kind, wire.served), (Kind::OwnTls, None));
    }
    let both = tell_of(&reports(answer(b"HTTP/1.1 400", false, "")), &trust);
    assert_eq!(both.kind, Kind::PlaintextOnly, "an answer in plaintext weighs more than TLS beside it");
}

#[test]
fn tls_without_a_certificate_or_with_a_foreign_one_that_is_taken_is_a_fault() {
    let Mesh { trust, chain } = mesh();
    let taken = || answer(b"HTTP/1.1 400", false, &chain);
    let wire = tell_of(&Reports { anybody: taken(), ..strict(&chain) }, &trust);
    assert!(wire.faults.iter().any(|fault| fault.contains("without a client certificate")), "{wire:?}");
    let wire = tell_of(&Reports { foreign: taken(), ..strict(&chain) }, &trust);
    assert!(wire.faults.iter().any(|fault| fault.contains("foreign authority")), "{wire:?}");
    for unnamed in [report(ENDED, &chain), alert(80, &chain)] {
        let wire = tell_of(&Reports { foreign: unnamed, ..strict(&chain) }, &trust);
        assert!(wire.faults.is_empty() && wire.doubts.len() == 1, "not named, so not judged: {wire:?}");
    }
}

#[test]
fn a_port_that_refuses_the_meshs_own_certificate_is_inconclusive() {
    let Mesh { trust, chain } = mesh();
    let wire = tell_of(&Reports { of_mesh: alert(46, &chain), ..strict(&chain) }, &trust);
    assert!(matches!(&wire.kind, Kind::Inconclusive { why } if why.contains("alert 46")), "{}", wire.kind);
    assert_eq!(wire.served, None);
}
