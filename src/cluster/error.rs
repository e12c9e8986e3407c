//! Errors of a cluster.

use std::panic::Location;
use std::time::Duration;

use crate::{identity, record};

/// Result of asking a cluster for something.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a suite and a cluster. A connection that is refused is an outcome to be judged, not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The record.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// A certificate in the record.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The record names a cluster whose API server does not answer.
    #[error("cluster `{cluster}` does not answer ({reason}): run `cargo xtask testbed up` to bring it back")]
    ClusterDown {
        /// The cluster.
        cluster: String,
        /// What its API server, or the attempt to reach it, said.
        reason: String,
    },
    /// The testbed has no cluster of that name.
    #[error("the testbed has no cluster `{name}`, only {}", known.join(", "))]
    UnknownCluster {
        /// The name asked for.
        name: String,
        /// The clusters of the testbed.
        known: Vec<String>,
    },
    /// An API server refused or failed a request.
    #[error("{cluster}: could not {doing}: {}", brief(source))]
    Api {
        /// The cluster.
        cluster: String,
        /// What was being done, and to which object.
        doing: String,
        /// What the client says.
        #[source]
        source: Box<kube::Error>,
    },
    /// No pod is ready where one must be.
    #[error(
        "{cluster}: no pod with labels `{selector}` is ready in namespace `{namespace}` ({seen}): see `cargo xtask testbed status`"
    )]
    NoPod {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// The labels looked for.
        selector: String,
        /// The pods that match, and their state.
        seen: String,
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
        /// What it said.
        reason: Box<str>,
    },
    /// A change that the API server accepted has not changed anything.
    #[error("{cluster}: {change} was changed and is not as asked for: something else changes it, such as a controller")]
    Unchanged {
        /// The cluster.
        cluster: String,
        /// What was changed.
        change: String,
    },
    /// A bounded wait ended before the state it waited for.
    #[error("waited {elapsed:.1?} ({attempts} attempts, at {location}) for {want}; last seen: {last}")]
    NotInTime {
        /// What was waited for.
        want: String,
        /// What was seen last.
        last: String,
        /// The number of attempts.
        attempts: u32,
        /// How long the wait took.
        elapsed: Duration,
        /// The caller.
        location: &'static Location<'static>,
    },
}

/// The API server's message where there is one: `kube::Error` prints the whole status twice.
fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}
