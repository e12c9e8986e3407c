use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Mutex as StdMutex;

use futures::FutureExt;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::record::{self, AccessLog, ProbeDeployment, Record, Write};

/// What an API server was asked to write: `PATCH PATH` or `DELETE PATH`, and the object.
type Written = Arc<StdMutex<Vec<(String, Value)>>>;

/// An API server with `namespaces`, in which every deployment is available.
fn server(namespaces: Vec<Value>, may_delete: bool) -> (Client, Written) {
    let written = Written::default();
    let log = Arc::clone(&written);
    let answer = move |request: http::Request<Body>| {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let query = request.uri().query().unwrap_or_default().to_owned();
        let (log, namespaces) = (Arc::clone(&log), namespaces.clone());
        async move {
            if query.contains("watch=true") {
                return std::future::pending().await;
            }
            let body = request.into_body().collect_bytes().await.unwrap_or_default();
            let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (code, body) = match method {
                http::Method::GET => found(&path, &query, &namespaces),
                http::Method::POST if path.ends_with("/selfsubjectaccessreviews") => {
                    (201, json!({ "metadata": {}, "spec": {}, "status": { "allowed": may_delete } }))
                }
                _ => {
                    log.lock().unwrap().push((format!("{method} {path}"), sent.clone()));
                    (200, sent)
                }
            };
            let body = Body::from(body.to_string().into_bytes());
            Ok::<_, Infallible>(http::Response::builder().status(code).body(body).unwrap())
        }
        .boxed()
    };
    (Client::new(tower::service_fn(answer), "default"), written)
}

fn found(path: &str, query: &str, namespaces: &[Value]) -> (u16, Value) {
    let list = |items: Value| json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items });
    if let Some(name) = path.strip_prefix("/api/v1/namespaces/").filter(|rest| !rest.contains('/')) {
        let missing = json!({ "kind": "Status", "metadata": {}, "code": 404, "reason": "NotFound", "message": "no" });
        let found = namespaces.iter().find(|namespace| namespace["metadata"]["name"] == name);
        return found.map_or((404, missing), |found| (200, found.clone()));
    }
    if path.ends_with("/deployments") {
        let name = query.split("metadata.name%3D").nth(1).and_then(|rest| rest.split('&').next()).unwrap_or_default();
        let counts = json!({ "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 });
        let metadata = json!({ "name": name, "namespace": "n", "resourceVersion": "1" });
        return (200, list(json!([{ "metadata": metadata, "status": counts }])));
    }
    let kinds = [
        ("security.istio.io/v1", "PeerAuthentication", "peerauthentications"),
        ("networking.istio.io/v1alpha3", "EnvoyFilter", "envoyfilters"),
        ("networking.istio.io/v1", "Gateway", "gateways"),
    ];
    let of_group = |(version, ..): &&(&str, &str, &str)| path == format!("/apis/{version}");
    if let Some((_, kind, plural)) = kinds.iter().find(of_group) {
        let kind = json!({ "name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["patch"] });
        return (
            200,
            json!({ "kind": "APIResourceList", "groupVersion": path.trim_start_matches("/apis/"), "resources": [kind] }),
        );
    }
    (200, list(json!([])))
}

/// A testbed of the clusters `east` and `west`, whose probes must be deployed.
fn testbed(directory: &str, namespaces: Vec<Value>) -> (Testbed, Written) {
    testbed_of(directory, server(namespaces, true))
}

fn testbed_of(directory: &str, (client, written): (Client, Written)) -> (Testbed, Written) {
    let clusters = ["east", "west"].map(|name| {
        let mut cluster = record::tests::cluster(name);
        let probes = cluster.probes.as_mut().unwrap();
        let image = "registry.example/probe:1".into();
        probes.deployment = Some(ProbeDeployment { image, pull_policy: None, pull_secret: None });
        cluster.istio.access_log = Some(AccessLog::Filter);
        cluster.lease_namespace = Some("meshproof-naked".into());
        cluster
    });
    let record = record::tests::record(clusters.clone().into());
    let clusters =
        clusters.map(|cluster| Arc::new(Cluster::new(cluster, "/kubeconfig".into(), client.clone(), "v1".into())));
    let (trust, _) = crate::identity::trust::tests::mesh();
    let testbed =
        Testbed { directory: directory.into(), record: record.into(), clusters: clusters.into(), trust: trust.into() };
    (testbed, written)
}

fn paths(written: &Written) -> Vec<String> {
    written.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
}

#[tokio::test]
async fn nothing_is_begun_that_could_not_be_removed_again() {
    let (testbed, written) = testbed_of("/standing/nothing", server(vec![], false));
    for refused in [lease_namespaces(&testbed).await, ensure(&testbed).await] {
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("may not delete namespaces of ") && message.contains("no right to"), "{message}");
    }
    assert_eq!(paths(&written), Vec::<String>::new());
}

#[tokio::test]
async fn everything_is_written_once_a_process_namespaces_first_and_deployments_last() {
    let (testbed, written) = testbed("/standing/everything", vec![]);
    ensure(&testbed).await.unwrap();
    let first = paths(&written);
    ensure(&testbed).await.unwrap();
    assert_eq!(paths(&written), first, "nothing is written again");
    let own = |path: &str| format!("PATCH {path}");
    let owed = [
        "/api/v1/namespaces/pinnacle",
        "/api/v1/namespaces/meshproof-naked",
        "/api/v1/namespaces/pinnacle/serviceaccounts/probe-east",
        "/api/v1/namespaces/pinnacle/serviceaccounts/caller-west",
        "/api/v1/namespaces/meshproof-naked/serviceaccounts/probe-west",
        "/api/v1/namespaces/pinnacle/services/probe-east",
        "/api/v1/namespaces/meshproof-naked/services/probe-naked-east",
        "/apis/security.istio.io/v1/namespaces/pinnacle/peerauthentications/default",
        "/apis/networking.istio.io/v1alpha3/namespaces/pinnacle/envoyfilters/meshproof-evidence",
        "/apis/networking.istio.io/v1/namespaces/pinnacle/gateways/exposed",
        "/apis/apps/v1/namespaces/pinnacle/deployments/probe",
        "/apis/apps/v1/namespaces/pinnacle/deployments/caller",
        "/apis/apps/v1/namespaces/meshproof-naked/deployments/probe",
    ];
    let missing: Vec<_> = owed.iter().filter(|path| !first.contains(&own(path))).collect();
    assert!(missing.is_empty(), "{missing:?} of {first:#?}");
    let of_east = own("/api/v1/namespaces/pinnacle/services/probe-east");
    assert_eq!(first.iter().filter(|path| **path == of_east).count(), 2, "each service is in both clusters");
    let written = written.lock().unwrap();
    let labelled = |object: &Value| object["metadata"]["labels"][PROBES_LABEL] == "deployed";
    assert!(written.iter().all(|(_, object)| labelled(object)), "{written:#?}");
    assert!(written.iter().all(|(_, object)| object["metadata"]["labels"].get(RUN_LABEL).is_none()));
}

#[tokio::test]
async fn namespaces_are_in_the_mesh_or_not_and_as_restricted_as_the_mesh_lets_them_be() {
    let (testbed, _) = testbed("/standing/labels", vec![]);
    let label = |record: &Record, name: &str, key: &str| {
        let wanted = Wanted::of(record).remove(0);
        wanted.namespace(name).labels().get(key).cloned()
    };
    let (inside, outside, level) = ("pinnacle", "meshproof-naked", "pod-security.kubernetes.io/enforce");
    let mut record = (*testbed.record).clone();
    assert_eq!(label(&record, inside, "istio-injection").as_deref(), Some("enabled"));
    assert_eq!(label(&record, outside, "istio-injection").as_deref(), Some("disabled"));
    assert_eq!(label(&record, inside, level).as_deref(), Some("privileged"), "an init container needs it");
    assert_eq!(label(&record, outside, level).as_deref(), Some("restricted"));
    record.clusters[0].istio.proxy.init_container = false;
    assert_eq!(label(&record, inside, level).as_deref(), Some("restricted"));
}

#[tokio::test]
async fn a_namespace_of_somebody_else_is_left_alone_and_every_test_reports_it() {
    let shop = json!({ "metadata": { "name": "pinnacle", "labels": { "team": "shop" } } });
    let (testbed, written) = testbed("/standing/other", vec![shop]);
    for _ in 0..2 {
        let error = ensure(&testbed).await.unwrap_err();
        assert!(error.to_string().contains("namespace pinnacle exists without the label"), "{error}");
        assert!(!error.is_not_declared());
    }
    assert!(!paths(&written).iter().any(|path| path.contains("pinnacle")), "{written:#?}");
}

#[tokio::test]
async fn without_the_permission_nothing_is_written() {
    let (mut testbed, written) = testbed("/standing/read-only", vec![]);
    let mut record = (*testbed.record).clone();
    record.capabilities.writes = vec![Write::Objects];
    testbed.record = record.into();
    lease_namespaces(&testbed).await.unwrap();
    ensure(&testbed).await.unwrap();
    assert!(paths(&written).is_empty());
}

#[tokio::test]
async fn the_namespace_of_the_lease_is_created_if_it_is_missing_and_left_alone_if_it_is_not() {
    let (missing, written) = testbed("/standing/lease", vec![]);
    lease_namespaces(&missing).await.unwrap();
    let created: BTreeSet<_> = paths(&written).into_iter().collect();
    assert_eq!(created, ["PATCH /api/v1/namespaces/meshproof-naked".to_owned()].into());
    let (there, written) = testbed("/standing/leased", vec![json!({ "metadata": { "name": "meshproof-naked" } })]);
    lease_namespaces(&there).await.unwrap();
    assert!(paths(&written).is_empty());
}

/// An API server with a namespace of meshproof's, whose Lease `holder` has, and one of somebody else's. Records its
/// requests.
fn shared(holder: Option<&'static str>) -> (Client, Arc<StdMutex<Vec<String>>>) {
    let asked = Arc::<StdMutex<Vec<String>>>::default();
    let log = Arc::clone(&asked);
    let status = |code: u16, status: &str| json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "code": code, "status": status, "reason": "NotFound" });
    let namespace = |name: &str, labels: Value| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } });
    let answer = move |request: http::Request<Body>| {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let watches = request.uri().query().unwrap_or_default().contains("watch=true");
        log.lock().unwrap().push(format!("{method} {path}"));
        let (code, body) = match (method.as_str(), path.as_str(), holder) {
            ("PUT", ..) => {
                let body = request.into_body().collect_bytes().now_or_never().unwrap().unwrap();
                log.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
                (200, json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {} }))
            }
            ("DELETE", ..) => (200, status(200, "Success")),
            (_, "/api/v1/namespaces/ours", _) => (200, namespace("ours", json!({ PROBES_LABEL: "deployed" }))),
            (_, "/api/v1/namespaces/theirs", _) => (200, namespace("theirs", json!({}))),
            (_, "/api/v1/namespaces", _) => (
                200,
                json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": [] }),
            ),
            (_, "/apis/coordination.k8s.io/v1/namespaces/ours/leases/meshproof", Some(holder)) => {
                let spec = json!({ "holderIdentity": holder, "leaseDurationSeconds": 60, "renewTime": "2999-01-01T00:00:00.000000Z" });
                (
                    200,
                    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "meshproof" }, "spec": spec }),
                )
            }
            _ => (404, status(404, "Failure")),
        };
        let response = http::Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap();
        async move {
            if watches {
                return std::future::pending().await;
            }
            Ok::<_, Infallible>(response)
        }
        .boxed()
    };
    (Client::new(tower::service_fn(answer), "default"), asked)
}

fn deletions(asked: &StdMutex<Vec<String>>) -> Vec<String> {
    asked.lock().unwrap().iter().filter(|line| line.starts_with("DELETE")).cloned().collect()
}

#[tokio::test]
async fn a_run_removes_its_own_namespaces_and_no_others() {
    let (client, asked) = shared(None);
    let names = ["ours", "theirs", "gone"].map(str::to_owned);
    remove_namespaces(&client, "east", &names, Path::new("/standing/visit")).await.unwrap();
    assert_eq!(deletions(&asked), ["DELETE /api/v1/namespaces/ours"]);
}

#[tokio::test]
async fn a_namespace_that_another_run_uses_by_now_is_left_to_that_run() {
    let (client, asked) = shared(Some("alice@laptop"));
    let removed = remove_namespaces(&client, "east", &["ours".to_owned()], Path::new("/standing/visit")).await;
    let message = removed.unwrap_err().to_string();
    assert!(message.contains("alice@laptop"), "{message}");
    assert_eq!(deletions(&asked), Vec::<String>::new());
}

#[tokio::test]
async fn a_run_that_is_over_gives_up_its_own_lease_only() {
    let directory = Path::new("/standing/over");
    let (client, asked) = shared(Some("alice@laptop"));
    lease::release(&client, "east", "ours", directory).await.unwrap();
    assert!(!asked.lock().unwrap().iter().any(|line| line.starts_with("PUT")), "the Lease of another run");
    let (client, asked) = shared(Some(String::leak(lease::holder(directory))));
    lease::release(&client, "east", "ours", directory).await.unwrap();
    let asked = asked.lock().unwrap();
    let at = asked.iter().position(|line| line.starts_with("PUT")).expect("the Lease is written");
    assert!(asked[at + 1].contains("renewTime") && !asked[at + 1].contains("holderIdentity"), "{}", asked[at + 1]);
}
