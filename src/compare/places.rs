//! The nodes of a bench's pods.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::error::{Error, Result};
use crate::cluster::{Cluster, HOSTNAME_LABEL};
use crate::record;

/// Prefix of the taints by which Kubernetes itself marks a node in trouble. They pass with the trouble.
const CONDITION_TAINTS: &str = "node.kubernetes.io/";

/// The nodes of a bench's pods, by host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    hosts: Option<Hosts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hosts {
    client: String,
    gateway: String,
    server: String,
}

impl Places {
    /// Wherever the scheduler puts the pods.
    pub(super) fn any() -> Self {
        Self { hosts: None }
    }

    /// All pods on one node of `cluster`, as in the seed's test of the TCP bypass. A cluster with one node needs no
    /// placement, and gets none.
    ///
    /// # Errors
    /// [`Api`](crate::cluster::Error::Api): the nodes cannot be listed. [`Error::Nodes`]: no node is ready.
    pub async fn one_node(cluster: &Cluster) -> Result<Self> {
        let nodes = listed(cluster).await?;
        if suitable(&nodes).count() == 1 {
            return Ok(Self { hosts: None });
        }
        let [host] = ready(cluster, &nodes)?;
        Ok(Self { hosts: Some(Hosts { client: host.clone(), gateway: host.clone(), server: host }) })
    }

    /// The client on one node of `cluster`, and the server on another.
    ///
    /// # Errors
    /// [`NotDeclared`](record::Error::NotDeclared): the cluster has one node for pods. The errors of
    /// [`Self::one_node`].
    pub async fn two_nodes(cluster: &Cluster) -> Result<Self> {
        let [client, server] = ready(cluster, &listed(cluster).await?)?;
        Ok(Self { hosts: Some(Hosts { client, gateway: server.clone(), server }) })
    }

    /// Client, gateway and server each on a node of their own, as in the seed's test of TLS.
    ///
    /// # Errors
    /// [`NotDeclared`](record::Error::NotDeclared): the cluster has fewer than three nodes for pods. The errors of
    /// [`Self::one_node`].
    pub async fn three_nodes(cluster: &Cluster) -> Result<Self> {
        let [client, gateway, server] = ready(cluster, &listed(cluster).await?)?;
        Ok(Self { hosts: Some(Hosts { client, gateway, server }) })
    }

    /// The client's node. `None` if the cluster has only one.
    pub(super) fn client(&self) -> Option<&str> {
        Some(&self.hosts.as_ref()?.client)
    }

    /// The gateway's node.
    pub(super) fn gateway(&self) -> Option<&str> {
        Some(&self.hosts.as_ref()?.gateway)
    }

    /// The server's node.
    pub(super) fn server(&self) -> Option<&str> {
        Some(&self.hosts.as_ref()?.server)
    }
}

async fn listed(cluster: &Cluster) -> Result<Vec<Node>> {
    let listed = Api::<Node>::all(cluster.client()).list(&ListParams::default()).await;
    Ok(listed.map_err(cluster.failed("list the nodes"))?.items)
}

/// The host names of `N` ready nodes for pods. The nodes of a control plane are none if others exist: kubeadm taints
/// them.
fn ready<const N: usize>(cluster: &Cluster, nodes: &[Node]) -> Result<[String; N]> {
    let suitable: Vec<&Node> = suitable(nodes).collect();
    if suitable.len() < N {
        let has = format!("{N} nodes for pods of {}: it has {}", cluster.name(), suitable.len());
        return Err(record::Error::not_declared(has).into());
    }
    let mut hosts: Vec<String> = suitable.iter().copied().filter(|node| is_ready(node)).map(host).collect();
    hosts.sort_unstable();
    hosts.truncate(N);
    hosts.try_into().map_err(|hosts: Vec<String>| {
        let unready = suitable.iter().filter(|node| !is_ready(node)).map(|node| node.name_any());
        let (cluster, unready) = (cluster.name().to_owned(), unready.collect::<Vec<_>>().join(", "));
        Error::Nodes { cluster, needed: N, ready: hosts.len(), unready }
    })
}

/// The nodes that take any pod.
fn suitable(nodes: &[Node]) -> impl Iterator<Item = &Node> {
    nodes.iter().filter(|node| {
        let spec = node.spec.clone().unwrap_or_default();
        let repels = |taint: &k8s_openapi::api::core::v1::Taint| {
            taint.effect != "PreferNoSchedule" && !taint.key.starts_with(CONDITION_TAINTS)
        };
        spec.unschedulable != Some(true) && !spec.taints.iter().flatten().any(repels)
    })
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn host(node: &Node) -> String {
    node.labels().get(HOSTNAME_LABEL).cloned().unwrap_or_else(|| node.name_any())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::tests::workload;
    use crate::scope;

    fn node(name: &str, spec: Value, is_ready: bool) -> Node {
        let status = if is_ready { "True" } else { "False" };
        let metadata = json!({"name": name, "labels": {HOSTNAME_LABEL: format!("{name}.host")}});
        let conditions = json!({"conditions": [{"type": "Ready", "status": status}]});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": conditions})).unwrap()
    }

    fn tainted(key: &str, effect: &str) -> Value {
        json!({"taints": [{"key": key, "effect": effect}]})
    }

    /// Three workers and a control plane.
    fn nodes(last_is_ready: bool) -> Vec<Node> {
        let control_plane = tainted("node-role.kubernetes.io/control-plane", "NoSchedule");
        vec![
            node("a-control-plane", control_plane, true),
            node("w3", json!({}), last_is_ready),
            node("w1", json!({}), true),
            node("w2", tainted("example", "PreferNoSchedule"), true),
        ]
    }

    #[tokio::test]
    async fn nodes_for_pods_are_named_by_their_hosts_and_the_control_plane_is_none() {
        let cluster = workload().cluster;
        let chosen: [String; 3] = ready(&cluster, &nodes(true)).unwrap();
        assert_eq!(chosen, ["w1.host", "w2.host", "w3.host"]);
    }

    #[tokio::test]
    async fn too_few_nodes_are_a_gap_of_the_mesh_and_one_in_trouble_is_an_error() {
        let cluster = workload().cluster;
        let alone = [node("only", json!({}), true), node("closed", json!({"unschedulable": true}), true)];
        let gap = scope::Error::from(ready::<2>(&cluster, &alone).unwrap_err());
        assert!(gap.is_not_declared() && gap.to_string().contains("2 nodes for pods of cluster1: it has 1"), "{gap}");
        let mut nodes = nodes(false);
        // As Kubernetes does with a node that is not ready.
        nodes[1].spec = serde_json::from_value(tainted("node.kubernetes.io/not-ready", "NoExecute")).unwrap();
        let trouble = scope::Error::from(ready::<3>(&cluster, &nodes).unwrap_err());
        assert!(!trouble.is_not_declared() && trouble.to_string().contains("w3"), "{trouble}");
    }
}
