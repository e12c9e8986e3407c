//! Errors of Istio.

use crate::{cluster, identity, record};

/// Result of a request to Istio.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error between a suite and a mesh's control plane or proxies.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the record.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// An error of a certificate.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// An error of the cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// istiod did not issue a certificate.
    #[error("{cluster}: istiod did not issue a certificate to {identity}: {reason}")]
    NotIssued {
        /// The cluster.
        cluster: String,
        /// The requested identity.
        identity: String,
        /// The failed step, and the reason.
        reason: String,
    },
    /// The mesh configuration is unreadable.
    #[error("{cluster}: the mesh configuration in ConfigMap {name} is unreadable: {reason}")]
    MeshConfig {
        /// The cluster.
        cluster: String,
        /// Name of the ConfigMap.
        name: String,
        /// What is wrong.
        reason: String,
    },
}
