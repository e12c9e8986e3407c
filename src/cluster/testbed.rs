//! A live testbed: its record and its clusters.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::cluster::access::{self, Kubeconfigs};
use crate::cluster::{Error, Result};
use crate::identity::Trust;
use crate::record::{self, Record};

/// Environment variable with the testbed's directory. Default: `target/testbed`.
pub const DIRECTORY_VARIABLE: &str = "MESHPROOF_TESTBED";

/// The provider whose clusters `cargo xtask testbed up` can bring back.
const LOCAL: &str = "local";

/// A live testbed with connections to its clusters.
#[derive(Debug, Clone)]
pub struct Testbed {
    /// Directory of the record and its secrets.
    pub directory: PathBuf,
    /// The record.
    pub record: Arc<Record>,
    /// All clusters, in the record's order. Each cluster has answered a request.
    pub clusters: Vec<Arc<Cluster>>,
    /// The roots that workload certificates must chain to.
    pub trust: Arc<Trust>,
}

/// The source and destination clusters of a call. Both may be the same cluster.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The caller's cluster.
    pub from: Arc<Cluster>,
    /// The cluster of the called workload.
    pub to: Arc<Cluster>,
}

impl Pair {
    /// Whether the call leaves its cluster.
    pub fn crosses(&self) -> bool {
        self.from.name() != self.to.name()
    }

    /// Whether the call leaves its network. Such a call must enter through an east-west gateway.
    pub fn crosses_networks(&self) -> bool {
        self.from.record().network != self.to.record().network
    }
}

impl fmt::Display for Pair {
    /// `FROM-to-TO`, as in claim ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-to-{}", self.from.name(), self.to.name())
    }
}

impl Testbed {
    /// Finds the testbed and connects to each of its clusters, only by the contexts in the record.
    ///
    /// # Errors
    /// One line that names the command to run: no testbed, an unusable record, or a cluster that does not answer.
    pub async fn connect() -> Result<Self> {
        Self::connect_in(&testbed_directory()).await
    }

    /// Like [`Self::connect`], for the testbed in `directory`.
    ///
    /// # Errors
    /// The errors of [`Self::connect`].
    pub async fn connect_in(directory: &Path) -> Result<Self> {
        let record = Arc::new(Record::read(directory)?);
        let trust = Arc::new(Trust::of(&record)?);
        let ours = record.provider == LOCAL;
        let ways: Vec<Way<'_>> = record.clusters.iter().map(|cluster| Way::new(directory, cluster, ours)).collect();
        let accesses = ways.iter().map(Way::access).collect::<Result<Vec<_>>>()?;
        let connecting = ways.iter().zip(&accesses).map(|(way, access)| way.connect(access));
        let clusters = futures::future::try_join_all(connecting).await?;
        Ok(Self { directory: directory.to_owned(), record, clusters, trust })
    }

    /// The cluster with this name.
    ///
    /// # Errors
    /// [`Error::UnknownCluster`].
    pub fn cluster(&self, name: &str) -> Result<&Arc<Cluster>> {
        self.clusters.iter().find(|cluster| cluster.name() == name).ok_or_else(|| Error::UnknownCluster {
            name: name.into(),
            known: self.clusters.iter().map(|cluster| cluster.name().to_owned()).collect(),
        })
    }

    /// All ordered pairs of clusters, including each cluster with itself.
    pub fn pairs(&self) -> Vec<Pair> {
        let clusters = &self.clusters;
        let pair = |from: &Arc<Cluster>, to: &Arc<Cluster>| Pair { from: Arc::clone(from), to: Arc::clone(to) };
        clusters.iter().flat_map(|from| clusters.iter().map(move |to| pair(from, to))).collect()
    }

    /// Versions of the mesh and of each cluster's Kubernetes.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let mesh = ("mesh".to_owned(), self.record.mesh.version.clone());
        let kubernetes =
            |cluster: &Arc<Cluster>| (format!("kubernetes/{}", cluster.name()), cluster.version().to_owned());
        std::iter::once(mesh).chain(self.clusters.iter().map(kubernetes)).collect()
    }
}

/// Where the program `meshproof` puts a record, below the current directory.
pub const ATTACHED: &str = "meshproof/testbed";

/// The directory of the record: the variable's value, or the nearest [`ATTACHED`] or `target/testbed`, searched upwards
/// from the package under test and from the current directory.
pub fn testbed_directory() -> PathBuf {
    if let Some(named) = std::env::var_os(DIRECTORY_VARIABLE) {
        return named.into();
    }
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let current = std::env::current_dir().ok();
    let starts: Vec<PathBuf> = package.into_iter().chain(current).collect();
    let found = starts.iter().find_map(|start| nearest(start));
    found.unwrap_or_else(|| starts.first().cloned().unwrap_or_default().join("target/testbed"))
}

fn nearest(start: &Path) -> Option<PathBuf> {
    let places = |ancestor: &Path| [ATTACHED, "target/testbed"].map(|place| ancestor.join(place));
    start.ancestors().flat_map(places).find(|candidate| candidate.join(record::FILE_NAME).is_file())
}

/// A cluster of the record, and the way to it.
struct Way<'a> {
    cluster: &'a record::Cluster,
    /// Whether `up` can bring the cluster back.
    ours: bool,
    kubeconfig: PathBuf,
}

impl<'a> Way<'a> {
    fn new(directory: &'a Path, cluster: &'a record::Cluster, ours: bool) -> Self {
        Self { cluster, ours, kubeconfig: directory.join(&cluster.kubeconfig) }
    }

    /// Checks what can be checked without a request: a fault in one cluster's kubeconfig leaves the others alone.
    fn access(&self) -> Result<Kubeconfigs> {
        let opened = Kubeconfigs::load(std::slice::from_ref(&self.kubeconfig));
        let opened = opened.and_then(|opened| opened.check(&self.cluster.context).map(|()| opened));
        opened.map_err(|error| self.failed(error))
    }

    async fn connect(&self, access: &Kubeconfigs) -> Result<Arc<Cluster>> {
        let client = access.connect(&self.cluster.context).await.map_err(|error| self.failed(error))?;
        let version = match client.apiserver_version().await {
            Ok(version) => version.git_version,
            // The version explains a report, and no claim depends on it.
            Err(kube::Error::Api(status)) if status.code == 403 => "unknown: it may not be read".into(),
            Err(source) => {
                let (cluster, doing) = (self.cluster.name.clone(), "read the version of Kubernetes".into());
                return Err(Error::Api { cluster, doing, source: Box::new(source) });
            }
        };
        Ok(Arc::new(Cluster::new(self.cluster.clone(), self.kubeconfig.clone(), client, version)))
    }

    fn failed(&self, error: access::Error) -> Error {
        let cluster = self.cluster.name.clone();
        match self.ours {
            true => Error::ClusterDown { cluster, reason: error.to_string() },
            false => Error::Access { cluster, source: Box::new(error) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_testbed_is_found_from_anywhere_below_it() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(nearest(&deep), None);
        let testbed = root.path().join("target/testbed");
        std::fs::create_dir_all(&testbed).unwrap();
        assert_eq!(nearest(&deep), None, "a directory without a record is not a testbed");
        std::fs::write(testbed.join(record::FILE_NAME), "{}").unwrap();
        assert_eq!(nearest(&deep), Some(testbed));
        let attached = root.path().join("a").join(ATTACHED);
        std::fs::create_dir_all(&attached).unwrap();
        std::fs::write(attached.join(record::FILE_NAME), "{}").unwrap();
        assert_eq!(nearest(&deep), Some(attached), "the program's is nearer");
    }

    #[tokio::test]
    async fn without_a_testbed_the_error_is_one_line_that_names_the_command() {
        let empty = tempfile::tempdir().unwrap();
        let error = Testbed::connect_in(empty.path()).await.unwrap_err().to_string();
        assert!(error.contains("cargo xtask testbed up") && !error.contains('\n'), "{error}");
    }
}
