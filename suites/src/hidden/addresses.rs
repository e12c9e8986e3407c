//! Each address to which a proxy sends calls for another network, by itself.

use std::collections::BTreeSet;

use meshproof::cluster::Pair;
use meshproof::istio::{Endpoint, await_service, endpoints, issue, outbound_name, proxies, sni_of};
use meshproof::probe::{self, Protocol, Vantage, handshake, service_host};
use meshproof::record::{self, HostPort, Requirement, Write};
use meshproof::report::{Claim, Judgement};
use meshproof::scope::claims;
use meshproof::suites::Newcomer;
use meshproof::{Error, Scope, Verdict, Workload};

use super::SUITE;

/// Label of a pod or a namespace with its network.
const NETWORK: &str = "topology.istio.io/network";

/// Red if one of several addresses of a gateway leads nowhere. A caller's proxy picks one of them by chance.
async fn each_address_of_each_gateway_leads_to_the_service() -> Verdict {
    Scope::run(SUITE, "each_address_of_each_gateway_leads_to_the_service", async |scope| {
        let pairs = between_networks(scope)?;
        let judge = async |pair: Pair| {
            let (caller, meshed) = (probe::caller(&pair.from).await?, probe::meshed(&pair.to).await?);
            let certificate = issue(&scope.testbed, &caller).await?;
            let (host, port) = (service_host(&pair.to)?, probe::port(&pair.to, Protocol::Http1)?);
            let known = known(&caller, port, host).await?;
            if known.is_empty() {
                return Err(Error::suite(format!("the proxy of {caller} knows no address of {host}")));
            }
            let name = sni_of(port, host);
            let dials = known.iter().enumerate().map(|(number, address)| {
                let id = format!("{pair}/address-{}", number + 1);
                handshake(id, address, Some(&name), Some(&certificate), Protocol::Http1)
            });
            let naked = Vantage::Naked(probe::naked(&pair.from).await?);
            for seen in naked.dial(dials.collect()).await? {
                let owed = "each address that a proxy was told of leads to the service";
                scope.claim(claims::answered("address", owed, &seen, &meshed));
            }
            Ok(())
        };
        scope.for_each(pairs, Pair::to_string, judge).await;
        Ok(())
    })
    .await
}

/// Every caller, and not only one: pods can differ in what they were told.
///
/// Red if two clusters have the same network label (istio/istio#39712): callers are told of the pods themselves, which
/// they reach only by chance. [`a_pod_on_the_wrong_network_is_found`] is the control.
async fn calls_to_other_networks_go_through_gateways() -> Verdict {
    Scope::run(SUITE, "calls_to_other_networks_go_through_gateways", async |scope| {
        let pairs = between_networks(scope)?;
        let judge = async |pair: Pair| {
            let (host, port) = (service_host(&pair.to)?, probe::port(&pair.to, Protocol::Http1)?);
            let pods: BTreeSet<String> =
                proxies(&pair.to).await?.into_iter().map(|workload| workload.address).collect();
            let probes = [probe::caller(&pair.from).await?, probe::meshed(&pair.from).await?];
            for (role, caller) in ["caller", "meshed"].into_iter().zip(&probes) {
                scope.claim(by_gateway(
                    &format!("{pair}/{role}"),
                    caller,
                    host,
                    &known(caller, port, host).await?,
                    &pods,
                ));
            }
            Ok(())
        };
        scope.for_each(pairs, Pair::to_string, judge).await;
        Ok(())
    })
    .await
}

/// Control: a pod that says of itself that it is on its callers' network. The callers are told of its own address.
///
/// Red if what proxies know of a service is not looked at.
async fn a_pod_on_the_wrong_network_is_found() -> Verdict {
    Scope::run(SUITE, "a_pod_on_the_wrong_network_is_found", async |scope| {
        scope.requires([Requirement::Write(Write::Namespaces)])?;
        let lacking = || record::Error::not_declared("clusters of two networks");
        let Pair { from, to } = between_networks(scope)?.into_iter().next().ok_or_else(lacking)?;
        let network = from.record().network.clone();
        let created = Newcomer::create_with(scope, &to, "wrong-network", |copy| {
            copy.deployment["spec"]["template"]["metadata"]["labels"][NETWORK] = network.into();
        });
        let Newcomer { destination, host, .. } = created.await?;
        let (caller, port) = (probe::caller(&from).await?, probe::port(&to, Protocol::Http1)?);
        await_service(&caller, &host, port).await?;
        let pods = BTreeSet::from([destination.address.clone()]);
        let claim = by_gateway("wrong-network", &caller, &host, &known(&caller, port, &host).await?, &pods);
        scope.claim(
            Claim::about("found/wrong-network", "a pod that is called past the gateway of its network is found")
                .from(&caller)
                .to(&destination)
                .expects(format!("red, because of {}", destination.address))
                .observes(
                    &claim,
                    |claim| format!("{:?}: {}", claim.verdict(), claim.observed()),
                    |claim| claim.verdict() == Judgement::Fail && claim.observed().contains(&destination.address),
                ),
        );
        Ok(())
    })
    .await
}

fn by_gateway(id: &str, caller: &Workload, host: &str, known: &[HostPort], pods: &BTreeSet<String>) -> Claim {
    let words = |known: &[HostPort]| {
        let each = known.iter().map(|address| match pods.contains(&address.host) {
            true => format!("{address}, a pod of the other network"),
            false => address.to_string(),
        });
        each.collect::<Vec<_>>().join("; ")
    };
    Claim::about(format!("network/{id}"), "calls to another network go through its gateway")
        .from(caller)
        .to(host)
        .expects("addresses of gateways, and none of a pod")
        .observes(
            known,
            |known| if known.is_empty() { "no address".into() } else { words(known) },
            |known| are_gateways(known, pods),
        )
}

/// Whether there are addresses, and none is a pod's.
fn are_gateways(known: &[HostPort], pods: &BTreeSet<String>) -> bool {
    !known.is_empty() && known.iter().all(|address| !pods.contains(&address.host))
}

fn between_networks(scope: &Scope) -> Result<Vec<Pair>, Error> {
    scope.requires([Requirement::Probes, Requirement::EastWest])?;
    Ok(scope.testbed.pairs().into_iter().filter(Pair::crosses_networks).collect())
}

/// The addresses of a service's port that a proxy knows.
async fn known(caller: &Workload, port: u16, host: &str) -> Result<Vec<HostPort>, Error> {
    let name = outbound_name(port, host);
    let known = endpoints(caller).await?;
    let of_service = known.into_iter().filter(|one| one.upstream_cluster == name);
    let mut addresses: Vec<HostPort> =
        of_service.map(|Endpoint { address, port, .. }| HostPort::new(address, port)).collect();
    addresses.sort_by_key(ToString::to_string);
    addresses.dedup();
    Ok(addresses)
}

crate::trials! {
    each_address_of_each_gateway_leads_to_the_service,
    calls_to_other_networks_go_through_gateways,
    a_pod_on_the_wrong_network_is_found,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_among_gateways_and_no_address_at_all_are_found() {
        let are = |known: &[&str], pods: &[&str]| {
            let known: Vec<HostPort> = known.iter().map(|host| HostPort::new(*host, 15443)).collect();
            are_gateways(&known, &pods.iter().map(|&pod| pod.to_owned()).collect())
        };
        assert!(are(&["10.0.0.1"], &["192.168.0.1"]));
        assert!(!are(&["10.0.0.1", "192.168.0.1"], &["192.168.0.1"]));
        assert!(!are(&[], &[]));
    }
}
