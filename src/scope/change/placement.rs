//! The node of a deployment's pods.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use serde_json::Value;

use super::{Change, NamespaceRef};
use crate::cluster::{self, Cluster};
use crate::record::Write;
use crate::report;
use crate::scope::{Result, prior};

/// A node for the pods of a deployment, by the deployment's node selector. Place a deployment before you scale it up:
/// a deployment that has pods replaces them.
#[derive(Debug, Clone)]
pub struct Placement {
    cluster: Arc<Cluster>,
    namespace: String,
    deployment: String,
    host: String,
}

impl Placement {
    /// Places the pods of a deployment on the node whose label `kubernetes.io/hostname` is `host`.
    pub fn new(cluster: &Arc<Cluster>, namespace: &str, deployment: &str, host: &str) -> Self {
        let (namespace, deployment, host) = (namespace.into(), deployment.into(), host.into());
        Self { cluster: Arc::clone(cluster), namespace, deployment, host }
    }

    fn named(&self) -> String {
        format!("deployment {}/{} in {}", self.namespace, self.deployment, self.cluster.name())
    }

    fn deployments(&self) -> Api<Deployment> {
        self.cluster.api(&self.namespace)
    }

    async fn change(&self, patch: impl Fn(&Deployment) -> Result<Option<Value>>) -> Result<()> {
        let failed = |error| self.cluster.failed(format!("change the node of {}", self.named()))(error).into();
        prior::change(&self.deployments(), &self.deployment, failed, patch).await.map(drop)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node of {}", self.named())
    }
}

impl Change for Placement {
    fn write(&self) -> Write {
        Write::Placements
    }

    fn apply(&self) -> LocalBoxFuture<'_, Result<()>> {
        self.change(|deployment| prior::placing(deployment, &self.host, report::run())).boxed_local()
    }

    fn verify(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            let found = self.deployments().get(&self.deployment).await;
            let found = found.map_err(self.cluster.failed(format!("read {}", self.named())))?;
            if prior::placed(&found).as_deref() == Some(&self.host) {
                return Ok(());
            }
            let (cluster, change) = (self.cluster.name().into(), format!("the node selector of {}", self.named()));
            Err(cluster::Error::Unchanged { cluster, change }.into())
        }
        .boxed_local()
    }

    fn revert(&self) -> LocalBoxFuture<'_, Result<()>> {
        self.change(prior::unplacing).boxed_local()
    }

    fn namespace(&self) -> Option<NamespaceRef> {
        Some(NamespaceRef::new(&self.cluster, &self.namespace))
    }
}
