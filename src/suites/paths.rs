//! The ways on which a client that is not of the mesh comes to a meshed workload's proxy.

use meshproof_probe::{Dial, Protocol, TlsVersion};

use crate::cluster::{Pair, Workload};
use crate::identity::ClientCertificate;
use crate::istio::{issue, sni_of};
use crate::probe::{self, Exchange, Vantage, service_host};
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
    host: String,
    port: u16,
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
                host: destination.address.clone(),
                port: Protocol::TlsRaw.port(),
                server_name: None,
                source,
                peer,
                destination,
            })
        });
        futures::future::try_join_all(paths).await
    }

    /// From each cluster through every other's east-west gateway.
    ///
    /// # Errors
    /// Where a probe is missing, or a gateway is not declared.
    pub async fn through_gateways(scope: &Scope) -> Result<Vec<Self>> {
        let pairs = scope.testbed.pairs().into_iter().filter(Pair::crosses);
        let paths = pairs.map(async |Pair { from, to }| {
            let (source, peer, destination) =
                futures::try_join!(probe::naked(&from), probe::caller(&from), probe::meshed(&to))?;
            let missing = || scope.testbed.not_declared(format!("an east-west gateway of {}", to.name()));
            let gateway = to.record().eastwest.as_deref().and_then(|address| address.rsplit_once(':'));
            let (host, port) = gateway.ok_or_else(missing)?;
            Ok(Self {
                name: format!("{}-to-{}-by-gateway", from.name(), to.name()),
                host: host.into(),
                port: port.parse().map_err(|_| missing())?,
                server_name: Some(sni_of(Protocol::TlsRaw.port(), &service_host(to.name()))),
                source,
                peer,
                destination,
            })
        });
        futures::future::try_join_all(paths).await
    }

    /// Both kinds.
    ///
    /// # Errors
    /// As of either.
    pub async fn all(scope: &Scope) -> Result<Vec<Self>> {
        let (mut direct, gateways) = futures::try_join!(Self::direct(scope), Self::through_gateways(scope))?;
        direct.extend(gateways);
        Ok(direct)
    }

    /// A certificate that the mesh issues for a legitimate client at the source.
    ///
    /// # Errors
    /// [`Error::NotIssued`](crate::scope::Error::NotIssued).
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
        probe::handshake(id, (&self.host, self.port), server_name, certificate, Protocol::Http1)
    }

    /// A bare `ClientHello` on it.
    pub fn client_hello(&self, id: &str, version: TlsVersion) -> Dial {
        let id = format!("{id}/{}", self.name);
        probe::client_hello(id, (&self.host, self.port), self.server_name.as_deref(), version)
    }

    /// Plaintext HTTP on it.
    pub fn plaintext(&self, id: &str) -> Dial {
        probe::dial(format!("{id}/{}", self.name), Protocol::Http1, &self.host, self.port)
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
