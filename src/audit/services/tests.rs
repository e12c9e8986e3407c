//! Which services are called from another cluster, how, and what an answer is worth.

use meshproof_probe::DialReport;
use rstest::rstest;
use serde_json::json;

use super::super::inventory::NamespaceFacts;
use super::super::pod::{Owner, Port, Proxy};
use super::*;
use crate::identity::{Minter, Validity};
use crate::policy::Policies;

fn service(name: &str, port_name: &str) -> ServiceFacts {
    let key = PortKey { number: 80, transport: Transport::Tcp };
    let names = Port {
        names: Some(port_name.to_owned()).filter(|name| !name.is_empty()).into_iter().collect(),
        ..Port::default()
    };
    let ports = vec![ServicePort { key, names }];
    ServiceFacts { namespace: "shop".into(), name: name.into(), headless: false, ports, has_endpoints: true }
}

fn pod(service: &str, proxy: Proxy) -> Pod {
    let port = Port { services: [service.to_owned()].into(), ..Port::default() };
    Pod {
        namespace: "shop".into(),
        name: format!("{service}-1"),
        uid: "1".into(),
        service_account: service.into(),
        node: "node".into(),
        owner: Owner { kind: "Deployment".into(), name: service.into() },
        labels: BTreeMap::new(),
        addresses: vec!["10.0.0.1".into()],
        proxy,
        absent: None,
        host_network: false,
        ready: true,
        uncaptured: None,
        ports: [(PortKey { number: 8080, transport: Transport::Tcp }, port)].into(),
    }
}

fn inventory(cluster: &str, services: Vec<ServiceFacts>, pods: Vec<Pod>) -> Inventory {
    let cluster = crate::cluster::tests::workload_of(cluster).cluster;
    let policies = Policies::Known { root: "istio-system".into(), policies: Vec::new() };
    let (namespaces, rules, network_policies) = (BTreeMap::new(), Vec::new(), Vec::new());
    Inventory { cluster, namespaces, pods, services, policies, rules, network_policies }
}

/// What cluster1 calls, where cluster2 runs these services with these pods.
fn called(here: Vec<ServiceFacts>, there: Vec<ServiceFacts>, pods: Vec<Pod>) -> Vec<(String, Option<String>)> {
    let (trust, _) = crate::identity::trust::tests::mesh();
    let inventories = [inventory("cluster1", here, Vec::new()), inventory("cluster2", there, pods)];
    let calls = calls(&trust, &inventories[0], &inventories);
    calls.into_iter().map(|call| (call.service.name.clone(), call.unasked)).collect()
}

#[tokio::test]
async fn services_of_other_clusters_whose_pods_are_in_the_mesh_are_called() {
    let empty = ServiceFacts { has_endpoints: false, ..service("cart", "grpc") };
    let there = vec![service("cart", "grpc"), service("bare", "http")];
    let pods = vec![pod("cart", Proxy::Native), pod("bare", Proxy::Missing { why: String::new() })];
    assert_eq!(called(vec![empty], there.clone(), pods.clone()), [("cart".into(), None)]);
    let unnamed = called(Vec::new(), there, pods);
    assert!(unnamed[0].1.as_ref().is_some_and(|why| why.contains("no Service of this name")), "{unnamed:?}");
    let own = called(vec![service("cart", "grpc")], Vec::new(), Vec::new());
    assert!(own.is_empty(), "it runs in no other cluster: {own:?}");
}

#[tokio::test]
async fn a_service_whose_namespace_is_being_removed_is_not_called() {
    let (trust, _) = crate::identity::trust::tests::mesh();
    let cart = || vec![service("cart", "grpc")];
    for ending in [0, 1] {
        let pods = vec![pod("cart", Proxy::Native)];
        let mut inventories = [inventory("cluster1", cart(), Vec::new()), inventory("cluster2", cart(), pods)];
        let facts = NamespaceFacts { terminating: true, ..NamespaceFacts::default() };
        inventories[ending].namespaces.insert("shop".into(), facts);
        let calls = calls(&trust, &inventories[0], &inventories);
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].unasked.as_deref(), Some(ENDING));
    }
}

#[rstest]
#[case::grpc("grpc-api", Protocol::Grpc)]
#[case::http("http", Protocol::Http1)]
#[case::http2("http2", Protocol::Http2)]
#[case::tcp("tcp-db", Protocol::Bytes)]
#[case::unnamed("", Protocol::Bytes)]
fn only_http_is_asked_for_something_and_for_nothing_that_an_application_knows(
    #[case] name: &str,
    #[case] owed: Protocol,
) {
    let service = service("cart", name);
    let (to, identities) = (vec!["cluster2".into()], BTreeSet::new());
    let call = Call { service: &service, port: &service.ports[0], to, identities, unasked: None };
    let dial = dial("id", &call, "cluster.local");
    assert_eq!((dial.protocol, dial.host.as_str()), (owed, "cart.shop.svc.cluster.local"));
    match dial.request {
        Some(Request::Bytes { bytes, .. }) => assert_eq!(bytes.is_empty(), !name.is_empty()),
        Some(Request::Http { path, .. }) => assert_eq!(path, PATH),
        Some(Request::Grpc { method, message, .. }) => assert!(method == METHOD && message.is_empty()),
        other => panic!("{other:?}"),
    }
}

/// What a call of `cart` in cluster2 got, by a log line with these fields.
fn got(fields: serde_json::Value) -> Got {
    let (trust, [one, other]) = crate::identity::trust::tests::mesh();
    let minted = |minter: &Minter, account: &str| {
        let id = SpiffeId::workload("cluster.local", "shop", account);
        minter.mint(&id, Validity::Now).unwrap().chain_pem
    };
    let mut fields = fields;
    fields["downstream_peer_cert"] = "-".into();
    let chain = match fields["certificate"].as_str() {
        Some("cart of cluster2") => Some(minted(&other, "cart")),
        Some("cart of cluster1") => Some(minted(&one, "cart")),
        Some("web of cluster2") => Some(minted(&other, "web")),
        Some("foreign") => Some(minted(&Minter::authority("foreign").unwrap(), "cart")),
        _ => None,
    };
    if let Some(chain) = chain {
        fields["upstream_peer_uri_san"] = "spiffe://named/by/the/log".into();
        let end = "-----END CERTIFICATE-----\n";
        fields["upstream_peer_cert"] = chain[..chain.find(end).unwrap() + end.len()].into();
    }
    let entry = AccessEntry::parse(&fields.to_string());
    let service = service("cart", "http");
    let identities = [SpiffeId::workload("cluster.local", "shop", "cart")].into();
    let call =
        Call { service: &service, port: &service.ports[0], to: vec!["cluster2".into()], identities, unasked: None };
    let dial = dial("id", &call, "cluster.local");
    let report = DialReport {
        id: "id".into(),
        outcome: Outcome::Http { status: 403, body: "RBAC: access denied".into(), server: None },
        local_address: None,
        remote_address: None,
        who: None,
        served_by: None,
        tls: None,
        received: None,
        elapsed_us: 1,
    };
    let vantage = Vantage::Host;
    let exchange = Exchange { vantage, dial, report, started: std::time::Instant::now() };
    got_by(&trust, &call, &exchange, entry.as_ref().filter(|_| fields["unlogged"].is_null()))
}

#[test]
fn a_denial_by_policy_is_an_answer_of_whoever_proved_who_it_is() {
    match got(json!({ "upstream_host": "10.0.0.1:8080", "certificate": "cart of cluster2" })) {
        Got::Answered { by, how } => assert!(by.issued_by == ["cluster2"] && how.contains("403"), "{by}: {how}"),
        other => panic!("{other}"),
    }
}

#[rstest]
#[case::another_workload(json!({ "upstream_host": "a:1", "certificate": "web of cluster2" }), "no workload of the service")]
#[case::another_cluster(json!({ "upstream_host": "a:1", "certificate": "cart of cluster1" }), "no endpoint")]
#[case::foreign(json!({ "upstream_host": "a:1", "certificate": "foreign" }), "not to be trusted")]
#[case::plaintext(json!({ "upstream_host": "a:1" }), "without mutual TLS")]
#[case::nobody(json!({ "response_flags": "UH" }), "nobody")]
#[case::unlogged(json!({ "unlogged": true }), "did not log")]
fn what_proves_nothing_is_no_answer(#[case] fields: serde_json::Value, #[case] owed: &str) {
    let got = got(fields).to_string();
    assert!(got.contains(owed) && !got.starts_with("answered by spiffe"), "{got}");
}
