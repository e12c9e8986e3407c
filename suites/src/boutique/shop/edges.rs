//! The application's calls, with evidence from the proxies at both ends and from the gateway between them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use meshproof::cluster::{Error, Result};
use meshproof::identity::Trust;
use meshproof::istio::{self, Endpoint, Ends};
use meshproof::record::HostPort;
use meshproof::report::{self, Claim};
use meshproof::scope::claims::{self, Peers};
use meshproof::{Testbed, Workload};

use super::Shop;
use super::calls::{self, Call};
use super::logs::{LOGGED, Pods};

/// One call of the application.
#[derive(Debug)]
pub(crate) struct Edge {
    call: Call,
    /// The pod that should answer.
    callee: Workload,
    /// The log lines of both proxies. `None` if an end logged nothing in time.
    ends: Option<Ends>,
    /// The gateway that a call between clusters must pass.
    gateway: Option<Gateway>,
}

/// An east-west gateway, and its connection counts.
#[derive(Debug, Clone)]
struct Gateway {
    pod: Workload,
    /// Address of the gateway for the other clusters.
    address: Option<HostPort>,
    /// The endpoints that the gateway's proxy knows.
    endpoints: Vec<Endpoint>,
}

/// Makes every call of the application once, and gathers the evidence. Both proxies must have the evidence log enabled:
/// see [`log_both_ends`](super::log_both_ends).
///
/// # Errors
/// A workload is missing, or a log cannot be read. The outcome of a call is never an error.
pub(crate) async fn edges(shop: Shop<'_>) -> Result<Vec<Edge>> {
    logged_within(shop, LOGGED).await
}

/// Like [`edges`], with a time limit for the logs.
pub(super) async fn logged_within(shop: Shop<'_>, bound: Duration) -> Result<Vec<Edge>> {
    let pods = Pods::find(shop).await?;
    let started = Instant::now();
    let calls = calls::needed(shop).await?;
    let logs = pods.logs(started, bound, |logs| {
        let unlogged = calls.iter().filter(|call| call.is_answered() && logs.ends_of(call).is_none());
        unlogged.map(ToString::to_string).collect()
    });
    let logs = logs.await?;
    let gateways = gateways(shop.testbed).await?;
    let edges = calls.into_iter().map(|call| {
        let callee = pods.of(call.callee())?.clone();
        let crosses = call.pod.cluster.name() != callee.cluster.name();
        let gateway = crosses.then(|| gateways.get(callee.cluster.name()).cloned()).flatten();
        Ok(Edge { ends: logs.ends_of(&call), callee, gateway, call })
    });
    edges.collect()
}

/// The east-west gateway of each cluster.
async fn gateways(testbed: &Testbed) -> Result<BTreeMap<String, Gateway>> {
    let reading = testbed.clusters.iter().map(async |cluster| {
        let pod = istio::eastwest_gateway(cluster).await?;
        let endpoints = istio::endpoints(&pod).await?;
        let address = cluster.record().eastwest_address().ok().cloned();
        Ok::<_, Error>((cluster.name().to_owned(), Gateway { pod, address, endpoints }))
    });
    Ok(try_join_all(reading).await?.into_iter().collect())
}

impl Edge {
    /// Name of the call, if it was answered but a proxy logged nothing about it.
    pub(super) fn unlogged(&self) -> Option<String> {
        (self.call.is_answered() && self.ends.is_none()).then(|| self.call.to_string())
    }

    /// Claims that the callee answered from its cluster, that each end authenticated the other, and that the call took
    /// the right route: through the east-west gateway between clusters, directly within a cluster.
    pub(crate) fn claim(&self, trust: &Trust) -> Claim {
        let Self { call, callee, .. } = self;
        let (source, exchange) = (&call.pod, &call.exchange);
        let (from, to) = (source.spiffe_id(trust.domain()), callee.spiffe_id(trust.domain()));
        let way = self.gateway.as_ref().map_or("directly", |_| "through the east-west gateway");
        let by = exchange.report.served_by.as_deref().filter(|_| call.is_answered());
        let answered_by = by.and_then(|by| by.split_once('/')).map(|(cluster, _)| cluster.to_owned());
        let requirement =
            "every service of the application reaches those that it calls, and each end authenticates the other";
        let observed = |exchange: &meshproof::probe::Exchange| match by {
            Some(by) => format!("{} by {by}", exchange.outcome()),
            None => exchange.outcome().to_string(),
        };
        let claim = Claim::about(format!("edge/{}/{}", call.caller, call.callee()), requirement)
            .from(source)
            .to(exchange.destination())
            .expects(format!("answered by {callee}, {way}; {from} and {to} authenticated each other"))
            .observes(exchange, observed, |exchange| exchange.outcome().is_answered())
            .with_edge(report::Edge { caller: call.caller.clone(), callee: call.callee().to_owned(), answered_by })
            .with_subject(claims::must_be_answered(exchange, callee))
            .with_commands(self.commands());
        if !call.is_answered() {
            return claim;
        }
        let Some(ends) = &self.ends else {
            return claim.with_fault("the proxies' logs do not both show it, so who was authenticated is unknown");
        };
        let seen = claims::authenticated(ends, Peers { source, destination: callee }, trust);
        let judged = seen.faults.into_iter().map(Err).chain(seen.evidence.into_iter().map(Ok));
        let judged = judged.chain(self.fault_of_callee().map(Err)).chain(self.way(ends));
        judged.fold(claim, |claim, judged| match judged {
            Ok(line) => claim.with_evidence(line),
            Err(fault) => claim.with_fault(fault),
        })
    }

    /// The fault that a workload other than the callee answered. Redis does not speak HTTP and does not identify
    /// itself, but the certificate at its end does.
    fn fault_of_callee(&self) -> Option<String> {
        let (exchange, callee) = (&self.call.exchange, &self.callee);
        let by = exchange.report.served_by.as_deref();
        let right = match by {
            Some(by) => by.split_once('/') == Some((callee.cluster.name(), &callee.pod)),
            None => !exchange.dial.protocol.is_http(),
        };
        (!right).then(|| format!("{} answered instead of {callee}", by.unwrap_or("one who does not say who it is")))
    }

    /// The route of the call, according to each proxy and gateway on it.
    fn way(&self, ends: &Ends) -> Vec<Result<String, String>> {
        let to = ends.source.get("upstream_host").unwrap_or("nowhere");
        let from = ends.destination.get("downstream_remote_address").unwrap_or("nowhere");
        let from_pod = |pod: &Workload| from.rsplit_once(':').is_some_and(|(host, _)| host == pod.address);
        let judged = |holds: bool, line: String| if holds { Ok(line) } else { Err(line) };
        let Some(gateway) = &self.gateway else {
            let straight = to.rsplit_once(':').is_some_and(|(host, _)| host == self.callee.address);
            return vec![
                judged(straight, format!("the source's proxy connected to {to}")),
                judged(from_pod(&self.call.pod), format!("the destination's proxy was connected to from {from}")),
            ];
        };
        let entered = gateway.address.as_ref().is_some_and(|address| address.to_string() == to);
        let left = from_pod(&gateway.pod);
        let carried = carried(&gateway.endpoints, &self.callee.address, self.call.callee());
        let name = format!("{} in {}", gateway.pod.pod, gateway.pod.cluster.name());
        vec![
            judged(
                entered,
                format!(
                    "the source's proxy connected to {to}; the east-west gateway is at {}",
                    gateway.address.as_ref().map_or("no declared address".into(), HostPort::to_string)
                ),
            ),
            judged(
                left,
                format!(
                    "the destination's proxy was connected to from {from}; the gateway's pod is at {}",
                    gateway.pod.address
                ),
            ),
            judged(
                carried > 0,
                format!("the gateway {name} has made {carried} connections to {} for it", self.callee.address),
            ),
        ]
    }

    fn commands(&self) -> Vec<String> {
        let Workload { cluster, namespace, pod, .. } = &self.call.pod;
        let endpoints = format!("proxy-config endpoints {pod}.{namespace} | grep {}", self.call.callee());
        vec![
            self.call.command(),
            format!("{} {endpoints}", cluster.command("istioctl")),
            format!("{} -n {namespace} get pods,endpointslices", self.callee.cluster.command("kubectl")),
        ]
    }
}

/// Connections that a gateway has made to `address` for `service`, by the names of its upstream clusters:
/// `outbound_.9555_._.adservice.pinnacle.svc.cluster.local`.
fn carried(endpoints: &[Endpoint], address: &str, service: &str) -> u64 {
    let is_of_service = |endpoint: &&Endpoint| {
        let name = endpoint.upstream_cluster.split_once("_._.").map(|(_, name)| name);
        name.is_some_and(|name| name.starts_with(&format!("{service}.")))
    };
    let carrying = endpoints.iter().filter(|endpoint| endpoint.address == address).filter(is_of_service);
    carrying.map(|endpoint| endpoint.connections).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_carried_is_counted_by_service_and_endpoint() {
        let endpoint = |upstream_cluster: &str, address: &str, connections| Endpoint {
            upstream_cluster: upstream_cluster.into(),
            address: address.into(),
            port: 9555,
            healthy: true,
            connections,
        };
        let endpoints = [
            endpoint("outbound_.9555_._.adservice.pinnacle.svc.cluster.local", "192.168.0.10", 2),
            endpoint("outbound_.9555_._.adservice.acme.demo", "192.168.0.10", 1),
            endpoint("outbound_.7000_._.currencyservice.pinnacle.svc.cluster.local", "192.168.0.10", 5),
            endpoint("xds-grpc", "127.0.0.1", 1),
        ];
        assert_eq!(carried(&endpoints, "192.168.0.10", "adservice"), 3);
        assert_eq!(carried(&endpoints, "192.168.0.11", "adservice"), 0);
    }
}
