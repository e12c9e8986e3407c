use super::*;
use crate::attach::found::{Peers, Surroundings};
use crate::record::tests::cluster;

/// A cluster that was found, on a network of its own.
pub(in crate::attach) fn found(name: &str) -> FoundCluster {
    let mut record = cluster(name);
    record.network = format!("vpc-{name}");
    record.probes = None;
    let states = ["east", "west", "north"].map(|peer| (peer.to_owned(), Registered::SYNCED.to_owned()));
    FoundCluster {
        context: format!("context-{name}"),
        uid: Some(format!("uid-{name}")),
        kubernetes: "v1.34.3".into(),
        record,
        mesh_id: "corp".into(),
        istio_version: "1.31.0".into(),
        trust: TrustDomain { name: "corp.example".into(), aliases: vec![], roots: vec!["root".into()] },
        control_planes: Vec::new(),
        other_gateways: Vec::new(),
        peers: Peers { secrets: None, seen: Some(states.into()) },
        surroundings: Surroundings::default(),
        unread: Vec::new(),
    }
}

/// The findings on two clusters of which `change` changes the second.
fn told(change: impl FnOnce(&mut FoundCluster)) -> Vec<String> {
    let mut clusters = vec![found("east"), found("west")];
    change(&mut clusters[1]);
    FoundMesh::new(clusters).unwrap().findings.iter().map(ToString::to_string).collect()
}

#[test]
fn one_cluster_by_two_contexts_and_two_clusters_of_one_name_are_refused() {
    let mut clusters = vec![found("east"), found("west")];
    clusters[1].uid = Some("uid-east".into());
    let error = FoundMesh::new(clusters.clone()).unwrap_err().to_string();
    assert!(error.contains("contexts context-east and context-west are the same cluster"), "{error}");
    clusters[1].uid = None;
    FoundMesh::new(clusters.clone()).expect("an unknown cluster is not the same");
    clusters[1].record.name = "east".into();
    let error = FoundMesh::new(clusters).unwrap_err().to_string();
    assert!(error.contains("calls its cluster `east` (CLUSTER_ID)"), "{error}");
}

#[test]
fn a_mesh_in_order_has_no_findings() {
    assert_eq!(told(|_| {}), Vec::<String>::new());
}

#[test]
fn what_differs_between_clusters_is_told_and_stops_nobody() {
    let one = |told: Vec<String>, part: &str| {
        assert!(told.len() == 1 && told[0].contains(part), "`{part}` in {told:?}");
    };
    one(told(|west| west.mesh_id = "other".into()), "corp in east, other in west");
    one(told(|west| west.trust.name = "west.example".into()), "different trust domains");
    one(told(|west| west.trust.roots = vec!["another".into()]), "no root certificate in common");
    assert!(told(|west| west.trust.roots.push("another".into())).is_empty(), "one root in common is enough");
}

#[test]
fn an_alias_joins_trust_domains() {
    let mut clusters = vec![found("east"), found("west")];
    clusters[1].trust.name = "west.example".into();
    clusters[0].trust.aliases = vec!["west.example".into()];
    assert!(FoundMesh::new(clusters).unwrap().findings.is_empty());
}

#[test]
fn a_peer_that_is_not_seen_or_not_reached_is_told() {
    let told_of = told(|west| {
        let seen = west.peers.seen.as_mut().unwrap();
        seen.insert("east".into(), "timeout".into());
        west.record.gateways.eastwest.as_mut().unwrap().address = None;
        west.surroundings.ambient = vec!["waves".into()];
        west.surroundings.taken = vec!["meshproof-inside".into()];
    });
    let parts = [
        "istiod of west does not see east (timeout)",
        "name it with --eastwest west=HOST:PORT",
        "ambient mesh: the namespaces waves of west",
        "namespace meshproof-inside of west is somebody else's",
    ];
    for part in parts {
        assert!(told_of.iter().any(|finding| finding.contains(part)), "`{part}` in {told_of:#?}");
    }
    let none = told(|west| west.peers.seen.as_mut().unwrap().clear());
    assert!(none[0].contains("it has no remote secret"), "{none:?}");
    assert!(told(|west| west.peers.seen = None).is_empty(), "what is unknown is told beside what could not be read");
}

#[test]
fn clusters_of_one_network_need_no_east_west_gateway() {
    let mut clusters = vec![found("east"), found("west")];
    clusters[1].record.network = clusters[0].record.network.clone();
    clusters[1].record.gateways.eastwest = None;
    assert!(FoundMesh::new(clusters).unwrap().findings.is_empty());
}

#[test]
fn the_record_has_all_roots_and_permits_namespaces_only_or_nothing() {
    let mut clusters = vec![found("east"), found("west")];
    clusters[1].trust.roots.push("another".into());
    let mesh = FoundMesh::new(clusters).unwrap();
    let deployment = ProbeDeployment { image: "registry.example/probe:1".into(), pull_policy: None, pull_secret: None };
    let names = Names::with_prefix("ours");
    let record = mesh.record(Path::new("kubeconfig"), &names, &Access::Probes(deployment));
    assert_eq!(record.mesh.trust.roots, ["root", "another"]);
    assert_eq!(record.capabilities.writes, [Write::Namespaces]);
    let west = &record.clusters[1];
    assert_eq!(west.lease_namespace.as_deref(), Some("ours-outside"));
    let probes = west.probes.as_ref().unwrap();
    assert_eq!(probes.meshed.service.as_deref(), Some("probe-west.ours-inside.svc.cluster.local"));
    assert_eq!(west.kubeconfig, Path::new("kubeconfig"));
    let read_only = mesh.record(Path::new("kubeconfig"), &names, &Access::ReadOnly);
    assert!(read_only.capabilities.writes.is_empty());
    assert!(read_only.clusters.iter().all(|cluster| cluster.probes.is_none() && cluster.lease_namespace.is_none()));
}
