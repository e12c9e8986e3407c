//! A pod, and the statistics of its proxy.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Deserialize;

use super::pods::{has_container, is_ready, states};
use super::{Cluster, Container, Error, Result, Seen, code};
use crate::identity::SpiffeId;

/// A counter or gauge of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProxyCount {
    /// Envoy's name of the statistic.
    pub name: String,
    /// Value.
    pub value: u64,
}

/// A pod, with or without a proxy.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The pod's cluster.
    pub cluster: Arc<Cluster>,
    /// Namespace.
    pub namespace: String,
    /// Pod name.
    pub pod: String,
    /// IP address.
    pub address: String,
    /// Service account.
    pub service_account: String,
    /// Name of the node.
    pub node: String,
}

impl Workload {
    /// The first ready pod that matches the label selector.
    ///
    /// # Errors
    /// The errors of [`Cluster::ready_pods`].
    pub async fn find(cluster: &Arc<Cluster>, namespace: &str, selector: &str) -> Result<Self> {
        let pods = cluster.ready_pods(namespace, selector).await?;
        pods.iter().find_map(|pod| Self::of(cluster, pod)).ok_or_else(|| Error::NoPod {
            cluster: cluster.name().into(),
            namespace: namespace.into(),
            selector: selector.into(),
            seen: "only some without an address or a service account".into(),
        })
    }

    /// Waits until a pod that matches the label selector is ready.
    ///
    /// # Errors
    /// The errors of [`Cluster::await_pods`].
    pub async fn await_ready(
        cluster: &Arc<Cluster>,
        namespace: &str,
        selector: &str,
        within: Duration,
    ) -> Result<Self> {
        let want = format!("a ready pod `{selector}` in {namespace} of {}", cluster.name());
        let waited = cluster.await_pods(namespace, selector, want, within, |pods| {
            let ready = pods.iter().filter(|pod| is_ready(pod)).find_map(|pod| Self::of(cluster, pod));
            ready.map_or_else(|| Seen::NotYet(states(pods.iter().copied())), Seen::Yes)
        });
        waited.await
    }

    /// A pod of a cluster. `None` if the pod has no node, no address or no service account.
    pub fn of(cluster: &Arc<Cluster>, pod: &Pod) -> Option<Self> {
        Some(Self {
            cluster: Arc::clone(cluster),
            namespace: pod.namespace()?,
            pod: pod.name_any(),
            address: pod.status.as_ref()?.pod_ip.clone()?,
            service_account: pod.spec.as_ref()?.service_account_name.clone()?,
            node: pod.spec.as_ref()?.node_name.clone()?,
        })
    }

    /// Whether `other` is the same pod.
    pub fn is(&self, other: &Self) -> bool {
        (self.cluster.name(), &self.namespace, &self.pod) == (other.cluster.name(), &other.namespace, &other.pod)
    }

    /// The SPIFFE ID that the mesh gives the pod.
    pub fn spiffe_id(&self, trust_domain: &str) -> SpiffeId {
        SpiffeId::workload(trust_domain, &self.namespace, &self.service_account)
    }

    /// A container of the pod, for [`Cluster::exec`] and [`Cluster::logs`].
    pub fn container<'a>(&'a self, container: &'a str) -> Container<'a> {
        Container { namespace: &self.namespace, pod: &self.pod, container }
    }

    /// The proxy's container, for [`Cluster::exec`] and [`Cluster::logs`].
    pub fn proxy_container(&self) -> Container<'_> {
        self.container(&self.cluster.record().istio.proxy.container)
    }

    /// The error for a `command` whose output is unusable, with the reason.
    pub fn unusable(&self, command: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Exec {
            cluster: self.cluster.name().into(),
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            command: command.into().into(),
            reason: reason.into().into(),
        }
    }

    /// Counters and gauges of the pod's proxy whose names match `filter`, a regular expression.
    ///
    /// # Errors
    /// The errors of [`Cluster::exec`].
    pub async fn proxy_counts(&self, filter: &str) -> Result<Vec<ProxyCount>> {
        /// Envoy's `/stats` as JSON. Histograms and text values have no integer value.
        #[derive(Deserialize)]
        struct Stats {
            stats: Vec<Stat>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stat {
            Count(ProxyCount),
            Other(serde::de::IgnoredAny),
        }
        let path = format!("stats?format=json&filter={filter}");
        let answer = self.proxy_admin(&path).await?;
        let Stats { stats } = serde_json::from_str(&answer).map_err(|error| self.unusable(path, error.to_string()))?;
        let count = |stat| match stat {
            Stat::Count(count) => Some(count),
            Stat::Other(_) => None,
        };
        Ok(stats.into_iter().filter_map(count).collect())
    }

    /// The answer of Envoy's admin interface to a GET of `path`.
    ///
    /// # Errors
    /// The errors of [`Cluster::exec`]. [`Error::NoProxy`].
    pub async fn proxy_admin(&self, path: &str) -> Result<String> {
        let agent = &self.cluster.record().istio.proxy.agent;
        match self.cluster.exec(self.proxy_container(), &[agent, "request", "GET", path], None).await {
            Err(error) => Err(self.without_proxy().await.unwrap_or(error)),
            answer => answer,
        }
    }

    /// The proxy's log of the last `since`.
    ///
    /// # Errors
    /// The errors of [`Cluster::logs`]. [`Error::NoProxy`].
    pub async fn proxy_log(&self, since: Duration) -> Result<String> {
        match self.cluster.logs(self.proxy_container(), since).await {
            Err(error) => Err(self.without_proxy().await.unwrap_or(error)),
            log => log,
        }
    }

    /// The error if the pod is gone or has no proxy: no request to its proxy can succeed.
    pub(crate) async fn without_proxy(&self) -> Option<Error> {
        let container = &self.cluster.record().istio.proxy.container;
        match self.cluster.api::<Pod>(&self.namespace).get(&self.pod).await {
            Ok(pod) if !has_container(&pod, container) => Some(Error::NoProxy {
                cluster: self.cluster.name().into(),
                namespace: self.namespace.clone(),
                pod: self.pod.clone(),
                container: container.clone(),
            }),
            Err(error) if code(&error) == Some(404) => {
                Some(self.cluster.failed(format!("find pod {}/{}", self.namespace, self.pod))(error))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} in {}", self.namespace, self.pod, self.cluster.name())
    }
}
