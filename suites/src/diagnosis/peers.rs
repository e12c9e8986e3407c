//! Faults between clusters: remote secrets and gateways.

use std::time::Duration;

use meshproof::cluster::Pair;
use meshproof::istio::endpoints;
use meshproof::kube::ResourceExt;
use meshproof::kube::api::DynamicObject;
use meshproof::probe::{self, Protocol, Vantage, dial};
use meshproof::record::{Requirement, Write};
use meshproof::report::{Claim, Layer};
use meshproof::scope::change::Replicas;
use meshproof::scope::{CopiedProbe, claims, copied_probe, deploy_probe};
use meshproof::suites::{Newcomer, RemoteSecret, SecretFault};
use meshproof::{Cluster, Error, Scope, Seen, Verdict, eventually};

use super::{Blame, Broken, SUITE, judge};

/// Longest wait for a proxy to forget a cluster.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// The first pair of clusters of different networks.
fn pair(scope: &Scope) -> Result<Pair, Error> {
    scope.requires([Requirement::Probes, Requirement::EastWest])?;
    let lacking = || meshproof::record::Error::not_declared("clusters of two networks");
    Ok(scope.testbed.pairs().into_iter().find(Pair::crosses_networks).ok_or_else(lacking)?)
}

/// The claim that the standing probe of another cluster is answered.
async fn across(pair: &Pair) -> Result<Claim, Error> {
    let Pair { from, to } = pair;
    let (source, destination) = (probe::caller(from).await?, probe::meshed(to).await?);
    let call = dial("call", Protocol::Http1, probe::service_host(to)?, probe::port(to, Protocol::Http1)?);
    let seen = Vantage::Meshed(source).dial(vec![call]).await?;
    Ok(claims::answered("broken", "a meshed caller is answered from another cluster", &seen[0], &destination))
}

/// Red if a Service that no gateway exposes is taken for another fault.
async fn a_fault_of_a_gateway_that_does_not_expose() -> Verdict {
    Scope::run(SUITE, "a_fault_of_a_gateway_that_does_not_expose", async |scope| {
        let Pair { from, to } = pair(scope)?;
        scope.requires([Requirement::Write(Write::Namespaces)])?;
        let namespace = scope.injected_namespace(&to, "hidden").await?;
        scope.injected_namespace(&from, "hidden").await?;
        let CopiedProbe { mut service, .. } = copied_probe(&to, &namespace).await?;
        scope.apply(&from, &mut service).await?;
        let destination = deploy_probe(scope, &to, &namespace).await?;
        let host = format!("probe.{namespace}.svc.{}", to.record().domain);
        let created = Newcomer { pods: vec![destination.clone()], destination, host, gateways: Vec::new() };
        let seen = created.call(&probe::caller(&from).await?, "call").await?;
        let claim = claims::answered("broken", "a meshed caller is answered", &seen, &created.destination);
        let exposing = first_gateway(&to).await?;
        let blame = Blame { layer: Layer::Sni, cluster: to.name().into(), object: exposing };
        judge(scope, "gateway-not-exposing", &Broken { claim, blame }).await;
        Ok(())
    })
    .await
}

/// The first `Gateway` object, by name, that exposes Services of a cluster to other networks. It would have to expose more.
async fn first_gateway(cluster: &Cluster) -> Result<String, Error> {
    let listed = cluster.list("networking.istio.io", "Gateway").await?;
    let passing = listed.iter().find(|one| one.data.to_string().contains("AUTO_PASSTHROUGH"));
    let name = |one: &DynamicObject| format!("Gateway {}/{}", one.namespace().unwrap_or_default(), one.name_any());
    Ok(passing.map(name).unwrap_or_default())
}

/// Red if a gateway without pods is taken for another fault.
async fn a_fault_of_a_gateway_that_is_down() -> Verdict {
    Scope::alone(SUITE, "a_fault_of_a_gateway_that_is_down", async |scope| {
        let pair = pair(scope)?;
        let gateway = pair.to.record().eastwest()?;
        let down = Replicas::new(&pair.to, &gateway.namespace, &gateway.deployment, 0).await?;
        let down = scope.inject(down).await?;
        let claim = across(&pair).await?;
        let blame = Blame { layer: Layer::Gateway, cluster: pair.to.name().into(), object: gateway.object() };
        judge(scope, "gateway-down", &Broken { claim, blame }).await;
        scope.revert(down).await
    })
    .await
}

/// Red if a missing remote secret is taken for another fault.
async fn a_fault_of_a_remote_secret_that_is_missing() -> Verdict {
    Scope::alone(SUITE, "a_fault_of_a_remote_secret_that_is_missing", async |scope| {
        let pair = pair(scope)?;
        let secret = RemoteSecret::find(&pair, SecretFault::Missing).await?;
        let blame = Blame { layer: Layer::RemoteSecret, cluster: pair.from.name().into(), object: secret.object() };
        let missing = scope.inject(secret).await?;
        forgotten(&pair).await?;
        judge(scope, "remote-secret-missing", &Broken { claim: across(&pair).await?, blame }).await;
        scope.revert(missing).await
    })
    .await
}

/// Waits until the caller's proxy knows no endpoint of the other cluster.
async fn forgotten(pair: &Pair) -> Result<(), Error> {
    let (source, host) = (probe::caller(&pair.from).await?, probe::service_host(&pair.to)?);
    let want = format!("the proxy of {source} to forget {host}");
    let forgotten = eventually(want, FORGOTTEN, async || {
        let known = endpoints(&source).await?;
        let left = known.iter().filter(|one| one.upstream_cluster.ends_with(host)).count();
        Ok::<_, Error>(if left == 0 { Seen::Yes(()) } else { Seen::NotYet(format!("{left} endpoints")) })
    });
    Ok(forgotten.await?)
}

/// Old endpoints can outlive a refused token, so the service is created afterwards.
///
/// Red if: the fault is taken for another; the old endpoints are what is called; the new token is one that the other
/// cluster takes (tried: "the break has no effect").
async fn a_fault_of_a_remote_secret_whose_token_is_refused() -> Verdict {
    Scope::alone(SUITE, "a_fault_of_a_remote_secret_whose_token_is_refused", async |scope| {
        let pair = pair(scope)?;
        scope.requires([Requirement::Write(Write::Namespaces)])?;
        let secret = RemoteSecret::find(&pair, SecretFault::Refused).await?;
        let blame = Blame { layer: Layer::RemoteSecret, cluster: pair.from.name().into(), object: secret.object() };
        let refused = scope.inject(secret).await?;
        let created = Newcomer::create(scope, &pair.to, "created").await?;
        let seen = created.call(&probe::caller(&pair.from).await?, "call").await?;
        let claim = claims::answered("broken", "a meshed caller is answered", &seen, &created.destination);
        judge(scope, "remote-secret-refused", &Broken { claim, blame }).await;
        scope.revert(refused).await
    })
    .await
}

crate::trials! {
    a_fault_of_a_gateway_that_does_not_expose,
    a_fault_of_a_gateway_that_is_down,
    a_fault_of_a_remote_secret_that_is_missing,
    a_fault_of_a_remote_secret_whose_token_is_refused,
}
