use std::convert::Infallible;
use std::sync::Arc;

use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// An API server with one istiod. `answer` gives an answer of its own for a path, or `None`.
fn server(answer: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static) -> Client {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: ::http::Request<Body>| {
        let path = request.uri().path().to_owned();
        let (code, body) = answer(&path).unwrap_or_else(|| usual(&path));
        let response =
            ::http::Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    Client::new(service, "default")
}

fn list(items: Value) -> (u16, Value) {
    (200, json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": items }))
}

fn status(code: u16) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "" };
    let status = json!({ "kind": "Status", "metadata": {}, "code": code, "reason": reason, "message": "no" });
    (code, status)
}

fn usual(path: &str) -> (u16, Value) {
    let labels = json!({ "app": "istiod", "istio.io/rev": "1-31" });
    let named = |name: &str| json!({ "name": name, "namespace": "mesh", "labels": labels });
    match path {
        "/version" => (
            200,
            json!({
                "major": "1", "minor": "34", "gitVersion": "v1.34.3", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
            }),
        ),
        "/apis/apps/v1/deployments" => {
            let container = json!({ "name": "discovery", "image": "pilot:1.31.0", "env": [{ "name": "CLUSTER_ID", "value": "east" }] });
            let template = json!({ "metadata": { "labels": labels }, "spec": { "containers": [container] } });
            let spec = json!({ "selector": { "matchLabels": labels }, "template": template });
            list(json!([{ "metadata": named("istiod-1-31"), "spec": spec }]))
        }
        "/api/v1/namespaces/mesh/pods" => {
            let ready = json!([{ "type": "Ready", "status": "True" }]);
            let status = json!({ "conditions": ready, "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] });
            list(json!([{ "metadata": named("istiod-0"), "spec": { "containers": [] }, "status": status }]))
        }
        "/api/v1/namespaces/kube-system" => (200, json!({ "metadata": { "name": "kube-system", "uid": "u" } })),
        "/api/v1/services" => {
            let spec = json!({ "selector": labels, "ports": [{ "port": 15012 }] });
            list(json!([{ "metadata": named("istiod-1-31"), "spec": spec }]))
        }
        path if path.contains("/configmaps/") || path.ends_with("/namespaces/mesh") => status(404),
        _ => list(json!([])),
    }
}

async fn refused(answer: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static) -> String {
    discover(&server(answer), "context", &Options::default()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_refused_request_is_never_none_found() {
    let denied = refused(|path| path.ends_with("/deployments").then(|| status(403))).await;
    assert!(
        denied.contains("the API server forbids to list deployments") && denied.contains("unknown whether Istio"),
        "{denied}"
    );
    let none = refused(|path| path.ends_with("/deployments").then(|| list(json!([])))).await;
    assert!(none.contains("no Istio"), "{none}");
    let broken = refused(|path| path.ends_with("/services").then(|| status(500))).await;
    assert!(broken.contains("could not list services"), "an error is no refusal: {broken}");
}

#[tokio::test]
async fn all_that_cannot_be_found_out_is_asked_for_at_once_by_flag() {
    let asked = refused(|_| None).await;
    for flag in ["--mesh-id", "--trust-domain", "--injection KEY=VALUE", "--root FILE", "create pods/portforward"] {
        assert!(asked.contains(flag), "no {flag} in {asked}");
    }
    assert!(!asked.contains("name in the mesh"), "CLUSTER_ID tells it: {asked}");
}

#[tokio::test]
async fn without_a_ready_istiod_nothing_is_found() {
    let none = refused(|path| path.ends_with("/pods").then(|| list(json!([])))).await;
    assert!(none.contains("no pod `app=istiod,istio.io/rev=1-31` in namespace mesh is ready"), "{none}");
}

#[tokio::test]
async fn what_is_told_stands_in_for_what_cannot_be_read_and_the_rest_is_noted() {
    let (roots, _) = crate::identity::trust::tests::mesh();
    let sidecar = json!({ "name": "istio-proxy", "args": ["proxy", "sidecar"], "restartPolicy": "Always" });
    let running = json!([{ "metadata": { "name": "p" }, "spec": { "containers": [], "initContainers": [sidecar] } }]);
    let client = server(move |path| match path {
        "/api/v1/pods" => Some(list(running.clone())),
        "/api/v1/nodes" | "/api/v1/namespaces/mesh/secrets" => Some(status(403)),
        _ => None,
    });
    let options = Options {
        mesh_id: Some("corp".into()),
        trust_domain: Some("corp.example".into()),
        injection: Some(Label { key: "istio.io/rev".into(), value: "1-31".into() }),
        roots: roots.roots().iter().map(|root| trust::to_pem(root.der())).collect(),
        ..Options::default()
    };
    let found = discover(&client, "context", &options).await.unwrap();
    assert_eq!((found.record.name.as_str(), found.mesh_id.as_str()), ("east", "corp"));
    assert_eq!(found.trust.roots, options.roots);
    assert_eq!(found.istio_version, "1.31.0", "the tag of the image");
    assert!(found.record.istio.proxy.native_sidecar, "as in the running pod");
    assert_eq!(found.record.address_families, [AddressFamily::Ipv4, AddressFamily::Ipv6]);
    assert_eq!(found.record.istio.control_plane.server_name, "istiod-1-31.mesh.svc");
    assert_eq!((found.peers.secrets, found.record.issuers.len()), (None, 0));
    let unread: Vec<String> = found.unread.iter().map(ToString::to_string).collect();
    for part in ["list nodes: not allowed (403)", "list secrets in mesh: not allowed (403)", "the CA that signs"] {
        assert!(unread.iter().any(|unread| unread.contains(part)), "no `{part}` in {unread:#?}");
    }
}
