//! Errors of attaching.

use super::found::Asked;
use crate::{cluster, identity, scope};

/// Result of a step of attaching.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why no record of a mesh can be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of a cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Something of ours could not be removed.
    #[error(transparent)]
    Scope(#[from] scope::Error),
    /// A certificate cannot be read.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The credentials do not allow a request without which nothing can be found.
    #[error(
        "{context}: the API server forbids to {doing} ({reason}), so it is unknown whether Istio is there: ask for that right, or for a `meshproof plan` by somebody who has it, which prints all rights that are needed"
    )]
    Forbidden {
        /// The context.
        context: String,
        /// The request.
        doing: String,
        /// The API server's words.
        reason: String,
    },
    /// The cluster has no control plane of Istio.
    #[error("{context}: no Istio: no Deployment has the label app=istiod in any namespace{injector}")]
    NoIstio {
        /// The context.
        context: String,
        /// What else points to Istio, or nothing.
        injector: String,
    },
    /// The cluster has several control planes, and nothing says which one to judge.
    #[error("{context}: Istio has the revisions {}: choose one with --revision", known.join(", "))]
    Revisions {
        /// The context.
        context: String,
        /// The revisions.
        known: Vec<String>,
    },
    /// The cluster has no control plane of this revision.
    #[error("{context}: Istio has no revision or tag `{revision}`, only {}", known.join(", "))]
    UnknownRevision {
        /// The context.
        context: String,
        /// The requested revision.
        revision: String,
        /// The revisions.
        known: Vec<String>,
    },
    /// No istiod can be asked.
    #[error(
        "{context}: no pod `{selector}` in namespace {namespace} is ready, or pods may not be listed: without an istiod, nothing can be judged"
    )]
    NotReady {
        /// The context.
        context: String,
        /// Namespace of the control plane.
        namespace: String,
        /// Label selector of istiod's pods.
        selector: String,
    },
    /// Two contexts lead to the same cluster.
    #[error(
        "contexts {one} and {other} are the same cluster (its namespace kube-system has the uid {uid}): name it once"
    )]
    SameCluster {
        /// A context.
        one: String,
        /// Another context.
        other: String,
        /// The UID of the namespace kube-system.
        uid: String,
    },
    /// Two clusters have the same name in the mesh.
    #[error(
        "contexts {one} and {other}: the istiod of each calls its cluster `{name}` (CLUSTER_ID), so each takes the other's endpoints for its own: give each cluster a name of its own, or attach to one of them only"
    )]
    SameName {
        /// A context.
        one: String,
        /// Another context.
        other: String,
        /// The name.
        name: String,
    },
    /// Something could not be found out.
    #[error("not everything could be found out:{}", lines(asked))]
    Asked {
        /// What is missing, and how to say it.
        asked: Vec<Asked>,
    },
}

fn lines(asked: &[Asked]) -> String {
    asked.iter().map(|asked| format!("\n  {asked}")).collect()
}
