//! The replicas of a deployment.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use kube::core::Selector;
use serde_json::Value;

use super::{Change, NamespaceRef};
use crate::cluster::{Cluster, Seen, watch_one};
use crate::record::Write;
use crate::report;
use crate::scope::{Result, prior};

/// Longest wait for the pods to start or to be deleted.
const BOUND: Duration = Duration::from_secs(90);

/// A new number of replicas for a deployment.
#[derive(Debug, Clone)]
pub struct Replicas {
    cluster: Arc<Cluster>,
    namespace: String,
    deployment: String,
    selector: Selector,
    wanted: i32,
    before: i32,
}

impl Replicas {
    /// Sets the replicas of a deployment to `wanted`. With 0, the deployment loses all pods.
    ///
    /// # Errors
    /// [`Error::Cluster`](crate::scope::Error::Cluster), also if the deployment does not exist.
    pub async fn new(cluster: &Arc<Cluster>, namespace: &str, deployment: &str, wanted: i32) -> Result<Self> {
        let found = cluster.api::<Deployment>(namespace).get(deployment).await;
        let found = found.map_err(cluster.failed(format!("read deployment {namespace}/{deployment}")))?;
        let selector = found.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default();
        Ok(Self {
            cluster: Arc::clone(cluster),
            namespace: namespace.into(),
            deployment: deployment.into(),
            selector: selector.try_into().unwrap_or_default(),
            wanted,
            before: prior::replicas(&found)?,
        })
    }

    fn named(&self) -> String {
        format!("deployment {}/{} in {}", self.namespace, self.deployment, self.cluster.name())
    }

    fn deployments(&self) -> Api<Deployment> {
        self.cluster.api(&self.namespace)
    }

    async fn change(&self, doing: &str, patch: impl Fn(&Deployment) -> Result<Option<Value>>) -> Result<()> {
        let failed = |error| self.cluster.failed(doing)(error).into();
        prior::change(&self.deployments(), &self.deployment, failed, patch).await.map(drop)
    }

    /// Waits until the deployment has no pods (for 0) or `wanted` available pods. Gives up soon if a pod cannot start.
    async fn settled(&self, wanted: i32) -> Result<()> {
        if wanted == 0 {
            let selector = self.selector.to_string();
            return Ok(self.cluster.no_pods(&self.namespace, &selector, BOUND).await?);
        }
        let want = format!("{} to have {wanted} replicas available", self.named());
        let settled = watch_one(self.deployments(), &self.deployment, want, BOUND, |deployment| {
            let Some(deployment) = deployment else { return Seen::NotYet("no such deployment".into()) };
            let available = deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
            if available >= wanted { Seen::Yes(()) } else { Seen::NotYet(format!("{available} available")) }
        });
        let selector = self.selector.to_string();
        let trouble = tokio::select! {
            biased;
            settled = settled => return Ok(settled?),
            trouble = self.cluster.lasting_refusal(&self.namespace, &self.deployment) => trouble,
            trouble = self.cluster.lasting_trouble(&self.namespace, &selector) => trouble,
        };
        Err(self.cluster.not_started(&self.namespace, &self.deployment, trouble).into())
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the replicas of {} (they were {})", self.named(), self.before)
    }
}

impl Change for Replicas {
    fn write(&self) -> Write {
        Write::Replicas
    }

    fn apply(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            let doing = format!("scale {} to {}", self.named(), self.wanted);
            self.change(&doing, |deployment| prior::scaling(deployment, self.wanted, report::run())).await
        }
        .boxed_local()
    }

    fn verify(&self) -> LocalBoxFuture<'_, Result<()>> {
        self.settled(self.wanted).boxed_local()
    }

    fn revert(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            self.change(&format!("scale {} back to {}", self.named(), self.before), prior::unscaling).await?;
            self.settled(self.before).await
        }
        .boxed_local()
    }

    fn stands_alone(&self) -> bool {
        true
    }

    fn namespace(&self) -> Option<NamespaceRef> {
        Some(NamespaceRef::new(&self.cluster, &self.namespace))
    }
}
