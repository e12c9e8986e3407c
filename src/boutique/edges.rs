//! The application's calls, each with what the proxies at both ends and the gateway between them say of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::try_join_all;

use super::reach::{self, Call, Reach, cluster_of};
use super::{NAMESPACE, PLACES};
use crate::cluster::Testbed;
use crate::cluster::Workload;
use crate::cluster::{Error, Result};
use crate::istio::{self, AccessEntry, Ends, logged, read_until};
use crate::record::HostPort;
use crate::report::{self, Claim};
use crate::scope::claims;

/// One call of the application.
#[derive(Debug)]
pub struct Edge {
    call: Call,
    /// The pod that should have answered.
    callee: Workload,
    /// What both proxies logged; none where an end logged nothing in time.
    ends: Option<Ends>,
    /// The gateway that it must have passed, where its ends are in two clusters.
    gateway: Option<Gateway>,
}

/// An east-west gateway, and what it says of its connections.
#[derive(Debug, Clone)]
struct Gateway {
    pod: Workload,
    /// Where the other clusters reach it.
    address: Option<HostPort>,
    /// Its connections to each endpoint: Envoy's `/clusters`.
    clusters: String,
}

/// Has every caller of the application call each of its callees, once, and gathers the evidence. Both proxies must have
/// the evidence log on: see [`log_both_ends`](super::log_both_ends).
///
/// # Errors
/// Where a workload is missing, or a log cannot be read. How a call ends is never an error.
pub async fn edges(testbed: &Testbed) -> Result<Vec<Edge>> {
    logged_within(testbed, LOGGED).await
}

/// As [`edges`], giving the proxies this long to log.
pub(super) async fn logged_within(testbed: &Testbed, bound: Duration) -> Result<Vec<Edge>> {
    let pods = PLACES.map(async |(name, _)| Ok::<_, Error>((name, reach::workload(testbed, name).await?)));
    let pods: BTreeMap<&str, Workload> = try_join_all(pods).await?.into_iter().collect();
    let started = Instant::now();
    let calls = reach::needed(testbed).await?;
    let logs = complete_logs(&pods, &calls, started, bound).await?;
    let gateways = gateways(testbed).await?;
    let edges = calls.into_iter().map(|call| {
        let ends = ends_of(&logs, &call);
        let callee = pods[call.reach.callee.as_str()].clone();
        let crosses = cluster_of(call.name) != cluster_of(&call.reach.callee);
        let gateway = crosses.then(|| gateways.get(callee.cluster.name()).cloned()).flatten();
        Edge { call, callee, ends, gateway }
    });
    Ok(edges.collect())
}

/// Bound on all calls being in the logs: proxies flush them every second.
const LOGGED: Duration = Duration::from_secs(20);

type Logs = BTreeMap<&'static str, Vec<AccessEntry>>;

/// Every workload's proxy log since `started`, as soon as all calls that were answered are in it at both ends.
async fn complete_logs(
    pods: &BTreeMap<&'static str, Workload>,
    calls: &[Call],
    started: Instant,
    bound: Duration,
) -> Result<Logs> {
    let read = async || {
        let reading =
            pods.iter().map(async |(name, pod)| Ok::<_, Error>((*name, logged(pod, started.elapsed()).await?)));
        Ok(try_join_all(reading).await?.into_iter().collect())
    };
    let missing = |logs: &Logs| {
        let missing = calls.iter().filter(|call| call.reach.reached && ends_of(logs, call).is_none());
        missing.map(ToString::to_string).collect()
    };
    read_until("both proxies to log every call", bound, read, missing).await
}

/// Both proxies' account of a call: by its request id or, where it is not HTTP, by the addresses of its connections.
fn ends_of(logs: &Logs, Call { name, reach, .. }: &Call) -> Option<Ends> {
    let (at_source, at_destination) = (logs.get(name)?, logs.get(reach.callee.as_str())?);
    let is_of_request = |entry: &AccessEntry| reach.request_id.as_deref().is_some_and(|id| entry.is_of_request(id));
    let comes_from = |entry: &AccessEntry, address: Option<&str>| {
        address.is_some() && entry.get("downstream_remote_address") == address
    };
    let source = at_source.iter().find(|entry| {
        let known = is_of_request(entry) || comes_from(entry, reach.local_address.as_deref());
        known && entry.is_outbound()
    })?;
    let connection = source.get("upstream_local_address");
    let destination = at_destination.iter().find(|entry| {
        let known = is_of_request(entry) || (reach.request_id.is_none() && comes_from(entry, connection));
        known && !entry.is_outbound()
    })?;
    Some(Ends { source: source.clone(), destination: destination.clone() })
}

async fn gateways(testbed: &Testbed) -> Result<BTreeMap<String, Gateway>> {
    let reading = testbed.clusters.iter().map(async |cluster| {
        let pod = istio::eastwest_gateway(cluster).await?;
        let clusters = pod.proxy_admin("clusters").await?;
        let address = cluster.record().eastwest_address().cloned();
        Ok::<_, Error>((cluster.name().to_owned(), Gateway { pod, address, clusters }))
    });
    Ok(try_join_all(reading).await?.into_iter().collect())
}

impl Edge {
    /// Its name, where it was answered and a proxy logged nothing of it.
    pub(super) fn unlogged(&self) -> Option<String> {
        (self.call.reach.reached && self.ends.is_none()).then(|| self.call.to_string())
    }

    /// Claims that the callee answered from its cluster, that each end authenticated the other, and that the call went
    /// through the east-west gateway where its ends are in two clusters, and straight where they are in one.
    pub fn claim(&self, testbed: &Testbed) -> Claim {
        let Self { call: Call { name, caller, reach }, callee, .. } = self;
        let trust = &testbed.trust;
        let home = callee.cluster.name();
        let (from, to) = (caller.spiffe_id(trust.domain()), callee.spiffe_id(trust.domain()));
        let way = self.gateway.as_ref().map_or("directly", |_| "through the east-west gateway");
        let by = reach.served_by.as_deref();
        let requirement =
            "every service of the application reaches those that it calls, and each end authenticates the other";
        let observed = |reach: &Reach| match (reach.reached, by) {
            (true, Some(by)) => format!("answered by {by}"),
            (true, None) => "answered".into(),
            (false, _) => format!("not answered: {}", reach.answer),
        };
        let answered_by =
            by.filter(|_| reach.reached).and_then(|by| by.split_once('/')).map(|(cluster, _)| cluster.to_owned());
        let mut claim = Claim::about(format!("edge/{name}/{}", reach.callee), requirement)
            .from(caller)
            .to(&reach.address)
            .expects(format!("answered by {home}/{}, {way}; {from} and {to} authenticated each other", callee.pod))
            .observes(reach, observed, |reach| reach.reached)
            .with_evidence(format!("the call ended with {}", reach.answer))
            .with_edge(report::Edge { caller: (*name).into(), callee: reach.callee.clone(), answered_by })
            .with_commands(self.commands());
        if !reach.reached {
            return claim;
        }
        // Redis does not say who it is; the certificate at its end does.
        if by.is_some_and(|by| by != format!("{home}/{}", callee.pod)) || (by.is_none() && reach.request_id.is_some()) {
            claim = claim.with_fault(format!("it should have been answered by {home}/{}", callee.pod));
        }
        let Some(ends) = &self.ends else {
            return claim.with_fault("the proxies' logs do not both show it, so who was authenticated is unknown");
        };
        let seen = claims::authenticated(ends, (caller, callee), trust);
        for line in seen.evidence {
            claim = claim.with_evidence(line);
        }
        for fault in seen.faults {
            claim = claim.with_fault(fault);
        }
        for judged in self.way(ends) {
            claim = match judged {
                Ok(line) => claim.with_evidence(line),
                Err(fault) => claim.with_fault(fault),
            };
        }
        claim
    }

    /// The way the call took, as each of those on it tells.
    fn way(&self, ends: &Ends) -> Vec<Result<String, String>> {
        let to = ends.source.get("upstream_host").unwrap_or("nowhere");
        let from = ends.destination.get("downstream_remote_address").unwrap_or("nowhere");
        let from_pod = |pod: &Workload| from.rsplit_once(':').is_some_and(|(host, _)| host == pod.address);
        let judged = |holds: bool, line: String| if holds { Ok(line) } else { Err(line) };
        let Some(gateway) = &self.gateway else {
            let straight = to.rsplit_once(':').is_some_and(|(host, _)| host == self.callee.address);
            return vec![
                judged(straight, format!("the source's proxy connected to {to}")),
                judged(from_pod(&self.call.caller), format!("the destination's proxy was connected to from {from}")),
            ];
        };
        let entered = gateway.address.as_ref().is_some_and(|address| address.to_string() == to);
        let left = from_pod(&gateway.pod);
        let carried = carried(&gateway.clusters, &self.callee.address, &self.call.reach.callee);
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
        let Call { caller, reach, .. } = &self.call;
        let (kubectl, istioctl) = (caller.cluster.command("kubectl"), caller.cluster.command("istioctl"));
        vec![
            format!("{kubectl} -n {NAMESPACE} exec {} -- /boutique check", caller.pod),
            format!("{istioctl} proxy-config endpoints {}.{NAMESPACE} | grep {}", caller.pod, reach.callee),
            format!("{} -n {NAMESPACE} get pods,endpointslices", self.callee.cluster.command("kubectl")),
        ]
    }
}

/// Connections that a gateway has made to `address` for `service`, in the words of Envoy's `/clusters`:
/// `outbound_.9555_._.adservice.pinnacle.svc.cluster.local::192.168.0.10:9555::cx_total::2`.
fn carried(clusters: &str, address: &str, service: &str) -> u64 {
    let of = |line: &str| {
        let mut fields = line.split("::");
        let (cluster, endpoint) = (fields.next()?, fields.next()?);
        let (kind, count) = (fields.next()?, fields.next()?);
        let host = endpoint.rsplit_once(':')?.0;
        let ours = cluster.split_once("_._.").is_some_and(|(_, name)| name.starts_with(&format!("{service}.")));
        (ours && host == address && kind == "cx_total").then(|| count.trim().parse::<u64>().ok())?
    };
    clusters.lines().filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boutique::Reach;
    use crate::cluster::tests::workload;

    #[test]
    fn what_a_gateway_carried_is_counted_by_service_and_endpoint() {
        let clusters = "outbound_.9555_._.adservice.pinnacle.svc.cluster.local::192.168.0.10:9555::cx_total::2\n\
             outbound_.9555_._.adservice.pinnacle.svc.cluster.local::192.168.0.10:9555::rq_total::7\n\
             outbound_.9555_._.adservice.acme.demo::192.168.0.10:9555::cx_total::1\n\
             outbound_.7000_._.currencyservice.pinnacle.svc.cluster.local::192.168.0.10:7000::cx_total::5\n\
             xds-grpc::127.0.0.1:0::cx_total::1\nnonsense\n";
        assert_eq!(carried(clusters, "192.168.0.10", "adservice"), 3);
        assert_eq!(carried(clusters, "192.168.0.11", "adservice"), 0);
    }

    fn entry(line: serde_json::Value) -> AccessEntry {
        AccessEntry::parse(&line.to_string()).unwrap()
    }

    #[tokio::test]
    async fn a_call_is_found_by_its_request_and_one_without_by_its_connections() {
        let reach: Reach = serde_json::from_value(serde_json::json!({
            "callee": "redis-cart", "address": "redis-cart:6379", "reached": true, "answer": {},
            "served_by": null, "request_id": null, "local_address": "10.0.0.1:1000",
        }))
        .unwrap();
        let mut call = Call { name: "cartservice", caller: workload(), reach };
        let outbound = serde_json::json!({
            "upstream_cluster": "outbound|6379||redis-cart", "downstream_remote_address": "10.0.0.1:1000",
            "upstream_local_address": "10.0.0.1:2000", "request_id": "r",
        });
        let inbound = |from: &str| {
            entry(serde_json::json!({
                "upstream_cluster": "inbound|6379||", "downstream_remote_address": from, "request_id": "r",
            }))
        };
        let logs = |from: &str| {
            Logs::from([("cartservice", vec![entry(outbound.clone())]), ("redis-cart", vec![inbound(from)])])
        };
        assert!(ends_of(&logs("10.0.0.1:2000"), &call).is_some());
        assert!(ends_of(&logs("10.0.0.1:2001"), &call).is_none(), "another connection");
        call.reach.request_id = Some("r".into());
        assert!(ends_of(&logs("10.9.9.9:1"), &call).is_some());
    }
}
