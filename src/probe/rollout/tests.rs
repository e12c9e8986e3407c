use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::record;

/// What an API server has.
#[derive(Clone)]
struct Has {
    deployment: Value,
    pods: Vec<Value>,
    events: Vec<Value>,
    /// What the first watch of pods reports, after the list.
    changed: Option<Value>,
}

/// A cluster that has `has`, and the requests to it that are neither lists nor watches.
fn cluster(has: Has) -> (Cluster, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let has = Mutex::new(has);
    let answer = move |request: http::Request<Body>| {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let mut has = has.lock().unwrap();
        let list = |kind: &str, items: &[Value]| json!({ "apiVersion": "v1", "kind": kind, "metadata": { "resourceVersion": "1" }, "items": items });
        if path.ends_with("/log") {
            let log = "info starting\ncritical assert failure: inotify_fd_ >= 0\ninfo ended\n";
            let response = http::Response::new(Body::from(log.as_bytes().to_vec()));
            return std::future::ready(Ok::<_, Infallible>(response)).right_future();
        }
        let body = if method != http::Method::GET {
            log.lock().unwrap().push(format!("{method} {path}"));
            json!({ "apiVersion": "v1", "kind": "Status", "status": "Success" })
        } else if watches {
            if !path.ends_with("/pods") {
                return std::future::pending().left_future();
            }
            let Some(changed) = has.changed.take() else { return std::future::pending().left_future() };
            has.pods = vec![changed.clone()];
            json!({ "type": "MODIFIED", "object": changed })
        } else if path.ends_with("/deployments") {
            list("DeploymentList", std::slice::from_ref(&has.deployment))
        } else if path.ends_with("/events") {
            list("EventList", &has.events)
        } else {
            list("PodList", &has.pods)
        };
        let response = http::Response::new(Body::from(format!("{body}\n").into_bytes()));
        std::future::ready(Ok::<_, Infallible>(response)).right_future()
    };
    let client = Client::new(tower::service_fn(answer), "default");
    (Cluster::new(record::tests::cluster("east"), "/kubeconfig".into(), client, "v1".into()), asked)
}

fn deployment(available: i32, conditions: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "probe", "namespace": "pinnacle", "generation": 2, "resourceVersion": "1" },
        "spec": { "selector": {}, "template": {} },
        "status": {
            "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": available,
            "conditions": conditions,
        },
    })
}

fn pod(status: Value) -> Value {
    let metadata = json!({ "name": "probe-1", "namespace": "pinnacle", "resourceVersion": "1" });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status })
}

fn waiting(reason: &str, message: &str) -> Value {
    pod(json!({ "containerStatuses": [{
        "name": "probe", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": reason, "message": message } },
    }] }))
}

fn starting(pods: Vec<Value>) -> Has {
    Has { deployment: deployment(0, json!([])), pods, events: vec![], changed: None }
}

async fn waited(has: Has) -> (Result<bool>, Duration, Vec<String>) {
    let (cluster, asked) = cluster(has);
    let probe = &cluster.record().probes.as_ref().unwrap().meshed;
    let began = Instant::now();
    let ended = available(&cluster, probe).await;
    let asked = asked.lock().unwrap().clone();
    (ended, began.elapsed(), asked)
}

/// The report of a deployment that cannot start: it comes within 10 s, and the deployment is removed.
async fn report(has: Has) -> String {
    let (ended, after, asked) = waited(has).await;
    assert!(after < Duration::from_secs(10), "{after:?}");
    assert_eq!(asked, ["DELETE /apis/apps/v1/namespaces/pinnacle/deployments/probe"]);
    let report = ended.unwrap_err().to_string();
    assert!(report.starts_with("east: deployment pinnacle/probe cannot start: "), "{report}");
    report
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_available_is_not_waited_for() {
    let has = Has { deployment: deployment(1, json!([])), ..starting(vec![]) };
    let (ended, after, asked) = waited(has).await;
    assert!(!ended.unwrap() && after < Duration::from_secs(1) && asked.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_quota_or_an_admission_that_refuses_the_pods_is_reported_in_its_own_words() {
    let quota = "pods \"probe-1\" is forbidden: exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0";
    let failure = json!([{
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": quota,
    }]);
    let report = report(Has { deployment: deployment(0, failure), ..starting(vec![]) }).await;
    assert!(report.ends_with(&format!("FailedCreate: {quota}")), "{report}");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_missing_is_reported_with_pod_and_container() {
    let report = report(starting(vec![waiting("ErrImageNeverPull", "image \"probe:1\" is not present")])).await;
    assert!(report.ends_with("pod probe-1: container probe: ErrImageNeverPull: image \"probe:1\" is not present"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_a_node_is_reported() {
    let unscheduled = pod(json!({ "phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available",
    }] }));
    let report = report(starting(vec![unscheduled])).await;
    assert!(report.ends_with("pod probe-1: Unschedulable: 0/1 nodes are available"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_does_not_keep_running_is_reported_with_its_exit() {
    let proxy = pod(json!({ "initContainerStatuses": [{
        "name": "istio-proxy", "image": "i", "imageID": "", "ready": false, "restartCount": 2,
        "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } },
        "lastState": { "terminated": { "exitCode": 134, "reason": "Error", "message": "inotify_fd_ >= 0" } },
    }] }));
    let report = report(starting(vec![proxy])).await;
    let words = "container istio-proxy: CrashLoopBackOff: back-off 10s; it ended with exit code 134: Error: inotify";
    assert!(report.contains(words), "{report}");
    assert!(report.ends_with("; its log says: critical assert failure: inotify_fd_ >= 0"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_trouble_that_passes_is_not_reported_and_a_start_that_takes_too_long_is_with_the_last_warning() {
    let event = |name: &str, time: &str, message: &str| {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": "e" }, "type": "Warning",
            "reason": "FailedMount", "message": message, "lastTimestamp": time,
            "involvedObject": { "kind": "Pod", "name": name },
        })
    };
    let has = Has {
        changed: Some(waiting("ContainerCreating", "")),
        events: vec![
            event("probe-1", "2026-01-01T00:00:02Z", "the last one"),
            event("probe-1", "2026-01-01T00:00:01Z", "an earlier one"),
            event("prober-1", "2026-01-01T00:00:03Z", "another's"),
        ],
        ..starting(vec![waiting("ErrImagePull", "connection refused")])
    };
    let (ended, after, _) = waited(has).await;
    let report = ended.unwrap_err().to_string();
    assert!(after >= Duration::from_secs(89), "{after:?}: {report}");
    assert!(report.ends_with("not available after 90 s: Pod probe-1: FailedMount: the last one"), "{report}");
}
