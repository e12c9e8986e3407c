//! A label of a cluster's nodes.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::Value;

use super::Change;
use crate::cluster::{self, Cluster};
use crate::record::Write;
use crate::report;
use crate::scope::{Result, prior};

/// A label to set on, or remove from, every node of a cluster.
#[derive(Debug, Clone)]
pub struct NodeLabel {
    cluster: Arc<Cluster>,
    label: String,
    value: Option<String>,
}

impl NodeLabel {
    /// The label with this value. `None`: the label is removed from the nodes.
    pub fn new(cluster: &Arc<Cluster>, label: impl Into<String>, value: Option<&str>) -> Self {
        Self { cluster: Arc::clone(cluster), label: label.into(), value: value.map(str::to_owned) }
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.cluster.client())
    }

    async fn listed(&self) -> Result<Vec<Node>> {
        let listed = self.nodes().list(&ListParams::default()).await;
        Ok(listed.map_err(self.cluster.failed("list the nodes"))?.items)
    }

    async fn change(&self, patch: impl Fn(&Node) -> Result<Option<Value>>) -> Result<()> {
        let nodes = self.nodes();
        for node in self.listed().await? {
            let name = node.name_any();
            let failed =
                |error| self.cluster.failed(format!("change label {} of node {name}", self.label))(error).into();
            prior::change(&nodes, &name, failed, &patch).await?;
        }
        Ok(())
    }
}

impl fmt::Display for NodeLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "label {} of the nodes of {}", self.label, self.cluster.name())
    }
}

impl Change for NodeLabel {
    fn write(&self) -> Write {
        Write::NodeLabels
    }

    fn apply(&self) -> LocalBoxFuture<'_, Result<()>> {
        let patch = |node: &Node| prior::labelling(node, &self.label, self.value.as_deref(), report::run());
        self.change(patch).boxed_local()
    }

    fn verify(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            let lacks = |node: &Node| node.labels().get(&self.label) != self.value.as_ref();
            match self.listed().await?.iter().find(|node| lacks(node)) {
                None => Ok(()),
                Some(node) => Err(cluster::Error::Unchanged {
                    cluster: self.cluster.name().into(),
                    change: format!("label {} of node {}", self.label, node.name_any()),
                }
                .into()),
            }
        }
        .boxed_local()
    }

    fn revert(&self) -> LocalBoxFuture<'_, Result<()>> {
        self.change(|node| prior::unlabelling(node, Some(&self.label))).boxed_local()
    }
}
