use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

fn pod(name: &str, phase: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "n", "resourceVersion": "1" },
        "status": { "phase": phase },
    })
}

/// Pods of an API server that lists `listed`, refuses the first watch, and reports `changes` to the second watch. Later
/// watches get no event.
fn pods(listed: Vec<Value>, changes: Vec<Value>) -> Api<Pod> {
    let watches = AtomicUsize::new(0);
    let answer = move |request: http::Request<Body>| {
        let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let list = json!({
            "apiVersion": "v1", "kind": "PodList", "metadata": { "resourceVersion": "1" }, "items": listed,
        });
        let refusal = json!({ "kind": "Status", "status": "Failure", "message": "no", "code": 500 });
        let (status, lines) = match watch.then(|| watches.fetch_add(1, Ordering::Relaxed)) {
            None => (200, vec![list]),
            Some(0) => (500, vec![refusal]),
            Some(1) => (200, changes.clone()),
            Some(_) => return std::future::pending().left_future(),
        };
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let response = http::Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap();
        std::future::ready(Ok::<_, Infallible>(response)).right_future()
    };
    Api::namespaced(Client::new(tower::service_fn(answer), "default"), "n")
}

/// Accepts pods that all run.
fn all_run(pods: &[&Pod]) -> Seen<usize> {
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    let others: Vec<String> = pods.iter().filter(|pod| phase(pod) != "Running").map(|pod| pod.name_any()).collect();
    if others.is_empty() { Seen::Yes(pods.len()) } else { Seen::NotYet(others.join(", ")) }
}

const WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_change_is_seen_by_a_watch_that_begins_again_after_it_was_refused() {
    let changes = vec![
        json!({ "type": "MODIFIED", "object": pod("a", "Running") }),
        json!({ "type": "DELETED", "object": pod("b", "Pending") }),
    ];
    let pods = pods(vec![pod("a", "Pending"), pod("b", "Pending"), pod("c", "Running")], changes);
    let watched = watch_all(pods, watcher::Config::default(), "all to run", WITHIN, all_run);
    assert_eq!(watched.await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn all_objects_of_a_list_are_judged_together() {
    let listed = ["a", "b", "c"].map(|name| pod(name, "Running"));
    let watched = watch_all(pods(listed.into(), vec![]), watcher::Config::default(), "all to run", WITHIN, all_run);
    assert_eq!(watched.await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_in_time_is_reported_with_what_was_seen_last_and_who_waited() {
    let changes = vec![json!({ "type": "MODIFIED", "object": pod("a", "Running") })];
    let pods = pods(vec![pod("a", "Pending"), pod("b", "Pending")], changes);
    let line = line!() + 1;
    let watched = watch_all(pods, watcher::Config::default(), "all to run", WITHIN, all_run);
    let error = watched.await.unwrap_err().to_string();
    for part in ["for all to run", "last seen: b", &format!("tests.rs:{line}")] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_does_not_exist_is_judged_as_such() {
    let there = |pod: Option<&Pod>| pod.map_or(Seen::NotYet("no such pod".into()), |_| Seen::Yes(()));
    let watched = watch_one(pods(vec![], vec![]), "a", "the pod", WITHIN, there);
    assert!(watched.await.unwrap_err().to_string().contains("last seen: no such pod"));
    let changes = vec![json!({ "type": "ADDED", "object": pod("a", "Pending") })];
    watch_one(pods(vec![], changes), "a", "the pod", WITHIN, there).await.unwrap();
}
