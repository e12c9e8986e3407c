//! The probes in the record.

use std::sync::Arc;

use meshproof_probe::Protocol;

use crate::cluster::{Cluster, Result, Workload};
use crate::record::{self, ProbePorts, Probes};

/// The meshed probe of a cluster.
///
/// # Errors
/// The errors of [`declared`] and [`Cluster::ready_pods`].
pub async fn meshed(cluster: &Arc<Cluster>) -> Result<Workload> {
    find(cluster, &declared(cluster)?.meshed).await
}

/// The meshed probe of a cluster that only makes calls. The probe has its own pod and identity, so that a call within
/// the cluster crosses two proxies.
///
/// # Errors
/// The errors of [`declared`] and [`Cluster::ready_pods`].
pub async fn caller(cluster: &Arc<Cluster>) -> Result<Workload> {
    find(cluster, &declared(cluster)?.caller).await
}

/// The naked probe of a cluster.
///
/// # Errors
/// The errors of [`declared`] and [`Cluster::ready_pods`].
pub async fn naked(cluster: &Arc<Cluster>) -> Result<Workload> {
    find(cluster, &declared(cluster)?.naked).await
}

async fn find(cluster: &Arc<Cluster>, probe: &record::Probe) -> Result<Workload> {
    Workload::find(cluster, &probe.namespace, &probe.selector).await
}

/// The probes that the record declares for a cluster.
///
/// # Errors
/// [`record::Error::NotDeclared`]: the record declares no probes.
pub fn declared(cluster: &Cluster) -> Result<&Probes> {
    let record = cluster.record();
    Ok(record.declared("the probes", record.probes.as_ref())?)
}

/// Name of the service of a cluster's meshed probe, valid in every cluster.
///
/// # Errors
/// [`record::Error::NotDeclared`]: the record names no service.
pub fn service_host(cluster: &Cluster) -> Result<&str> {
    let service = declared(cluster)?.meshed.service.as_deref();
    Ok(cluster.record().declared("a service of the meshed probe", service)?)
}

/// Host name by which ingress gateways route to a cluster's meshed probe.
///
/// # Errors
/// [`record::Error::NotDeclared`]: the record names no host.
pub fn ingress_host(cluster: &Cluster) -> Result<&str> {
    let host = declared(cluster)?.meshed.ingress_host.as_deref();
    Ok(cluster.record().declared("a route of ingress gateways to the probe", host)?)
}

/// The port of a cluster's probes for `protocol`, the same for services and pods.
///
/// # Errors
/// The errors of [`declared`].
pub fn port(cluster: &Cluster, protocol: Protocol) -> Result<u16> {
    Ok(port_of(&declared(cluster)?.ports, protocol))
}

fn port_of(ports: &ProbePorts, protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Http1 | Protocol::WebSocket | Protocol::TlsRaw | Protocol::ClientHello | Protocol::Bytes => {
            ports.http
        }
        Protocol::Http2 => ports.http2,
        Protocol::Grpc | Protocol::GrpcStream => ports.grpc,
        Protocol::Tcp => ports.tcp,
        Protocol::ServerFirst => ports.server_first,
        Protocol::Tls => ports.tls,
    }
}
