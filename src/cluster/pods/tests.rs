//! Tests of what is said of pods that do not run, against a fake API server.

use std::convert::Infallible;

use futures::FutureExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::record;

/// A cluster with one pod of this status, and an event about it.
fn cluster(status: Value) -> Cluster {
    cluster_with(status, &[])
}

/// Like [`cluster`], with these deployments.
fn cluster_with(status: Value, deployments: &[Value]) -> Cluster {
    let deployments = deployments.to_vec();
    let metadata = json!({ "name": "shop-1", "namespace": "shop", "resourceVersion": "1" });
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status });
    let event = |kind: &str, name: &str, second: u32, message: &str| {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {}, "reason": "FailedMount", "message": message,
            "involvedObject": { "kind": kind, "name": name }, "lastTimestamp": format!("2026-01-01T00:00:0{second}Z"),
        })
    };
    let events = [
        event("Pod", "shop-1", 0, "no volume"),
        event("Pod", "shop-12", 0, "of another pod"),
        event("ReplicaSet", "mall-7d9", 1, "no account"),
        event("ReplicaSet", "mall-7d9", 2, "no quota"),
        event("ReplicaSet", "mall-east-7d9", 3, "of another deployment"),
    ];
    let answer = move |request: http::Request<Body>| {
        let path = request.uri().path();
        let list = |kind: &str, items: &[Value]| json!({ "apiVersion": "v1", "kind": kind, "metadata": { "resourceVersion": "1" }, "items": items });
        let body = match path.rsplit('/').next().unwrap_or_default() {
            _ if request.uri().query().is_some_and(|query| query.contains("watch=true")) => {
                return std::future::pending().left_future();
            }
            "log" => "info starting\ncritical assert failure: inotify_fd_ >= 0\ninfo ended\n".to_owned(),
            "events" => list("EventList", &events).to_string(),
            "deployments" => list("DeploymentList", &deployments).to_string(),
            _ => list("PodList", std::slice::from_ref(&pod)).to_string(),
        };
        let response = http::Response::new(Body::from(format!("{body}\n").into_bytes()));
        std::future::ready(Ok::<_, Infallible>(response)).right_future()
    };
    let client = Client::new(tower::service_fn(answer), "default");
    Cluster::new(record::tests::cluster("east"), "/kubeconfig".into(), client, "v1".into())
}

/// A native sidecar that does not keep running.
fn crashing() -> Value {
    json!({ "phase": "Pending", "initContainerStatuses": [{
        "name": "istio-proxy", "image": "i", "imageID": "", "ready": false, "restartCount": 2,
        "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } },
        "lastState": { "terminated": { "exitCode": 134, "reason": "Error" } },
    }] })
}

const CRASH: &str = "pod shop-1: container istio-proxy: CrashLoopBackOff: back-off 10s; it ended with exit code 134: \
                     Error; its log says: critical assert failure: inotify_fd_ >= 0";

async fn awaited(cluster: &Cluster) -> Error {
    let never = |_: &[&Pod]| Seen::<()>::NotYet("not ready".into());
    cluster.await_pods("shop", "app=shop", "a pod", Duration::from_secs(60), never).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_cannot_start_is_reported_within_10_s_with_its_last_words() {
    let (cluster, began) = (cluster(crashing()), Instant::now());
    let error = awaited(&cluster).await.to_string();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(error, format!("east: a pod in namespace shop cannot start: {CRASH}"));
}

#[tokio::test(start_paused = true)]
async fn an_image_for_another_architecture_is_told_within_10_s_in_the_words_of_the_runtime() {
    let ended = json!({ "exitCode": 128, "reason": "StartError", "message": "exec /probe: exec format error" });
    let status = json!({ "phase": "Running", "containerStatuses": [{
        "name": "probe", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": { "terminated": ended },
    }] });
    let (cluster, began) = (cluster(status), Instant::now());
    let error = awaited(&cluster).await.to_string();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let words =
        "container probe: CrashLoopBackOff; it ended with exit code 128: StartError: exec /probe: exec format error";
    assert!(error.contains(words), "{error}");
}

/// A deployment in namespace `shop` whose pods have the label `app`, with a condition.
fn deployment(app: &str, observed: i64, condition: &str, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": app, "namespace": "shop", "generation": 2, "resourceVersion": "1" },
        "spec": { "selector": {}, "template": { "metadata": { "labels": { "app": app, "planned": "true" } } } },
        "status": { "observedGeneration": observed, "replicas": 0, "conditions": [
            { "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too long" },
            { "type": condition, "status": "True", "reason": reason, "message": message },
        ] },
    })
}

const QUOTA: &str = "pods \"web-7d9\" is forbidden: exceeded quota: none, requested: pods=1, used: pods=0, limited: \
                     pods=0";

#[tokio::test(start_paused = true)]
async fn pods_that_are_refused_are_told_within_10_s_with_their_deployment() {
    let (progressing, refused) =
        (json!({ "phase": "Pending" }), |app| deployment(app, 2, "ReplicaFailure", "FailedCreate", QUOTA));
    for selector in ["app=shop", "app=shop,planned", "planned", ""] {
        let cluster = cluster_with(progressing.clone(), &[refused("shop")]);
        let began = Instant::now();
        let never = |_: &[&Pod]| Seen::<()>::NotYet("not ready".into());
        let error = cluster.await_pods("shop", selector, "a pod", Duration::from_secs(60), never).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(error.to_string(), format!("east: deployment shop/shop cannot start: FailedCreate: {QUOTA}"));
    }
    // The last event counts more than the condition, which keeps its first message.
    let cluster = cluster_with(progressing.clone(), &[refused("mall")]);
    let told = cluster.lasting_refusal("shop", "mall").await;
    assert_eq!(told.reason, "ReplicaSet mall-7d9: FailedMount: no quota");
    // It says nothing about a deployment that only takes long.
    let cluster = cluster_with(progressing.clone(), &[deployment("mall", 2, "Available", "Minimum", "")]);
    let told = cluster.lasting_refusal("shop", "mall").await;
    assert_eq!(told.reason, "ProgressDeadlineExceeded: too long");
    // Those of another deployment are not asked for, and neither is what was true of an earlier generation.
    let others = [refused("cart"), deployment("shop", 1, "ReplicaFailure", "FailedCreate", QUOTA)];
    let error = awaited(&cluster_with(progressing, &others)).await.to_string();
    assert!(error.contains("last seen: not ready"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_is_too_slow_is_given_another_chance_and_told_in_the_end() {
    let told_after = async |message: &str| {
        let refused = deployment("mall", 2, "ReplicaFailure", "FailedCreate", message);
        let cluster = cluster_with(json!({ "phase": "Pending" }), &[refused]);
        let began = Instant::now();
        cluster.lasting_refusal("shop", "mall").await;
        began.elapsed()
    };
    let called = "Internal error occurred: failed calling webhook \"inject.example\": failed to call webhook: Post \
                  \"https://istiod.istio-system.svc:443/inject?timeout=10s\":";
    for slow in ["context deadline exceeded", "net/http: Client.Timeout exceeded while awaiting headers"] {
        let after = told_after(&format!("{called} {slow}")).await;
        assert!((30..40).contains(&after.as_secs()), "{slow}: {after:?}");
    }
    let after = told_after(&format!("{called} no endpoints available for service \"istiod\"")).await;
    assert!(after < Duration::from_secs(10), "{after:?}");
}

#[test]
fn the_condition_that_pods_are_refused_outweighs_that_it_takes_long() {
    let read = |value: Value| refusal(&serde_json::from_value(value).unwrap()).map(|refused| refused.reason);
    let refused = deployment("shop", 2, "ReplicaFailure", "FailedCreate", QUOTA);
    assert_eq!(read(refused), Some(format!("FailedCreate: {QUOTA}")));
    let slow = deployment("shop", 2, "Available", "MinimumReplicasAvailable", "");
    assert_eq!(read(slow), Some("ProgressDeadlineExceeded: too long".into()));
    assert_eq!(read(deployment("shop", 1, "ReplicaFailure", "FailedCreate", QUOTA)), None, "of an earlier generation");
}

#[test]
fn a_stateful_set_is_podless_until_it_has_a_pod() {
    let set = |wanted: i32, observed: i64, replicas: i32| -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": { "generation": 2 },
            "spec": { "replicas": wanted, "selector": {}, "template": {}, "serviceName": "a" },
            "status": { "observedGeneration": observed, "replicas": replicas },
        }))
        .unwrap()
    };
    assert!(podless(&set(1, 2, 0)) && podless(&set(2, 2, 0)));
    assert!(!podless(&set(1, 2, 1)) && !podless(&set(0, 2, 0)) && !podless(&set(1, 1, 0)));
}

#[tokio::test]
async fn where_no_pod_is_ready_the_error_says_why() {
    let error = cluster(crashing()).ready_pods("shop", "app=shop").await.unwrap_err().to_string();
    assert!(error.contains(&format!("(only {CRASH})")), "{error}");
    let error = cluster(json!({ "phase": "Pending" })).ready_pods("shop", "app=shop").await.unwrap_err().to_string();
    assert!(error.contains("(only shop-1 (Pending))"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_ends_with_the_last_warning_about_the_pods() {
    let error = awaited(&cluster(json!({ "phase": "Pending" }))).await.to_string();
    assert!(error.ends_with("last seen: not ready; Pod shop-1: FailedMount: no volume"), "{error}");
}

#[test]
fn a_failed_pod_is_no_trouble_once_it_was_replaced() {
    let pod = |name: &str, second: u32, phase: &str| -> Pod {
        let metadata = json!({ "name": name, "creationTimestamp": format!("2026-01-01T00:00:0{second}Z") });
        serde_json::from_value(json!({ "metadata": metadata, "status": { "phase": phase } })).unwrap()
    };
    let (evicted, running) = (pod("old", 1, "Failed"), pod("new", 2, "Running"));
    assert_eq!(current(&[&evicted, &running]).find_map(Trouble::of), None);
    let refused = pod("newest", 3, "Failed");
    let trouble = current(&[&evicted, &running, &refused]).find_map(Trouble::of).unwrap().to_string();
    assert!(trouble.starts_with("pod newest"), "{trouble}");
}
