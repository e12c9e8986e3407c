//! The first attempt of a call, and not only one that a proxy has tried again. By default, Istio tries a failed request
//! twice more, so that one of two dead paths is seen by one call in eight.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use meshproof::cluster::Pair;
use meshproof::istio::await_service_of;
use meshproof::probe::{self, Dial, Exchange, Protocol, Vantage, dial, service_host};
use meshproof::record::{Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::deploy_probe;
use meshproof::{Error, Scope, Seen, Verdict, Workload, eventually};
use serde_json::{Value, json};

use super::SUITE;

/// Calls on each way, each on a connection of its own. Of two paths of which one is dead, all calls take the living one
/// with a probability of one in a million.
const CALLS: u64 = 20;

/// Pause between calls, in milliseconds.
const PAUSE_MS: u64 = 50;

/// Longest wait for a proxy to have the routes.
const ROUTED: Duration = Duration::from_secs(20);

/// Red if one of several pods, gateways or addresses on the way is dead: see
/// [`broken::a_gateway_that_is_listed_and_dead_is_found_every_time`](super::broken).
async fn the_first_attempt_of_each_call_is_answered() -> Verdict {
    Scope::run(SUITE, "the_first_attempt_of_each_call_is_answered", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let callers = Callers::create(scope).await?;
        let judge = async |pair: Pair| {
            callers.judge(&pair).await?.into_iter().for_each(|claim| scope.claim(claim));
            Ok(())
        };
        scope.for_each(scope.testbed.pairs(), Pair::to_string, judge).await;
        Ok(())
    })
    .await
}

/// A caller in each cluster whose proxy tries nothing twice.
pub(super) struct Callers(BTreeMap<String, Workload>);

impl Callers {
    pub(super) async fn create(scope: &Scope) -> Result<Self, Error> {
        let creating = scope.testbed.clusters.iter().map(async |cluster| {
            let namespace = scope.injected_namespace(cluster, &format!("first-from-{}", cluster.name())).await?;
            for to in &scope.testbed.clusters {
                for mut object in once(service_host(to)?, to.name(), &namespace) {
                    scope.apply(cluster, &mut object).await?;
                }
            }
            Ok::<_, Error>((cluster.name().to_owned(), deploy_probe(scope, cluster, &namespace).await?))
        });
        Ok(Self(try_join_all(creating).await?.into_iter().collect()))
    }

    /// The claims about the calls of a pair of clusters.
    pub(super) async fn judge(&self, pair: &Pair) -> Result<Vec<Claim>, Error> {
        let source = &self.0[pair.from.name()];
        let (destination, host) = (probe::meshed(&pair.to).await?, service_host(&pair.to)?);
        let mut dials = Vec::new();
        for protocol in [Protocol::Http1, Protocol::Tcp] {
            let port = probe::port(&pair.to, protocol)?;
            await_service_of(source, &destination, host, port).await?;
            dials.extend((0..CALLS).map(|number| {
                let call = dial(format!("{protocol}-{number}/{pair}"), protocol, host, port);
                Dial { not_before_ms: Some(number * PAUSE_MS), ..call }
            }));
        }
        untried(source, host).await?;
        let seen = Vantage::Meshed(source.clone()).dial(dials).await?;
        let of = |protocol: Protocol| {
            let seen: Vec<&Exchange> = seen.iter().filter(|seen| seen.dial.protocol == protocol).collect();
            claim(&format!("{protocol}/{pair}"), source, &destination, &seen)
        };
        Ok([Protocol::Http1, Protocol::Tcp].map(of).into())
    }
}

/// For the callers of one namespace: no request to this service is tried again, and each has a connection of its own.
fn once(host: &str, name: &str, namespace: &str) -> [Value; 2] {
    let metadata = json!({ "name": format!("once-{name}"), "namespace": namespace });
    [
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata,
            "spec": {
                "hosts": [host], "exportTo": ["."],
                "http": [{ "route": [{ "destination": { "host": host } }], "retries": { "attempts": 0 } }],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": metadata,
            "spec": {
                "host": host, "exportTo": ["."],
                "trafficPolicy": { "connectionPool": { "http": { "maxRequestsPerConnection": 1 } } },
            },
        }),
    ]
}

/// Waits until the proxy of `source` tries no request to this service again. Without that, a claim about first attempts
/// would prove nothing.
async fn untried(source: &Workload, host: &str) -> Result<(), Error> {
    let want = format!("the proxy of {source} to try no call to {host} again");
    let untried = eventually(want, ROUTED, async || {
        let dump = source.proxy_admin("config_dump?resource=dynamic_route_configs").await?;
        let dump: Value = serde_json::from_str(&dump).map_err(Error::suite)?;
        Ok::<_, Error>(match retried(&dump, host) {
            Some(false) => Seen::Yes(()),
            Some(true) => Seen::NotYet("it has a retry policy".into()),
            None => Seen::NotYet("it has no route".into()),
        })
    });
    Ok(untried.await?)
}

/// Whether a route to this service tries again. `None` if there is no route.
fn retried(dump: &Value, host: &str) -> Option<bool> {
    let configs = dump["configs"].as_array().into_iter().flatten();
    let hosts = configs.filter_map(|config| config.pointer("/route_config/virtual_hosts")?.as_array()).flatten();
    let is = |virtual_host: &&Value| {
        let domains = virtual_host["domains"].as_array().into_iter().flatten();
        domains.filter_map(Value::as_str).any(|domain| domain == host)
    };
    let routes = hosts.filter(is).flat_map(|virtual_host| {
        let own = virtual_host.get("retry_policy").is_some();
        let routes = virtual_host["routes"].as_array().into_iter().flatten();
        routes.map(move |route| own || tries(route.pointer("/route/retry_policy")))
    });
    routes.reduce(|one, other| one || other)
}

/// Whether a policy of retries makes any. Envoy's default is one.
fn tries(policy: Option<&Value>) -> bool {
    policy.is_some_and(|policy| policy["num_retries"] != 0)
}

fn claim(id: &str, source: &Workload, destination: &Workload, seen: &[&Exchange]) -> Claim {
    let is_answered = |seen: &Exchange| {
        let by = seen.report.who.as_ref();
        let right = by.is_some_and(|who| (&*who.cluster, &who.pod) == (destination.cluster.name(), &destination.pod));
        seen.outcome().is_answered() && right
    };
    let lost: Vec<&&Exchange> = seen.iter().filter(|seen| !is_answered(seen)).collect();
    Claim::about(format!("first/{id}"), "each call is answered at the first attempt, on a connection of its own")
        .from(source)
        .to(destination)
        .expects(format!("{CALLS} of {CALLS} calls answered"))
        .observes(
            &lost,
            |lost| match lost.first() {
                None => format!("{CALLS} of {CALLS}"),
                Some(first) => {
                    format!("{} of {CALLS}; the first that was lost: {}", seen.len() - lost.len(), first.outcome())
                }
            },
            |lost| lost.is_empty() && seen.len() as u64 == CALLS,
        )
}

crate::trials! {
    the_first_attempt_of_each_call_is_answered,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_tries_again_by_its_own_policy_or_by_its_hosts() {
        let dump = |host: Value| json!({ "configs": [{ "route_config": { "virtual_hosts": [host] } }, {}] });
        let host = |route: Value| json!({ "domains": ["a.b", "a"], "routes": [{ "route": route }] });
        assert_eq!(retried(&dump(host(json!({}))), "a.b"), Some(false));
        assert_eq!(retried(&dump(host(json!({ "retry_policy": { "num_retries": 2 } }))), "a.b"), Some(true));
        assert_eq!(retried(&dump(host(json!({ "retry_policy": { "num_retries": 0 } }))), "a.b"), Some(false));
        let mut of_host = host(json!({}));
        of_host["retry_policy"] = json!({});
        assert_eq!(retried(&dump(of_host), "a.b"), Some(true));
        assert_eq!(retried(&dump(host(json!({}))), "other"), None);
    }
}
