use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use kube::client::Body;

use super::*;

fn deployment(generation: i64, observed: i64, available: i32) -> serde_json::Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n", "generation": generation, "resourceVersion": "1"},
        "spec": {"replicas": 2, "selector": {}, "template": {}},
        "status": {
            "observedGeneration": observed, "replicas": 2, "updatedReplicas": 2, "availableReplicas": available,
        },
    })
}

#[test]
fn a_deployment_is_available_once_every_replica_of_its_newest_generation_is() {
    let judged = |value| availability(Some(&serde_json::from_value(value).unwrap()));
    assert_eq!(judged(deployment(2, 2, 2)), Seen::Yes(()));
    assert_eq!(judged(deployment(2, 2, 1)), Seen::NotYet("1 of 2 available".into()));
    assert!(matches!(judged(deployment(2, 1, 2)), Seen::NotYet(_)), "the newest template is not seen yet");
    assert_eq!(availability(None), Seen::NotYet("no such deployment".into()));
}

/// A cluster whose API server lists `listed`, refuses the first watch, and reports `changed` to the second watch. Later
/// watches get no event.
fn cluster(listed: serde_json::Value, changed: serde_json::Value) -> Client {
    let watches = AtomicUsize::new(0);
    let answer = move |request: http::Request<Body>| {
        let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let (status, body) = match watch.then(|| watches.fetch_add(1, Ordering::Relaxed)) {
            None => (
                200,
                json!({
                    "apiVersion": "apps/v1",
                    "kind": "DeploymentList",
                    "metadata": {"resourceVersion": "1"},
                    "items": [listed],
                }),
            ),
            Some(0) => (500, json!({"kind": "Status", "status": "Failure", "message": "no", "code": 500})),
            Some(1) => (200, json!({"type": "MODIFIED", "object": changed})),
            Some(_) => return std::future::pending().left_future(),
        };
        let body = Body::from(format!("{body}\n").into_bytes());
        let response = http::Response::builder().status(status).body(body).unwrap();
        std::future::ready(Ok::<_, Infallible>(response)).right_future()
    };
    Client::new(tower::service_fn(answer), "default")
}

#[tokio::test(start_paused = true)]
async fn a_change_is_seen_by_a_watch_that_begins_again_after_it_was_refused() {
    let client = cluster(deployment(1, 1, 0), deployment(1, 1, 2));
    wait_for_deployment(&client, "n", "d", Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_in_time_is_reported_with_what_was_seen_last() {
    let client = cluster(deployment(1, 1, 0), deployment(1, 1, 1));
    let waited = wait_for_deployment(&client, "n", "d", Duration::from_secs(2)).await;
    let error = format!("{:#}", waited.unwrap_err());
    assert!(error.contains("every replica of deployment n/d") && error.contains("1 of 2 available"), "{error}");
}

fn pod(phase: &str, ready: bool, started: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "pod", "namespace": "n", "resourceVersion": "1"},
        "status": {"phase": phase, "containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "restartCount": 0, "ready": ready,
            "state": {"running": {"startedAt": started}},
        }]},
    }))
    .unwrap()
}

#[test]
fn a_pod_that_was_ready_before_the_restart_is_not_running_again() {
    let since = 1_000_000_000; // 2001-09-09T01:46:40Z
    assert!(runs_since(&pod("Running", true, "2001-09-09T01:46:41Z"), since));
    assert!(!runs_since(&pod("Running", true, "2001-09-09T01:46:39Z"), since), "started before the restart");
    assert!(!runs_since(&pod("Running", false, "2001-09-09T01:46:41Z"), since), "not ready");
    assert!(!runs_since(&Pod::default(), since), "no status");
    assert!(runs_since(&pod("Succeeded", false, "2001-09-09T01:46:39Z"), since), "it is not meant to run");
}

#[tokio::test(start_paused = true)]
async fn pods_are_watched_until_each_runs_again() {
    let since = 1_000_000_000;
    let [before, after] = ["2001-09-09T01:46:39Z", "2001-09-09T01:46:41Z"]
        .map(|started| serde_json::to_value(pod("Running", true, started)).unwrap());
    let wait = async |changed: &serde_json::Value| {
        let client = cluster(before.clone(), changed.clone());
        wait_for_pods_since(&client, "node", since, Duration::from_secs(2)).await
    };
    wait(&after).await.unwrap();
    let error = wait(&before).await.unwrap_err().to_string();
    assert!(error.contains("every pod on node to run again") && error.contains("not pod"), "{error}");
}

#[test]
fn nodes_are_ready_once_there_are_some_and_each_says_so() {
    let node = |name: &str, ready: &str| -> Node {
        let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
        serde_json::from_value(json!({"metadata": {"name": name}, "status": status})).unwrap()
    };
    assert_eq!(readiness(&[&node("a", "True"), &node("b", "True")]), Seen::Yes(()));
    let unready = readiness(&[&node("a", "True"), &node("b", "False"), &node("c", "Unknown")]);
    assert_eq!(unready, Seen::NotYet("not b, c".into()));
    assert_eq!(readiness(&[]), Seen::NotYet("there is no node".into()));
}

/// A cluster that takes every write, lists `listed` of each kind, and notes the requests that change something.
fn noting(listed: serde_json::Value) -> (Client, Arc<Mutex<Vec<String>>>) {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&noted);
    let kind = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "kind": kind, "namespaced": namespaced, "verbs": ["list", "patch"]});
    let kinds = json!([
        kind("namespaces", "Namespace", false),
        kind("serviceaccounts", "ServiceAccount", true),
        kind("deployments", "Deployment", true),
    ]);
    let answer = move |request: http::Request<Body>| {
        let path = request.uri().path().to_owned();
        let body = if *request.method() != http::Method::GET {
            notes.lock().unwrap().push(format!("{} {}", request.method(), path.rsplit('/').next().unwrap_or_default()));
            json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}})
        } else if matches!(path.as_str(), "/api/v1" | "/apis/apps/v1") {
            json!({"kind": "APIResourceList", "groupVersion": path.trim_start_matches("/api"), "resources": kinds})
        } else {
            json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": listed})
        };
        let response = http::Response::builder().body(Body::from(body.to_string().into_bytes())).unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    };
    (Client::new(tower::service_fn(answer), "default"), noted)
}

#[tokio::test]
async fn what_others_need_is_written_first_and_what_runs_pods_last() {
    let (client, noted) = noting(json!([]));
    let yaml = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: n}\n---\n\
                apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: s, namespace: n}\n---\n\
                apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n";
    assert_eq!(apply(&client, yaml).await.unwrap().len(), 3);
    assert_eq!(*noted.lock().unwrap(), ["PATCH n", "PATCH s", "PATCH d"]);
}

#[tokio::test]
async fn objects_that_are_not_kept_are_removed_also_those_without_a_namespace() {
    let (client, noted) = noting(json!([{"metadata": {"name": "kept"}}, {"metadata": {"name": "gone"}}]));
    let kept = Id { kind: "Namespace".into(), namespace: String::new(), name: "kept".into() };
    prune(&client, &[Kind { version: "v1", name: "Namespace" }], "a=b", &[kept]).await.unwrap();
    assert_eq!(*noted.lock().unwrap(), ["DELETE gone"]);
}
