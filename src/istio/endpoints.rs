//! The endpoints that a proxy knows, as reported by the proxy.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use super::gateways::sni_of;
use super::proxy_config::outbound_name;
use super::registry::{Registered, seen_by_istiod};
use crate::cluster::{Result, Seen, Workload, eventually};

/// Longest wait for a new endpoint to reach a proxy. istiod batches changes for less than a second.
const KNOWN: Duration = Duration::from_secs(30);

/// Longest wait for a new endpoint to reach a gateway, where a gateway that is not opened for it never knows it.
const OPENED: Duration = Duration::from_secs(10);

/// Longest wait for istiod to read another cluster: one that restarts takes a moment.
const READ: Duration = Duration::from_secs(4);

/// An endpoint of one of a proxy's upstream clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Envoy's name of the upstream cluster, for example `outbound|8080||probe.shop.svc.cluster.local`.
    pub upstream_cluster: String,
    /// IP address.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Whether istiod reports the endpoint as healthy.
    pub healthy: bool,
    /// Number of connections that the proxy has made to the endpoint.
    pub connections: u64,
}

/// All endpoints that a workload's proxy knows, from Envoy's `/clusters`.
///
/// # Errors
/// The errors of [`Workload::proxy_admin`]. The answer cannot be parsed.
pub async fn endpoints(workload: &Workload) -> Result<Vec<Endpoint>> {
    let path = "clusters?format=json";
    let answer = workload.proxy_admin(path).await?;
    parse(&answer).map_err(|error| workload.unusable(path, error.to_string()))
}

/// Waits until the proxy of `source` knows a healthy endpoint at the address of `destination`, in the same network. A
/// workload can be ready before its callers' proxies know its endpoint.
///
/// # Errors
/// [`NotInTime`](crate::cluster::Error::NotInTime), with the endpoints that the proxy knows.
pub async fn await_endpoint(source: &Workload, destination: &Workload) -> Result<()> {
    eventually(format!("the proxy of {source} to know {destination}"), KNOWN, async || {
        let known = match endpoints(source).await {
            Err(error) if error.is_final() => return Ok(Seen::Yes(Err(error))),
            known => known?,
        };
        let is_it = |endpoint: &&Endpoint| endpoint.address == destination.address;
        let seen = format!("{} endpoints, none of them healthy at {}", known.len(), destination.address);
        let healthy = known.iter().filter(is_it).any(|endpoint| endpoint.healthy);
        Ok::<_, crate::cluster::Error>(if healthy { Seen::Yes(Ok(())) } else { Seen::NotYet(seen) })
    })
    .await?
}

/// Waits until the proxy of `source` knows a healthy endpoint of a service's port, in any network.
///
/// # Errors
/// [`NotInTime`](crate::cluster::Error::NotInTime).
pub async fn await_service(source: &Workload, service_host: &str, port: u16) -> Result<()> {
    await_upstream(source, &outbound_name(port, service_host), KNOWN).await
}

/// Waits until an east-west gateway that a service's callers in other networks reach it by knows a healthy endpoint of
/// the service's port. They may know the service earlier.
///
/// # Errors
/// [`NotInTime`](crate::cluster::Error::NotInTime), also if the gateway is not opened for the service.
pub async fn await_service_at(gateway: &Workload, service_host: &str, port: u16) -> Result<()> {
    await_upstream(gateway, &sni_of(port, service_host), OPENED).await
}

async fn await_upstream(proxy: &Workload, name: &str, within: Duration) -> Result<()> {
    eventually(format!("the proxy of {proxy} to know {name}"), within, async || {
        let known = match endpoints(proxy).await {
            Err(error) if error.is_final() => return Ok(Seen::Yes(Err(error))),
            known => known?,
        };
        let healthy = known.iter().any(|endpoint| endpoint.upstream_cluster == name && endpoint.healthy);
        let seen = if healthy { Seen::Yes(Ok(())) } else { Seen::NotYet("no healthy endpoint".into()) };
        Ok::<_, crate::cluster::Error>(seen)
    })
    .await?
}

/// Like [`await_service`], for a service whose workload is `destination`, in another cluster. Ends soon, and without an
/// error, if no wait brings the service: istiod of the caller's cluster does not read the other cluster, or `destination`
/// has no proxy, so that no gateway leads to it.
///
/// # Errors
/// The errors of [`await_service`].
pub async fn await_service_of(source: &Workload, destination: &Workload, service_host: &str, port: u16) -> Result<()> {
    let peer = &destination.cluster;
    let unread = async {
        if destination.without_proxy().await.is_some() {
            return;
        }
        let synced = eventually(format!("istiod to read {}", peer.name()), READ, async || {
            let seen = seen_by_istiod(&source.cluster).await?;
            let status = seen.get(peer.name()).cloned().unwrap_or_else(|| "no remote secret".into());
            Ok::<_, String>(if status == Registered::SYNCED { Seen::Yes(()) } else { Seen::NotYet(status) })
        });
        match synced.await {
            Ok(()) => std::future::pending().await,
            Err(error) => tracing::debug!(%error, "a peer is not read"),
        }
    };
    tokio::select! {
        biased;
        known = await_service(source, service_host, port) => known,
        () = unread => Ok(()),
    }
}

/// Waits until the proxy of `source` knows a healthy endpoint in each of these upstream clusters, by Envoy's names such
/// as `outbound|8080||probe.shop.svc.cluster.local`.
///
/// # Errors
/// [`NotInTime`](crate::cluster::Error::NotInTime), with the first that are missing.
pub async fn await_services(source: &Workload, names: &BTreeSet<String>) -> Result<()> {
    eventually(format!("the proxy of {source} to know {} services", names.len()), KNOWN, async || {
        let known = endpoints(source).await?.into_iter().filter(|endpoint| endpoint.healthy);
        let known: BTreeSet<String> = known.map(|endpoint| endpoint.upstream_cluster).collect();
        let missing: Vec<&str> = names.difference(&known).map(String::as_str).collect();
        let some = || missing.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        let seen = || Seen::NotYet(format!("{} are missing, such as {}", missing.len(), some()));
        Ok::<_, crate::cluster::Error>(if missing.is_empty() { Seen::Yes(()) } else { seen() })
    })
    .await
}

fn parse(answer: &str) -> serde_json::Result<Vec<Endpoint>> {
    let Clusters { cluster_statuses } = serde_json::from_str(answer)?;
    let of = |cluster: ClusterStatus| {
        let name = cluster.name;
        cluster.host_statuses.into_iter().filter_map(move |host| host.endpoint(&name))
    };
    Ok(cluster_statuses.into_iter().flat_map(of).collect())
}

#[derive(Deserialize)]
struct Clusters {
    #[serde(default)]
    cluster_statuses: Vec<ClusterStatus>,
}

#[derive(Deserialize)]
struct ClusterStatus {
    name: String,
    #[serde(default)]
    host_statuses: Vec<HostStatus>,
}

#[derive(Deserialize)]
struct HostStatus {
    address: Address,
    #[serde(default)]
    stats: Vec<Stat>,
    #[serde(default)]
    health_status: HealthStatus,
}

/// A socket address, or a pipe.
#[derive(Deserialize)]
struct Address {
    socket_address: Option<SocketAddress>,
}

#[derive(Deserialize)]
struct SocketAddress {
    address: String,
    port_value: u16,
}

/// Protobuf JSON encodes 64-bit numbers as strings, and omits 0.
#[derive(Deserialize)]
struct Stat {
    name: String,
    value: Option<String>,
}

#[derive(Default, Deserialize)]
struct HealthStatus {
    #[serde(default)]
    eds_health_status: String,
}

impl HostStatus {
    fn endpoint(self, upstream_cluster: &str) -> Option<Endpoint> {
        let SocketAddress { address, port_value } = self.address.socket_address?;
        let connections = self.stats.iter().find(|stat| stat.name == "cx_total");
        let connections = connections.and_then(|stat| stat.value.as_ref()?.parse().ok()).unwrap_or(0);
        let healthy = self.health_status.eds_health_status == "HEALTHY";
        Some(Endpoint { upstream_cluster: upstream_cluster.into(), address, port: port_value, healthy, connections })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_with_their_health_and_their_connections() {
        let answer = r#"{"cluster_statuses":[{"name":"outbound|9555||ads.shop","host_statuses":[
            {"address":{"socket_address":{"address":"192.168.0.25","port_value":9555}},
             "stats":[{"name":"cx_connect_fail"},{"name":"cx_total","value":"2"}],
             "health_status":{"eds_health_status":"HEALTHY"}},
            {"address":{"socket_address":{"address":"192.168.0.26","port_value":9555}},
             "stats":[{"name":"cx_total"}],"health_status":{"eds_health_status":"UNHEALTHY"}},
            {"address":{"pipe":{"path":"./etc/istio/proxy/XDS"}}}]},
            {"name":"empty"}]}"#;
        let endpoint = |address: &str, healthy, connections| Endpoint {
            upstream_cluster: "outbound|9555||ads.shop".into(),
            address: address.into(),
            port: 9555,
            healthy,
            connections,
        };
        let expected = [endpoint("192.168.0.25", true, 2), endpoint("192.168.0.26", false, 0)];
        assert_eq!(parse(answer).unwrap(), expected);
    }
}
