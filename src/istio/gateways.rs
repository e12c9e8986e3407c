//! The gateways of a cluster.

use std::sync::Arc;

use crate::cluster::{Cluster, Result, Workload};
use crate::record::Gateway;

/// The ingress gateway of a cluster.
///
/// # Errors
/// [`NotDeclared`](crate::record::Error::NotDeclared): the record names no ingress gateway. The errors of
/// [`Cluster::ready_pods`].
pub async fn ingress_gateway(cluster: &Arc<Cluster>) -> Result<Workload> {
    find(cluster, cluster.record().ingress()?).await
}

/// The east-west gateway of a cluster.
///
/// # Errors
/// [`NotDeclared`](crate::record::Error::NotDeclared): the record names no east-west gateway. The errors of
/// [`Cluster::ready_pods`].
pub async fn eastwest_gateway(cluster: &Arc<Cluster>) -> Result<Workload> {
    find(cluster, cluster.record().eastwest()?).await
}

/// The ready pods of a gateway, by name.
///
/// # Errors
/// The errors of [`Cluster::ready_pods`].
pub async fn gateway_pods(cluster: &Arc<Cluster>, gateway: &Gateway) -> Result<Vec<Workload>> {
    let pods = cluster.ready_pods(&gateway.namespace, &gateway.selector).await?;
    let mut pods: Vec<Workload> = pods.iter().filter_map(|pod| Workload::of(cluster, pod)).collect();
    pods.sort_by(|one, other| one.pod.cmp(&other.pod));
    Ok(pods)
}

async fn find(cluster: &Arc<Cluster>, gateway: &Gateway) -> Result<Workload> {
    Workload::find(cluster, &gateway.namespace, &gateway.selector).await
}

/// The SNI of a service's port at an east-west gateway.
pub fn sni_of(port: u16, service_host: &str) -> String {
    format!("outbound_.{port}_._.{service_host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_sni_names_port_and_service() {
        let host = "probe-cluster2.pinnacle.svc.cluster.local";
        assert_eq!(sni_of(8080, host), "outbound_.8080_._.probe-cluster2.pinnacle.svc.cluster.local");
    }
}
