//! Removes all that suites have created in a cluster, with or without a record.

use kube::Client;

use super::error::Result;
use crate::scope;

/// What was removed from a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// What tests had created or changed, and had not put back.
    pub left_by_tests: Vec<String>,
    /// The probes, with their namespaces.
    pub probes: Vec<String>,
}

/// Removes all objects with a label of ours from a cluster, puts back what tests have changed, and waits until the
/// namespaces are gone. Does nothing if nothing is left.
///
/// # Errors
/// [`Error::Scope`](super::Error::Scope).
pub async fn detach(client: &Client, cluster: &str) -> Result<Removed> {
    let left_by_tests = scope::sweep(client, cluster).await?;
    let probes = scope::remove_probes(client, cluster).await?;
    scope::gone(client, cluster).await?;
    Ok(Removed { left_by_tests, probes })
}
