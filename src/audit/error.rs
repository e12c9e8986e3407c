//! Errors of an audit.

use std::path::PathBuf;

use crate::{cluster, identity, istio, record};

/// Result of an audit's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an audit could not judge anything. What an audit finds is never an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the record.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// An error of a certificate or key.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// An error of a cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// An error of Istio.
    #[error(transparent)]
    Istio(#[from] istio::Error),
    /// The file of expectations is unusable.
    #[error("{}: {reason}", path.display())]
    Expected {
        /// The file.
        path: PathBuf,
        /// The fault, with its line where there is one.
        reason: String,
    },
    /// No cluster has the namespace that was asked for.
    #[error("no cluster has a namespace `{name}`: nothing was judged")]
    NoNamespace {
        /// The namespace.
        name: String,
    },
    /// There is no port at all.
    #[error("no pod in {what} declares a port, and no Service targets one: nothing was judged")]
    NothingToJudge {
        /// Where.
        what: String,
    },
}

impl From<Error> for crate::scope::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Record(error) => error.into(),
            Error::Identity(error) => error.into(),
            Error::Cluster(error) => error.into(),
            Error::Istio(error) => error.into(),
            other => Self::suite(other),
        }
    }
}
