//! Which ports a pod has, by its own declaration and by the Services that target it.

use serde_json::{Value, json};

use super::*;

fn read<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

fn pods() -> Vec<Pod> {
    let istio = crate::record::tests::cluster("cluster1").istio;
    let pod = |name: &str| {
        let container = json!({ "name": "app", "ports": [{ "containerPort": 8080 }] });
        let spec = json!({ "containers": [container] });
        read(json!({ "metadata": { "name": name, "namespace": "boutique" }, "spec": spec }))
    };
    ["cart-0", "cart-1"].map(|name| Pod::of(&pod(name), None, &istio)).into()
}

fn slice(pod: &str, ready: bool) -> EndpointSlice {
    read(json!({
        "addressType": "IPv4",
        "metadata": {
            "name": "cart-a", "namespace": "boutique", "labels": { "kubernetes.io/service-name": "cart" },
        },
        "ports": [
            { "name": "grpc", "port": 7070, "protocol": "TCP" },
            { "name": "dns", "port": 53, "protocol": "UDP" },
        ],
        "endpoints": [{
            "addresses": ["10.0.0.1"], "conditions": { "ready": ready },
            "targetRef": { "kind": "Pod", "name": pod, "namespace": "boutique" },
        }],
    }))
}

fn service(cluster_ip: &str) -> ServiceFacts {
    service_facts(&read(json!({
        "metadata": { "name": "cart", "namespace": "boutique" },
        "spec": { "clusterIP": cluster_ip, "ports": [{ "name": "web", "port": 80, "appProtocol": "grpc" }] },
    })))
}

#[test]
fn a_port_that_a_service_targets_is_a_port_of_the_pod_by_its_number_there() {
    let (mut pods, mut services) = (pods(), vec![service("172.24.0.1")]);
    target(&mut pods, &mut services, &[slice("cart-0", true)]);
    let numbers = |pod: &Pod| pod.ports.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(numbers(&pods[0]), ["53/udp", "7070", "8080"]);
    assert_eq!(numbers(&pods[1]), ["8080"], "no endpoint of the service");
    let key = PortKey { number: 7070, transport: Transport::Tcp };
    assert!(pods[0].ports[&key].is_http2() && pods[0].ports[&key].services.contains("cart"));
    assert!(services[0].has_endpoints);
}

#[test]
fn a_service_whose_endpoints_are_not_ready_has_none_and_its_ports_are_asked_all_the_same() {
    let (mut pods, mut services) = (pods(), vec![service("None")]);
    target(&mut pods, &mut services, &[slice("cart-1", false)]);
    assert!(!services[0].has_endpoints && services[0].headless);
    assert_eq!(pods[1].ports.len(), 3);
}

#[test]
fn a_network_policy_may_select_a_pod_of_its_namespace_by_its_labels() {
    let restriction = |namespace: &str, labels: Value| Restriction {
        namespace: namespace.into(),
        name: "deny".into(),
        selector: read(json!({ "matchLabels": labels })),
    };
    let mut pod = pods().remove(0);
    pod.labels = [("app".to_owned(), "cart".to_owned())].into();
    assert!(restriction("boutique", json!({})).may_select(&pod));
    assert!(restriction("boutique", json!({ "app": "cart" })).may_select(&pod));
    assert!(!restriction("boutique", json!({ "app": "web" })).may_select(&pod));
    assert!(!restriction("other", json!({})).may_select(&pod));
}

/// Objects as the API server gives them in a cluster of both families: a slice for each family, and two addresses of the
/// pod, of which `status.podIP` repeats the first.
#[test]
fn a_port_of_a_dual_stack_service_is_one_port_at_both_addresses_of_the_pod() {
    let istio = crate::record::tests::cluster("cluster1").istio;
    let pod = read(json!({
        "metadata": { "name": "cart-0", "namespace": "boutique" },
        "spec": { "containers": [{ "name": "app" }] },
        "status": {
            "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00:10::1" }],
        },
    }));
    let service = service_facts(&read(json!({
        "metadata": { "name": "cart", "namespace": "boutique" },
        "spec": {
            "clusterIP": "172.24.0.1", "clusterIPs": ["172.24.0.1", "fd00:24::1"],
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
            "ports": [{ "name": "grpc", "port": 7070 }],
        },
    })));
    assert!(!service.headless);
    let mut of_ipv6 = slice("cart-0", true);
    of_ipv6.address_type = "IPv6".into();
    of_ipv6.endpoints[0].addresses = vec!["fd00:10::1".into()];
    let (mut pods, mut services) = (vec![Pod::of(&pod, None, &istio)], vec![service]);
    target(&mut pods, &mut services, &[slice("cart-0", true), of_ipv6]);
    assert_eq!(pods[0].addresses, ["10.0.0.1", "fd00:10::1"]);
    assert_eq!(pods[0].ports.keys().map(ToString::to_string).collect::<Vec<_>>(), ["53/udp", "7070"]);
    assert!(services[0].has_endpoints && services.len() == 1);
}
