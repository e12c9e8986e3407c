//! Errors of a test: those of every layer below, and those of a suite.

use std::path::PathBuf;
use std::sync::Arc;

use crate::probe::PROBES_LABEL;
use crate::report::{Claim, Kind, Place, Subject};
use crate::{cluster, identity, istio, judge, record, report};

/// Begins the words of an error that the surroundings of the mesh are to blame for.
pub(super) const ENVIRONMENT: &str = "ENVIRONMENT: ";

/// Result of an operation in a test.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a test was aborted. A claim that does not hold is a verdict, never an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the record.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// An error of a certificate, key or SPIFFE ID.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// An error of a cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// An error of Istio.
    #[error(transparent)]
    Istio(#[from] istio::Error),
    /// An error of the judge.
    #[error(transparent)]
    Judge(#[from] judge::Error),
    /// An error of the report. A verdict must be recorded.
    #[error(transparent)]
    Report(#[from] report::Error),
    /// An object that a test wants to place exists and belongs to another run.
    #[error(
        "{cluster}: {object} already exists and belongs to another run: wait until that run has ended, or remove the object"
    )]
    Taken {
        /// The cluster.
        cluster: String,
        /// The object's kind, namespace and name.
        object: String,
    },
    /// A namespace that the record names for the probes exists and is another's.
    #[error(
        "{cluster}: namespace {namespace} exists without the label {PROBES_LABEL}: name another namespace for the probes in the record, or label it if suites may use it as their own"
    )]
    NotOurs {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
    },
    /// What would be made could not be removed again.
    #[error(
        "{cluster}: nothing is written, because it could not be removed again: meshproof may not delete {resource} of {cluster} ({reason}). Grant the right, or attach read only"
    )]
    NotRemovable {
        /// The cluster.
        cluster: String,
        /// The kind of objects.
        resource: &'static str,
        /// The API server's answer.
        reason: String,
    },
    /// The probes could not be deployed, so nothing was judged.
    #[error("the probes are not there: {0}")]
    Probes(#[source] Arc<Error>),
    /// Another run judges the mesh.
    #[error(
        "{cluster}: {holder} has been judging this mesh since {since}: wait until that run has ended (its Lease {lease} runs out at {until} unless renewed)"
    )]
    Held {
        /// The cluster.
        cluster: String,
        /// Who holds the Lease.
        holder: String,
        /// Since when.
        since: String,
        /// When the Lease expires, unless it is renewed.
        until: String,
        /// Namespace and name of the Lease.
        lease: String,
    },
    /// A test that shares the mesh wants to change what others rely on.
    #[error("{change}: other tests may share the mesh and rely on it: run this test by `Scope::alone`")]
    Shares {
        /// What would be changed.
        change: String,
    },
    /// Other processes of this machine have had the mesh for too long.
    #[error(
        "nothing was judged, because the mesh has been taken for {minutes} minutes by {holders}: end the process if it hangs, then run the test again"
    )]
    Busy {
        /// Test and process of each holder.
        holders: String,
        /// How long this test waited, in minutes.
        minutes: u64,
    },
    /// The lock of the mesh cannot be used.
    #[error("cannot lock the mesh by {}: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The Lease of this run was taken over during a test: another run may have judged or changed the mesh meanwhile.
    #[error(
        "{cluster}: this run has lost its Lease {lease} ({found}): another run may have changed the mesh meanwhile. Run the test again once that run has ended"
    )]
    Lost {
        /// The cluster.
        cluster: String,
        /// Namespace and name of the Lease.
        lease: String,
        /// What was found in place of this run's Lease.
        found: String,
    },
    /// An environment variable has an unknown value.
    #[error("{variable} is `{value}`: set it to {known}, or unset it")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// The values that it may have.
        known: &'static str,
    },
    /// An annotation with an object's previous state cannot be parsed.
    #[error(
        "annotation {annotation} of `{object}` does not tell what it was like before ({source}): put the object right by hand and remove the annotation"
    )]
    Prior {
        /// The object's name.
        object: String,
        /// The annotation.
        annotation: &'static str,
        /// The parse error.
        source: serde_json::Error,
    },
    /// Some of a test's changes could not be reverted.
    #[error("not everything was put back: {}", list(failures))]
    NotReverted {
        /// The error of each change.
        failures: Vec<Error>,
    },
    /// An error of the suite's own.
    #[error("{0}")]
    Suite(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// The unjudged claim of a test that ended with this error.
    pub(super) fn claim(&self, id: String) -> Claim {
        if self.is_not_declared() {
            return Claim::not_declared(id, self.to_string());
        }
        let claim = Claim::error(id, self.told());
        match self.subject() {
            Some(subject) => claim.with_subject(subject),
            None => claim,
        }
    }

    /// The error's words, as in reports. They begin with `ENVIRONMENT: ` if the surroundings of the mesh ended the test.
    pub fn told(&self) -> String {
        match self.kind() {
            Kind::Infrastructure => format!("{ENVIRONMENT}{self}"),
            Kind::Mesh | Kind::Assertion => self.to_string(),
        }
    }

    /// Where a diagnosis of this error begins, if the error is about pods.
    fn subject(&self) -> Option<Subject> {
        let error = match self {
            Self::Cluster(error) | Self::Istio(istio::Error::Cluster(error)) => error,
            Self::Probes(error) => return error.subject(),
            _ => return None,
        };
        match error {
            cluster::Error::NoPod { cluster, namespace, selector, .. } => Some(Subject::Pods {
                cluster: cluster.clone(),
                namespace: namespace.clone(),
                selector: selector.clone(),
            }),
            cluster::Error::NoProxy { cluster, namespace, pod, .. } => {
                Some(Subject::Proxy(Place { cluster: cluster.clone(), namespace: namespace.clone(), pod: pod.clone() }))
            }
            _ => None,
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

    /// Whether the mesh, or what surrounds it, ended the test.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Cluster(error) | Self::Istio(istio::Error::Cluster(error)) if surround(error) => Kind::Infrastructure,
            Self::Probes(error) => error.kind(),
            Self::Cluster(_) | Self::Istio(_) | Self::Identity(_) | Self::Suite(_) => Kind::Mesh,
            _ => Kind::Infrastructure,
        }
    }

    /// Wraps an error of the suite's own.
    pub fn suite(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Suite(error.into())
    }
}

/// Whether pods do not start for something outside the mesh.
fn surround(error: &cluster::Error) -> bool {
    let (cluster::Error::Stuck { container, reason, .. } | cluster::Error::NotStarted { container, reason, .. }) =
        error
    else {
        return false;
    };
    !istio::keeps_from_starting(container.as_deref(), reason)
}

fn list(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
