use serde_json::json;

use super::*;

fn deployment(namespace: &str, name: &str, annotations: Value, container: Value) -> Deployment {
    let labels = json!({ "gateway": name, "tier": "edge" });
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "selector": { "matchLabels": { "gateway": name } },
            "template": {
                "metadata": { "labels": labels, "annotations": annotations },
                "spec": { "containers": [container] },
            },
        },
    }))
    .unwrap()
}

/// A gateway that the injector fills in.
fn injected(name: &str) -> Deployment {
    let container =
        json!({ "name": "istio-proxy", "image": "auto", "ports": [{ "name": "web", "containerPort": 8080 }] });
    deployment("edge", name, json!({ "inject.istio.io/templates": "gateway" }), container)
}

fn service(name: &str, ports: Value, status: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "edge" },
        "spec": { "selector": { "gateway": name }, "ports": ports },
        "status": status,
    }))
    .unwrap()
}

fn balanced(address: Value) -> Value {
    json!({ "loadBalancer": { "ingress": [address] } })
}

fn listener(selected: &str, server: Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": { "name": "g", "namespace": "any" },
        "spec": { "selector": { "gateway": selected }, "servers": [server] },
    }))
    .unwrap()
}

fn passthrough(selected: &str) -> DynamicObject {
    listener(selected, json!({ "port": { "number": 15443, "protocol": "TLS" }, "tls": { "mode": "AUTO_PASSTHROUGH" } }))
}

fn find(deployments: &[Deployment], services: &[Service], listeners: &[DynamicObject]) -> Found {
    let config = MeshConfig::default();
    Sources { deployments, daemon_sets: &[], services, listeners, config: &config, network: "vpc" }.find()
}

#[test]
fn gateways_are_told_apart_by_what_leads_to_them_and_not_by_their_names() {
    // The names are the wrong way round.
    let deployments = [injected("eastwest"), injected("ingress")];
    let ports = json!([{ "port": 80, "targetPort": "web" }, { "port": 15443 }]);
    let services = [
        service("eastwest", ports, balanced(json!({ "hostname": "lb.example" }))),
        service("ingress", json!([{ "port": 15443, "targetPort": 15443 }]), balanced(json!({ "ip": "192.0.2.1" }))),
    ];
    let found = find(&deployments, &services, &[passthrough("ingress")]);
    let eastwest = found.gateways.eastwest.unwrap();
    assert_eq!((eastwest.deployment.as_str(), eastwest.selector.as_str()), ("ingress", "gateway=ingress"));
    assert_eq!(eastwest.address, Some(HostPort::new("192.0.2.1", 15443)));
    let ingress = found.gateways.ingress.unwrap();
    assert_eq!((ingress.deployment.as_str(), ingress.port), ("eastwest", 8080), "the named port of the container");
    assert_eq!(ingress.address, Some(HostPort::new("lb.example", 80)));
    assert!(found.others.is_empty());
}

#[test]
fn a_router_by_its_arguments_and_mode_is_an_east_west_gateway_also_without_a_listener() {
    let container = json!({
        "name": "istio-proxy", "args": ["proxy", "router"],
        "env": [{ "name": "ISTIO_META_ROUTER_MODE", "value": "sni-dnat" }],
    });
    let crossing = deployment("edge", "crossing", json!({}), container);
    let shop = deployment("shop", "shop", json!({}), json!({ "name": "shop", "args": ["serve"] }));
    let found = find(&[shop, crossing], &[], &[]);
    let eastwest = found.gateways.eastwest.unwrap();
    assert_eq!((eastwest.deployment.as_str(), eastwest.port, eastwest.address), ("crossing", 15443, None));
    assert_eq!(found.gateways.ingress, None);
}

#[test]
fn a_gateway_on_every_node_is_found_with_its_kind() {
    let Deployment { metadata, spec, .. } = injected("edge");
    let spec = spec.unwrap();
    let status =
        json!({ "currentNumberScheduled": 1, "desiredNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": 1 });
    let daemon_set: DaemonSet = serde_json::from_value(json!({
        "metadata": metadata, "status": status,
        "spec": { "selector": spec.selector, "template": spec.template, "updateStrategy": { "type": "RollingUpdate" } },
    }))
    .unwrap();
    let services =
        [service("edge", json!([{ "port": 80, "targetPort": "web" }]), balanced(json!({ "ip": "192.0.2.1" })))];
    let config = MeshConfig::default();
    let sources = Sources {
        deployments: &[injected("crossing")],
        daemon_sets: &[daemon_set],
        services: &services,
        listeners: &[passthrough("crossing")],
        config: &config,
        network: "vpc",
    };
    let Gateways { ingress, eastwest } = sources.find().gateways;
    let ingress = ingress.unwrap();
    assert_eq!((ingress.object().as_str(), ingress.selector.as_str()), ("DaemonSet edge/edge", "gateway=edge"));
    assert_eq!(ingress.port, 8080, "the named port of the container");
    assert_eq!(eastwest.unwrap().object(), "Deployment edge/crossing");
}

#[test]
fn the_address_is_the_meshs_own_where_no_load_balancer_has_one() {
    let deployments = [injected("crossing")];
    let services = [service("crossing", json!([{ "port": 15443, "nodePort": 31443 }]), json!({}))];
    let listeners = [passthrough("crossing")];
    let networks = "networks:\n  vpc:\n    gateways:\n    - address: 192.0.2.7\n      port: 31443\n";
    let config = MeshConfig::parse(&[("meshNetworks".to_owned(), networks.to_owned())].into()).unwrap();
    let sources = Sources {
        deployments: &deployments,
        daemon_sets: &[],
        services: &services,
        listeners: &listeners,
        config: &config,
        network: "vpc",
    };
    assert_eq!(sources.find().gateways.eastwest.unwrap().address, Some(HostPort::new("192.0.2.7", 31443)));
    let elsewhere = Sources { network: "other", ..sources };
    assert_eq!(elsewhere.find().gateways.eastwest.unwrap().address, None, "a node port is nobody's promise");
}

#[test]
fn an_egress_gateway_is_neither_and_is_named() {
    let deployments = [injected("egress")];
    let services = [service("egress", json!([{ "port": 80 }]), json!({}))];
    let found = find(&deployments, &services, &[]);
    assert_eq!(found.gateways, Gateways::default());
    assert_eq!(found.others, ["edge/egress"]);
}
