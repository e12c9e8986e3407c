//! A pod, and what its proxy says of itself.

use std::fmt;
use std::sync::Arc;

use kube::ResourceExt;
use serde::Deserialize;

use super::{Cluster, Error, Result};
use crate::identity::SpiffeId;

/// A pod of the mesh, or beside it.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Where it runs.
    pub cluster: Arc<Cluster>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its address.
    pub address: String,
    /// Its service account.
    pub service_account: String,
}

impl Workload {
    /// The first ready pod with these labels.
    ///
    /// # Errors
    /// As [`Cluster::ready_pods`].
    pub async fn find(cluster: &Arc<Cluster>, namespace: &str, selector: &str) -> Result<Self> {
        let pods = cluster.ready_pods(namespace, selector).await?;
        let found = pods.iter().find_map(|pod| {
            Some(Self {
                cluster: Arc::clone(cluster),
                namespace: namespace.into(),
                pod: pod.name_any(),
                address: pod.status.as_ref()?.pod_ip.clone()?,
                service_account: pod.spec.as_ref()?.service_account_name.clone()?,
            })
        });
        found.ok_or_else(|| Error::NoPod {
            cluster: cluster.name().into(),
            namespace: namespace.into(),
            selector: selector.into(),
            seen: "only some without an address or a service account".into(),
        })
    }

    /// Whether `other` is the same pod.
    pub fn is(&self, other: &Self) -> bool {
        (self.cluster.name(), &self.namespace, &self.pod) == (other.cluster.name(), &other.namespace, &other.pod)
    }

    /// The identity that the mesh gives it.
    pub fn spiffe_id(&self, trust_domain: &str) -> SpiffeId {
        SpiffeId::workload(trust_domain, &self.namespace, &self.service_account)
    }

    /// A container of it, for [`Cluster::exec`] and [`Cluster::logs`].
    pub fn container<'a>(&'a self, container: &'a str) -> (&'a str, &'a str, &'a str) {
        (&self.namespace, &self.pod, container)
    }

    /// The container of its proxy, as [`Self::container`].
    pub fn proxy_container(&self) -> (&str, &str, &str) {
        self.container(&self.cluster.record().istio.proxy.container)
    }

    /// The error of a `command` whose answer cannot be used, for that reason.
    pub fn unusable(&self, command: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Exec {
            cluster: self.cluster.name().into(),
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            command: command.into().into(),
            reason: reason.into().into(),
        }
    }

    /// Counters and gauges of its proxy whose names match `filter`, a regular expression.
    ///
    /// # Errors
    /// As [`Cluster::exec`].
    pub async fn proxy_counts(&self, filter: &str) -> Result<Vec<(String, u64)>> {
        /// Envoy's `/stats` as JSON. Histograms and texts have no such value.
        #[derive(Deserialize)]
        struct Stats {
            stats: Vec<Stat>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stat {
            Count { name: String, value: u64 },
            Other(serde::de::IgnoredAny),
        }
        let path = format!("stats?format=json&filter={filter}");
        let answer = self.proxy_admin(&path).await?;
        let Stats { stats } = serde_json::from_str(&answer).map_err(|error| self.unusable(path, error.to_string()))?;
        let count = |stat| match stat {
            Stat::Count { name, value } => Some((name, value)),
            Stat::Other(_) => None,
        };
        Ok(stats.into_iter().filter_map(count).collect())
    }

    /// What its proxy's administration interface answers to a GET of `path`.
    ///
    /// # Errors
    /// As [`Cluster::exec`].
    pub async fn proxy_admin(&self, path: &str) -> Result<String> {
        let agent = self.cluster.record().istio.proxy.agent.clone();
        self.cluster.exec(self.proxy_container(), &[&agent, "request", "GET", path], None).await
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} in {}", self.namespace, self.pod, self.cluster.name())
    }
}
