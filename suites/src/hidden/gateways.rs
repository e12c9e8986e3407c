//! Each pod of each gateway, by itself. A Service in front of them sends most calls past one that is dead.

use std::sync::Arc;

use meshproof::istio::{gateway_pods, issue, sni_of};
use meshproof::probe::{self, Dial, Protocol, Vantage, dial, handshake, service_host};
use meshproof::record::{HostPort, Requirement};
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::{Cluster, Error, Scope, Verdict};

use super::SUITE;

/// Red if one of several pods of a gateway is ready and does not forward: see
/// [`broken::a_gateway_that_is_listed_and_dead_is_found_every_time`](super::broken).
async fn each_pod_of_each_east_west_gateway_forwards() -> Verdict {
    Scope::run(SUITE, "each_pod_of_each_east_west_gateway_forwards", async |scope| {
        scope.requires([Requirement::Probes, Requirement::EastWest])?;
        let with_gateway = scope.testbed.clusters.iter().filter(|one| one.record().gateways.eastwest.is_some());
        let judge = async |cluster: &Arc<Cluster>| {
            eastwest(scope, cluster).await?.into_iter().for_each(|claim| scope.claim(claim));
            Ok(())
        };
        scope.for_each(with_gateway, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

/// Seen red by: a pod with the gateway's labels that is ready and listens to nothing ("connection refused").
async fn each_pod_of_each_ingress_gateway_forwards() -> Verdict {
    Scope::run(SUITE, "each_pod_of_each_ingress_gateway_forwards", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Ingress])?;
        let with_gateway = scope.testbed.clusters.iter().filter(|one| one.record().gateways.ingress.is_some());
        let judge = async |cluster: &Arc<Cluster>| {
            let (naked, meshed) = (probe::naked(cluster).await?, probe::meshed(cluster).await?);
            let gateway = cluster.record().ingress()?;
            let host = probe::ingress_host(cluster)?;
            let dials = gateway_pods(cluster, gateway).await?.into_iter().enumerate().map(|(number, pod)| {
                let through = dial(id("ingress", cluster, number), Protocol::Http1, pod.address, gateway.port);
                Dial { authority: Some(host.to_owned()), ..through }
            });
            for seen in Vantage::Naked(naked).dial(dials.collect()).await? {
                let owed = "each pod of an ingress gateway forwards";
                scope.claim(claims::answered("gateway", owed, &seen, &meshed));
            }
            Ok(())
        };
        scope.for_each(with_gateway, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

/// The claims about the pods of an east-west gateway, each dialled from the gateway's own cluster.
pub(super) async fn eastwest(scope: &Scope, cluster: &Arc<Cluster>) -> Result<Vec<Claim>, Error> {
    let (naked, meshed) = (probe::naked(cluster).await?, probe::meshed(cluster).await?);
    let certificate = issue(&scope.testbed, &probe::caller(cluster).await?).await?;
    let gateway = cluster.record().eastwest()?;
    let name = sni_of(probe::port(cluster, Protocol::Http1)?, service_host(cluster)?);
    let dials = gateway_pods(cluster, gateway).await?.into_iter().enumerate().map(|(number, pod)| {
        let address = HostPort::new(&pod.address, gateway.port);
        handshake(id("east-west", cluster, number), &address, Some(&name), Some(&certificate), Protocol::Http1)
    });
    let seen = Vantage::Naked(naked).dial(dials.collect()).await?;
    let claims = seen.iter().map(|seen| {
        let claim = claims::answered("gateway", "each pod of an east-west gateway forwards", seen, &meshed);
        match seen.outcome().is_answered() {
            true => claims::with_server_of_control(claim, seen, &meshed, &scope.testbed.trust),
            false => claim,
        }
    });
    Ok(claims.collect())
}

fn id(kind: &str, cluster: &Cluster, number: usize) -> String {
    format!("{kind}/{}/pod-{}", cluster.name(), number + 1)
}

crate::trials! {
    each_pod_of_each_east_west_gateway_forwards,
    each_pod_of_each_ingress_gateway_forwards,
}
