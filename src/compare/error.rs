//! Errors of a performance comparison.

use crate::{cluster, judge, record, scope};

/// Result of a measurement.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The record.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// A cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The judge.
    #[error(transparent)]
    Judge(#[from] judge::Error),
    /// What the test owns.
    #[error(transparent)]
    Scope(#[from] Box<scope::Error>),
    /// Clusters could not be paused.
    #[error("{which} cannot be paused: {reason}")]
    Isolation {
        /// The clusters.
        which: String,
        /// Why.
        reason: String,
    },
    /// A Job's pods did not make the load.
    #[error("{cluster}: Job {job} did not make its load: {reason}")]
    Load {
        /// The cluster.
        cluster: String,
        /// The Job.
        job: String,
        /// Why, in the words of the pod at fault.
        reason: String,
    },
    /// A histogram cannot be made.
    #[error("the latency histogram cannot be made: {reason}")]
    Histogram {
        /// Why.
        reason: String,
    },
    /// No profile could be taken.
    #[error("no profile: {reason}")]
    Profile {
        /// Why.
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
