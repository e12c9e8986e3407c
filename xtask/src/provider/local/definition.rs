//! The declaration of the clusters: `fixtures/clusters/local.toml`.

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::paths;

/// The clusters that `up` makes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    /// Candidate subnets of the container network.
    pub(crate) networks: Vec<String>,
    pub(crate) cluster: Vec<ClusterDefinition>,
}

/// One cluster of [`Definition`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterDefinition {
    pub(crate) name: String,
    pub(crate) network: String,
    pub(crate) pod_subnet: String,
    pub(crate) service_subnet: String,
    pub(crate) dns_address: String,
}

impl Definition {
    /// Reads the declaration.
    ///
    /// # Errors
    /// Fails if the file is missing or malformed. The error has the line at fault.
    pub(crate) fn read() -> Result<Self> {
        let path = paths::fixture("clusters/local.toml");
        toml::from_str(&paths::read(&path)?).with_context(|| format!("{} is malformed", path.display()))
    }

    /// The names of the clusters.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.cluster.iter().map(|cluster| cluster.name.as_str()).collect()
    }
}
