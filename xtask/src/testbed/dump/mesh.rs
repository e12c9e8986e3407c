//! Collects the mesh's state: istiod's debug pages, every proxy's configuration and statistics, and `istioctl` output.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::{Client, ResourceExt};

use super::super::exec::exec;
use crate::bundle::Collector;
use crate::command::run;
use crate::paths;
use crate::provider::KnownCluster;

/// A debug page of a program in a container.
struct Page {
    /// File name of the page in the archive.
    file: &'static str,
    /// URL path of the page.
    path: &'static str,
    /// Description of the page.
    what: &'static str,
}

/// A program with debug pages.
struct Program {
    container: &'static str,
    /// The command that requests a page. The page's path is its last argument.
    request: [&'static str; 3],
    pages: &'static [Page],
}

const ISTIOD: Program =
    Program { container: "discovery", request: ["pilot-discovery", "request", "GET"], pages: &ISTIOD_PAGES };

const PROXY: Program =
    Program { container: "istio-proxy", request: ["pilot-agent", "request", "GET"], pages: &PROXY_PAGES };

const ISTIOD_PAGES: [Page; 10] = [
    Page { file: "syncz.json", path: "/debug/syncz", what: "whether each proxy has acknowledged its configuration" },
    Page { file: "configz.json", path: "/debug/configz", what: "configuration objects as istiod holds them" },
    Page { file: "endpointz.json", path: "/debug/endpointz", what: "endpoints by service" },
    Page { file: "clusterz.json", path: "/debug/clusterz", what: "the clusters it reads, and whether each is synced" },
    Page { file: "registryz.json", path: "/debug/registryz", what: "services of all clusters" },
    Page { file: "networkz.json", path: "/debug/networkz", what: "the other networks' gateways" },
    Page { file: "mesh.json", path: "/debug/mesh", what: "mesh configuration in effect" },
    Page { file: "connections.json", path: "/debug/connections", what: "proxies connected to it" },
    Page { file: "push_status.json", path: "/debug/push_status", what: "problems seen by the last push" },
    Page { file: "metrics.txt", path: "/metrics", what: "its metrics" },
];

const PROXY_PAGES: [Page; 7] = [
    Page {
        file: "config_dump.json",
        path: "config_dump?include_eds",
        what: "the proxy's whole configuration, with endpoints",
    },
    Page { file: "clusters.txt", path: "clusters", what: "the proxy's endpoints and their health" },
    Page { file: "listeners.txt", path: "listeners", what: "the proxy's listeners" },
    Page { file: "stats.txt", path: "stats", what: "the proxy's statistics" },
    Page { file: "certs.json", path: "certs", what: "the proxy's certificates (no keys)" },
    Page { file: "server_info.json", path: "server_info", what: "version, state and command line of the proxy" },
    Page { file: "runtime.json", path: "runtime", what: "the proxy's runtime flags" },
];

/// Collects the mesh's state in one cluster.
pub(super) async fn collect(collector: &Collector, client: &Client, cluster: &KnownCluster, pods: &[Pod]) {
    let directory = cluster.name.as_str();
    let istiods = pods.iter().filter(|pod| pod.labels().get("app").is_some_and(|app| app == "istiod"));
    let istiods = istiods.map(|pod| {
        let directory = format!("{directory}/istiod/{}", pod.name_any());
        pages(collector, client, pod, &ISTIOD, directory)
    });
    let proxies = pods.iter().filter(|pod| has_proxy(pod)).map(|pod| {
        let directory = format!("{directory}/proxies/{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        pages(collector, client, pod, &PROXY, directory)
    });
    let tools = [
        ("proxy-status.txt", &["proxy-status"][..], "istioctl proxy-status"),
        ("remote-clusters.txt", &["remote-clusters"], "istioctl remote-clusters"),
        ("analyze.txt", &["analyze", "--all-namespaces"], "istioctl analyze"),
    ];
    let tools = tools.map(|(file, arguments, what)| {
        let output = async move { istioctl(cluster, arguments).await };
        collector.item(format!("{directory}/istioctl/{file}"), what, output)
    });
    tokio::join!(join_all(istiods), join_all(proxies), join_all(tools));
}

/// Collects the debug pages of a program in a container of `pod` into `directory`.
async fn pages(collector: &Collector, client: &Client, pod: &Pod, program: &Program, directory: String) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let [command, verb, method] = program.request;
    join_all(program.pages.iter().map(|Page { file, path, what }| {
        let (pods, name) = (&pods, &name);
        let answer = async move { exec(pods, name, program.container, &[command, verb, method, path]).await };
        collector.item(format!("{directory}/{file}"), what, answer)
    }))
    .await;
}

/// Whether a proxy runs in the pod, as a regular container or as a sidecar that starts before the other containers.
fn has_proxy(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| [&status.container_statuses, &status.init_container_statuses]);
    let mut proxies = statuses.flatten().flatten().filter(|status| status.name == "istio-proxy");
    proxies.any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
}

async fn istioctl(cluster: &KnownCluster, arguments: &[&str]) -> Result<String> {
    let program = newest_istioctl(&paths::cache()?.join("artifacts")).unwrap_or_else(|| "istioctl".into());
    let run = run(program).arg("--kubeconfig").arg(&cluster.kubeconfig).args(["--context", &cluster.context]);
    run.args(arguments).stdout().await.context("istioctl failed; `cargo xtask testbed up` builds it")
}

/// The `istioctl` that was built or used last. Any version works.
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
