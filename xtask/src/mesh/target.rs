//! A cluster that the mesh is installed on. A provider makes the cluster. The mesh knows nothing else about the
//! provider.

use std::path::PathBuf;

use anyhow::{Context, Result};
use kube::config::Kubeconfig;
use meshproof::record::HostPort;

/// A cluster whose API server answers.
pub(crate) struct Target {
    /// Name in the mesh: Istio's `clusterName`.
    pub(crate) name: String,
    /// Istio's network name.
    pub(crate) network: String,
    pub(crate) client: kube::Client,
    /// Kubeconfig file for this machine.
    pub(crate) kubeconfig: PathBuf,
    /// Context in that file.
    pub(crate) context: String,
    /// Directory for the cluster's secrets, readable by this user only.
    pub(crate) secrets: PathBuf,
    /// URL of the API server for the other clusters.
    pub(crate) api_server: String,
    /// Domain of the cluster's services.
    pub(crate) domain: String,
    /// Address of the cluster's DNS service.
    pub(crate) dns_address: String,
    /// Where the nodes mount cgroup v2, below `/sys/fs/cgroup`.
    pub(crate) cgroup2: String,
    pub(crate) gateways: Gateways,
}

/// Addresses and ports of a cluster's gateways.
pub(crate) struct Gateways {
    /// Address for the ingress gateway's service, in place of one from a load balancer.
    pub(crate) ingress: String,
    /// Node port of the ingress gateway for HTTP.
    pub(crate) ingress_http_node_port: u16,
    /// Node port of the ingress gateway for HTTPS.
    pub(crate) ingress_https_node_port: u16,
    /// Address of the ingress gateway's HTTP port for this machine.
    pub(crate) ingress_from_here: HostPort,
    /// Address for the east-west gateway's service. The other clusters use this address.
    pub(crate) eastwest: String,
}

impl Target {
    /// Identifies one incarnation of the cluster: the certificate authority of its API server.
    ///
    /// # Errors
    /// Fails if the kubeconfig is unreadable, or its context has no certificate authority.
    pub(crate) fn identity(&self) -> Result<String> {
        let Self { kubeconfig: path, context, .. } = self;
        let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("cannot use {}", path.display()))?;
        let authority = authority_of(&kubeconfig, context);
        authority
            .with_context(|| format!("context {context} of {} has no data of a certificate authority", path.display()))
    }
}

fn authority_of(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let context = kubeconfig.contexts.iter().find(|named| named.name == context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?.cluster.as_ref()?;
    cluster.certificate_authority_data.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_that_of_the_context_and_not_of_another_cluster_in_the_file() {
        let cluster = |name: &str| {
            format!(
                "- {{name: {name}, cluster: {{server: 'https://{name}', certificate-authority-data: of-{name}}}}}\n"
            )
        };
        let context = |name: &str| format!("- {{name: to-{name}, context: {{cluster: {name}, user: u}}}}\n");
        let (clusters, contexts) = (["a", "b"].map(cluster).concat(), ["a", "b"].map(context).concat());
        let yaml = format!("apiVersion: v1\nkind: Config\nclusters:\n{clusters}contexts:\n{contexts}users: []\n");
        let kubeconfig = Kubeconfig::from_yaml(&yaml).unwrap();
        assert_eq!(authority_of(&kubeconfig, "to-b").as_deref(), Some("of-b"));
        assert_eq!(authority_of(&kubeconfig, "b"), None);
    }
}
