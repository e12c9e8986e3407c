//! Errors of a cluster.

use std::panic::Location;
use std::time::Duration;

use super::access;
use crate::{identity, record};

/// Result of a request to a cluster.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error between a suite and a cluster. A refused connection is an outcome to judge, not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the record.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// An error of a certificate in the record.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The API server of a cluster in the record does not answer.
    #[error(
        "cluster `{cluster}` does not answer ({reason}): run `cargo xtask testbed up` to bring it back, or check the kubeconfig of a mesh that was attached"
    )]
    ClusterDown {
        /// The cluster.
        cluster: String,
        /// The error of the API server or of the connection.
        reason: String,
    },
    /// A cluster that is not ours cannot be reached by its kubeconfig.
    #[error("cluster `{cluster}`: {source}")]
    Access {
        /// The cluster.
        cluster: String,
        /// Why, and what to change.
        #[source]
        source: Box<access::Error>,
    },
    /// The testbed has no cluster with this name.
    #[error("the testbed has no cluster `{name}`, only {}", known.join(", "))]
    UnknownCluster {
        /// The requested name.
        name: String,
        /// The clusters of the testbed.
        known: Vec<String>,
    },
    /// An API server refused or failed a request.
    #[error("{cluster}: could not {doing}: {}", brief(source))]
    Api {
        /// The cluster.
        cluster: String,
        /// The failed operation and its object.
        doing: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// No pod is ready.
    #[error(
        "{cluster}: no pod with labels `{selector}` is ready in namespace `{namespace}` ({seen}): see `cargo xtask testbed status`"
    )]
    NoPod {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// The label selector.
        selector: String,
        /// The matching pods and their states.
        seen: String,
    },
    /// A pod has no proxy.
    #[error("{cluster}: pod {namespace}/{pod} has no container `{container}`, so it is not in the mesh")]
    NoProxy {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The proxy's container.
        container: String,
    },
    /// A pod that a suite waits for cannot start.
    #[error("{cluster}: a pod in namespace {namespace} cannot start: {reason}")]
    Stuck {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// The container in trouble. `None`: the pod has no node, or there is no pod.
        container: Option<Box<str>>,
        /// The pod, what Kubernetes says of it, and the last words of a container that ended.
        reason: Box<str>,
    },
    /// The pods of a deployment cannot start.
    #[error("{cluster}: deployment {namespace}/{deployment} cannot start: {reason}")]
    NotStarted {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// The deployment.
        deployment: String,
        /// The container in trouble. `None`: a pod has no node, or there is no pod.
        container: Option<Box<str>>,
        /// The object in trouble, and what Kubernetes says of it.
        reason: Box<str>,
    },
    /// A command in a container failed.
    #[error("{cluster}: `{command}` in {namespace}/{pod} failed: {reason}")]
    Exec {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The command.
        command: Box<str>,
        /// The command's error.
        reason: Box<str>,
    },
    /// The API server accepted a change, but the object is unchanged.
    #[error("{cluster}: {change} was changed and is not as asked for: something else changes it, such as a controller")]
    Unchanged {
        /// The cluster.
        cluster: String,
        /// The change.
        change: String,
    },
    /// A bounded wait timed out.
    #[error("waited {elapsed:.1?} ({attempts} attempts, at {location}) for {want}; last seen: {last}")]
    NotInTime {
        /// The expected state.
        want: String,
        /// The last observed state.
        last: String,
        /// Number of attempts.
        attempts: u32,
        /// Duration of the wait.
        elapsed: Duration,
        /// The caller.
        location: &'static Location<'static>,
    },
}

impl Error {
    /// Whether no wait can make the request succeed: the pod is gone, or has no proxy.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::NoProxy { .. } => true,
            Self::Api { source, .. } => code(source) == Some(404),
            _ => false,
        }
    }
}

/// The HTTP status of a request that the API server answered with an error.
pub(crate) fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The API server's message, if there is one. `kube::Error` prints the whole status twice.
pub(crate) fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}
