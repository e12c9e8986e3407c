//! The probes that `up` deploys.

use std::sync::Arc;

use crate::cluster::{Cluster, Result, Workload};

/// Namespace of the meshed probes: injected, STRICT, `ISTIO_MUTUAL`.
pub const MESHED_NAMESPACE: &str = "pinnacle";

/// Namespace of the naked probes: no injection.
pub const NAKED_NAMESPACE: &str = "meshproof-naked";

/// Container of a probe's pod that holds `/probe`.
pub const PROBE_CONTAINER: &str = "probe";

/// Name of the probes' Deployments.
pub(crate) const DEPLOYMENT: &str = "probe";

pub(crate) const SELECTOR: &str = "app=probe";

/// The meshed probe of a cluster.
///
/// # Errors
/// As [`Cluster::ready_pods`].
pub async fn meshed(cluster: &Arc<Cluster>) -> Result<Workload> {
    Workload::find(cluster, MESHED_NAMESPACE, SELECTOR).await
}

/// The meshed probe of a cluster that only calls: a pod and an identity of its own, so that a call within the cluster
/// crosses two proxies.
///
/// # Errors
/// As [`Cluster::ready_pods`].
pub async fn caller(cluster: &Arc<Cluster>) -> Result<Workload> {
    Workload::find(cluster, MESHED_NAMESPACE, "app=caller").await
}

/// The naked probe of a cluster.
///
/// # Errors
/// As [`Cluster::ready_pods`].
pub async fn naked(cluster: &Arc<Cluster>) -> Result<Workload> {
    Workload::find(cluster, NAKED_NAMESPACE, SELECTOR).await
}

/// Name of the service of a cluster's meshed probe, in every cluster.
pub fn service_host(cluster: &str) -> String {
    format!("probe-{cluster}.{MESHED_NAMESPACE}.svc.cluster.local")
}
