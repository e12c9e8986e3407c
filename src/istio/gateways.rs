//! The gateways of a cluster.

use std::sync::Arc;

use crate::cluster::{Cluster, Result, Workload};

/// The ingress gateway of a cluster.
///
/// # Errors
/// As [`Cluster::ready_pods`].
pub async fn ingress_gateway(cluster: &Arc<Cluster>) -> Result<Workload> {
    Workload::find(cluster, "istio-system", "istio=ingressgateway").await
}

/// The east-west gateway of a cluster.
///
/// # Errors
/// As [`Cluster::ready_pods`].
pub async fn eastwest_gateway(cluster: &Arc<Cluster>) -> Result<Workload> {
    Workload::find(cluster, "istio-system", "istio=eastwestgateway").await
}

/// The SNI by which an east-west gateway knows a service's port.
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
