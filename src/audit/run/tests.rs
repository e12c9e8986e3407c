//! Audits against a fake API server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::record::{self, Capabilities, Mesh, Record, TrustDomain};

/// A mesh of one cluster that has these lists, by the last part of their paths, and the requests that change or enter
/// something.
fn mesh(lists: BTreeMap<&'static str, Value>) -> (Testbed, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let answer = move |request: http::Request<Body>| {
        let path = request.uri().path().to_owned();
        if request.method() != http::Method::GET || path.ends_with("/exec") {
            log.lock().unwrap().push(format!("{} {path}", request.method()));
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        let (status, body) = match lists.get(last) {
            Some(Value::Array(items)) => (
                200,
                json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "1" }, "items": items }),
            ),
            Some(object) => (object["code"].as_u64().unwrap_or(200), object.clone()),
            None => (
                404,
                json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 404, "message": "none" }),
            ),
        };
        let mut response = http::Response::new(Body::from(body.to_string().into_bytes()));
        *response.status_mut() = http::StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    };
    let client = Client::new(tower::service_fn(answer), "default");
    let cluster = Cluster::new(record::tests::cluster("east"), "/kubeconfig".into(), client, "v1".into());
    let (trust, _) = crate::identity::trust::tests::mesh();
    let record = Record {
        schema: record::SCHEMA.into(),
        provider: "attach".into(),
        mesh: Mesh {
            id: "mesh".into(),
            version: "1".into(),
            trust: TrustDomain { name: "cluster.local".into(), aliases: vec![], roots: vec![] },
        },
        clusters: vec![cluster.record().clone()],
        application: None,
        capabilities: Capabilities::default(),
    };
    let (directory, record, clusters) = ("/testbed".into(), Arc::new(record), vec![Arc::new(cluster)]);
    (Testbed { directory, record, clusters, trust: Arc::new(trust) }, asked)
}

/// A namespace of the ambient mesh as the API server gives it: a Deployment's pod, which istio-cni has redirected, and a
/// Service that targets its port by name. The pod itself declares the port.
fn waves() -> BTreeMap<&'static str, Value> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "waves", "labels": {
            "istio.io/dataplane-mode": "ambient", "kubernetes.io/metadata.name": "waves",
        } },
        "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
    });
    let pod = json!({
        "metadata": {
            "name": "surf-7d9c-abcde", "namespace": "waves", "uid": "1",
            "labels": { "app": "surf", "pod-template-hash": "7d9c" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "surf-7d9c", "uid": "2", "controller": true,
            }],
        },
        "spec": {
            "serviceAccountName": "default", "nodeName": "node",
            "containers": [{ "name": "app", "image": "i", "ports": [{ "containerPort": 8080, "name": "http" }] }],
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.7", "podIPs": [{ "ip": "10.0.0.7" }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    let service = json!({
        "metadata": { "name": "surf", "namespace": "waves" },
        "spec": {
            "clusterIP": "172.24.0.7", "selector": { "app": "surf" },
            "ports": [{ "name": "http", "port": 80, "targetPort": "http" }],
        },
    });
    let slice = json!({
        "addressType": "IPv4",
        "metadata": {
            "name": "surf-x", "namespace": "waves", "labels": { "kubernetes.io/service-name": "surf" },
        },
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": [{
            "addresses": ["10.0.0.7"], "conditions": { "ready": true },
            "targetRef": { "kind": "Pod", "name": "surf-7d9c-abcde", "namespace": "waves" },
        }],
    });
    [
        ("waves", namespace),
        ("pods", json!([pod])),
        ("services", json!([service])),
        ("endpointslices", json!([slice])),
        ("networkpolicies", json!([])),
    ]
    .into()
}

fn only(namespace: &str) -> Options {
    Options { namespaces: vec![namespace.into()], ..Options::default() }
}

#[tokio::test]
async fn a_namespace_of_the_ambient_mesh_is_not_judged_by_name_and_nothing_is_asked_there() {
    let (testbed, asked) = mesh(waves());
    let mut announced = 0;
    let found = audit(&testbed, &only("waves"), |_| announced += 1).await.unwrap();
    let cells: Vec<String> = found
        .cells
        .iter()
        .map(|cell| format!("{} {} {}: {}", cell.namespace, cell.workload, cell.port, cell.wire.kind))
        .collect();
    assert_eq!(cells, ["waves deployment/surf 8080: not judged: ambient mode is not judged"]);
    assert_eq!((announced, found.cells[0].standing()), (1, Standing::NotJudged));
    assert!(!found.is_judged() && !found.holds(), "what was not judged never holds");
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
}

/// A list of policies that may not be read is not an empty one.
#[tokio::test]
async fn policies_that_are_forbidden_to_read_are_unknown_and_not_none() {
    let mut lists = waves();
    let sidecar = json!({ "name": "istio-proxy", "image": "p", "args": ["proxy", "sidecar"] });
    let pod = &mut lists.get_mut("pods").unwrap()[0];
    pod["spec"]["containers"].as_array_mut().unwrap().push(sidecar);
    pod["spec"]["containers"][0]["ports"][0]["protocol"] = "UDP".into();
    lists.insert("endpointslices", json!([]));
    let why = async |answer: Value| {
        let lists = lists.clone().into_iter().chain([("peerauthentications", answer)]).collect();
        audit(&mesh(lists).0, &only("waves"), |_| ()).await.unwrap().cells.remove(0).why.join("; ")
    };
    let forbidden = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 403, "message": "you may not list them",
    });
    let told = why(forbidden).await;
    assert!(told.contains("its policy is unknown: ") && told.contains("you may not list them"), "{told}");
    let none = why(json!([])).await;
    assert!(!none.contains("unknown"), "the control: there are none: {none}");
}

#[tokio::test]
async fn a_namespace_without_any_port_is_told() {
    let mut lists = waves();
    lists.insert("pods", json!([]));
    let error = audit(&mesh(lists).0, &only("waves"), |_| ()).await.unwrap_err().to_string();
    assert_eq!(error, "no pod in waves declares a port, and no Service targets one: nothing was judged");
}
