//! One cluster: a container that runs kubeadm.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use kube::config::Kubeconfig;
use meshproof::record::HostPort;
use meshproof::{Seen, eventually};
use testcontainers::core::Mount;

use super::addresses::NodeAddresses;
use super::definition::ClusterDefinition;
use super::engine::{Container, Engine, LABEL};
use crate::artifacts::{Key, REPOSITORY};
use crate::mesh::target::{Gateways, Target};
use crate::progress::{self, Progress};
use crate::template::{self, Values};
use crate::versions::Versions;
use crate::{kubernetes, paths};

/// Label with the hash of all inputs of a node. If the hash differs, `up` makes the node anew.
const SPECIFICATION: &str = "meshproof.dev/specification";

/// Marker file in a node, which exists once kubeadm has finished.
const INITIALISED: &str = "/var/lib/meshproof-initialised";

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

/// Time limit for the API server of an existing node to become ready again.
const RECOVERY_BOUND: Duration = Duration::from_secs(90);

/// Time limit for the engine to finish requests of a killed `up`.
const REMOVAL_BOUND: Duration = Duration::from_secs(60);

/// A cluster of the local provider.
pub(crate) struct Node {
    definition: ClusterDefinition,
    addresses: NodeAddresses,
    engine: Engine,
    image: String,
    network: String,
    kubeadm: String,
}

impl Node {
    pub(crate) fn new(
        engine: &Engine,
        definition: ClusterDefinition,
        addresses: NodeAddresses,
        image: &str,
        network: &str,
        versions: &Versions,
    ) -> Result<Self> {
        let values = Values::from([
            ("CLUSTER", definition.name.clone()),
            ("NODE_ADDRESS", addresses.node.clone()),
            ("POD_SUBNET", definition.pod_subnet.clone()),
            ("SERVICE_SUBNET", definition.service_subnet.clone()),
            ("DNS_ADDRESS", definition.dns_address.clone()),
            ("IMAGES", REPOSITORY.to_owned()),
            ("KUBERNETES_VERSION", versions.kubernetes.version.clone()),
            ("ETCD_VERSION", versions.etcd.version.clone()),
        ]);
        let kubeadm = template::fixture("clusters/kubeadm.yaml", &values)?;
        let (engine, image, network) = (engine.clone(), image.to_owned(), network.to_owned());
        Ok(Self { definition, addresses, engine, image, network, kubeadm })
    }

    fn name(&self) -> &str {
        &self.definition.name
    }

    /// Name of the container and of its volume.
    fn container(&self) -> String {
        container_of(self.name())
    }

    /// Kubeconfig of this cluster alone.
    fn kubeconfig(&self) -> PathBuf {
        kubeconfig_of(&paths::testbed(), self.name())
    }

    /// Brings the cluster up until its API server is ready. The cluster may be missing, half made, stopped, or of
    /// another specification.
    ///
    /// # Errors
    /// Fails if a step fails. The error names the step and the cluster.
    pub(crate) async fn up(&self, progress: &Progress) -> Result<Target> {
        let client = self.client(progress).await?;
        let ingress = self.engine.published(&self.container(), INGRESS_HTTP_PORT).await?;
        Ok(Target {
            name: self.name().to_owned(),
            network: self.definition.network.clone(),
            client,
            kubeconfig: self.kubeconfig(),
            context: self.name().to_owned(),
            secrets: secrets_of(&paths::testbed(), self.name()),
            api_server: format!("https://{}:{API_PORT}", self.addresses.node),
            domain: DOMAIN.to_owned(),
            dns_address: self.definition.dns_address.clone(),
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

    async fn client(&self, progress: &Progress) -> Result<kube::Client> {
        let cluster = Some(self.name());
        if progress.step(cluster, "node container", self.ensure_container()).await? == State::Kept {
            match progress.step(cluster, "API server and pods back", self.recover()).await {
                Ok(client) => return Ok(client),
                Err(error) => {
                    progress.say(format!("{:>10}  does not recover and is made anew: {error:#}", self.name()));
                    self.remove().await?;
                    progress.step(cluster, "node container", self.ensure_container()).await?;
                }
            }
        }
        progress.step(cluster, "kubeadm init", self.initialise()).await?;
        progress.step(cluster, "API server ready", self.connect(Duration::from_secs(60))).await
    }

    async fn ensure_container(&self) -> Result<State> {
        let name = self.container();
        let specification = self.specification();
        if let Some(details) = self.engine.inspect(&name).await? {
            let labels = details.config.and_then(|config| config.labels).unwrap_or_default();
            if labels.get(SPECIFICATION) == Some(&specification) {
                if details.state.and_then(|state| state.running) != Some(true) {
                    self.engine.start_again(&name).await?;
                }
                if self.engine.exec(&name, &["test", "-f", INITIALISED]).await.is_ok() {
                    progress::mark_cached();
                    return Ok(State::Kept);
                }
            }
        }
        self.remove().await?;
        self.engine.create_volume(&name).await?;
        let addresses = &self.addresses;
        let with_prefix = |address: &str| format!("{address}/{}", addresses.prefix);
        let container = Container {
            image: self.image.clone(),
            entrypoint: "/usr/bin/tini".into(),
            command: vec!["-g".into(), "--".into(), "/etc/meshproof/init".into()],
            environment: vec![
                ("NODE_ADDRESS".into(), with_prefix(&addresses.node)),
                (
                    "EXTRA_ADDRESSES".into(),
                    format!("{} {}", with_prefix(&addresses.ingress), with_prefix(&addresses.eastwest)),
                ),
                ("POD_SUBNET".into(), self.definition.pod_subnet.clone()),
                ("SERVICE_SUBNET".into(), self.definition.service_subnet.clone()),
                ("KUBECONFIG".into(), "/etc/kubernetes/admin.conf".into()),
            ],
            labels: vec![(LABEL.into(), self.name().into()), (SPECIFICATION.into(), specification)],
            network: Some(self.network.clone()),
            ports: vec![API_PORT, INGRESS_HTTP_PORT, INGRESS_HTTPS_PORT],
            mounts: vec![Mount::volume_mount(&name, "/var")],
            ready_line: Some("node: ready for kubeadm"),
            restart: true,
            name,
        };
        self.engine.start(&container).await?;
        Ok(State::Fresh)
    }

    /// As [`Self::connect`]. Also waits until every pod has been started after the container.
    async fn recover(&self) -> Result<kube::Client> {
        let client = self.connect(RECOVERY_BOUND).await?;
        let started = self.engine.started_at(&self.container()).await?;
        kubernetes::wait_for_pods_since(&client, started, RECOVERY_BOUND).await?;
        Ok(client)
    }

    async fn initialise(&self) -> Result<()> {
        let name = self.container();
        let write = "printf %s \"$1\" > /etc/meshproof/kubeadm.yaml";
        self.engine.exec(&name, &["sh", "-c", write, "sh", &self.kubeadm]).await?;
        let kubeadm = [
            "kubeadm",
            "init",
            "--config=/etc/meshproof/kubeadm.yaml",
            // The testbed's CoreDNS has one replica and forwards no queries: `fixtures/clusters/coredns.yaml`.
            "--skip-phases=addon/coredns",
            // The checks look for systemd, swap and the kernel's configuration, none of which a container has.
            "--ignore-preflight-errors=all",
        ];
        self.engine.exec(&name, &kubeadm).await?;
        self.engine.exec(&name, &["touch", INITIALISED]).await.map(drop)
    }

    /// Writes the cluster's kubeconfig for use on the host, and waits for the API server.
    async fn connect(&self, bound: Duration) -> Result<kube::Client> {
        let name = self.container();
        let port = self.engine.published(&name, API_PORT).await?;
        let admin = self.engine.exec(&name, &["cat", "/etc/kubernetes/admin.conf"]).await?;
        let kubeconfig = rename(&admin, self.name(), &format!("https://127.0.0.1:{port}"))?;
        paths::write_secret(&self.kubeconfig(), &serde_saphyr::to_string(&kubeconfig)?)?;
        let client = kubernetes::client(&self.kubeconfig(), self.name()).await?;
        kubernetes::wait_for_api(&client, bound).await?;
        Ok(client)
    }

    async fn remove(&self) -> Result<()> {
        // A killed `up` may have requested a container that the engine is still making. The container's name is not
        // known yet, but its volume is already in use.
        let gone = eventually("the old node to be gone", REMOVAL_BOUND, async || -> Result<Seen<()>> {
            self.engine.remove(&self.container()).await?;
            self.engine.remove_volume(&self.container()).await?;
            Ok(Seen::Yes(()))
        });
        Ok(gone.await?)
    }

    fn specification(&self) -> String {
        specification(&self.image, &self.kubeadm, &self.definition, &self.addresses)
    }
}

/// Hash of all inputs of a node. The `Debug` texts are part of the hash: a renamed field makes every node anew.
fn specification(image: &str, kubeadm: &str, definition: &ClusterDefinition, addresses: &NodeAddresses) -> String {
    Key::new("node 1").text(image).text(kubeadm).text(&format!("{definition:?} {addresses:?}")).finish()
}

/// Name of the container of the cluster `name`.
pub(crate) fn container_of(name: &str) -> String {
    format!("meshproof-{name}")
}

/// Directory of the secrets of the cluster `name`, in the testbed `directory`.
fn secrets_of(directory: &Path, name: &str) -> PathBuf {
    directory.join("secrets").join(name)
}

/// Path of the kubeconfig of the cluster `name` alone, in the testbed `directory`.
pub(crate) fn kubeconfig_of(directory: &Path, name: &str) -> PathBuf {
    secrets_of(directory, name).join("kubeconfig")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Kept,
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
    use super::super::addresses::{self, Halves};
    use super::super::definition::Definition;
    use super::*;

    #[test]
    fn the_specification_of_a_node_does_not_change_by_itself() {
        let definition = Definition::read().unwrap().cluster.remove(0);
        let addresses = Halves::of(addresses::parse("10.231.0.0/24").unwrap()).unwrap().node(0).unwrap();
        // If this hash changes, the next `up` makes every node of every testbed anew.
        assert_eq!(specification("image:1", "kubeadm", &definition, &addresses), "8caecea3da731fd2");
    }

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
