//! Providers make the clusters of a testbed. Commands use [`Provider`] and do not depend on a particular provider.

pub(crate) mod local;
pub(crate) mod node;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use meshproof::attach;
use meshproof::record::{self, Record};

use crate::bundle::Collector;
use crate::declaration::{self, Declaration};
use crate::progress::Progress;
use node::{Hold, NodeState, Usage};

/// A provider, identified by its name in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    /// Clusters in containers on this machine.
    Local,
    /// Clusters that somebody else made.
    Attach,
}

/// A cluster of a testbed. The cluster may not exist.
#[derive(Debug)]
pub(crate) struct KnownCluster {
    /// Name in the mesh.
    pub(crate) name: String,
    /// Kubeconfig file. The file may not exist.
    pub(crate) kubeconfig: PathBuf,
    /// Context in that file.
    pub(crate) context: String,
    /// Names of the nodes that the provider can reach without Kubernetes. Empty if the provider can reach no node.
    pub(crate) nodes: Vec<String>,
}

impl KnownCluster {
    /// The cluster's name as part of a path.
    pub(crate) fn file_name(&self) -> String {
        record::legal(&self.name, 60)
    }
}

impl Provider {
    /// The provider of a testbed without a usable record, left by an unfinished `up`.
    pub(crate) const OF_UNFINISHED: Self = Self::Local;

    /// The provider that a record names.
    ///
    /// # Errors
    /// Fails if the record names a provider that this version does not have.
    pub(crate) fn of(record: &Record) -> Result<Self> {
        match record.provider.as_str() {
            local::NAME => Ok(Self::Local),
            attach::PROVIDER => Ok(Self::Attach),
            other => bail!(
                "the testbed record names provider `{other}`, which this version does not have: use the version that \
                 wrote the record"
            ),
        }
    }

    /// The provider's name in the record.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Local => local::NAME,
            Self::Attach => attach::PROVIDER,
        }
    }

    /// The name of the system that runs the nodes, for messages.
    pub(crate) fn machines_name(self) -> &'static str {
        match self {
            Self::Local => "the container engine",
            Self::Attach => "the system that runs the nodes",
        }
    }

    /// A cluster that the record in `directory` names.
    pub(crate) fn recorded(self, directory: &Path, cluster: &record::Cluster) -> KnownCluster {
        KnownCluster {
            name: cluster.name.clone(),
            kubeconfig: directory.join(&cluster.kubeconfig),
            context: cluster.context.clone(),
            nodes: self.nodes(directory, &cluster.name),
        }
    }

    /// The clusters that an unfinished testbed in `directory` may have. `up` writes each kubeconfig long before the
    /// record.
    ///
    /// # Errors
    /// Fails if the declaration of the clusters is malformed.
    pub(crate) fn unfinished(self, directory: &Path) -> Result<Vec<KnownCluster>> {
        match self {
            Self::Local => {
                let declaration = Declaration::in_use(directory)?;
                let cluster = |cluster: &declaration::Cluster| KnownCluster {
                    name: cluster.name.clone(),
                    kubeconfig: local::kubeconfig_of(directory, &cluster.name),
                    context: cluster.name.clone(),
                    nodes: containers(cluster),
                };
                Ok(declaration.clusters.iter().map(cluster).collect())
            }
            // `attach` writes nothing before the record.
            Self::Attach => Ok(Vec::new()),
        }
    }

    /// The nodes of the cluster `name` of the testbed in `directory`.
    fn nodes(self, directory: &Path, name: &str) -> Vec<String> {
        match self {
            Self::Local => {
                // Without a usable declaration, the cluster has at least the node of its control plane.
                let declaration = Declaration::of_testbed(directory).ok().flatten();
                let cluster = declaration.iter().flat_map(|declaration| &declaration.clusters);
                let cluster = cluster.into_iter().find(|cluster| cluster.name == name);
                cluster.map_or_else(|| vec![local::container_of(name)], containers)
            }
            Self::Attach => Vec::new(),
        }
    }

    /// Connects to the system that runs the nodes.
    ///
    /// # Errors
    /// Fails if the system does not answer.
    pub(crate) async fn connect(self) -> Result<Machines> {
        match self {
            Self::Local => Ok(Machines::Local(local::Engine::connect().await?)),
            Self::Attach => bail!("the nodes of a mesh that somebody else made are reached through Kubernetes only"),
        }
    }

    /// Removes the provider's clusters from this machine.
    ///
    /// # Errors
    /// Fails if an object cannot be removed. The error names the object.
    pub(crate) async fn remove(self, progress: &Progress) -> Result<()> {
        match self {
            Self::Local => local::remove(progress).await,
            Self::Attach => bail!("somebody else made these clusters"),
        }
    }
}

/// The containers of a cluster's nodes.
fn containers(cluster: &declaration::Cluster) -> Vec<String> {
    cluster.node_names().iter().map(|node| local::container_of(node)).collect()
}

/// A connection to the system that runs a provider's nodes.
pub(crate) enum Machines {
    /// The container engine.
    Local(local::Engine),
}

impl Machines {
    /// The node's state.
    ///
    /// # Errors
    /// Fails if the state cannot be read.
    pub(crate) async fn state(&self, node: &str) -> Result<NodeState> {
        match self {
            Self::Local(engine) => local::state(engine, node).await,
        }
    }

    /// The node's resource usage. Takes most of a second.
    ///
    /// # Errors
    /// Fails if the usage cannot be read.
    pub(crate) async fn usage(&self, node: &str) -> Result<Usage> {
        match self {
            Self::Local(engine) => local::usage(engine, node).await,
        }
    }

    /// A limit of the machines that is nearly reached, and what to do.
    pub(crate) fn warning(&self) -> Option<String> {
        match self {
            Self::Local(_) => local::inotify()?.warning(),
        }
    }

    /// Collects information about the machines as a whole.
    pub(crate) async fn collect(&self, collector: &Collector) {
        match self {
            Self::Local(engine) => local::collect(collector, engine).await,
        }
    }

    /// Collects all information about the node that needs no Kubernetes into `directory`. If the API server does not
    /// answer, copies the pods' logs from the node's disk.
    pub(crate) async fn collect_node(&self, collector: &Collector, node: &str, directory: &str, api_answers: bool) {
        match self {
            Self::Local(engine) => local::collect_node(collector, engine, node, directory, api_answers).await,
        }
    }

    /// Pauses the node and all its processes. The node stays paused until it is resumed.
    ///
    /// # Errors
    /// Fails if the node cannot be paused.
    pub(crate) async fn pause(&self, node: &str) -> Result<()> {
        match self {
            Self::Local(engine) => engine.pause(node).await,
        }
    }

    /// Resumes every paused node, including nodes that an earlier command left paused.
    ///
    /// # Errors
    /// Fails if a node cannot be resumed. The error names the node.
    pub(crate) async fn resume_all(&self) -> Result<()> {
        match self {
            Self::Local(engine) => engine.resume_all().await,
        }
    }

    /// Freezes the processes that `hold` selects on these nodes of one cluster; for [`Hold::AllBut`], only prepares to.
    /// All processes resume when the returned value is dropped, or when this process ends for any reason.
    ///
    /// # Errors
    /// Fails if a node cannot begin to freeze processes.
    pub(crate) async fn hold(&self, nodes: &[String], hold: &Hold) -> Result<Held> {
        match self {
            Self::Local(engine) => Ok(Held::Local(local::Held::begin(engine, nodes, hold).await?)),
        }
    }
}

/// Nodes on which processes are frozen, or can be frozen.
pub(crate) enum Held {
    /// By a command in each container.
    Local(local::Held),
}

impl Held {
    /// For [`Hold::AllBut`]: freezes the processes for `seconds`. Calls `held` with the number of processes once all
    /// are frozen, and returns when all run again.
    ///
    /// # Errors
    /// Fails if a node does not follow the instruction.
    pub(crate) async fn hold_for(&mut self, seconds: f64, held: impl FnOnce(u64)) -> Result<()> {
        match self {
            Self::Local(nodes) => nodes.hold_for(seconds, held).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_testbed_has_the_clusters_of_the_declaration_and_a_kubeconfig_each() {
        let clusters = Provider::OF_UNFINISHED.unfinished(Path::new("/testbed")).unwrap();
        let first = &clusters[0];
        assert_eq!((first.name.as_str(), first.context.as_str()), ("cluster1", "cluster1"));
        assert_eq!(first.nodes, ["meshproof-cluster1"]);
        assert_eq!(first.kubeconfig, Path::new("/testbed/secrets/cluster1/kubeconfig"));
    }
}
