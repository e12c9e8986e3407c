//! Changes to objects that a test does not own: faults and temporary settings. Each change is applied, verified, and
//! reverted.

mod namespace;
mod node_label;
mod object;
mod placement;
mod replicas;
mod secret;

use std::fmt;
use std::sync::Arc;

use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams};

pub use namespace::NamespaceRef;
pub use node_label::NodeLabel;
pub use object::Object;
pub use placement::Placement;
pub use replicas::Replicas;
pub use secret::SecretData;

use super::Result;
use crate::record::Write;

/// A change to an object that a test does not own. [`Scope::inject`](super::Scope::inject) applies and verifies the
/// change. The end of the test reverts all changes, in reverse order.
///
/// The changed object itself must store the previous state, so that a later run can clean up after a killed one.
pub trait Change: fmt::Display + Send + Sync {
    /// The permission that the record must grant.
    fn write(&self) -> Write;

    /// Applies the change.
    fn apply(&self) -> LocalBoxFuture<'_, Result<()>>;

    /// Waits, for a bounded time, until pods, nodes or proxies show the change's effect.
    fn verify(&self) -> LocalBoxFuture<'_, Result<()>>;

    /// Restores the previous state, and waits until others can rely on it. Succeeds if the change was never applied.
    fn revert(&self) -> LocalBoxFuture<'_, Result<()>>;

    /// Whether the change can be reverted at the same time as its neighbours that say so too.
    fn stands_alone(&self) -> bool {
        false
    }

    /// The namespace whose pods explain a failure under this change.
    fn namespace(&self) -> Option<NamespaceRef> {
        None
    }

    /// The namespace of the changed object, if the object is in one.
    fn place(&self) -> Option<NamespaceRef> {
        self.namespace()
    }
}

/// Identifies an injected change, to [revert](super::Scope::revert) the change before the test ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Injected(pub(super) u64);

/// What a test must restore or remove.
pub(super) enum Owned {
    /// A namespace owned by the test, with all objects in it.
    Namespace(NamespaceRef),
    /// A change and its id.
    Change(u64, Arc<dyn Change>),
}

impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(namespace) => write!(f, "namespace {namespace}"),
            Self::Change(_, change) => change.fmt(f),
        }
    }
}

impl Owned {
    /// The namespace whose pods explain a failure.
    pub(super) fn namespace(&self) -> Option<NamespaceRef> {
        match self {
            Self::Namespace(namespace) => Some(namespace.clone()),
            Self::Change(_, change) => change.namespace(),
        }
    }

    /// Whether this can be restored at the same time as its neighbours that say so too.
    pub(super) fn stands_alone(&self) -> bool {
        matches!(self, Self::Change(_, change) if change.stands_alone())
    }

    /// Whether this is an object in a namespace that the test does not own.
    pub(super) fn is_object(&self) -> bool {
        matches!(self, Self::Change(_, change) if change.write() == Write::Objects)
    }

    /// Restores or removes. Namespaces are deleted in the background: the verdict does not wait for pods to terminate.
    pub(super) async fn restore(&self) -> Result<()> {
        match self {
            Self::Namespace(NamespaceRef { cluster, name }) => {
                let namespaces: Api<Namespace> = Api::all(cluster.client());
                let removed = namespaces.delete(name, &DeleteParams::background()).await;
                Ok(gone(removed).map_err(cluster.failed(format!("remove namespace {name}")))?)
            }
            Self::Change(_, change) => change.revert().await,
        }
    }
}

/// Treats a missing object as deleted.
fn gone<T>(removed: kube::Result<T>) -> kube::Result<()> {
    match removed {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}
