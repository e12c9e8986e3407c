//! Changes to what others rely on: faults, and what a test borrows. Each is applied, seen to have taken effect, and put back.

mod node_label;
mod object;
mod replicas;

use std::fmt;
use std::sync::Arc;

use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams};

pub use node_label::NodeLabel;
pub use object::Object;
pub use replicas::Replicas;

use super::Result;
use crate::cluster::Cluster;
use crate::record::Write;

/// A change of what a test does not own. [`Scope::inject`](super::Scope::inject) applies and verifies it; the end of the test reverts
/// it, the last change first.
///
/// What was there before must be kept on the changed object itself, so that a later run can put right what a killed one left.
pub trait Change: fmt::Display + Send + Sync {
    /// The permission that the record must give for it.
    fn write(&self) -> Write;

    /// Makes the change.
    fn apply(&self) -> LocalBoxFuture<'_, Result<()>>;

    /// Waits, for a bounded time, until the change has taken effect, as pods, nodes or proxies show it.
    fn verify(&self) -> LocalBoxFuture<'_, Result<()>>;

    /// Puts back what was there before, and waits until others can rely on it. Succeeds where the change was never made.
    fn revert(&self) -> LocalBoxFuture<'_, Result<()>>;

    /// The namespace whose pods explain a failure under this change.
    fn namespace(&self) -> Option<(Arc<Cluster>, String)> {
        None
    }
}

/// Names an injected change, to [revert](super::Scope::revert) it before the test ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Injected(pub(super) u64);

/// What a test has to put back or remove.
pub(super) enum Owned {
    /// A namespace of its own, with all in it.
    Namespace(Arc<Cluster>, String),
    /// A change, and the name it was given.
    Change(u64, Arc<dyn Change>),
}

impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(cluster, name) => write!(f, "namespace {name} in {}", cluster.name()),
            Self::Change(_, change) => change.fmt(f),
        }
    }
}

impl Owned {
    /// The namespace whose pods explain a failure.
    pub(super) fn namespace(&self) -> Option<(Arc<Cluster>, String)> {
        match self {
            Self::Namespace(cluster, name) => Some((Arc::clone(cluster), name.clone())),
            Self::Change(_, change) => change.namespace(),
        }
    }

    /// Whether it is an object among those of others.
    pub(super) fn is_object(&self) -> bool {
        matches!(self, Self::Change(_, change) if change.write() == Write::Objects)
    }

    /// Puts it back. A namespace goes in the background: a verdict does not wait for pods to stop.
    pub(super) async fn restore(&self) -> Result<()> {
        match self {
            Self::Namespace(cluster, name) => {
                let namespaces: Api<Namespace> = Api::all(cluster.client());
                let removed = namespaces.delete(name, &DeleteParams::background()).await;
                Ok(gone(removed).map_err(cluster.failed(format!("remove namespace {name}")))?)
            }
            Self::Change(_, change) => change.revert().await,
        }
    }
}

/// An object that was never created, or is gone already, is gone.
fn gone<T>(removed: kube::Result<T>) -> kube::Result<()> {
    match removed {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}
