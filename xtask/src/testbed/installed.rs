//! What a cluster of a testbed has: as the record says or, before there is a record, as `up` installs it.

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use meshproof::cluster::{Container, exec};
use meshproof::record::{self, Gateways, Istio, Probes};

/// What a cluster of a testbed has.
#[derive(Debug, Clone)]
pub(super) struct Installed {
    pub(super) istio: Istio,
    pub(super) gateways: Gateways,
    /// `None` if the cluster has no probes.
    pub(super) probes: Option<Probes>,
}

impl From<&record::Cluster> for Installed {
    fn from(cluster: &record::Cluster) -> Self {
        let record::Cluster { istio, gateways, probes, .. } = cluster.clone();
        Self { istio, gateways, probes }
    }
}

impl Installed {
    /// istiod's pods, ready or not.
    pub(super) async fn istiods(&self, client: &Client) -> kube::Result<Vec<Pod>> {
        let Istio { namespace, control_plane, .. } = &self.istio;
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        Ok(pods.list(&ListParams::default().labels(&control_plane.selector)).await?.items)
    }

    /// The proxy of a workload.
    pub(super) fn proxy(&self) -> Program<'_> {
        Program { container: &self.istio.proxy.container, command: &self.istio.proxy.agent }
    }
}

/// A program with debug pages, in a container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program<'a> {
    pub(super) container: &'a str,
    /// The command that requests a page.
    command: &'a str,
}

/// istiod. Istio's charts cannot give the container another name.
pub(super) const ISTIOD: Program<'static> = Program { container: "discovery", command: "pilot-discovery" };

impl Program<'_> {
    /// The program's answer to a GET of `path`, in `pod` of the cluster with the name `cluster`.
    ///
    /// # Errors
    /// Fails if the program does not answer.
    pub(super) async fn get(self, client: &Client, cluster: &str, pod: &Pod, path: &str) -> Result<String> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let at = Container { namespace: &namespace, pod: &name, container: self.container };
        Ok(exec(client, cluster, at, &[self.command, "request", "GET", path]).await?)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A cluster of a mesh that `up` has not installed: another namespace of Istio, a revision, one gateway of its own,
    /// no probes.
    pub(in super::super) fn foreign() -> record::Cluster {
        let cluster = json!({
            "name": "east",
            "network": "n",
            "kubeconfig": "kubeconfig",
            "context": "east",
            "domain": "east.example",
            "address_families": ["IPv4"],
            "istio": {
                "namespace": "mesh-control",
                "revision": "canary",
                "injection": {"key": "istio.io/rev", "value": "canary"},
                "control_plane": {
                    "selector": "app=istiod,istio.io/rev=canary",
                    "port": 15012,
                    "server_name": "istiod-canary.mesh-control.svc",
                },
                "proxy": {"container": "sidecar", "agent": "agent", "native_sidecar": true},
            },
            "gateways": {
                "ingress": {"namespace": "edge", "deployment": "gateway", "selector": "gateway=edge", "port": 80},
            },
        });
        serde_json::from_value(cluster).unwrap()
    }

    #[test]
    fn the_proxy_and_the_gateways_are_those_of_the_record() {
        let installed = Installed::from(&foreign());
        let Program { container, command } = installed.proxy();
        assert_eq!((container, command), ("sidecar", "agent"));
        assert_eq!(installed.gateways.ingress.unwrap().deployment, "gateway");
        assert!(installed.gateways.eastwest.is_none() && installed.probes.is_none());
    }
}
