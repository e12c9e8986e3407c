//! What the mesh believes: istiod's debug pages, every proxy's configuration and statistics, `istioctl`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::{Client, ResourceExt};

use super::super::exec::exec;
use super::super::targets::Target;
use super::collect::Collector;
use crate::command::run;
use crate::paths;

/// Pages of istiod: file name, path, meaning.
const ISTIOD: [(&str, &str, &str); 10] = [
    ("syncz.json", "/debug/syncz", "whether each proxy has acknowledged its configuration"),
    ("configz.json", "/debug/configz", "configuration objects as istiod holds them"),
    ("endpointz.json", "/debug/endpointz", "endpoints by service"),
    ("clusterz.json", "/debug/clusterz", "the clusters it reads, and whether each is synced"),
    ("registryz.json", "/debug/registryz", "services of all clusters"),
    ("networkz.json", "/debug/networkz", "the other networks' gateways"),
    ("mesh.json", "/debug/mesh", "mesh configuration in effect"),
    ("connections.json", "/debug/connections", "proxies connected to it"),
    ("push_status.json", "/debug/push_status", "problems seen by the last push"),
    ("metrics.txt", "/metrics", "its metrics"),
];

/// Pages of Envoy, as [`ISTIOD`].
const PROXY: [(&str, &str, &str); 7] = [
    ("config_dump.json", "config_dump?include_eds", "the proxy's whole configuration, with endpoints"),
    ("clusters.txt", "clusters", "the proxy's endpoints and their health"),
    ("listeners.txt", "listeners", "the proxy's listeners"),
    ("stats.txt", "stats", "the proxy's statistics"),
    ("certs.json", "certs", "the proxy's certificates (no keys)"),
    ("server_info.json", "server_info", "version, state and command line of the proxy"),
    ("runtime.json", "runtime", "the proxy's runtime flags"),
];

/// Collects the mesh's side of one cluster.
pub(super) async fn collect(collector: &Collector, client: &Client, target: &Target, directory: &str, pods: &[Pod]) {
    let istiods = pods.iter().filter(|pod| pod.labels().get("app").is_some_and(|app| app == "istiod"));
    let istiods = istiods.map(|pod| {
        let request = ["pilot-discovery", "request", "GET"];
        let directory = format!("{directory}/istiod/{}", pod.name_any());
        pages(collector, client, pod, "discovery", directory, request, &ISTIOD)
    });
    let proxies = pods.iter().filter(|pod| has_proxy(pod)).map(|pod| {
        let request = ["pilot-agent", "request", "GET"];
        let directory = format!("{directory}/proxies/{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        pages(collector, client, pod, "istio-proxy", directory, request, &PROXY)
    });
    let tools = [
        ("proxy-status.txt", &["proxy-status"][..], "istioctl proxy-status"),
        ("remote-clusters.txt", &["remote-clusters"], "istioctl remote-clusters"),
        ("analyze.txt", &["analyze", "--all-namespaces"], "istioctl analyze"),
    ];
    let tools = tools.map(|(file, arguments, what)| {
        let output = async move { istioctl(target, arguments).await };
        collector.item(format!("{directory}/istioctl/{file}"), what, output)
    });
    tokio::join!(join_all(istiods), join_all(proxies), join_all(tools));
}

/// Collects what a program in a container answers about each of `pages`.
async fn pages(
    collector: &Collector,
    client: &Client,
    pod: &Pod,
    container: &str,
    directory: String,
    request: [&str; 3],
    pages: &[(&str, &str, &str)],
) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let [program, verb, method] = request;
    join_all(pages.iter().map(|(file, page, what)| {
        let (pods, name) = (&pods, &name);
        let answer = async move { exec(pods, name, container, &[program, verb, method, page]).await };
        collector.item(format!("{directory}/{file}"), what, answer)
    }))
    .await;
}

/// Whether a proxy runs in the pod, as a container of the usual kind or as a sidecar that starts before the others.
fn has_proxy(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| [&status.container_statuses, &status.init_container_statuses]);
    let mut proxies = statuses.flatten().flatten().filter(|status| status.name == "istio-proxy");
    proxies.any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
}

async fn istioctl(target: &Target, arguments: &[&str]) -> Result<String> {
    let program = newest_istioctl(&paths::cache()?.join("artifacts")).unwrap_or_else(|| "istioctl".into());
    let run = run(program).arg("--kubeconfig").arg(&target.kubeconfig).args(["--context", &target.context]);
    run.args(arguments).stdout().await.context("istioctl, which `up` builds, is needed")
}

/// The `istioctl` that was built or used last: any of them can ask.
fn newest_istioctl(artifacts: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(artifacts).ok()?.flatten();
    let directories = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("istio-"));
    let with_age = directories.filter_map(|entry| {
        let program = entry.path().join("istioctl");
        program.is_file().then_some((entry.metadata().ok()?.modified().ok()?, program))
    });
    with_age.max().map(|(_, program)| program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_proxy_is_found_among_both_kinds_of_containers_if_it_runs() {
        let pod = |list: &str, name: &str, state: serde_json::Value| -> Pod {
            let status =
                json!({"name": name, "ready": true, "restartCount": 0, "image": "", "imageID": "", "state": state});
            serde_json::from_value(json!({"metadata": {}, "status": {list: [status]}})).unwrap()
        };
        assert!(has_proxy(&pod("containerStatuses", "istio-proxy", json!({"running": {}}))));
        assert!(has_proxy(&pod("initContainerStatuses", "istio-proxy", json!({"running": {}}))));
        assert!(!has_proxy(&pod("containerStatuses", "istio-proxy", json!({"waiting": {}}))));
        assert!(!has_proxy(&pod("containerStatuses", "app", json!({"running": {}}))));
    }

    #[test]
    fn the_cached_istioctl_is_found_and_a_directory_without_one_passed_over() {
        let artifacts = tempfile::tempdir().unwrap();
        assert_eq!(newest_istioctl(artifacts.path()), None);
        for name in ["istio-1", "istio-2", "etcd-1"] {
            std::fs::create_dir(artifacts.path().join(name)).unwrap();
        }
        let program = artifacts.path().join("istio-1/istioctl");
        std::fs::write(&program, "").unwrap();
        assert_eq!(newest_istioctl(artifacts.path()), Some(program));
    }
}
