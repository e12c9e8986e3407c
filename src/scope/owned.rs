//! What a test has changed, and how it is put back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use serde_json::Value;

use super::{RUN_LABEL, prior};
use crate::cluster::Cluster;
use crate::cluster::{Seen, eventually};
use crate::report;
use crate::scope::{Error, Result};

/// Bound on a deployment's having its replicas back: a pod with its proxy starts in seconds, on a busy machine in more.
const BACK: Duration = Duration::from_secs(90);

/// One change.
pub(super) enum Owned {
    /// A namespace that was created, with all in it.
    Namespace(Arc<Cluster>, String),
    /// An object that was placed into a namespace of others.
    Object(Box<Placed>),
    /// A deployment whose replicas were changed.
    Scale(Scaled),
    /// Nodes that were given a label.
    Label(Labelled),
}

impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(cluster, name) => write!(f, "namespace {name} in {}", cluster.name()),
            Self::Object(placed) => write!(f, "{} in {}", placed.what, placed.cluster.name()),
            Self::Label(Labelled { cluster, label }) => write!(f, "label {label} of the nodes of {}", cluster.name()),
            Self::Scale(scaled) => write!(f, "the replicas of {scaled} (they were {})", scaled.before),
        }
    }
}

impl Owned {
    /// The namespace that was created, or where pods were.
    pub(super) fn namespace(&self) -> Option<(Arc<Cluster>, String)> {
        match self {
            Self::Namespace(cluster, name) => Some((Arc::clone(cluster), name.clone())),
            Self::Scale(scaled) => Some((Arc::clone(&scaled.cluster), scaled.namespace.clone())),
            _ => None,
        }
    }

    /// Puts it back. Namespaces go in the background: a verdict does not wait for pods to stop. Replicas are waited for:
    /// the next test expects a whole mesh.
    pub(super) async fn restore(&self) -> Result<()> {
        match self {
            Self::Namespace(cluster, name) => {
                let namespaces: Api<Namespace> = Api::all(cluster.client());
                let removed = namespaces.delete(name, &DeleteParams::background()).await;
                Ok(gone(removed).map_err(cluster.failed(format!("remove namespace {name}")))?)
            }
            Self::Object(placed) => {
                let removed = placed.api.delete(&placed.name, &DeleteParams::default()).await;
                Ok(gone(removed).map_err(placed.cluster.failed(format!("remove {}", placed.what)))?)
            }
            Self::Label(labelled) => labelled.restore().await,
            Self::Scale(scaled) => {
                scaled.restore().await?;
                scaled.wait().await
            }
        }
    }
}

/// One that was never created, or is gone already, is gone.
fn gone<T>(removed: kube::Result<T>) -> kube::Result<()> {
    match removed {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// An object in a namespace of others.
pub(super) struct Placed {
    cluster: Arc<Cluster>,
    api: Api<DynamicObject>,
    name: String,
    what: String,
}

impl Placed {
    pub(super) async fn of(cluster: &Arc<Cluster>, object: &Value) -> Result<Self> {
        let (api, name, what) = cluster.api_of(object).await?;
        Ok(Self { cluster: Arc::clone(cluster), api, name, what })
    }

    /// Refuses to take over what is another's: at the end it would be removed.
    pub(super) async fn refuse_taken(&self) -> Result<()> {
        let there = self.api.get_opt(&self.name).await;
        let there = there.map_err(self.cluster.failed(format!("look for {}", self.what)))?;
        let ours = |object: &DynamicObject| object.labels().get(RUN_LABEL).is_some_and(|run| run == report::run());
        match there {
            Some(object) if !ours(&object) => {
                Err(Error::Taken { cluster: self.cluster.name().into(), object: self.what.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// A label that a test gives to nodes.
#[derive(Clone)]
pub(super) struct Labelled {
    cluster: Arc<Cluster>,
    label: String,
}

impl Labelled {
    pub(super) fn of(cluster: &Arc<Cluster>, label: &str) -> Self {
        Self { cluster: Arc::clone(cluster), label: label.to_owned() }
    }

    /// Whether it is the same label of the same nodes.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.cluster.name(), &self.label) == (other.cluster.name(), &other.label)
    }

    pub(super) async fn set(&self, value: Option<&str>) -> Result<()> {
        self.change(|node| prior::labelling(node, &self.label, value, report::run())).await
    }

    async fn restore(&self) -> Result<()> {
        self.change(|node| prior::unlabelling(node, Some(&self.label))).await
    }

    async fn change(&self, patch: impl Fn(&Node) -> Result<Option<Value>>) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.cluster.client());
        let listed = nodes.list(&ListParams::default()).await.map_err(self.cluster.failed("list the nodes"))?;
        for node in listed {
            let name = node.name_any();
            let failed =
                |error| self.cluster.failed(format!("change label {} of node {name}", self.label))(error).into();
            prior::change(&nodes, &name, failed, &patch).await?;
        }
        Ok(())
    }
}

/// A deployment, and the replicas it had.
#[derive(Clone)]
pub(super) struct Scaled {
    cluster: Arc<Cluster>,
    namespace: String,
    deployment: String,
    before: i32,
}

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deployment {}/{} in {}", self.namespace, self.deployment, self.cluster.name())
    }
}

impl Scaled {
    pub(super) async fn now(cluster: &Arc<Cluster>, namespace: &str, deployment: &str) -> Result<Self> {
        let found = cluster.api::<Deployment>(namespace).get(deployment).await;
        let found = found.map_err(cluster.failed(format!("read deployment {namespace}/{deployment}")))?;
        let before = prior::replicas(&found)?;
        Ok(Self { cluster: Arc::clone(cluster), namespace: namespace.into(), deployment: deployment.into(), before })
    }

    pub(super) fn before(&self) -> i32 {
        self.before
    }

    /// Whether it is the same deployment.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.cluster.name(), &self.namespace, &self.deployment)
            == (other.cluster.name(), &other.namespace, &other.deployment)
    }

    pub(super) async fn set(&self, replicas: i32) -> Result<()> {
        let doing = format!("scale {self} to {replicas}");
        self.change(&doing, |deployment| prior::scaling(deployment, replicas, report::run())).await
    }

    async fn restore(&self) -> Result<()> {
        let doing = format!("scale {self} back to {}", self.before);
        self.change(&doing, prior::unscaling).await
    }

    async fn change(&self, doing: &str, patch: impl Fn(&Deployment) -> Result<Option<Value>>) -> Result<()> {
        let deployments = self.cluster.api::<Deployment>(&self.namespace);
        let failed = |error| self.cluster.failed(doing)(error).into();
        prior::change(&deployments, &self.deployment, failed, patch).await.map(drop)
    }

    async fn wait(&self) -> Result<()> {
        let deployments = self.cluster.api::<Deployment>(&self.namespace);
        let want = format!("{self} to have its {} replicas back", self.before);
        Ok(eventually(want, BACK, async || {
            let status = deployments.get(&self.deployment).await?.status.unwrap_or_default();
            let available = status.available_replicas.unwrap_or(0);
            Ok::<_, kube::Error>(if available >= self.before {
                Seen::Yes(())
            } else {
                Seen::NotYet(format!("{available} available"))
            })
        })
        .await?)
    }
}
