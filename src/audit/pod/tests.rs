//! Pods as people run them.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn istio() -> Istio {
    crate::record::tests::cluster("cluster1").istio
}

/// A pod with this `spec` and metadata, in a namespace with these labels.
fn pod(metadata: Value, spec: Value, namespace: &[(&str, &str)]) -> Pod {
    let mut object = json!({ "metadata": { "name": "cart-5f-x", "namespace": "boutique" }, "spec": spec });
    object["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    object["status"] = json!({ "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }] });
    let namespace = namespace.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Pod::of(&serde_json::from_value(object).unwrap(), Some(&namespace), &istio())
}

const IN_MESH: &[(&str, &str)] = &[("istio-injection", "enabled")];

fn app() -> Value {
    json!({ "name": "app", "ports": [{ "containerPort": 7070 }, { "containerPort": 53, "protocol": "UDP" }] })
}

#[test]
fn a_sidecar_is_found_among_the_containers_and_among_the_init_containers_that_keep_running() {
    let proxy = json!({ "name": "istio-proxy", "args": ["proxy", "sidecar"], "ports": [{ "containerPort": 15090 }] });
    let beside = pod(json!({}), json!({ "containers": [app(), proxy] }), IN_MESH);
    assert_eq!(beside.proxy, Proxy::Container);
    let mut native = proxy.clone();
    native["restartPolicy"] = "Always".into();
    let native = pod(json!({}), json!({ "containers": [app()], "initContainers": [native] }), IN_MESH);
    assert_eq!(native.proxy, Proxy::Native);
    for pod in [beside, native] {
        let ports: Vec<String> = pod
            .ports
            .iter()
            .map(|(key, port)| format!("{key} {}", if port.is_proxys { "proxy" } else { "app" }))
            .collect();
        assert_eq!(ports, ["53/udp app", "7070 app", "15090 proxy"]);
    }
    let router = json!({ "name": "istio-proxy", "args": ["proxy", "router"] });
    assert_eq!(pod(json!({}), json!({ "containers": [router] }), &[]).proxy, Proxy::Gateway);
}

#[rstest]
#[case::label(json!({ "labels": { "sidecar.istio.io/inject": "false" } }), json!({}), IN_MESH, true, "its label")]
#[case::annotation(json!({ "annotations": { "sidecar.istio.io/inject": "false" } }), json!({}), IN_MESH, true, "its annotation")]
#[case::host_network(json!({}), json!({ "hostNetwork": true }), IN_MESH, true, "node's network")]
#[case::older(json!({}), json!({}), IN_MESH, true, "older than the label")]
#[case::disabled(json!({}), json!({}), &[("istio-injection", "disabled")], false, "istio-injection=disabled")]
#[case::unlabelled(json!({}), json!({}), &[], false, "no label that asks")]
fn why_there_is_no_sidecar_is_said(
    #[case] metadata: Value,
    #[case] spec: Value,
    #[case] namespace: &[(&str, &str)],
    #[case] missing: bool,
    #[case] owed: &str,
) {
    let mut with_app = spec;
    with_app["containers"] = json!([app()]);
    let (is_missing, why) = match pod(metadata, with_app, namespace).proxy {
        Proxy::Missing { why } => (true, why),
        Proxy::Outside { why } => (false, why),
        other => panic!("{other}"),
    };
    assert!(is_missing == missing && why.contains(owed), "{why}");
}

#[test]
fn ambient_pods_are_ambient_unless_they_opt_out() {
    let ambient = &[("istio.io/dataplane-mode", "ambient")];
    assert_eq!(pod(json!({}), json!({ "containers": [app()] }), ambient).proxy, Proxy::Ambient);
    let out = json!({ "labels": { "istio.io/dataplane-mode": "none" } });
    assert!(matches!(pod(out, json!({ "containers": [app()] }), ambient).proxy, Proxy::Outside { .. }));
}

#[test]
fn a_pod_of_a_deployment_belongs_to_the_deployment_and_others_to_their_owner() {
    let owned = |kind: &str, name: &str| {
        let owner = json!([{ "apiVersion": "v1", "kind": kind, "name": name, "uid": "1", "controller": true }]);
        let metadata = json!({ "labels": { "pod-template-hash": "5f" }, "ownerReferences": owner });
        pod(metadata, json!({ "containers": [app()] }), &[]).owner.to_string()
    };
    assert_eq!(owned("ReplicaSet", "cart-5f"), "deployment/cart");
    assert_eq!(owned("StatefulSet", "redis"), "statefulset/redis");
    assert_eq!(owned("Node", "node-1"), "pod/cart-5f-x", "a static pod");
    assert_eq!(pod(json!({}), json!({ "containers": [app()] }), &[]).owner.to_string(), "pod/cart-5f-x");
}

#[rstest]
#[case::excluded("excludeInboundPorts", "7070, 8080", 7070, true)]
#[case::not_excluded("excludeInboundPorts", "70700", 7070, false)]
#[case::included("includeInboundPorts", "8080", 8080, false)]
#[case::not_included("includeInboundPorts", "8080", 7070, true)]
#[case::none_included("includeInboundPorts", "", 7070, true)]
#[case::all_included("includeInboundPorts", "*", 7070, false)]
fn an_annotation_leaves_ports_to_the_application(
    #[case] name: &str,
    #[case] value: &str,
    #[case] port: u16,
    #[case] owed: bool,
) {
    let metadata = json!({ "annotations": { format!("traffic.sidecar.istio.io/{name}"): value } });
    let pod = pod(metadata, json!({ "containers": [app()] }), IN_MESH);
    assert_eq!(pod.uncaptured.is_some_and(|uncaptured| uncaptured.covers(port)), owed);
}

#[test]
fn http2_is_known_by_the_ports_names() {
    let named = |name: &str| Port { names: [name.to_owned()].into(), ..Port::default() }.is_http2();
    assert!(["grpc", "grpc-api", "http2", "HTTP2-web", "kubernetes.io/h2c"].into_iter().all(named));
    assert!(!["http", "tcp-grpc", "grpcs", "web", ""].into_iter().any(named));
}
