//! Tests of the clean-up.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::client::Body;
use serde_json::json;

use super::*;
use crate::istio::MULTI_CLUSTER;

/// An API server with these kinds, with one labelled object of each kind. The server records its requests. Listing
/// the kind `Broken` fails.
fn server() -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let (code, body) = answer(&method, &path);
        let selector = request.uri().query().filter(|_| method == "GET").unwrap_or_default();
        log.lock().unwrap().push(format!("{method} {path} {selector}").trim_end().to_owned());
        let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    (Client::new(service, "default"), asked)
}

fn answer(method: &str, path: &str) -> (u16, Value) {
    let status =
        |code: u16| json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "code": code, "message": "no"});
    let object = json!({"metadata": {"name": "left", "namespace": "shop"}});
    let list = |items: &[Value]| json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items});
    match (method, path) {
        (_, "/api") => (
            200,
            groups(&[
                ("", "v1", "ConfigMap", "configmaps"),
                ("", "v1", "Namespace", "namespaces"),
                ("", "v1", "Secret", "secrets"),
                ("", "v1", "Vanished", "vanished"),
            ]),
        ),
        (_, "/apis") => (
            200,
            groups(&[
                ("networking.istio.io", "v1", "Gateway", "gateways"),
                ("networking.istio.io", "v1alpha3", "EnvoyFilter", "envoyfilters"),
                ("networking.istio.io", "v1", "Broken", "broken"),
                ("networking.istio.io", "v1", "Denied", "denied"),
            ]),
        ),
        ("DELETE", _) => (200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})),
        (_, "/apis/networking.istio.io/v1/broken") => (500, status(500)),
        (_, "/apis/networking.istio.io/v1/denied") => (403, status(403)),
        (_, "/api/v1/namespaces") => {
            let ending = json!({"metadata": {"name": "ending", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
            (200, list(&[json!({"metadata": {"name": "ended"}}), ending]))
        }
        (_, "/apis/networking.istio.io/v1/gateways") => {
            (200, list(&[object, json!({"metadata": {"name": "left", "namespace": "ending"}})]))
        }
        (_, "/api/v1/secrets") => (200, list(&[json!({"metadata": {"name": "inside", "namespace": "ended"}})])),
        (_, "/api/v1/vanished") => (404, status(404)),
        (_, "/api/v1/nodes" | "/apis/apps/v1/deployments") => (200, list(&[])),
        _ => (200, list(&[object])),
    }
}

/// A Secret in the namespace of Istio.
fn secret(name: &str, labels: Value, data: Value) -> Value {
    json!({ "metadata": { "name": name, "namespace": "istio", "labels": labels }, "data": data })
}

/// An API server with two Secrets, of which a test has changed one: `changed`. Records the patches.
fn with_secrets(changed: Value) -> (Client, Arc<Mutex<Vec<String>>>) {
    let patches = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&patches);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, changed) = (Arc::clone(&log), changed.clone());
        async move {
            let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
            let (code, body) = match (method.as_str(), path.as_str()) {
                ("PATCH", _) => {
                    let patch = request.into_body().collect_bytes().await.unwrap();
                    log.lock().unwrap().push(format!("{path} {}", String::from_utf8_lossy(&patch)));
                    (200, changed)
                }
                (_, path) if path.starts_with("/api/v1/namespaces/istio/secrets/") => (200, changed),
                ("GET", "/apis/apps/v1/namespaces/istio/deployments") => {
                    let counts = json!({ "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 });
                    let metadata = json!({ "name": "istiod", "namespace": "istio" });
                    let istiod =
                        json!({ "metadata": metadata, "spec": { "selector": {}, "template": {} }, "status": counts });
                    (200, json!({ "metadata": { "resourceVersion": "1" }, "items": [istiod] }))
                }
                (_, "/api/v1/secrets") => {
                    let (_, mut listed) = answer("GET", "/api/v1/nodes");
                    listed["items"] = json!([secret("other", json!({}), json!({})), changed]);
                    (200, listed)
                }
                ("GET", "/api" | "/apis") => answer("GET", &path),
                _ => answer("GET", "/api/v1/nodes"),
            };
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap();
            Ok::<_, Infallible>(response)
        }
    });
    (Client::new(service, "default"), patches)
}

#[tokio::test]
async fn a_secret_that_a_killed_test_changed_gets_back_its_data() {
    let data = json!({ "key": "bmV3", "meshproof-prior.key": "b2xk" });
    let (restored, patch) = restored(secret("cacerts", json!({ prior::DATA: "true" }), data)).await;
    assert_eq!(restored, ["the data of Secret istio/cacerts"]);
    assert_eq!(patch["data"], json!({ "key": "b2xk", "meshproof-prior.key": null }));
    assert_eq!(patch["metadata"]["labels"], json!({ prior::DATA: null }));
}

#[tokio::test]
async fn a_remote_secret_that_a_killed_test_hid_is_shown_again() {
    let (restored, patch) = restored(secret("remote", json!({ prior::REMOTE: "true" }), json!({}))).await;
    assert_eq!(restored, ["the label and the data of Secret istio/remote"]);
    assert_eq!(patch["metadata"]["labels"], json!({ prior::REMOTE: null, MULTI_CLUSTER: "true" }));
}

#[tokio::test]
async fn istiod_is_started_again_after_a_killed_test_gave_a_remote_secret_another_token() {
    let mut refused = secret("remote", json!({ prior::REMOTE: "true" }), json!({ "west": "cmVmdXNlZA==" }));
    refused["metadata"]["annotations"] = json!({ prior::REMOTE_DATA: json!({ "west": "b2xk" }).to_string() });
    let (client, patches) = with_secrets(refused);
    let sweeper = Sweeper { client: &client, cluster: "cluster1", label: RUN_LABEL, prefix: None };
    let restored: Vec<String> = sweeper.secrets().await.into_iter().map(Result::unwrap).collect();
    assert_eq!(restored, ["the label and the data of Secret istio/remote", "istiod in istio, by a restart"]);
    let patches = patches.lock().unwrap();
    let [back, restart] = patches.as_slice() else { panic!("{patches:#?}") };
    assert!(back.contains(r#""west":"b2xk""#), "{back}");
    assert!(restart.starts_with("/apis/apps/v1/namespaces/istio/deployments/istiod "), "{restart}");
    assert!(restart.contains("restartedAt"), "{restart}");
}

/// What a sweep says that it restored where `changed` is the only Secret that a test has changed, and its patch.
async fn restored(changed: Value) -> (Vec<String>, Value) {
    let (client, patches) = with_secrets(changed.clone());
    let sweeper = Sweeper { client: &client, cluster: "cluster1", label: RUN_LABEL, prefix: None };
    let restored = sweeper.secrets().await.into_iter().map(Result::unwrap).collect();
    let patches = patches.lock().unwrap();
    let [patch] = patches.as_slice() else { panic!("{patches:#?}") };
    let (path, patch) = patch.split_once(' ').unwrap();
    assert_eq!(path, format!("/api/v1/namespaces/istio/secrets/{}", changed["metadata"]["name"].as_str().unwrap()));
    (restored, serde_json::from_str(patch).unwrap())
}

/// Aggregated discovery of one API group.
fn groups(kinds: &[(&str, &str, &str, &str)]) -> Value {
    let versions = ["v1", "v1alpha3"].map(|served| {
        let of_version = kinds.iter().filter(|(_, version, ..)| *version == served);
        let resources: Vec<Value> = of_version
            .map(|(group, version, kind, plural)| {
                json!({
                    "resource": plural, "scope": "Namespaced", "singularResource": "", "verbs": ["delete", "list"],
                    "responseKind": {"group": group, "version": version, "kind": kind},
                })
            })
            .collect();
        json!({"version": served, "resources": resources, "freshness": "Current"})
    });
    let group = json!({"metadata": {"name": kinds[0].0}, "versions": versions});
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [group]})
}

#[tokio::test]
async fn objects_of_every_kind_are_removed_also_of_a_kind_served_in_an_older_version_only() {
    let (client, asked) = server();
    sweep(&client, "cluster1").await.expect_err("one kind cannot be listed");
    let asked = asked.lock().unwrap();
    for removed in [
        "/api/v1/namespaces/shop/configmaps/left",
        "/apis/networking.istio.io/v1/namespaces/shop/gateways/left",
        "/apis/networking.istio.io/v1alpha3/namespaces/shop/envoyfilters/left",
    ] {
        assert!(asked.contains(&format!("DELETE {removed}")), "{removed} is not removed: {asked:#?}");
    }
}

/// An API server that lets nothing be listed, and says that anything may be created, or nothing.
fn closed(may_create: bool) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let (code, body) = match path.as_str() {
            "/api" | "/apis" => answer(&method, &path),
            path if path.ends_with("/selfsubjectaccessreviews") => {
                (201, json!({ "spec": {}, "metadata": {}, "status": { "allowed": may_create } }))
            }
            _ => (403, json!({"kind": "Status", "metadata": {}, "code": 403, "message": "forbidden"})),
        };
        let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    Client::new(service, "default")
}

#[tokio::test]
async fn what_may_not_be_listed_is_no_matter_only_if_it_could_not_have_been_made() {
    assert_eq!(sweep(&closed(false), "cluster1").await.unwrap(), Vec::<String>::new());
    let error = sweep(&closed(true), "cluster1").await.unwrap_err().to_string();
    for what in ["kind ConfigMap", "kind Gateway.networking.istio.io", "list the nodes", "list the deployments"] {
        assert!(error.contains(what), "{what}: {error}");
    }
}

#[tokio::test]
async fn objects_of_a_namespace_that_is_being_deleted_are_left_to_kubernetes() {
    let (client, asked) = server();
    sweep(&client, "cluster1").await.expect_err("one kind cannot be listed");
    let asked = asked.lock().unwrap();
    assert!(!asked.iter().any(|line| line.starts_with("DELETE") && line.contains("ending")), "{asked:#?}");
}

#[tokio::test]
async fn a_namespace_is_removed_and_what_is_in_it_ends_with_it() {
    let (client, asked) = server();
    let swept = remove_everything(&client, "cluster1").await.unwrap();
    let asked = asked.lock().unwrap();
    assert!(asked.contains(&"DELETE /api/v1/namespaces/ended".to_owned()), "{asked:#?}");
    assert!(!asked.iter().any(|line| line.starts_with("DELETE") && line.contains("inside")), "{asked:#?}");
    assert!(swept.done.contains(&"Namespace ended".to_owned()), "{swept:?}");
}

#[tokio::test]
async fn a_kind_that_may_not_be_listed_is_told_apart_from_one_that_cannot_be() {
    let (client, _) = server();
    let swept = remove_everything(&client, "cluster1").await.unwrap();
    let told = |errors: &[Error]| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert!(told(&swept.denied).contains("kind Denied.networking.istio.io"), "{swept:?}");
    assert!(told(&swept.failures).contains("kind Broken.networking.istio.io"), "{swept:?}");
    assert!(!told(&swept.failures).contains("Denied"), "{swept:?}");
}

#[tokio::test]
async fn after_tests_that_could_only_create_namespaces_nothing_else_is_asked_for() {
    let (client, asked) = server();
    let done = sweep_after(&client, "cluster1", &[Write::Namespaces], None).await.unwrap();
    assert_eq!(done, ["Namespace ended"]);
    let asked = asked.lock().unwrap();
    assert!(asked.iter().all(|line| line.contains("/api/v1/namespaces")), "{asked:#?}");
}

#[tokio::test]
async fn the_namespaces_of_somebody_elses_tests_are_left_alone() {
    let (client, asked) = server();
    // A name that only begins with the same letters is another's too.
    for prefix in ["theirs", "end"] {
        let done = sweep_after(&client, "cluster1", &[Write::Namespaces], Some(prefix)).await.unwrap();
        assert_eq!(done, Vec::<String>::new(), "{prefix}");
    }
    let asked = asked.lock().unwrap();
    assert!(!asked.iter().any(|line| line.starts_with("DELETE")), "{asked:#?}");
}

#[tokio::test]
async fn objects_of_another_label_are_not_asked_for() {
    let (client, asked) = server();
    remove_labelled(&client, "cluster1", "example.org/mine").await.expect_err("one kind cannot be listed");
    let asked = asked.lock().unwrap();
    let lists: Vec<_> = asked.iter().filter(|line| line.contains("labelSelector")).collect();
    assert!(lists.len() > 3 && lists.iter().all(|list| list.contains("example.org%2Fmine")), "{asked:#?}");
    assert!(!asked.iter().any(|line| line.contains("/nodes")), "labels of nodes are left alone");
}

#[tokio::test]
async fn a_kind_that_cannot_be_listed_is_named_and_one_that_vanished_is_not() {
    let error = sweep(&server().0, "cluster1").await.unwrap_err().to_string();
    assert!(error.contains("list the objects of kind Broken.networking.istio.io"), "{error}");
    assert!(!error.contains("Vanished"), "{error}");
}
