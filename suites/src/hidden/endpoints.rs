//! Each endpoint of a service, by itself. A load balancer sends most calls past one that is broken.

use std::sync::Arc;

use meshproof::istio::issue;
use meshproof::k8s_openapi::api::discovery::v1::EndpointSlice;
use meshproof::kube::api::ListParams;
use meshproof::probe::{self, Protocol, Vantage, handshake};
use meshproof::record::{HostPort, Requirement};
use meshproof::report::Claim;
use meshproof::{Cluster, Error, Scope, Verdict};

use super::SUITE;

/// What is asked of each endpoint of a probe's service.
pub(super) const ASKED: [Protocol; 4] = [Protocol::Http1, Protocol::Grpc, Protocol::Tcp, Protocol::ServerFirst];

/// Red if one of several endpoints of a service does not answer: see
/// [`broken::an_endpoint_that_is_listed_and_dead_is_found_every_time`](super::broken).
async fn each_endpoint_of_each_service_answers() -> Verdict {
    Scope::run(SUITE, "each_endpoint_of_each_service_answers", async |scope| {
        scope.requires([Requirement::Probes])?;
        let judge = async |cluster: &Arc<Cluster>| {
            let host = probe::service_host(cluster)?;
            let service = Service::of(host)?;
            endpoints(scope, cluster, &service).await?.into_iter().for_each(|claim| scope.claim(claim));
            Ok(())
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

/// A service of probes.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Service {
    /// The service with the DNS name `NAME.NAMESPACE.svc.DOMAIN`.
    fn of(host: &str) -> Result<Self, Error> {
        let mut parts = host.split('.').map(str::to_owned);
        match (parts.next(), parts.next()) {
            (Some(name), Some(namespace)) => Ok(Self { namespace, name }),
            _ => Err(Error::suite(format!("`{host}` is no name of a service"))),
        }
    }
}

/// The claims about the endpoints of a service, each called by its own address over mutual TLS.
pub(super) async fn endpoints(scope: &Scope, cluster: &Arc<Cluster>, service: &Service) -> Result<Vec<Claim>, Error> {
    let Service { namespace, name } = service;
    let listed = ready(cluster, service).await?;
    if listed.is_empty() {
        return Err(Error::suite(format!("{namespace}/{name} of {} has no endpoint that is ready", cluster.name())));
    }
    let certificate = issue(&scope.testbed, &probe::caller(cluster).await?).await?;
    let mut dials = Vec::new();
    for (number, address) in listed.iter().enumerate() {
        for protocol in ASKED {
            let id = format!("{protocol}/{}/{name}/endpoint-{}", cluster.name(), number + 1);
            let to = HostPort::new(address, probe::port(cluster, protocol)?);
            dials.push(handshake(id, &to, None, Some(&certificate), protocol));
        }
    }
    let seen = Vantage::Naked(probe::naked(cluster).await?).dial(dials).await?;
    let claims = seen.iter().map(|seen| {
        let named = seen.report.who.as_ref().map(|who| who.pod.clone());
        let claim = Claim::about(format!("endpoint/{}", seen.dial.id), "each endpoint of a service answers")
            .from(&seen.vantage)
            .to(seen.destination())
            .expects("answered by a probe")
            .observes(seen, |seen| seen.outcome().to_string(), |seen| seen.outcome().is_answered());
        match named {
            Some(pod) => claim.with_evidence(format!("{namespace}/{pod} answered")),
            None if claim.holds() => claim.with_fault("the answer does not say whose it is"),
            None => claim,
        }
    });
    Ok(claims.collect())
}

/// The addresses that Kubernetes lists as ready, sorted.
async fn ready(cluster: &Arc<Cluster>, Service { namespace, name }: &Service) -> Result<Vec<String>, Error> {
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    let slices = cluster.api::<EndpointSlice>(namespace).list(&of_service).await;
    let slices = slices.map_err(cluster.failed(format!("list the endpoints of {namespace}/{name}")))?.items;
    let each = slices.into_iter().flat_map(|slice| slice.endpoints);
    let ready = each.filter(|one| one.conditions.as_ref().and_then(|is| is.ready).unwrap_or(true));
    let mut addresses: Vec<String> = ready.flat_map(|one| one.addresses).collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

crate::trials! {
    each_endpoint_of_each_service_answers,
}
