//! Access logs of the application's proxies.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use meshproof::Workload;
use meshproof::cluster::{Error, Result};
use meshproof::istio::{AccessEntry, Ends, logged, read_until};
use meshproof::probe::{Dial, Exchange};

use super::Shop;
use super::calls::Call;

/// Longest wait for all calls to be logged. Proxies flush their logs every second.
pub(super) const LOGGED: Duration = Duration::from_secs(20);

/// The pods of the application, by workload.
#[derive(Debug)]
pub(super) struct Pods(BTreeMap<String, Workload>);

impl Pods {
    /// Finds the pods of all workloads.
    ///
    /// # Errors
    /// A workload is missing.
    pub(super) async fn find(shop: Shop<'_>) -> Result<Self> {
        let finding = shop.workloads().map(async |name| Ok::<_, Error>((name.to_owned(), shop.pod(name).await?)));
        Ok(Self(try_join_all(finding).await?.into_iter().collect()))
    }

    /// The pod of a workload.
    ///
    /// # Errors
    /// The application has no such workload.
    pub(super) fn of(&self, workload: &str) -> Result<&Workload> {
        self.0.get(workload).ok_or_else(|| Error::NoPod {
            cluster: "every cluster".into(),
            namespace: "of the application".into(),
            selector: format!("app={workload}"),
            seen: format!("only {}", self.0.keys().cloned().collect::<Vec<_>>().join(", ")),
        })
    }

    /// Access logs of all proxies since `started`, read until nothing is `missing`, for at most `bound`.
    ///
    /// # Errors
    /// The logs cannot be read.
    pub(super) async fn logs(
        &self,
        started: Instant,
        bound: Duration,
        missing: impl Fn(&Logs) -> Vec<String>,
    ) -> Result<Logs> {
        let read = async || {
            let pods = self.0.iter();
            let reading =
                pods.map(async |(name, pod)| Ok::<_, Error>((name.clone(), logged(pod, started.elapsed()).await?)));
            Ok(Logs(try_join_all(reading).await?.into_iter().collect()))
        };
        read_until("the proxies to log every call", bound, read, missing).await
    }
}

/// Access log of each workload's proxy.
#[derive(Debug, Default)]
pub(super) struct Logs(BTreeMap<String, Vec<AccessEntry>>);

impl Logs {
    /// Log lines of both proxies about an answered call.
    pub(super) fn ends_of(&self, call: &Call) -> Option<Ends> {
        self.ends(&call.caller, &call.exchange)
    }

    /// Matches HTTP by the request's id, and other protocols by the addresses of the connection.
    fn ends(&self, caller: &str, exchange: &Exchange) -> Option<Ends> {
        let (at_source, at_destination) = (self.0.get(caller)?, self.0.get(&exchange.dial.id)?);
        let (is_http, local) = (exchange.dial.protocol.is_http(), exchange.report.local_address.as_deref());
        let is_of = |entry: &AccessEntry, address: Option<&str>| match is_http {
            true => entry.is_of_request(&exchange.dial.nonce),
            false => address.is_some() && entry.get("downstream_remote_address") == address,
        };
        let source = at_source.iter().find(|entry| is_of(entry, local) && entry.is_outbound())?;
        let connection = source.get("upstream_local_address");
        let destination = at_destination.iter().find(|entry| is_of(entry, connection) && !entry.is_outbound())?;
        Some(Ends { source: source.clone(), destination: destination.clone() })
    }

    /// Log line of the callee's proxy about a call that an authorization policy denied.
    pub(super) fn denial_of(&self, call: &Call, trust_domain: &str) -> Option<&AccessEntry> {
        denial(self.0.get(call.callee())?, &call.pod.spiffe_id(trust_domain).to_string(), &call.exchange.dial)
    }
}

/// The line about a dial by this identity that an authorization policy denied. Behind a gateway, addresses do not
/// identify the caller: match by identity and, for HTTP, by the request's id.
fn denial<'a>(lines: &'a [AccessEntry], identity: &str, dial: &Dial) -> Option<&'a AccessEntry> {
    lines.iter().find(|entry| {
        let is_of_request = !dial.protocol.is_http() || entry.is_of_request(&dial.nonce);
        is_of_request && entry.is_denied_by_policy() && entry.get("downstream_peer_uri_san") == Some(identity)
    })
}

#[cfg(test)]
mod tests {
    use meshproof::probe::{DialReport, Outcome, Protocol, Vantage, dial};
    use serde_json::json;

    use super::*;

    fn entry(mut line: serde_json::Value) -> AccessEntry {
        line["downstream_peer_cert"] = "-".into();
        AccessEntry::parse(&line.to_string()).unwrap()
    }

    fn exchange(protocol: Protocol) -> Exchange {
        let mut dial = dial("redis-cart", protocol, "redis-cart", 6379);
        dial.nonce = "0123456789ab".into();
        let report = DialReport {
            id: dial.id.clone(),
            outcome: Outcome::Answered { status: None },
            local_address: Some("10.0.0.1:1000".into()),
            remote_address: None,
            who: None,
            served_by: None,
            tls: None,
            received: None,
            elapsed_us: 1,
        };
        Exchange { vantage: Vantage::Host, dial, report, started: Instant::now() }
    }

    #[test]
    fn a_call_is_found_by_its_request_and_one_without_by_its_connections() {
        let outbound = json!({
            "upstream_cluster": "outbound|6379||redis-cart", "downstream_remote_address": "10.0.0.1:1000",
            "upstream_local_address": "10.0.0.1:2000", "request_id": "0123456789ab",
        });
        let logs = |from: &str, request: &str| {
            let inbound = json!({
                "upstream_cluster": "inbound|6379||", "downstream_remote_address": from, "request_id": request,
            });
            let source = ("cartservice".to_owned(), vec![entry(outbound.clone())]);
            Logs([source, ("redis-cart".to_owned(), vec![entry(inbound)])].into())
        };
        let found = |logs: &Logs, protocol| logs.ends("cartservice", &exchange(protocol)).is_some();
        assert!(found(&logs("10.0.0.1:2000", "-"), Protocol::Tcp));
        assert!(!found(&logs("10.0.0.1:2001", "0123456789ab"), Protocol::Tcp), "another connection");
        assert!(found(&logs("10.9.9.9:1", "0123456789ab"), Protocol::Grpc));
        assert!(!found(&logs("10.0.0.1:2000", "ba9876543210"), Protocol::Grpc), "another request");
    }

    #[test]
    fn a_denial_is_known_by_who_called_and_by_its_request() {
        let line = |identity: &str, request: &str, details: &str| {
            entry(json!({
                "downstream_remote_address": "10.9.9.9:1", "downstream_peer_uri_san": identity, "request_id": request,
                "response_code_details": details,
            }))
        };
        let (caller, request, denied) = ("spiffe://a", "0123456789ab", "rbac_access_denied_matched_policy[none]");
        let found = |line: AccessEntry, protocol| denial(&[line], caller, &exchange(protocol).dial).is_some();
        assert!(found(line(caller, request, denied), Protocol::Grpc));
        assert!(found(line(caller, "-", denied), Protocol::Tcp));
        for protocol in [Protocol::Grpc, Protocol::Tcp] {
            assert!(!found(line("spiffe://b", request, denied), protocol), "another caller");
            assert!(!found(line(caller, request, "via_upstream"), protocol), "served");
        }
        assert!(!found(line(caller, "ba9876543210", denied), Protocol::Grpc), "another request");
    }
}
