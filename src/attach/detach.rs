//! Removes all that suites have created in a cluster, with or without a record.

use kube::Client;

use super::error::{Error, Result};
use crate::scope::{self, Swept};

/// What was removed from a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// What was removed, or put back. What was in a removed namespace is not listed.
    pub done: Vec<String>,
    /// What could not be looked for, because it may not be listed.
    pub denied: Vec<String>,
}

/// Removes all objects with a label of ours from a cluster, puts back what tests have changed, and waits until the
/// namespaces are gone. Does nothing if nothing is left. Does not ask whether somebody judges the mesh: see
/// [`scope::idle`].
///
/// # Errors
/// [`Error::Scope`].
pub async fn detach(client: &Client, cluster: &str) -> Result<Removed> {
    let Swept { done, denied, failures } = scope::remove_everything(client, cluster).await?;
    if !failures.is_empty() {
        return Err(Error::Scope(scope::Error::NotReverted { failures }));
    }
    scope::gone(client, cluster).await?;
    Ok(Removed { done, denied: denied.iter().map(ToString::to_string).collect() })
}
