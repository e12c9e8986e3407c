//! Which ports are asked, and in which order.

use std::sync::Arc;

use super::super::inventory::NamespaceFacts;
use super::super::pod::Owner;
use super::*;
use crate::policy::Policies;

fn pod(namespace: &str, name: &str, ports: u16) -> Pod {
    let key = |number| PortKey { number, transport: Transport::Tcp };
    Pod {
        namespace: namespace.into(),
        name: name.into(),
        uid: name.into(),
        service_account: "default".into(),
        node: "node".into(),
        owner: Owner { kind: "Pod".into(), name: name.into() },
        labels: Default::default(),
        addresses: vec!["10.0.0.1".into()],
        proxy: Proxy::Container,
        absent: None,
        host_network: false,
        ready: true,
        uncaptured: None,
        ports: (1..=ports).map(|number| (key(number), Port::default())).collect(),
    }
}

/// Requires a Tokio runtime.
fn inventory(pods: Vec<Pod>) -> Inventory {
    let cluster = crate::cluster::tests::workload().cluster;
    let facts = |pod: &Pod| (pod.namespace.clone(), NamespaceFacts::default());
    let namespaces = pods.iter().map(facts).collect();
    let policies = Policies::Known { root: "istio-system".into(), policies: Vec::new() };
    let (services, rules, network_policies) = (Vec::new(), Vec::new(), Vec::new());
    Inventory { cluster: Arc::clone(&cluster), namespaces, pods, services, policies, rules, network_policies }
}

#[tokio::test]
async fn ports_of_different_pods_alternate_and_each_pod_is_asked_once_for_its_tls_versions() {
    let inventory = inventory(vec![pod("shop", "a", 3), pod("shop", "b", 2)]);
    let targets = targets(&inventory, false);
    let order: Vec<String> = targets.iter().map(|target| format!("{}:{}", target.pod.name, target.key)).collect();
    assert_eq!(order, ["a:1", "b:1", "a:2", "b:2", "a:3"]);
    let versions: Vec<bool> = targets.iter().map(|target| target.versions).collect();
    assert_eq!(versions, [true, true, false, false, false]);
}

#[tokio::test]
async fn every_address_of_a_pod_is_asked() {
    let addresses = vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()];
    let inventory = inventory(vec![Pod { addresses, ..pod("shop", "a", 1) }]);
    let targets = targets(&inventory, false);
    assert_eq!(targets.iter().map(|target| target.address).collect::<Vec<_>>(), ["10.0.0.1", "fd00::1"]);
}

#[tokio::test]
async fn what_is_not_asked_has_its_reason() {
    let mut udp = pod("shop", "udp", 0);
    udp.ports.insert(PortKey { number: 53, transport: Transport::Udp }, Port::default());
    let mut proxys = pod("shop", "proxys", 1);
    proxys.ports.values_mut().for_each(|port| port.is_proxys = true);
    let pods = vec![
        udp,
        proxys,
        Pod { absent: Some("it has ended".into()), ..pod("shop", "job", 1) },
        Pod { proxy: Proxy::Ambient, ..pod("shop", "ambient", 1) },
        Pod { proxy: Proxy::Gateway, ..pod("shop", "gateway", 1) },
        pod("kube-system", "coredns", 1),
        pod("leaving", "leaving", 1),
    ];
    let mut inventory = inventory(pods);
    inventory.namespaces.get_mut("leaving").unwrap().terminating = true;
    assert!(targets(&inventory, false).is_empty());
    let reasons = ["UDP", "the proxy's own", "ended", "ambient", "gateway", "", "being removed"];
    for (pod, owed) in inventory.pods.iter().zip(reasons) {
        let (key, port) = pod.ports.first_key_value().unwrap();
        let found = not_asked(&inventory, pod, *key, port, false);
        let why = found.as_ref().and_then(Kind::detail).unwrap_or_default();
        assert!(why.contains(owed) && why.is_empty() == owed.is_empty(), "{}: {why}", pod.name);
    }
    let with_system = targets(&inventory, true);
    assert_eq!(with_system.iter().map(|target| target.pod.name.as_str()).collect::<Vec<_>>(), ["gateway", "coredns"]);
}

#[tokio::test]
async fn no_command_is_large_and_none_is_long_at_a_low_rate() {
    let inventory = inventory(vec![pod("shop", "a", 300), pod("shop", "b", 300)]);
    let targets = targets(&inventory, false);
    let sizes = |rates: Rates| {
        batches(&targets, rates, Sharing { all: 1, one_pod: 1 }).iter().map(|batch| batch.len()).collect::<Vec<_>>()
    };
    let quick = sizes(Rates { per_pod: 1_000, in_all: 1_000 });
    assert_eq!((quick[0], quick.iter().sum::<usize>()), (64, 600));
    let slow = sizes(Rates { per_pod: 1, in_all: 1_000 });
    assert!(slow.iter().all(|size| size * PER_PORT <= 2 * BATCH_SECONDS + 6), "{slow:?}");
    assert_eq!(sizes(Rates { per_pod: 1, in_all: 1 }).iter().sum::<usize>(), 600);
}
