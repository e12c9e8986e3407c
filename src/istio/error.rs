//! Errors of Istio.

use crate::{cluster, identity, record};

/// Result of asking Istio for something.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a suite and a mesh's control plane or proxies.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The record.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// A certificate.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// istiod did not issue a certificate.
    #[error("{cluster}: istiod did not issue a certificate to {identity}: {reason}")]
    NotIssued {
        /// The cluster.
        cluster: String,
        /// The identity asked for.
        identity: String,
        /// The step that failed, and why.
        reason: String,
    },
}
