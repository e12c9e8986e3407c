//! Paths on which a client outside the mesh can reach a meshed workload's proxy.

use meshproof_probe::{Dial, Protocol, TlsVersion};

use crate::cluster::{Cluster, Pair, Testbed, Workload};
use crate::identity::ClientCertificate;
use crate::istio::{issue, sni_of};
use crate::probe::{self, Exchange, Vantage, service_host};
use crate::record::HostPort;
use crate::scope::Result;
use crate::scope::Scope;

/// A judged exchange and its positive control, dialled from one vantage.
#[derive(Debug, Clone)]
pub struct Controlled {
    /// The judged exchange.
    pub judged: Exchange,
    /// The control.
    pub control: Exchange,
}

/// A path from a naked probe to the proxy of a meshed probe: directly to its pod, or through the east-west gateway of its
/// network.
#[derive(Debug, Clone)]
pub struct Path {
    /// Name in claims.
    pub name: String,
    /// The naked probe.
    pub source: Workload,
    /// The calling probe of the source's cluster. Legitimate clients there have its identity.
    pub peer: Workload,
    /// The meshed probe.
    pub destination: Workload,
    /// Address of the pod or gateway.
    address: HostPort,
    /// Server name that the gateway routes by.
    server_name: Option<String>,
}

impl Path {
    /// The direct path to the pod in each cluster.
    ///
    /// # Errors
    /// A probe is missing.
    pub async fn direct(scope: &Scope) -> Result<Vec<Self>> {
        let paths = scope.testbed.clusters.iter().map(async |cluster| {
            let (source, peer, destination) =
                futures::try_join!(probe::naked(cluster), probe::caller(cluster), probe::meshed(cluster))?;
            Ok(Self {
                name: format!("{}-direct", cluster.name()),
                address: HostPort::new(&destination.address, probe::port(cluster, Protocol::TlsRaw)?),
                server_name: None,
                source,
                peer,
                destination,
            })
        });
        futures::future::try_join_all(paths).await
    }

    /// The paths from each cluster to every cluster on another network, through that network's east-west gateway.
    ///
    /// # Errors
    /// A probe is missing, or a gateway is not declared.
    pub async fn through_gateways(scope: &Scope) -> Result<Vec<Self>> {
        let pairs = scope.testbed.pairs().into_iter().filter(Pair::crosses_networks);
        futures::future::try_join_all(pairs.map(async |pair| Self::through_gateway(scope, &pair).await)).await
    }

    async fn through_gateway(scope: &Scope, Pair { from, to }: &Pair) -> Result<Self> {
        let address = gateway_to(&scope.testbed, to)?.clone();
        let server_name = sni_of(probe::port(to, Protocol::TlsRaw)?, service_host(to)?);
        let (source, peer, destination) =
            futures::try_join!(probe::naked(from), probe::caller(from), probe::meshed(to))?;
        let name = format!("{}-to-{}-by-gateway", from.name(), to.name());
        Ok(Self { name, source, peer, destination, address, server_name: Some(server_name) })
    }

    /// Direct paths and paths through gateways. An undeclared gateway becomes an unjudged claim. The other paths are
    /// returned.
    ///
    /// # Errors
    /// A probe is missing.
    pub async fn all(scope: &Scope) -> Result<Vec<Self>> {
        let mut paths = Self::direct(scope).await?;
        let crossing = scope.testbed.pairs().into_iter().filter(Pair::crosses_networks);
        let through = async |pair: Pair| (pair.to_string(), Self::through_gateway(scope, &pair).await);
        for (pair, path) in futures::future::join_all(crossing.map(through)).await {
            match path {
                Ok(path) => paths.push(path),
                Err(error) if error.is_not_declared() => scope.could_not_judge(&pair, &error),
                Err(error) => return Err(error),
            }
        }
        Ok(paths)
    }

    /// A certificate of the mesh for a legitimate client at the source.
    ///
    /// # Errors
    /// [`NotIssued`](crate::istio::Error::NotIssued).
    pub async fn issued_certificate(&self, scope: &Scope) -> Result<ClientCertificate> {
        Ok(issue(&scope.testbed, &self.peer).await?)
    }

    /// A handshake on this path, with HTTP inside.
    pub fn handshake(&self, id: &str, certificate: Option<&ClientCertificate>) -> Dial {
        self.handshake_as(id, self.server_name.as_deref(), certificate)
    }

    /// A handshake on this path with the SNI `server_name`.
    pub fn handshake_as(&self, id: &str, server_name: Option<&str>, certificate: Option<&ClientCertificate>) -> Dial {
        let id = format!("{id}/{}", self.name);
        probe::handshake(id, &self.address, server_name, certificate, Protocol::Http1)
    }

    /// A bare `ClientHello` on this path.
    pub fn client_hello(&self, id: &str, version: TlsVersion) -> Dial {
        let id = format!("{id}/{}", self.name);
        probe::client_hello(id, &self.address, self.server_name.as_deref(), version)
    }

    /// Plaintext HTTP on this path.
    pub fn plaintext(&self, id: &str) -> Dial {
        probe::dial(format!("{id}/{}", self.name), Protocol::Http1, &self.address.host, self.address.port)
    }

    /// Dials from the source: the judged dial and its control, at the same time.
    ///
    /// # Errors
    /// The errors of [`Vantage::dial`].
    pub async fn dial_pair(&self, judged: Dial, control: Dial) -> Result<Controlled> {
        let vantage = Vantage::Naked(self.source.clone());
        let mut exchanges = vantage.dial(vec![judged, control]).await?;
        // `dial` returns a report for each dial, or fails.
        let control = exchanges.remove(1);
        Ok(Controlled { judged: exchanges.remove(0), control })
    }
}

/// Address of the east-west gateway that leads to the workloads of `to`: the cluster's own, otherwise that of another
/// cluster on its network.
fn gateway_to<'a>(testbed: &'a Testbed, to: &'a Cluster) -> Result<&'a HostPort> {
    let own = to.record().eastwest_address();
    let on_network = testbed.clusters.iter().map(|cluster| cluster.record());
    let mut others = on_network.filter(|other| other.network == to.record().network);
    Ok(own.or_else(|missing| others.find_map(|other| other.eastwest_address().ok()).ok_or(missing))?)
}
