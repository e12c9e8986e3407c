//! Provider `local`: two real Kubernetes clusters, one container each.

pub(crate) mod addresses;
mod capabilities;
pub(crate) mod engine;
pub(crate) mod node;

pub(crate) use capabilities::socket_exists;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::paths;

/// Name of the provider in the testbed record.
pub(crate) const NAME: &str = "local";

/// `fixtures/clusters/local.toml`.
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
    pub(crate) fn read() -> Result<Self> {
        let path = paths::fixture("clusters/local.toml");
        toml::from_str(&paths::read(&path)?).with_context(|| format!("{} is malformed", path.display()))
    }
}
