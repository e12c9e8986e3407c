//! istiod's registry of the clusters of a mesh.

use serde::Deserialize;

/// An entry of istiod's `/debug/clusterz`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// Name of the cluster.
    pub id: String,
    /// How far istiod has read the cluster.
    pub sync_status: String,
}

impl Registered {
    /// The status of a cluster that istiod has read.
    pub const SYNCED: &str = "synced";
}

/// The entries in an answer of `/debug/clusterz`.
///
/// # Errors
/// The answer is not such a list.
pub fn registered(answer: &str) -> serde_json::Result<Vec<Registered>> {
    serde_json::from_str(answer)
}
