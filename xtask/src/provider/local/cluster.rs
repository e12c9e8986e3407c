//! One cluster: a control-plane node, and its workers.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Node as KubernetesNode, Taint};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::config::Kubeconfig;
use kube::{Client, ResourceExt};
use meshproof::record::HostPort;
use serde_json::json;

use super::addresses::ClusterAddresses;
use super::engine::Engine;
use super::node::{Node, State, container_of, remove};
use crate::artifacts::REPOSITORY;
use crate::declaration::{self, Declaration, MOST_NODES};
use crate::mesh::target::{Gateways, Target};
use crate::progress::Progress;
use crate::template::{self, Values};
use crate::versions::Versions;
use crate::{kubernetes, paths};

/// Port of the API server.
const API_PORT: u16 = 6443;

/// Node port of the ingress gateway for HTTP, published on the host's loopback interface.
const INGRESS_HTTP_PORT: u16 = 30080;

/// As [`INGRESS_HTTP_PORT`], for TLS.
const INGRESS_HTTPS_PORT: u16 = 30443;

/// Domain of the services, the same as in the kubelet's configuration in `fixtures/clusters/kubeadm.yaml`.
const DOMAIN: &str = "cluster.local";

/// Where a node mounts cgroup v2, below `/sys/fs/cgroup`.
const CGROUP2: &str = "/unified";

/// Time limit for the API server of a new cluster to become ready.
const START_BOUND: Duration = Duration::from_secs(60);

/// Time limit for an existing node to become ready again.
const RECOVERY_BOUND: Duration = Duration::from_secs(90);

/// kubeadm's taint of a control-plane node.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Where the workers' nodes have the kubeconfig by which they join.
const DISCOVERY: &str = "/etc/meshproof/discovery.conf";

/// A cluster of the local provider.
pub(crate) struct LocalCluster {
    declared: declaration::Cluster,
    addresses: ClusterAddresses,
    engine: Engine,
    control_plane: Node,
    workers: Vec<Node>,
}

/// What all nodes of a testbed share.
pub(super) struct Common<'a> {
    pub(super) engine: &'a Engine,
    pub(super) image: &'a str,
    pub(super) network: &'a str,
    pub(super) versions: &'a Versions,
    pub(super) declaration: &'a Declaration,
    /// Addresses of the clusters, in the declaration's order.
    pub(super) addresses: &'a [ClusterAddresses],
}

impl LocalCluster {
    /// The cluster with this number in the declaration.
    ///
    /// # Errors
    /// Fails if a fixture cannot be filled in.
    pub(super) fn new(common: &Common<'_>, number: usize) -> Result<Self> {
        let declared = common.declaration.clusters[number].clone();
        let addresses = common.addresses[number].clone();
        let mut nodes = (0..declared.nodes).map(|node| common.node(number, node)).collect::<Result<Vec<_>>>()?;
        let workers = nodes.split_off(1);
        let control_plane = nodes.pop().context("a cluster has no node")?;
        Ok(Self { declared, addresses, engine: common.engine.clone(), control_plane, workers })
    }

    fn name(&self) -> &str {
        &self.declared.name
    }

    /// Kubeconfig of this cluster alone.
    fn kubeconfig(&self) -> PathBuf {
        kubeconfig_of(&paths::testbed(), self.name())
    }

    /// Brings the cluster up until its API server is ready. The cluster may be missing, half made, stopped, or of
    /// another specification. Call [`Self::join`] next.
    ///
    /// # Errors
    /// Fails if a step fails. The error names the step and the cluster.
    pub(crate) async fn up(&self, progress: &Progress) -> Result<Target> {
        let client = self.client(progress).await?;
        self.taint(&client).await?;
        let ingress = self.engine.published(&self.control_plane.container(), INGRESS_HTTP_PORT).await?;
        Ok(Target {
            name: self.name().to_owned(),
            network: self.declared.network.clone(),
            client,
            kubeconfig: self.kubeconfig(),
            context: self.name().to_owned(),
            secrets: secrets_of(&paths::testbed(), self.name()),
            api_server: format!("https://{}:{API_PORT}", self.addresses.nodes[0]),
            domain: DOMAIN.to_owned(),
            dns_address: self.declared.dns_address(),
            cgroup2: CGROUP2.to_owned(),
            gateways: Gateways {
                ingress: self.addresses.ingress.clone(),
                ingress_http_node_port: INGRESS_HTTP_PORT,
                ingress_https_node_port: INGRESS_HTTPS_PORT,
                ingress_from_here: HostPort::new("127.0.0.1", ingress),
                eastwest: self.addresses.eastwest.clone(),
            },
        })
    }

    async fn client(&self, progress: &Progress) -> Result<Client> {
        let cluster = Some(self.name());
        if progress.step(cluster, "node container", self.control_plane.ensure_container()).await? == State::Kept {
            match progress.step(cluster, "API server and pods back", self.recover()).await {
                Ok(client) => return Ok(client),
                Err(error) => {
                    progress.say(format!("{:>10}  does not recover and is made anew: {error:#}", self.name()));
                    progress.step(cluster, "node container", self.control_plane.make_anew()).await?;
                }
            }
        }
        // The workers of an earlier cluster do not know the new one.
        let workers = async {
            let anew = self.workers.iter().map(Node::make_anew);
            try_join_all(anew).await.map(drop)
        };
        let initialise = async {
            // The testbed's CoreDNS has one replica and forwards no queries: `fixtures/clusters/coredns.yaml`.
            let init = self.control_plane.kubeadm("init", &["--skip-phases=addon/coredns"]);
            progress.step(cluster, "kubeadm init", init).await?;
            progress.step(cluster, "API server ready", self.connect(START_BOUND)).await
        };
        let (client, ()) = tokio::try_join!(initialise, workers)?;
        Ok(client)
    }

    /// As [`Self::connect`]. Also waits until every pod of the control plane's node has been started after its
    /// container.
    async fn recover(&self) -> Result<Client> {
        let client = self.connect(RECOVERY_BOUND).await?;
        self.pods_back(&client, &self.control_plane).await?;
        Ok(client)
    }

    async fn pods_back(&self, client: &Client, node: &Node) -> Result<()> {
        let started = self.engine.started_at(&node.container()).await?;
        kubernetes::wait_for_pods_since(client, &node.name, started, RECOVERY_BOUND).await
    }

    /// Writes the cluster's kubeconfig for use on the host, and waits for the API server.
    async fn connect(&self, bound: Duration) -> Result<Client> {
        let port = self.engine.published(&self.control_plane.container(), API_PORT).await?;
        let kubeconfig = rename(&self.admin().await?, self.name(), &format!("https://127.0.0.1:{port}"))?;
        paths::write_secret(&self.kubeconfig(), &serde_saphyr::to_string(&kubeconfig)?)?;
        let client = kubernetes::client(&self.kubeconfig(), self.name()).await?;
        kubernetes::wait_for_api(&client, bound).await?;
        Ok(client)
    }

    /// kubeadm's kubeconfig of an administrator, for use on the nodes.
    async fn admin(&self) -> Result<String> {
        self.engine.exec(&self.control_plane.container(), &["cat", "/etc/kubernetes/admin.conf"]).await
    }

    /// Keeps workloads off the control plane's node if there are workers, and lets them run there if there are none.
    async fn taint(&self, client: &Client) -> Result<()> {
        let nodes: Api<KubernetesNode> = Api::all(client.clone());
        let name = &self.control_plane.name;
        let node = nodes.get(name).await.with_context(|| format!("cannot read node {name}"))?;
        let before = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let mut taints: Vec<Taint> = before.iter().filter(|taint| taint.key != CONTROL_PLANE).cloned().collect();
        if !self.workers.is_empty() {
            taints.push(Taint { key: CONTROL_PLANE.into(), effect: "NoSchedule".into(), ..Default::default() });
        }
        if taints.len() == before.len() {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"spec": {"taints": taints}}));
        nodes
            .patch(name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("cannot taint node {name}"))?;
        Ok(())
    }

    /// Joins the declared workers to the cluster, and removes workers that are no longer declared.
    ///
    /// # Errors
    /// Fails if a node does not become ready in time. The error names the node.
    pub(crate) async fn join(&self, progress: &Progress, target: &Target) -> Result<()> {
        let client = &target.client;
        self.retire(progress, client).await?;
        if self.workers.is_empty() {
            return Ok(());
        }
        let admin = self.admin().await?;
        let joining = self.workers.iter().map(async |worker| {
            let name = format!("node {}", worker.name);
            progress.step(Some(self.name()), &name, self.join_one(client, worker, &admin)).await
        });
        try_join_all(joining).await.map(drop)
    }

    async fn join_one(&self, client: &Client, worker: &Node, admin: &str) -> Result<()> {
        if worker.ensure_container().await? == State::Kept {
            match self.back(client, worker).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(node = worker.name, "does not recover and is made anew: {error:#}");
                    worker.make_anew().await?;
                }
            }
        }
        // kubeadm refuses a name that a ready node has.
        kubernetes::forget_node(client, &worker.name).await?;
        worker.write(DISCOVERY, admin).await?;
        worker.kubeadm("join", &[]).await?;
        kubernetes::wait_for_node(client, &worker.name, RECOVERY_BOUND).await
    }

    async fn back(&self, client: &Client, worker: &Node) -> Result<()> {
        kubernetes::wait_for_node(client, &worker.name, RECOVERY_BOUND).await?;
        self.pods_back(client, worker).await
    }

    async fn retire(&self, progress: &Progress, client: &Client) -> Result<()> {
        let declared = self.declared.node_names();
        let nodes: Api<KubernetesNode> = Api::all(client.clone());
        let known = nodes.list(&ListParams::default()).await?.items.into_iter().map(|node| node.name_any());
        for name in known.filter(|name| !declared.contains(name)) {
            let retiring = async {
                kubernetes::forget_node(client, &name).await?;
                remove(&self.engine, &container_of(&name)).await
            };
            progress.step(Some(self.name()), &format!("removing node {name}"), retiring).await?;
        }
        Ok(())
    }
}

impl Common<'_> {
    fn node(&self, cluster: usize, node: usize) -> Result<Node> {
        let declared = &self.declaration.clusters[cluster];
        let addresses = &self.addresses[cluster];
        let name = declared.node(node);
        let is_control_plane = node == 0;
        let values = Values::from([
            ("CLUSTER", declared.name.clone()),
            ("NODE", name.clone()),
            ("NODE_ADDRESS", addresses.nodes[node].clone()),
            ("POD_SUBNET", declared.pods.to_string()),
            ("SERVICE_SUBNET", declared.services.to_string()),
            ("DNS_ADDRESS", declared.dns_address()),
            ("DISCOVERY", DISCOVERY.to_owned()),
            ("IMAGES", REPOSITORY.to_owned()),
            ("KUBERNETES_VERSION", self.versions.kubernetes.version.clone()),
            ("ETCD_VERSION", self.versions.etcd.version.clone()),
        ]);
        let fixture = if is_control_plane { "clusters/kubeadm.yaml" } else { "clusters/kubeadm-join.yaml" };
        Ok(Node {
            name,
            cluster: declared.name.clone(),
            engine: self.engine.clone(),
            image: self.image.to_owned(),
            network: self.network.to_owned(),
            environment: self.environment(cluster, node)?,
            ports: if is_control_plane { vec![API_PORT, INGRESS_HTTP_PORT, INGRESS_HTTPS_PORT] } else { vec![] },
            kubeadm: template::fixture(fixture, &values)?,
            made: AtomicBool::new(false),
        })
    }

    /// Input of the node's `init.sh`. Does not depend on the number of nodes: a new node changes no other.
    fn environment(&self, cluster: usize, node: usize) -> Result<Vec<(&'static str, String)>> {
        let declared = &self.declaration.clusters[cluster];
        let addresses = &self.addresses[cluster];
        let with_prefix = |address: &str| format!("{address}/{}", addresses.prefix);
        let is_control_plane = node == 0;
        let extra = match is_control_plane {
            true => format!("{} {}", with_prefix(&addresses.ingress), with_prefix(&addresses.eastwest)),
            false => String::new(),
        };
        let on_network = self.declaration.clusters.iter().zip(self.addresses);
        let on_network: Vec<_> = on_network.filter(|(other, _)| other.network == declared.network).collect();
        let pods: Vec<String> = on_network.iter().map(|(other, _)| other.pods.to_string()).collect();
        let mut routes = Vec::new();
        for (other, addresses) in &on_network {
            for number in (0..MOST_NODES).filter(|number| other.name != declared.name || *number != node) {
                routes.push(format!("{}={}", pods_of(other, number)?, addresses.nodes[number]));
            }
        }
        let kubeconfig = if is_control_plane { "admin.conf" } else { "kubelet.conf" };
        Ok(vec![
            ("NODE_ADDRESS", with_prefix(&addresses.nodes[node])),
            ("EXTRA_ADDRESSES", extra),
            ("POD_SUBNET", pods_of(declared, node)?),
            ("CLUSTER_PODS", declared.pods.to_string()),
            ("NETWORK_PODS", pods.join(" ")),
            ("ROUTES", routes.join(" ")),
            ("SERVICE_SUBNET", declared.services.to_string()),
            ("API_SERVICE", declared.api_service()),
            ("API_SERVER", addresses.nodes[0].clone()),
            ("KUBECONFIG", format!("/etc/kubernetes/{kubeconfig}")),
        ])
    }
}

fn pods_of(cluster: &declaration::Cluster, node: usize) -> Result<String> {
    let subnet = cluster.pods_of(node).with_context(|| format!("{} has no room for node {node}", cluster.pods))?;
    Ok(subnet.to_string())
}

/// Directory of the secrets of the cluster `name`, in the testbed `directory`.
fn secrets_of(directory: &Path, name: &str) -> PathBuf {
    directory.join("secrets").join(name)
}

/// Path of the kubeconfig of the cluster `name` alone, in the testbed `directory`.
pub(crate) fn kubeconfig_of(directory: &Path, name: &str) -> PathBuf {
    secrets_of(directory, name).join("kubeconfig")
}

/// kubeadm's admin kubeconfig, with every entry renamed to `name` and the API server at `server`.
fn rename(admin: &str, name: &str, server: &str) -> Result<Kubeconfig> {
    let mut kubeconfig = Kubeconfig::from_yaml(admin).context("kubeadm left an unreadable admin.conf")?;
    for cluster in &mut kubeconfig.clusters {
        cluster.name = name.into();
        if let Some(cluster) = &mut cluster.cluster {
            cluster.server = Some(server.into());
        }
    }
    for user in &mut kubeconfig.auth_infos {
        user.name = name.into();
    }
    for context in &mut kubeconfig.contexts {
        context.name = name.into();
        if let Some(context) = &mut context.context {
            context.cluster = name.into();
            context.user = Some(name.into());
        }
    }
    kubeconfig.current_context = Some(name.into());
    Ok(kubeconfig)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_kubeconfig_has_one_context_at_the_published_port() {
        let admin = "apiVersion: v1\nkind: Config\ncurrent-context: kubernetes-admin@c\nclusters:\n- name: c\n  cluster:\n    server: https://10.0.0.1:6443\nusers:\n- name: kubernetes-admin\n  user: {}\ncontexts:\n- name: kubernetes-admin@c\n  context:\n    cluster: c\n    user: kubernetes-admin\n";
        let renamed = serde_saphyr::to_string(&rename(admin, "cluster1", "https://127.0.0.1:5").unwrap()).unwrap();
        let read = Kubeconfig::from_yaml(&renamed).unwrap();
        assert_eq!(read.current_context.as_deref(), Some("cluster1"));
        assert_eq!(read.contexts[0].context.as_ref().unwrap().user.as_deref(), Some("cluster1"));
        assert_eq!(read.clusters[0].cluster.as_ref().unwrap().server.as_deref(), Some("https://127.0.0.1:5"));
    }
}
