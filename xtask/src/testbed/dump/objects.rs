//! Collects a cluster's objects (never its secrets), events, and container logs.

use std::fmt::Write;

use anyhow::Result;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::bundle::{Collector, said};

/// Kinds of objects, as paths on the API server. Never add secrets.
const KINDS: [&str; 26] = [
    "/api/v1/nodes",
    "/api/v1/namespaces",
    "/api/v1/pods",
    "/api/v1/services",
    "/api/v1/endpoints",
    "/api/v1/serviceaccounts",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/daemonsets",
    "/apis/batch/v1/jobs",
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/apis/networking.k8s.io/v1/networkpolicies",
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "/apis/networking.istio.io/v1/gateways",
    "/apis/networking.istio.io/v1/virtualservices",
    "/apis/networking.istio.io/v1/destinationrules",
    "/apis/networking.istio.io/v1/serviceentries",
    "/apis/networking.istio.io/v1/workloadentries",
    "/apis/networking.istio.io/v1/sidecars",
    "/apis/networking.istio.io/v1beta1/proxyconfigs",
    "/apis/networking.istio.io/v1alpha3/envoyfilters",
    "/apis/security.istio.io/v1/peerauthentications",
    "/apis/security.istio.io/v1/authorizationpolicies",
    "/apis/security.istio.io/v1/requestauthentications",
    "/apis/telemetry.istio.io/v1/telemetries",
];

/// `Accept` header for the table that `kubectl get` prints.
const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Number of last lines to collect from a container's log.
const LOG_LINES: i64 = 5000;

/// Maximum size to collect from a container's log, in bytes.
const LOG_BYTES: i64 = 16 << 20;

/// The kinds to collect, with the ConfigMaps of Istio's namespace.
fn kinds(istio_namespace: &str) -> Vec<String> {
    let maps = format!("/api/v1/namespaces/{istio_namespace}/configmaps");
    KINDS.iter().map(|&kind| kind.to_owned()).chain([maps]).collect()
}

/// Collects all objects and events of the cluster into `directory`.
pub(super) async fn collect(collector: &Collector, client: &Client, directory: &str, istio_namespace: &str) {
    let kinds = kinds(istio_namespace);
    let objects = kinds.iter().map(|kind| async move {
        let name = resource(kind);
        let path = format!("{directory}/objects/{name}.json");
        let read =
            async { Ok(serde_json::to_string_pretty(&without_managed_fields(get(client, kind, "*/*").await?))?) };
        collector.item(path, "objects as the API server has them", read).await;
    });
    let overview = async {
        let mut text = String::new();
        for kind in &kinds {
            // A kind that cannot be listed is already reported with its objects.
            if let Ok(table) = get(client, kind, AS_TABLE).await {
                let _ = writeln!(text, "== {}\n{}", resource(kind), printed(&table));
            }
        }
        Ok(text)
    };
    let overview = collector.item(format!("{directory}/overview.txt"), "all objects, as kubectl prints them", overview);
    let events = async { Ok(event_lines(&get(client, "/api/v1/events", "*/*").await?)) };
    let events = collector.item(format!("{directory}/events.txt"), "events of all namespaces, oldest first", events);
    tokio::join!(join_all(objects), overview, events);
}

/// Collects the logs of all containers of `pods`. For a restarted container, also collects the logs of its previous
/// run.
pub(super) async fn logs(collector: &Collector, client: &Client, directory: &str, pods: &[Pod]) {
    let logs = pods.iter().flat_map(|pod| {
        containers(pod).into_iter().flat_map(move |(container, restarted)| {
            let runs = if restarted { &[false, true][..] } else { &[false][..] };
            runs.iter().map(move |&previous| log(collector, client, directory, pod, container.clone(), previous))
        })
    });
    join_all(logs).await;
}

async fn log(collector: &Collector, client: &Client, directory: &str, pod: &Pod, container: String, previous: bool) {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let (suffix, what) =
        if previous { (".previous", "log of the container's run before this one") } else { ("", "log") };
    let path = format!("{directory}/logs/{namespace}/{name}/{container}{suffix}.log");
    let parameters = LogParams {
        container: Some(container),
        previous,
        tail_lines: Some(LOG_LINES),
        limit_bytes: Some(LOG_BYTES),
        timestamps: true,
        ..LogParams::default()
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    collector.item(path, what, async { pods.logs(&name, &parameters).await.map_err(said) }).await;
}

/// A pod's containers that have run. The flag shows whether the container was restarted.
fn containers(pod: &Pod) -> Vec<(String, bool)> {
    let statuses = pod.status.iter().flat_map(|status| {
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses]
    });
    let statuses = statuses.flatten().flatten().filter(|status| status.container_id.is_some());
    statuses.map(|status| (status.name.clone(), status.restart_count > 0)).collect()
}

async fn get(client: &Client, path: &str, accept: &str) -> Result<Value> {
    let request = http::Request::get(path).header(http::header::ACCEPT, accept).body(Vec::new())?;
    client.request(request).await.map_err(|error| said(error).context(format!("GET {path}")))
}

fn resource(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Drops `managedFields`: they are half of the text and are not useful here.
fn without_managed_fields(mut list: Value) -> Value {
    for item in list["items"].as_array_mut().into_iter().flatten() {
        if let Some(metadata) = item["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
    }
    list
}

/// Formats a table of the API server, with the namespaces in front of its first column.
fn printed(table: &Value) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut rows = vec![vec!["NAMESPACE".to_owned()]];
    rows[0].extend(list(&table["columnDefinitions"]).iter().map(|column| word(&column["name"]).to_uppercase()));
    for row in list(&table["rows"]) {
        let namespace = row.pointer("/object/metadata/namespace").map_or_else(String::new, word);
        rows.push(std::iter::once(namespace).chain(list(&row["cells"]).iter().map(word)).collect());
    }
    let columns = rows[0].len();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// One line per event, sorted by the time of its last occurrence.
fn event_lines(events: &Value) -> String {
    let mut lines: Vec<String> = Vec::new();
    for event in events["items"].as_array().into_iter().flatten() {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let times = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/firstTimestamp"];
        let time = times.iter().map(|pointer| text(pointer)).find(|time| !time.is_empty()).unwrap_or("-");
        let count = event["count"].as_u64().filter(|&count| count > 1);
        let count = count.map(|count| format!(" (x{count})")).unwrap_or_default();
        lines.push(format!(
            "{time}  {}  {}  {}/{}  {}{count}: {}",
            text("/type"),
            text("/involvedObject/namespace"),
            text("/involvedObject/kind"),
            text("/involvedObject/name"),
            text("/reason"),
            text("/message").trim().replace('\n', "\n    "),
        ));
    }
    // All times have the same format, which sorts as text.
    lines.sort();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_not_collected() {
        let kinds = kinds("mesh-control");
        assert!(!kinds.iter().any(|kind| kind.contains("secrets")));
        assert!(kinds.iter().any(|kind| kind.ends_with("/mesh-control/configmaps")), "{kinds:?}");
    }

    #[test]
    fn a_table_is_printed_in_columns() {
        let table = json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Restarts"}],
            "rows": [{"cells": ["a-long-name", 3], "object": {"metadata": {"namespace": "n"}}}, {"cells": ["b", 0]}],
        });
        assert_eq!(
            printed(&table),
            "NAMESPACE  NAME         RESTARTS\nn          a-long-name  3\n           b            0\n"
        );
        assert_eq!(printed(&json!({})), "NAMESPACE\n");
    }

    #[test]
    fn events_are_in_the_order_of_time_with_their_counts() {
        let event = |time: &str, count: u64| {
            json!({"lastTimestamp": time, "type": "Warning", "reason": "BackOff", "message": "again\nline", "count": count,
                   "involvedObject": {"kind": "Pod", "name": "p", "namespace": "n"}})
        };
        let events = json!({"items": [event("2026-01-02T00:00:00Z", 4), event("2026-01-01T00:00:00Z", 1)]});
        assert_eq!(
            event_lines(&events),
            "2026-01-01T00:00:00Z  Warning  n  Pod/p  BackOff: again\n    line\n\
             2026-01-02T00:00:00Z  Warning  n  Pod/p  BackOff (x4): again\n    line\n"
        );
    }

    #[test]
    fn a_container_that_never_ran_has_no_log_and_one_that_was_restarted_has_two() {
        let container = |name: &str, id: Option<&str>, restarts: i32| json!({"name": name, "containerID": id, "restartCount": restarts, "ready": false, "image": "", "imageID": ""});
        let pod = json!({"metadata": {}, "status": {
            "initContainerStatuses": [container("init", Some("containerd://1"), 0)],
            "containerStatuses": [container("app", Some("containerd://2"), 2), container("waits", None, 0)],
        }});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(containers(&pod), [("init".to_owned(), false), ("app".to_owned(), true)]);
    }
}
