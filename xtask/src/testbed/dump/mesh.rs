//! Collects the mesh's state: istiod's debug pages, every proxy's configuration and statistics, and `istioctl` output.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use meshproof::record::Istio;

use super::super::installed::{ISTIOD, Installed, Program};
use crate::bundle::{Collector, Question, said};
use crate::command::run;
use crate::paths;
use crate::provider::KnownCluster;

const ISTIOD_PAGES: [Question<&str>; 10] = [
    Question { file: "syncz.json", ask: "/debug/syncz", what: "whether each proxy has acknowledged its configuration" },
    Question { file: "configz.json", ask: "/debug/configz", what: "configuration objects as istiod holds them" },
    Question { file: "endpointz.json", ask: "/debug/endpointz", what: "endpoints by service" },
    Question { file: "clusterz.json", ask: "/debug/clusterz", what: "the clusters it reads, and if each is synced" },
    Question { file: "registryz.json", ask: "/debug/registryz", what: "services of all clusters" },
    Question { file: "networkz.json", ask: "/debug/networkz", what: "the other networks' gateways" },
    Question { file: "mesh.json", ask: "/debug/mesh", what: "mesh configuration in effect" },
    Question { file: "connections.json", ask: "/debug/connections", what: "proxies connected to it" },
    Question { file: "push_status.json", ask: "/debug/push_status", what: "problems seen by the last push" },
    Question { file: "metrics.txt", ask: "/metrics", what: "its metrics" },
];

const PROXY_PAGES: [Question<&str>; 7] = [
    Question {
        file: "config_dump.json",
        ask: "config_dump?include_eds",
        what: "the proxy's whole configuration, with endpoints",
    },
    Question { file: "clusters.txt", ask: "clusters", what: "the proxy's endpoints and their health" },
    Question { file: "listeners.txt", ask: "listeners", what: "the proxy's listeners" },
    Question { file: "stats.txt", ask: "stats", what: "the proxy's statistics" },
    Question { file: "certs.json", ask: "certs", what: "the proxy's certificates (no keys)" },
    Question { file: "server_info.json", ask: "server_info", what: "version, state and command line of the proxy" },
    Question { file: "runtime.json", ask: "runtime", what: "the proxy's runtime flags" },
];

/// Command lines of `istioctl`.
const TOOLS: [Question<&[&str]>; 3] = [
    Question { file: "proxy-status.txt", ask: &["proxy-status"], what: "istioctl proxy-status" },
    Question { file: "remote-clusters.txt", ask: &["remote-clusters"], what: "istioctl remote-clusters" },
    Question { file: "analyze.txt", ask: &["analyze", "--all-namespaces"], what: "istioctl analyze" },
];

/// A cluster, and where its data goes.
pub(super) struct Source<'a> {
    pub(super) collector: &'a Collector,
    pub(super) client: &'a Client,
    pub(super) cluster: &'a KnownCluster,
    pub(super) installed: &'a Installed,
}

impl Source<'_> {
    /// Collects the mesh's state in the cluster with these pods.
    pub(super) async fn collect(&self, pods: &[Pod]) {
        let Self { collector, cluster, installed, .. } = self;
        let directory = cluster.file_name();
        let proxy = installed.proxy();
        let proxies = pods.iter().filter(|pod| runs(pod, proxy.container)).map(async |pod| {
            let directory = format!("{directory}/proxies/{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            self.pages(pod, proxy, &PROXY_PAGES, &directory).await;
        });
        let tools = format!("{directory}/istioctl");
        let tools =
            collector.ask(&tools, &TOOLS, async |arguments| istioctl(cluster, &installed.istio, arguments).await);
        tokio::join!(self.istiods(), join_all(proxies), tools);
    }

    async fn istiods(&self) {
        let Self { collector, client, cluster, installed } = self;
        let directory = format!("{}/istiod", cluster.file_name());
        let listed = collector.bounded(async { installed.istiods(client).await.map_err(said) }).await;
        let istiods = listed.and_then(|pods| {
            let Istio { namespace, control_plane, .. } = &installed.istio;
            ensure!(!pods.is_empty(), "no pod has labels `{}` in namespace {namespace}", control_plane.selector);
            Ok(pods)
        });
        match istiods {
            Ok(pods) => {
                let pages = pods.iter().map(async |pod| {
                    let directory = format!("{directory}/{}", pod.name_any());
                    self.pages(pod, ISTIOD, &ISTIOD_PAGES, &directory).await;
                });
                join_all(pages).await;
            }
            Err(error) => collector.put(directory, "", Err(error)).await,
        }
    }

    /// Collects the debug pages of a program in a container of `pod` into `directory`.
    async fn pages(&self, pod: &Pod, program: Program<'_>, pages: &[Question<&str>], directory: &str) {
        let answer = async |path: &str| program.get(self.client, &self.cluster.name, pod, path).await;
        self.collector.ask(directory, pages, answer).await;
    }
}

/// Whether the container runs in the pod, as a regular container or as a sidecar that starts before the others.
fn runs(pod: &Pod, container: &str) -> bool {
    let statuses = pod.status.iter().flat_map(|status| [&status.container_statuses, &status.init_container_statuses]);
    let mut named = statuses.flatten().flatten().filter(|status| status.name == container);
    named.any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
}

async fn istioctl(cluster: &KnownCluster, istio: &Istio, arguments: &[&str]) -> Result<String> {
    let program = newest_istioctl(&paths::cache()?.join("artifacts")).unwrap_or_else(|| "istioctl".into());
    let run = run(program).arg("--kubeconfig").arg(&cluster.kubeconfig).args(["--context", &cluster.context]);
    let run = run.args(["--istioNamespace", &istio.namespace]).args(arguments);
    let run = run.args(istio.revision.iter().flat_map(|revision| ["--revision", revision]));
    run.stdout().await.context("istioctl failed; `cargo xtask testbed up` builds it")
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
        assert!(runs(&pod("containerStatuses", "sidecar", json!({"running": {}})), "sidecar"));
        assert!(runs(&pod("initContainerStatuses", "sidecar", json!({"running": {}})), "sidecar"));
        assert!(!runs(&pod("containerStatuses", "sidecar", json!({"waiting": {}})), "sidecar"));
        assert!(!runs(&pod("containerStatuses", "app", json!({"running": {}})), "sidecar"));
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
