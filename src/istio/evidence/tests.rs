use std::time::Instant;

use meshproof_probe::{DialReport, Outcome, Protocol, WhoAmI};
use serde_json::json;

use super::*;

fn exchange(protocol: Protocol) -> Exchange {
    let (peer_address, local_address) = ("127.0.0.6:41000".into(), "10.0.0.2:8083".into());
    let who = WhoAmI { peer_address, local_address, ..WhoAmI::default() };
    let report = DialReport {
        id: "id".into(),
        outcome: Outcome::Answered { status: None },
        local_address: Some("192.168.0.9:55000".into()),
        remote_address: None,
        who: Some(who),
        served_by: None,
        tls: None,
        received: None,
        elapsed_us: 1,
    };
    let mut dial = crate::probe::dial("id", protocol, "probe", 80);
    dial.nonce = "0123456789ab".into();
    let cluster = crate::cluster::tests::workload();
    Exchange { vantage: Vantage::Meshed(cluster), dial, report, started: Instant::now() }
}

fn entry(mut fields: Value) -> AccessEntry {
    fields["downstream_peer_cert"] = Value::Null;
    AccessEntry::parse(&fields.to_string()).unwrap()
}

#[tokio::test]
async fn tcp_is_found_by_addresses_at_both_ends() {
    let tcp = exchange(Protocol::Tcp);
    let source = entry(json!({ "downstream_remote_address": "192.168.0.9:55000", "upstream_local_address": "-" }));
    let destination = |host: &str| {
        entry(json!({
            "downstream_remote_address": "10.0.0.1:1", "upstream_local_address": "127.0.0.6:41000",
            "upstream_host": host,
        }))
    };
    let another = destination("10.0.0.2:8084");
    assert!(!another.is_destination_of(&tcp), "the same port, in a connection to another port of the probe");
    let destination = destination("10.0.0.2:8083");
    assert!(source.is_source_of(&tcp) && destination.is_destination_of(&tcp));
    assert!(!destination.is_source_of(&tcp) && !source.is_destination_of(&tcp));
}

#[tokio::test]
async fn connections_with_the_same_addresses_at_the_probe_are_told_apart_by_their_callers() {
    let direct = exchange(Protocol::Tls);
    let mut meshed = exchange(Protocol::Tls);
    meshed.dial.nonce = "another".into();
    meshed.report.local_address = Some("192.168.0.7:41001".into());
    let line = |caller: &str| {
        entry(json!({
            "downstream_remote_address": caller, "upstream_local_address": "127.0.0.6:41000",
            "upstream_host": "10.0.0.2:8083",
        }))
    };
    // The caller's proxy stands between: its port is not the caller's.
    let log = [line("192.168.0.7:60000"), line("192.168.0.9:55000")];
    let both = [direct, meshed];
    assert_eq!(destination_line(&both[0], &both, &indexed(&log)), Some(&log[1]));
    assert_eq!(destination_line(&both[1], &both, &indexed(&log)), Some(&log[0]));
    assert_eq!(destination_line(&both[1], &both, &indexed(&log[1..])), None, "it is not logged yet");
}

#[tokio::test]
async fn a_refused_handshake_with_the_same_addresses_at_the_probe_is_no_answer() {
    let exchanges = [exchange(Protocol::ServerFirst)];
    let line = |caller: &str, reason: &str, peer: &str| {
        entry(json!({
            "downstream_remote_address": caller, "upstream_local_address": "127.0.0.6:41000",
            "upstream_host": "10.0.0.2:8083", "downstream_tls_version": "TLSv1.3",
            "downstream_transport_failure_reason": reason, "downstream_peer_uri_san": peer,
        }))
    };
    let refused = line("192.168.0.3:1", "TLS_error:|PEER_DID_NOT_RETURN_A_CERTIFICATE", "-");
    let log = [refused, line("192.168.0.3:2", "-", "spiffe://mesh/ns/shop/sa/caller")];
    assert_eq!(destination_line(&exchanges[0], &exchanges, &indexed(&log)), Some(&log[1]));
    assert_eq!(destination_line(&exchanges[0], &exchanges, &indexed(&log[..1])), None, "it is not logged yet");
    let mut plain = line("192.168.0.3:3", "connection reset", "-");
    plain.0.remove("downstream_tls_version");
    assert!(plain.is_destination_of(&exchanges[0]), "an answer in plaintext, reset afterwards");
}

#[tokio::test]
async fn http_on_a_pooled_connection_is_found_by_its_nonce_as_well() {
    let http = exchange(Protocol::Http2);
    let line = |path: &str, id: &str| {
        entry(json!({
            "downstream_remote_address": "192.168.0.9:55000", "upstream_local_address": "127.0.0.6:41000",
            "upstream_host": "10.0.0.2:8083", "path": path, "request_id": id,
        }))
    };
    assert!(line("/whoami?nonce=0123456789ab", "-").is_destination_of(&http));
    assert!(line("/meshproof.probe.v1.Probe/WhoAmI", "0123456789ab").is_source_of(&http));
    let mut inbound = line("/whoami?nonce=0123456789ab", "-");
    inbound.0.insert("upstream_cluster".into(), "inbound|8081||".into());
    assert!(inbound.is_destination_of(&http) && !inbound.is_source_of(&http), "both ends may share a log");
    assert!(!line("/whoami?nonce=ffffffffffff", "other").is_destination_of(&http), "another request");
}

/// What finds a line in a log must not overlook one that tells the call.
#[tokio::test]
async fn no_line_about_a_call_is_overlooked_in_a_log() {
    let (http, tcp) = (exchange(Protocol::Http1), exchange(Protocol::Tcp));
    let mut told = exchange(Protocol::Http1);
    (told.dial.nonce, told.vantage) = ("none".into(), Vantage::Host);
    let sent = "be14475b-a5cc-48ba-8019-5cf9c822949e";
    told.report.who.as_mut().unwrap().request_id = Some(sent.into());
    let mut unanswered = exchange(Protocol::Grpc);
    (unanswered.dial.nonce, unanswered.vantage, unanswered.report.who) = ("none".into(), Vantage::Host, None);
    unanswered.dial.authority = Some("one.test".into());
    let to = |fields: Value| {
        let mut line = fields;
        line["upstream_cluster"] = "outbound|80||probe".into();
        entry(line)
    };
    let log = [
        to(json!({ "path": "/other?nonce=ffffffffffff", "request_id": "r", "authority": "other.test" })),
        to(json!({ "path": "/whoami?a=b&nonce=0123456789ab" })),
        to(json!({ "downstream_remote_address": "192.168.0.9:55000" })),
        to(json!({ "request_id": sent.replacen("48ba", "98ba", 1) })),
        to(json!({ "authority": "one.test" })),
    ];
    let index = indexed(&log);
    for (exchange, at) in [(&http, 1), (&tcp, 2), (&told, 3), (&unanswered, 4)] {
        assert_eq!(log.iter().find(|line| line.is_source_of(exchange)), Some(&log[at]));
        assert_eq!(source_line(exchange, &index), Some(&log[at]), "{at}");
    }
    let by_id = [to(json!({ "request_id": "0123456789ab" }))];
    assert_eq!(source_line(&http, &indexed(&by_id)), Some(&by_id[0]));
}

#[test]
fn a_request_is_the_same_whether_it_is_traced_or_not() {
    let logged = |id: &str| entry(json!({ "downstream_remote_address": "192.168.0.9:55000", "request_id": id }));
    // Sent with a 4. The proxy replaced the 4 by a 9, because it sampled the request for tracing.
    let sent = "be14475b-a5cc-48ba-8019-5cf9c822949e";
    assert!(logged(sent).is_of_request(sent));
    assert!(logged("be14475b-a5cc-98ba-8019-5cf9c822949e").is_of_request(sent));
    for another in ["be14475b-a5cc-48ba-8019-5cf9c822949f", "be14475b-a5cc-49ba-8019-5cf9c822949e"] {
        assert!(!logged(another).is_of_request(sent), "{another}");
    }
    assert!(logged("r").is_of_request("r") && !logged("s").is_of_request("r"), "any text may be an id");
    assert!(!logged("-").is_of_request(sent), "none");
}

#[tokio::test]
async fn a_refusal_is_known_by_its_connection_and_its_flag() {
    let refused = exchange(Protocol::Http1);
    let line =
        |caller: &str, flags: &str| entry(json!({ "downstream_remote_address": caller, "response_flags": flags }));
    assert!(line("192.168.0.9:55000", "NR").turns_away(&refused));
    assert!(!line("192.168.0.9:55000", "-").turns_away(&refused), "served");
    assert!(!line("192.168.0.9:55001", "NR").turns_away(&refused), "another's");
}

#[test]
fn a_denial_by_a_policy_is_told_from_every_other_end() {
    let logged = |field: &str, details: &str| entry(json!({ "downstream_remote_address": "a", field: details }));
    assert!(logged("response_code_details", "rbac_access_denied_matched_policy[none]").is_denied_by_policy());
    assert!(logged("connection_termination_details", "rbac_access_denied_matched_policy[none]").is_denied_by_policy());
    for other in ["via_upstream", "no_healthy_upstream", "-"] {
        assert!(!logged("response_code_details", other).is_denied_by_policy(), "{other}");
    }
    assert!(!logged("path", "rbac_access_denied").is_denied_by_policy(), "what the caller says");
}

#[test]
fn an_unanswered_exchange_matches_no_line_however_empty() {
    let empty = entry(json!({ "downstream_remote_address": null, "upstream_local_address": "" }));
    assert!(!empty.is("upstream_local_address", None) && empty.get("downstream_remote_address").is_none());
}

#[test]
fn lines_that_are_not_of_the_evidence_log_are_left_out() {
    assert_eq!(AccessEntry::parse(r#"{"downstream_remote_address":"10.0.0.1:1","path":"/"}"#), None, "the mesh's");
    assert_eq!(AccessEntry::parse("2026-01-01 info Envoy proxy is ready"), None);
    assert_eq!(AccessEntry::parse(r#"{"level":"info","msg":"ready"}"#), None);
    assert_eq!(AccessEntry::parse("[1, 2]"), None);
}

#[test]
fn percent_encoding_is_undone_and_what_only_looks_like_it_is_kept() {
    assert_eq!(percent_decoded("a%0Ab%2Bc%"), "a\nb+c%");
    assert_eq!(percent_decoded("100%zz"), "100%zz");
}
