//! What a declaration derives, by example.

use super::*;
use crate::mesh::global_namespace::declaration::{Member, PublicService};

fn cluster(name: &str) -> Cluster {
    let declared = crate::declaration::Declaration::read(&crate::declaration::Declaration::default_path()).unwrap();
    declared.clusters.into_iter().find(|cluster| cluster.name == name).unwrap()
}

fn declaration(members: &[&str]) -> Declaration {
    Declaration {
        name: "boutique".into(),
        domain: "acme.demo".into(),
        members: members
            .iter()
            .map(|cluster| Member { cluster: (*cluster).into(), namespace: "pinnacle".into() })
            .collect(),
        selector: BTreeMap::from([("part-of".into(), "boutique".into())]),
        public_services: vec![PublicService { service: "frontend".into(), hosts: vec!["shop.test".into()] }],
    }
}

fn service(name: &str, port: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "pinnacle", "labels": {"part-of": "boutique"}},
        "spec": {"selector": {"app": name}, "ports": [port]},
    }))
    .unwrap()
}

fn found() -> Vec<(String, Vec<Service>)> {
    let frontend = service("frontend", json!({"name": "http", "port": 80, "targetPort": 8080}));
    let redis = service("redis-cart", json!({"name": "tcp-redis", "port": 6379}));
    let mut stranger = service("stranger", json!({"name": "http", "port": 80}));
    stranger.metadata.labels = None;
    let ad = service("adservice", json!({"name": "grpc", "port": 9555}));
    vec![("cluster1".into(), vec![ad]), ("cluster2".into(), vec![frontend, redis, stranger])]
}

fn names(objects: &[Value]) -> Vec<String> {
    let text = |object: &Value, pointer: &str| object.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    objects.iter().map(|object| format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))).collect()
}

#[test]
fn every_member_gets_an_entry_for_every_service_and_strict_policy_for_its_own() {
    let declaration = declaration(&["cluster1", "cluster2"]);
    let services = services(&declaration, &found()).unwrap();
    let objects = objects(&declaration, &services, &cluster("cluster1"));
    assert_eq!(
        names(&objects),
        [
            "ServiceEntry adservice.acme.demo",
            "PeerAuthentication adservice.acme.demo",
            "ServiceEntry frontend.acme.demo",
            "ServiceEntry redis-cart.acme.demo",
            "DestinationRule boutique-mtls",
            "Gateway boutique-eastwest",
            "VirtualService frontend.acme.demo",
            "Gateway boutique-public",
        ]
    );
    let entry = &objects[2]["spec"];
    assert_eq!(entry["ports"], json!([{"number": 80, "targetPort": 8080, "name": "http", "protocol": "HTTP"}]));
    assert_eq!(entry["workloadSelector"]["labels"], json!({"app": "frontend"}));
    assert_eq!(objects[3]["spec"]["ports"][0]["protocol"], "TCP");
    assert!(objects.iter().all(|object| object["metadata"]["labels"][LABEL] == "boutique"));
}

#[test]
fn the_zone_names_every_service_by_the_address_of_its_entry() {
    let declaration = declaration(&["cluster1", "cluster2"]);
    let services = services(&declaration, &found()).unwrap();
    let zone = zone(&declaration, &services);
    for object in objects(&declaration, &services, &cluster("cluster2")).iter().filter(|o| o["kind"] == "ServiceEntry")
    {
        let (address, host) = (&object["spec"]["addresses"][0], &object["spec"]["hosts"][0]);
        let line = format!("{} {}\n", address.as_str().unwrap(), host.as_str().unwrap());
        assert!(zone.contains(&line), "no `{line}` in {zone}");
    }
    assert!(!zone.contains("stranger"), "a service without the labels is not part of it");
}

#[test]
fn services_of_a_cluster_that_is_no_member_are_not_part_of_it() {
    let mut alone = declaration(&["cluster1"]);
    let complaint = services(&alone, &found()).unwrap_err().to_string();
    assert!(complaint.contains("public service `frontend`") && complaint.contains("adservice"), "{complaint}");
    alone.public_services.clear();
    assert_eq!(services(&alone, &found()).unwrap().len(), 1);
}

#[test]
fn a_service_in_two_members_is_one_unless_they_differ() {
    let declaration = declaration(&["cluster1", "cluster2"]);
    let mut found = found();
    found[0].1.push(service("frontend", json!({"name": "http", "port": 80, "targetPort": 8080})));
    let both = services(&declaration, &found).unwrap();
    assert_eq!(both.len(), 3);
    found[0].1[1] = service("frontend", json!({"name": "http", "port": 81}));
    let complaint = services(&declaration, &found).unwrap_err().to_string();
    assert!(complaint.contains("service frontend is one thing in cluster1"), "{complaint}");
}

#[test]
fn a_named_target_port_is_refused_by_name() {
    let declaration = declaration(&["cluster1"]);
    let named = service("adservice", json!({"name": "grpc", "port": 9555, "targetPort": "grpc"}));
    let complaint = format!("{:#}", services(&declaration, &[("cluster1".into(), vec![named])]).unwrap_err());
    assert!(complaint.contains("adservice of cluster1") && complaint.contains("give its number"), "{complaint}");
}

#[test]
fn two_names_never_share_an_address() {
    let declaration = declaration(&["cluster1"]);
    let many: Vec<Service> =
        (0..2000).map(|index| service(&format!("s{index}"), json!({"name": "http", "port": 80}))).collect();
    let mut with = declaration.clone();
    with.public_services.clear();
    let services = services(&with, &[("cluster1".into(), many)]).unwrap();
    let addresses: BTreeSet<Ipv4Addr> = addresses(&with, &services).into_iter().collect();
    assert_eq!(addresses.len(), 2000);
}
