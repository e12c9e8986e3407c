//! Errors of a performance comparison.

use crate::{cluster, judge, record, scope};

/// Result of a measurement.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the record.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// An error of a cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// An error of the judge.
    #[error(transparent)]
    Judge(#[from] judge::Error),
    /// An error of the scope.
    #[error(transparent)]
    Scope(#[from] Box<scope::Error>),
    /// Clusters could not be paused.
    #[error("{which} cannot be paused: {reason}")]
    Isolation {
        /// The clusters.
        which: String,
        /// The reason.
        reason: String,
    },
    /// A Job's pods did not make the load.
    #[error("{cluster}: Job {job} did not make its load: {reason}")]
    Load {
        /// The cluster.
        cluster: String,
        /// The Job.
        job: String,
        /// The reason, as reported by the failed pod.
        reason: String,
    },
    /// Too few nodes are ready.
    #[error(
        "{cluster}: {needed} nodes are needed and {ready} are ready; not ready: {unready}. See `kubectl describe node`"
    )]
    Nodes {
        /// The cluster.
        cluster: String,
        /// Number of nodes that the bench needs.
        needed: usize,
        /// Number of ready nodes for pods.
        ready: usize,
        /// The others.
        unready: String,
    },
    /// A histogram cannot be created.
    #[error("the latency histogram cannot be made: {reason}")]
    Histogram {
        /// The reason.
        reason: String,
    },
    /// No profile could be taken.
    #[error("no profile: {reason}")]
    Profile {
        /// The reason.
        reason: String,
    },
}

impl From<scope::Error> for Error {
    fn from(error: scope::Error) -> Self {
        Self::Scope(Box::new(error))
    }
}

impl From<Error> for scope::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Record(error) => error.into(),
            Error::Cluster(error) => error.into(),
            Error::Judge(error) => error.into(),
            Error::Scope(error) => *error,
            own => Self::suite(own),
        }
    }
}
