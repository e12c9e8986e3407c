//! All proxies of a cluster.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::cluster::{Cluster, Result, Workload, has_container, is_ready};

/// The ready pods of a cluster that have a proxy, gateways among them, in the order of their namespaces and names.
///
/// # Errors
/// [`Error::Api`](crate::cluster::Error::Api): the pods cannot be listed.
pub async fn proxies(cluster: &Arc<Cluster>) -> Result<Vec<Workload>> {
    let pods = Api::<Pod>::all(cluster.client()).list(&ListParams::default()).await;
    let mut pods = pods.map_err(cluster.failed("list all pods"))?.items;
    pods.sort_by_key(|pod| (pod.namespace(), pod.name_any()));
    let container = &cluster.record().istio.proxy.container;
    let proxied = pods.iter().filter(|pod| has_container(pod, container) && is_ready(pod));
    Ok(proxied.filter_map(|pod| Workload::of(cluster, pod)).collect())
}
