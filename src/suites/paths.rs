//! The ways on which a client that is not of the mesh comes to a meshed workload's proxy.

use meshproof_probe::{Dial, Protocol, TlsVersion};

use crate::cluster::{Pair, Workload};
use crate::identity::ClientCertificate;
use crate::istio::{issue, sni_of};
use crate::probe::{self, Exchange, Vantage, service_host};
use crate::record::{self, HostPort};
use crate::scope::Result;
use crate::scope::Scope;

/// From a naked probe to the proxy of a meshed one: straight to its pod, or through its cluster's east-west gateway.
#[derive(Debug, Clone)]
pub struct Path {
    /// Names it in claims.
    pub name: String,
    /// The naked probe.
    pub source: Workload,
    /// The calling probe of the source's cluster, whose identity a legitimate client there has.
    pub peer: Workload,
    /// The meshed probe at the end.
    pub destination: Workload,
    /// Pod or gateway address.
    address: HostPort,
    /// What the gateway routes by.
    server_name: Option<String>,
}

impl Path {
    /// Straight to the pod, in each cluster.
    ///
    /// # Errors
    /// Where a probe is missing.
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

    /// From each cluster through the east-west gateway of every cluster in another network.
    ///
    /// # Errors
    /// Where a probe is missing, or a gateway is not declared.
    pub async fn through_gateways(scope: &Scope) -> Result<Vec<Self>> {
        let pairs = scope.testbed.pairs().into_iter().filter(Pair::crosses_networks);
        futures::future::try_join_all(pairs.map(async |pair| Self::through_gateway(&pair).await)).await
    }

    async fn through_gateway(Pair { from, to }: &Pair) -> Result<Self> {
        let missing = || record::Error::not_declared(format!("an east-west gateway of {}", to.name()));
        let address = to.record().eastwest_address().ok_or_else(missing)?.clone();
        let server_name = sni_of(probe::port(to, Protocol::TlsRaw)?, service_host(to)?);
        let (source, peer, destination) =
            futures::try_join!(probe::naked(from), probe::caller(from), probe::meshed(to))?;
        let name = format!("{}-to-{}-by-gateway", from.name(), to.name());
        Ok(Self { name, source, peer, destination, address, server_name: Some(server_name) })
    }

    /// Both kinds. A gateway that is not declared becomes a claim of its own, not judged; the other paths are returned.
    ///
    /// # Errors
    /// Where a probe is missing.
    pub async fn all(scope: &Scope) -> Result<Vec<Self>> {
        let mut paths = Self::direct(scope).await?;
        let crossing = scope.testbed.pairs().into_iter().filter(Pair::crosses_networks);
        let through = async |pair: Pair| (pair.to_string(), Self::through_gateway(&pair).await);
        for (pair, path) in futures::future::join_all(crossing.map(through)).await {
            match path {
                Ok(path) => paths.push(path),
                Err(error) if error.is_not_declared() => scope.could_not_judge(&pair, &error),
                Err(error) => return Err(error),
            }
        }
        Ok(paths)
    }

    /// A certificate that the mesh issues for a legitimate client at the source.
    ///
    /// # Errors
    /// [`NotIssued`](crate::istio::Error::NotIssued).
    pub async fn issued_certificate(&self, scope: &Scope) -> Result<ClientCertificate> {
        Ok(issue(&scope.testbed, &self.peer).await?)
    }

    /// A handshake on it, with HTTP inside.
    pub fn handshake(&self, id: &str, certificate: Option<&ClientCertificate>) -> Dial {
        self.handshake_as(id, self.server_name.as_deref(), certificate)
    }

    /// A handshake on it that asks for `server_name`.
    pub fn handshake_as(&self, id: &str, server_name: Option<&str>, certificate: Option<&ClientCertificate>) -> Dial {
        let id = format!("{id}/{}", self.name);
        probe::handshake(id, (&self.address.host, self.address.port), server_name, certificate, Protocol::Http1)
    }

    /// A bare `ClientHello` on it.
    pub fn client_hello(&self, id: &str, version: TlsVersion) -> Dial {
        let id = format!("{id}/{}", self.name);
        probe::client_hello(id, (&self.address.host, self.address.port), self.server_name.as_deref(), version)
    }

    /// Plaintext HTTP on it.
    pub fn plaintext(&self, id: &str) -> Dial {
        probe::dial(format!("{id}/{}", self.name), Protocol::Http1, &self.address.host, self.address.port)
    }

    /// Dials from its start: what is to be judged, and its control, at the same time.
    ///
    /// # Errors
    /// As [`Vantage::dial`].
    pub async fn dial_pair(&self, judged: Dial, control: Dial) -> Result<(Exchange, Exchange)> {
        let vantage = Vantage::Naked(self.source.clone());
        let mut exchanges = vantage.dial(vec![judged, control]).await?;
        // The probe reports on each dial, or `dial` fails.
        let control = exchanges.remove(1);
        Ok((exchanges.remove(0), control))
    }
}
