//! Errors that a test can end with: those of every layer below, and those of a suite itself.

use crate::report::Claim;
use crate::{cluster, identity, istio, judge, record, report};

/// Result of an operation in a test.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a test could not go on. A claim that does not hold is a verdict, never an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The record.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// A certificate, key or SPIFFE id.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// A cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Istio.
    #[error(transparent)]
    Istio(#[from] istio::Error),
    /// The judge.
    #[error(transparent)]
    Judge(#[from] judge::Error),
    /// The report. A verdict that leaves no record is no verdict.
    #[error(transparent)]
    Report(#[from] report::Error),
    /// An object that a test wants to place already exists and belongs to somebody else.
    #[error(
        "{cluster}: {object} already exists and belongs to another run: wait until that run has ended, or remove the object"
    )]
    Taken {
        /// The cluster.
        cluster: String,
        /// The object's kind, namespace and name.
        object: String,
    },
    /// Somebody else judges the mesh.
    #[error(
        "{cluster}: {holder} has been judging this mesh since {since}: wait until that run has ended (its Lease {lease} runs out at {until} unless renewed)"
    )]
    Held {
        /// The cluster.
        cluster: String,
        /// Who.
        holder: String,
        /// Since when.
        since: String,
        /// When the Lease runs out, unless it is renewed.
        until: String,
        /// Namespace and name of the Lease.
        lease: String,
    },
    /// An annotation that keeps what an object was like before a test changed it cannot be read.
    #[error(
        "annotation {annotation} of `{object}` does not tell what it was like before ({source}): put the object right by hand and remove the annotation"
    )]
    Prior {
        /// The object's name.
        object: String,
        /// The annotation.
        annotation: &'static str,
        /// What is wrong with its value.
        source: serde_json::Error,
    },
    /// Changes that a test made are still there.
    #[error("not everything was put back: {}", list(failures))]
    NotReverted {
        /// Why, for each of them.
        failures: Vec<Error>,
    },
    /// An error of the suite's own.
    #[error("{0}")]
    Suite(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// The claim, not judged, of a test that ended with this error.
    pub(super) fn claim(&self, id: String) -> Claim {
        if self.is_not_declared() {
            Claim::not_declared(id, self.to_string())
        } else {
            Claim::error(id, self.to_string())
        }
    }

    /// Whether the mesh does not offer what a claim needs.
    pub fn is_not_declared(&self) -> bool {
        matches!(
            self,
            Self::Record(record::Error::NotDeclared { .. })
                | Self::Cluster(cluster::Error::Record(record::Error::NotDeclared { .. }))
        )
    }

    /// Wraps an error of the suite's own.
    pub fn suite(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Suite(error.into())
    }
}

fn list(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
