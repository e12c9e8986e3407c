//! A testbed as it is now, complete or left unfinished by `up`. For commands that matter most when the testbed is
//! broken.

use std::path::PathBuf;

use anyhow::{Result, bail};
use meshproof::record::{self, Record};

use super::installed::Installed;
use super::profile;
use crate::declaration::Declaration;
use crate::paths;
use crate::provider::{KnownCluster, Provider};

/// Directory in the testbed's directory, which `up` makes first.
const SECRETS: &str = "secrets";

/// A testbed, complete or unfinished.
#[derive(Debug)]
pub(super) struct Inventory {
    /// Directory of the testbed.
    pub(super) directory: PathBuf,
    /// Record of the testbed, or the reason why there is no usable record.
    pub(super) record: Result<Record, String>,
    /// Provider of the clusters.
    pub(super) provider: Provider,
    /// Clusters, in the order of the record. Without a record, in the order of the provider's declaration.
    pub(super) clusters: Vec<KnownCluster>,
    /// What each of the clusters has.
    installed: Vec<Installed>,
}

impl Inventory {
    /// Finds the testbed.
    ///
    /// # Errors
    /// Fails if there is no testbed or its provider is unknown. If there is no testbed, the error is one line that
    /// names the command for making one.
    pub(super) fn find() -> Result<Self> {
        Self::find_in(paths::testbed())
    }

    fn find_in(directory: PathBuf) -> Result<Self> {
        match Record::read(&directory) {
            Ok(record) => {
                let provider = Provider::of(&record)?;
                let clusters = record.clusters.iter().map(|cluster| provider.recorded(&directory, cluster)).collect();
                let installed = record.clusters.iter().map(Installed::from).collect();
                Ok(Self { directory, record: Ok(record), provider, clusters, installed })
            }
            Err(_) if !directory.join(SECRETS).is_dir() => {
                bail!("no testbed at {}: run `cargo xtask testbed up`", directory.display())
            }
            Err(error) => {
                let reason = match error {
                    record::Error::NoTestbed { .. } => "`up` has not finished, there is no testbed.json".into(),
                    other => other.to_string(),
                };
                let provider = Provider::OF_UNFINISHED;
                let clusters = provider.unfinished(&directory)?;
                let declaration = Declaration::in_use(&directory)?;
                let installed = declaration.clusters.iter().map(|cluster| profile::installed(&declaration, cluster));
                let installed = installed.collect();
                Ok(Self { directory, record: Err(reason), provider, clusters, installed })
            }
        }
    }

    /// The cluster `name`.
    ///
    /// # Errors
    /// Fails if there is no cluster `name`. The error lists the existing clusters.
    pub(super) fn cluster(&self, name: &str) -> Result<&KnownCluster> {
        let Some(cluster) = self.clusters.iter().find(|cluster| cluster.name == name) else {
            let known: Vec<&str> = self.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
            bail!("there is no cluster `{name}` in the testbed; its clusters are {}", known.join(", "));
        };
        Ok(cluster)
    }

    /// The clusters, and what each has. Without a record, what `up` was to install.
    pub(super) fn contents(&self) -> impl Iterator<Item = (&KnownCluster, &Installed)> {
        self.clusters.iter().zip(&self.installed)
    }
}

#[cfg(test)]
mod tests {
    use meshproof::record::{Capabilities, Mesh, TrustDomain};

    use super::super::installed::tests::foreign;
    use super::*;

    #[test]
    fn a_recorded_cluster_has_what_the_record_says_and_not_what_up_installs() {
        let directory = tempfile::tempdir().unwrap();
        let trust = TrustDomain { name: "example".into(), aliases: vec![], roots: vec!["pem".into()] };
        let record = Record {
            schema: record::SCHEMA.into(),
            provider: Provider::OF_UNFINISHED.name().into(),
            mesh: Mesh { id: "mesh".into(), version: "1".into(), trust },
            clusters: vec![foreign()],
            application: None,
            capabilities: Capabilities::default(),
        };
        record.write(directory.path()).unwrap();
        let inventory = Inventory::find_in(directory.path().to_owned()).unwrap();
        assert_eq!(inventory.contents().next().unwrap().1.istio.namespace, "mesh-control");
    }

    #[test]
    fn an_empty_directory_is_no_testbed_and_the_error_is_one_line_that_names_the_command() {
        let directory = tempfile::tempdir().unwrap();
        let error = Inventory::find_in(directory.path().to_owned()).unwrap_err().to_string();
        assert!(error.contains("cargo xtask testbed up") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn an_unfinished_testbed_has_clusters_and_one_that_it_has_not_is_refused_with_their_names() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(SECRETS)).unwrap();
        let inventory = Inventory::find_in(directory.path().to_owned()).unwrap();
        assert!(inventory.record.is_err());
        assert_eq!(inventory.contents().next().unwrap().1.istio.control_plane.selector, "app=istiod");
        assert_eq!(inventory.cluster("cluster1").unwrap().nodes, ["meshproof-cluster1"]);
        let error = inventory.cluster("cluster9").unwrap_err().to_string();
        assert!(error.contains("`cluster9`") && error.contains("cluster1, cluster2"), "{error}");
    }
}
