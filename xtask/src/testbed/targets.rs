//! What there is of a testbed: all of one, or what an `up` that did not finish left. For `status` and `dump`, which
//! matter most when the testbed is broken.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use meshproof::record::{self, HostPort, Record};

use crate::local::{self, node};
use crate::paths;

/// Directory in the testbed's own that `up` makes before anything else.
const SECRETS: &str = "secrets";

/// A testbed, as far as it goes.
pub(super) struct Targets {
    /// Its directory.
    pub(super) directory: PathBuf,
    /// Its record, or why there is none that can be used.
    pub(super) record: Result<Record, String>,
    /// Its clusters, in the order of the record or, without one, of the definition.
    pub(super) clusters: Vec<Target>,
}

/// One cluster, which need not be there.
pub(super) struct Target {
    /// Name in the mesh.
    pub(super) name: String,
    /// Kubeconfig file, which need not exist.
    pub(super) kubeconfig: PathBuf,
    /// Context in that file.
    pub(super) context: String,
    /// Name of the container that the cluster runs in, where this machine runs it.
    pub(super) container: Option<String>,
    /// `host:port` of the ingress gateway, where one is recorded.
    pub(super) ingress: Option<HostPort>,
}

impl Targets {
    /// Finds the testbed.
    ///
    /// # Errors
    /// Where there is none, in one line that names the command that makes one.
    pub(super) fn find() -> Result<Self> {
        Self::find_in(paths::testbed())
    }

    fn find_in(directory: PathBuf) -> Result<Self> {
        match Record::read(&directory) {
            Ok(record) => {
                let clusters = record.clusters.iter().map(|cluster| recorded(&directory, &record, cluster)).collect();
                Ok(Self { directory, record: Ok(record), clusters })
            }
            Err(_) if !directory.join(SECRETS).is_dir() => {
                bail!("no testbed at {}: run `cargo xtask testbed up`", directory.display())
            }
            Err(error) => {
                let reason = match error {
                    record::Error::NoTestbed { .. } => "`up` has not finished, there is no testbed.json".into(),
                    other => other.to_string(),
                };
                let defined = local::Definition::read()?.cluster;
                let clusters = defined.into_iter().map(|cluster| defined_as(&directory, cluster.name)).collect();
                Ok(Self { directory, record: Err(reason), clusters })
            }
        }
    }
}

fn recorded(directory: &Path, record: &Record, cluster: &record::Cluster) -> Target {
    Target {
        name: cluster.name.clone(),
        kubeconfig: directory.join(&cluster.kubeconfig),
        context: cluster.context.clone(),
        container: (record.provider == local::NAME).then(|| node::container_of(&cluster.name)),
        ingress: cluster.ingress_address().cloned(),
    }
}

/// A cluster that `up` has begun: its own kubeconfig comes long before the record.
fn defined_as(directory: &Path, name: String) -> Target {
    Target {
        kubeconfig: directory.join(SECRETS).join(&name).join("kubeconfig"),
        context: name.clone(),
        container: Some(node::container_of(&name)),
        ingress: None,
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_is_no_testbed_and_the_error_is_one_line_that_names_the_command() {
        let directory = tempfile::tempdir().unwrap();
        let error = Targets::find_in(directory.path().to_owned()).err().unwrap().to_string();
        assert!(error.contains("cargo xtask testbed up") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn an_unfinished_testbed_has_the_clusters_of_the_definition() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(SECRETS)).unwrap();
        let targets = Targets::find_in(directory.path().to_owned()).unwrap();
        assert!(targets.record.is_err());
        let first = &targets.clusters[0];
        assert_eq!((first.name.as_str(), first.context.as_str()), ("cluster1", "cluster1"));
        assert_eq!(first.container.as_deref(), Some("meshproof-cluster1"));
        assert!(first.kubeconfig.ends_with("secrets/cluster1/kubeconfig"));
    }
}
