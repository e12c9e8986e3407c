//! Providers: what makes the clusters of a testbed. Commands ask [`Provider`], so that none of them depends on a
//! provider.

pub(crate) mod local;
pub(crate) mod node;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use meshproof::record::{self, HostPort, Record};

use crate::bundle::Collector;
use crate::progress::Progress;
use node::{Hold, NodeState, Usage};

/// A provider, by its name in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    /// Clusters in containers on this machine.
    Local,
}

/// A cluster of a testbed, which need not be there.
#[derive(Debug)]
pub(crate) struct KnownCluster {
    /// Name in the mesh.
    pub(crate) name: String,
    /// Kubeconfig file, which need not exist.
    pub(crate) kubeconfig: PathBuf,
    /// Context in that file.
    pub(crate) context: String,
    /// Names of the nodes that the provider can reach below Kubernetes; none where it can reach no node in this way.
    pub(crate) nodes: Vec<String>,
    /// Where this machine reaches the ingress gateway, where that is recorded.
    pub(crate) ingress: Option<HostPort>,
}

impl Provider {
    /// The provider of a testbed without a usable record: an `up` has not finished.
    pub(crate) const OF_UNFINISHED: Self = Self::Local;

    /// The provider that a record names.
    ///
    /// # Errors
    /// Where the record names another one than those of this version.
    pub(crate) fn of(record: &Record) -> Result<Self> {
        match record.provider.as_str() {
            local::NAME => Ok(Self::Local),
            other => bail!(
                "the testbed record names provider `{other}`, which this version does not have: use the version that \
                 wrote the record"
            ),
        }
    }

    /// Its name in the record.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Local => local::NAME,
        }
    }

    /// What runs the nodes, for messages.
    pub(crate) fn machines_name(self) -> &'static str {
        match self {
            Self::Local => "the container engine",
        }
    }

    /// A cluster that the record in `directory` names.
    pub(crate) fn recorded(self, directory: &Path, cluster: &record::Cluster) -> KnownCluster {
        KnownCluster {
            name: cluster.name.clone(),
            kubeconfig: directory.join(&cluster.kubeconfig),
            context: cluster.context.clone(),
            nodes: self.nodes(&cluster.name),
            ingress: cluster.ingress_address().cloned(),
        }
    }

    /// The clusters that an unfinished testbed in `directory` may have. The kubeconfig of each comes long before the
    /// record.
    ///
    /// # Errors
    /// Where the declaration of the clusters is malformed.
    pub(crate) fn unfinished(self, directory: &Path) -> Result<Vec<KnownCluster>> {
        match self {
            Self::Local => {
                let definition = local::Definition::read()?;
                let cluster = |name: &str| KnownCluster {
                    name: name.to_owned(),
                    kubeconfig: local::kubeconfig_of(directory, name),
                    context: name.to_owned(),
                    nodes: self.nodes(name),
                    ingress: None,
                };
                Ok(definition.names().into_iter().map(cluster).collect())
            }
        }
    }

    fn nodes(self, cluster: &str) -> Vec<String> {
        match self {
            Self::Local => vec![local::container_of(cluster)],
        }
    }

    /// Connects to what runs the nodes.
    ///
    /// # Errors
    /// Where it does not answer.
    pub(crate) async fn connect(self) -> Result<Machines> {
        match self {
            Self::Local => Ok(Machines::Local(local::Engine::connect().await?)),
        }
    }

    /// Removes from this machine the clusters that the provider made.
    ///
    /// # Errors
    /// Where something cannot be removed; naming it.
    pub(crate) async fn remove(self, progress: &Progress) -> Result<()> {
        match self {
            Self::Local => local::remove(progress).await,
        }
    }
}

/// A connection to what runs the nodes of a provider.
pub(crate) enum Machines {
    /// The container engine.
    Local(local::Engine),
}

impl Machines {
    /// What the node does.
    ///
    /// # Errors
    /// Where that cannot be learnt.
    pub(crate) async fn state(&self, node: &str) -> Result<NodeState> {
        match self {
            Self::Local(engine) => local::state(engine, node).await,
        }
    }

    /// What the node uses. Takes most of a second.
    ///
    /// # Errors
    /// Where that cannot be learnt.
    pub(crate) async fn usage(&self, node: &str) -> Result<Usage> {
        match self {
            Self::Local(engine) => local::usage(engine, node).await,
        }
    }

    /// Collects what there is to know of the machines as a whole.
    pub(crate) async fn collect(&self, collector: &Collector) {
        match self {
            Self::Local(engine) => local::collect(collector, engine).await,
        }
    }

    /// Collects into `directory` everything about the node, below Kubernetes. Where the API server does not answer, the
    /// logs of the pods are taken from the node's disk.
    pub(crate) async fn collect_node(&self, collector: &Collector, node: &str, directory: &str, api_answers: bool) {
        match self {
            Self::Local(engine) => local::collect_node(collector, engine, node, directory, api_answers).await,
        }
    }

    /// Pauses the node with all that runs on it. A node that is paused stays so.
    ///
    /// # Errors
    /// Where it cannot be paused.
    pub(crate) async fn pause(&self, node: &str) -> Result<()> {
        match self {
            Self::Local(engine) => engine.pause(node).await,
        }
    }

    /// Lets every paused node go on, including those that an ended command left paused.
    ///
    /// # Errors
    /// Where one does not go on; naming it.
    pub(crate) async fn resume_all(&self) -> Result<()> {
        match self {
            Self::Local(engine) => engine.resume_all().await,
        }
    }

    /// Begins to hold still what `hold` says on these nodes of one cluster. All of it goes on when what is returned is
    /// dropped, or when this process ends in whatever way.
    ///
    /// # Errors
    /// Where a node does not begin.
    pub(crate) async fn hold(&self, nodes: &[String], hold: &Hold) -> Result<Held> {
        match self {
            Self::Local(engine) => Ok(Held::Local(local::Held::begin(engine, nodes, hold).await?)),
        }
    }
}

/// Nodes on which something is held still, or can be.
pub(crate) enum Held {
    /// By a command in each container.
    Local(local::Held),
}

impl Held {
    /// For [`Hold::AllBut`]: holds for so many seconds. Calls `held` with the number of processes once all are held,
    /// and returns when all go on.
    ///
    /// # Errors
    /// Where a node does not do as it is told.
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
    fn an_unfinished_testbed_has_the_clusters_of_the_definition_and_a_kubeconfig_each() {
        let clusters = Provider::OF_UNFINISHED.unfinished(Path::new("/testbed")).unwrap();
        let first = &clusters[0];
        assert_eq!((first.name.as_str(), first.context.as_str()), ("cluster1", "cluster1"));
        assert_eq!(first.nodes, ["meshproof-cluster1"]);
        assert_eq!(first.kubeconfig, Path::new("/testbed/secrets/cluster1/kubeconfig"));
    }
}
