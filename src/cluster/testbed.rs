//! A live testbed: its record and its clusters.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::cluster::Cluster;
use crate::cluster::{Error, Result};
use crate::identity::Trust;
use crate::record::{self, Record};

/// Environment variable with the testbed's directory. Default: `target/testbed`.
pub const DIRECTORY_VARIABLE: &str = "MESHPROOF_TESTBED";

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
        // Fails only if a provider is already installed. aws-lc-rs is the only provider in the dependency tree.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self::connect_in(&directory()).await
    }

    /// Like [`Self::connect`], for the testbed in `directory`.
    ///
    /// # Errors
    /// The errors of [`Self::connect`].
    pub async fn connect_in(directory: &Path) -> Result<Self> {
        let record = Arc::new(Record::read(directory)?);
        let trust = Arc::new(Trust::of(&record)?);
        let connecting = record.clusters.iter().map(|cluster| connect(directory, cluster));
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

/// The directory of the record: the variable's value, or the nearest `target/testbed`, searched upwards from the
/// package under test and from the current directory.
fn directory() -> PathBuf {
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
    let candidates = start.ancestors().map(|ancestor| ancestor.join("target/testbed"));
    candidates.into_iter().find(|candidate| candidate.join(record::FILE_NAME).is_file())
}

async fn connect(directory: &Path, cluster: &record::Cluster) -> Result<Arc<Cluster>> {
    let path = directory.join(&cluster.kubeconfig);
    let unusable = |reason: String| Error::ClusterDown { cluster: cluster.name.clone(), reason };
    let kubeconfig = Kubeconfig::read_from(&path).map_err(|error| unusable(error.to_string()))?;
    let options = KubeConfigOptions { context: Some(cluster.context.clone()), ..KubeConfigOptions::default() };
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| unusable(error.to_string()))?;
    config.connect_timeout = Some(Duration::from_secs(5));
    let client = kube::Client::try_from(config).map_err(|error| unusable(error.to_string()))?;
    let version = client.apiserver_version().await.map_err(|error| unusable(error.to_string()))?;
    Ok(Arc::new(Cluster::new(cluster.clone(), path, client, version.git_version)))
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
    }

    #[tokio::test]
    async fn without_a_testbed_the_error_is_one_line_that_names_the_command() {
        let empty = tempfile::tempdir().unwrap();
        let error = Testbed::connect_in(empty.path()).await.unwrap_err().to_string();
        assert!(error.contains("cargo xtask testbed up") && !error.contains('\n'), "{error}");
    }
}
