//! A service that is created now. Endpoints outlive what told of them, so only a new service shows that the istiods of a
//! mesh still read each other's clusters.

use std::sync::Arc;

use serde_json::Value;

use crate::cluster::{Cluster, Workload};
use crate::istio::{await_service_at, await_service_of, evidence_log, exposed, gateway_pods};
use crate::probe::{self, Exchange, Protocol, Vantage, dial, evidence_label};
use crate::scope::{CopiedProbe, Error, Result, Scope, copied_probe, deploy_probe_with};

/// A new service, with a pod in one cluster. The other clusters have its name alone.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// The pod, or the first of several.
    pub destination: Workload,
    /// All pods.
    pub pods: Vec<Workload>,
    /// Name of the service.
    pub host: String,
    /// The clusters whose east-west gateways lead to the pods. A call from another network waits for these.
    pub gateways: Vec<Arc<Cluster>>,
}

impl Newcomer {
    /// Creates the service in a namespace of the test's own, the pod in `cluster`. `purpose` becomes part of the
    /// namespace's name.
    ///
    /// # Errors
    /// The errors of [`deploy_probe`](crate::scope::deploy_probe) and [`Scope::namespace`].
    pub async fn create(scope: &Scope, cluster: &Arc<Cluster>, purpose: &str) -> Result<Self> {
        Self::create_with(scope, cluster, purpose, |_| ()).await
    }

    /// Like [`Self::create`], with `change` applied to the probe before it is written. The proxy writes the evidence
    /// log.
    ///
    /// # Errors
    /// The errors of [`Self::create`].
    pub async fn create_with(
        scope: &Scope,
        cluster: &Arc<Cluster>,
        purpose: &str,
        change: impl FnOnce(&mut CopiedProbe),
    ) -> Result<Self> {
        let namespace = scope.injected_namespace(cluster, purpose).await?;
        let others = scope.testbed.clusters.iter().filter(|other| other.name() != cluster.name());
        let naming = others.map(|other| name_in(scope, other, cluster, purpose));
        let prepared = async {
            let log = cluster.record().istio.access_log.as_ref();
            let log = log.map(|log| evidence_log(log, "evidence", &namespace, &evidence_label()));
            for mut object in exposure(cluster, &namespace).into_iter().chain(log) {
                scope.apply(cluster, &mut object).await?;
            }
            deploy_probe_with(scope, cluster, &namespace, change).await
        };
        let (pods, _) = futures::try_join!(prepared, futures::future::try_join_all(naming))?;
        let name = &probe::declared(cluster)?.meshed.deployment;
        let host = format!("{name}.{namespace}.svc.{}", cluster.record().domain);
        let lacking = || Error::suite(format!("{namespace} in {} has no pod with an address", cluster.name()));
        let serves = |one: &&Arc<Cluster>| one.record().network == cluster.record().network;
        let gateways = scope.testbed.clusters.iter().filter(serves).filter(|one| one.record().eastwest().is_ok());
        let gateways = gateways.cloned().collect();
        Ok(Self { destination: pods.first().cloned().ok_or_else(lacking)?, pods, host, gateways })
    }

    /// The port of the service for a protocol.
    ///
    /// # Errors
    /// [`NotDeclared`](crate::record::Error::NotDeclared).
    pub fn port(&self, protocol: Protocol) -> Result<u16> {
        Ok(probe::port(&self.destination.cluster, protocol)?)
    }

    /// Waits until the proxy of `source` and the gateways on the way know a port of the service, or cannot know it.
    ///
    /// # Errors
    /// [`NotInTime`](crate::cluster::Error::NotInTime), with the proxy that does not know it.
    pub async fn await_known(&self, source: &Workload, port: u16) -> Result<()> {
        await_service_of(source, &self.destination, &self.host, port).await?;
        let is_direct = source.cluster.record().network == self.destination.cluster.record().network;
        if is_direct || self.destination.without_proxy().await.is_some() {
            return Ok(());
        }
        let at_each = self.gateways.iter().map(async |cluster| {
            let gateways = gateway_pods(cluster, cluster.record().eastwest()?).await?;
            let each = gateways.iter().map(|gateway| await_service_at(gateway, &self.host, port));
            futures::future::try_join_all(each).await.map(drop)
        });
        Ok(futures::future::try_join_all(at_each).await.map(drop)?)
    }

    /// Calls the service from `source`, once the proxies on the way know it, or cannot know it.
    ///
    /// # Errors
    /// The errors of [`Vantage::dial`].
    pub async fn call(&self, source: &Workload, id: &str) -> Result<Exchange> {
        let port = probe::port(&self.destination.cluster, Protocol::Http1)?;
        if let Err(error) = self.await_known(source, port).await {
            // The call judges it.
            tracing::warn!(%error, "a proxy does not know a new service");
        }
        let call = dial(id, Protocol::Http1, &self.host, port);
        let mut exchanges = Vantage::Meshed(source.clone()).dial(vec![call]).await?;
        // `dial` returns a report for each dial, or fails.
        Ok(exchanges.remove(0))
    }
}

/// Creates the service without pods in `other`, so that its name resolves there. A gateway there that serves the network
/// of the pods is opened for it: their own cluster may have none.
async fn name_in(scope: &Scope, other: &Arc<Cluster>, home: &Arc<Cluster>, purpose: &str) -> Result<()> {
    let namespace = scope.injected_namespace(other, purpose).await?;
    if other.record().network == home.record().network
        && let Some(mut gateway) = exposure(other, &namespace)
    {
        scope.apply(other, &mut gateway).await?;
    }
    let CopiedProbe { mut service, .. } = copied_probe(home, &namespace).await?;
    scope.apply(other, &mut service).await
}

/// What opens the east-west gateway of a cluster for a namespace, if the cluster has a gateway.
pub(crate) fn exposure(cluster: &Cluster, namespace: &str) -> Option<Value> {
    let gateway = cluster.record().gateways.eastwest.as_ref()?;
    exposed(gateway, namespace, &cluster.record().domain)
}
