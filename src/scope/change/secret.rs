//! The data of a Secret.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::{Change, NamespaceRef};
use crate::cluster::Cluster;
use crate::record::Write;
use crate::scope::{Result, prior};

/// Other data of a Secret that exists. The Secret keeps its previous data until that is put back. What reads the Secret is
/// not waited for.
#[derive(Clone)]
pub struct SecretData {
    cluster: Arc<Cluster>,
    namespace: String,
    name: String,
    data: BTreeMap<String, String>,
}

impl SecretData {
    /// Replaces all data of the Secret by `data`, by key.
    pub fn new(cluster: &Arc<Cluster>, namespace: &str, name: &str, data: BTreeMap<String, String>) -> Self {
        Self { cluster: Arc::clone(cluster), namespace: namespace.into(), name: name.into(), data }
    }

    /// The Secret as it is now.
    ///
    /// # Errors
    /// [`Error::Cluster`](crate::scope::Error::Cluster), also if there is none.
    pub async fn read(cluster: &Cluster, namespace: &str, name: &str) -> Result<Secret> {
        let found = cluster.api::<Secret>(namespace).get(name).await;
        Ok(found.map_err(cluster.failed(format!("read Secret {namespace}/{name}")))?)
    }

    async fn change(&self, doing: &str, patch: impl Fn(&Secret) -> Result<Option<Value>>) -> Result<()> {
        let failed = |error| self.cluster.failed(format!("{doing} {self}"))(error).into();
        prior::change(&self.cluster.api::<Secret>(&self.namespace), &self.name, failed, patch).await.map(drop)
    }
}

impl fmt::Debug for SecretData {
    /// Without the data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretData").field(&self.to_string()).finish()
    }
}

impl fmt::Display for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the data of Secret {}/{} in {}", self.namespace, self.name, self.cluster.name())
    }
}

impl Change for SecretData {
    fn write(&self) -> Write {
        Write::Objects
    }

    fn apply(&self) -> LocalBoxFuture<'_, Result<()>> {
        self.change("replace", |secret| prior::replacing(secret, &self.data)).boxed_local()
    }

    fn verify(&self) -> LocalBoxFuture<'_, Result<()>> {
        async { Ok(()) }.boxed_local()
    }

    fn revert(&self) -> LocalBoxFuture<'_, Result<()>> {
        self.change("put back", prior::unreplacing).boxed_local()
    }

    fn place(&self) -> Option<NamespaceRef> {
        Some(NamespaceRef::new(&self.cluster, self.namespace.clone()))
    }
}
