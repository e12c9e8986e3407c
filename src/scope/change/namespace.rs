//! A namespace of one of the clusters.

use std::fmt;
use std::sync::Arc;

use crate::cluster::Cluster;

/// A namespace of a cluster.
#[derive(Debug, Clone)]
pub struct NamespaceRef {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// The namespace's name.
    pub name: String,
}

impl NamespaceRef {
    /// The namespace `name` of a cluster.
    pub fn new(cluster: &Arc<Cluster>, name: impl Into<String>) -> Self {
        Self { cluster: Arc::clone(cluster), name: name.into() }
    }

    /// Whether `other` is the same namespace.
    pub fn is(&self, other: &Self) -> bool {
        (self.cluster.name(), &self.name) == (other.cluster.name(), &other.name)
    }
}

impl fmt::Display for NamespaceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.name, self.cluster.name())
    }
}
