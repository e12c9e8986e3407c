//! What a proxy's log says of the decisions that it made about calls to its workload.

use std::time::Duration;

use super::evidence::{AccessEntry, indexed, logged, read_until};
use crate::cluster::{Result, Workload};
use crate::identity::SpiffeId;
use crate::probe::Exchange;

/// Longest wait for log lines. Proxies flush their logs every second, and log TCP at the end of the connection.
const FLUSH_BOUND: Duration = Duration::from_secs(15);

/// A call whose decision is looked up in the log of the called workload's proxy.
#[derive(Debug, Clone, Copy)]
pub struct Decided<'a> {
    /// The call.
    pub exchange: &'a Exchange,
    /// The identity that the caller proved, to find a connection without requests that came through a gateway.
    pub peer: Option<&'a SpiffeId>,
}

impl Decided<'_> {
    /// What a line about the call has: the nonce, the caller's address or, behind a gateway, the server name.
    fn known_by(&self) -> [Option<&str>; 3] {
        let Exchange { dial, report, .. } = self.exchange;
        let name = self.peer.and_then(|_| dial.tls.as_ref()?.server_name.as_deref());
        [Some(&dial.nonce), report.local_address.as_deref(), name]
    }
}

impl AccessEntry {
    /// Whether the workload behind the proxy answered the request.
    pub fn is_from_workload(&self) -> bool {
        self.get("response_code_details").is_some_and(|details| details == "via_upstream")
    }

    /// Whether the proxy refused the request for its token.
    pub fn is_denied_for_token(&self) -> bool {
        self.get("response_code_details").is_some_and(|details| details.starts_with("jwt_authn_access_denied"))
    }

    /// Whether the external authorizer of a CUSTOM policy refused the request.
    pub fn is_denied_by_authorizer(&self) -> bool {
        self.get("response_code_details").is_some_and(|details| details == "ext_authz_denied")
    }

    /// Whether the proxy refused the request because the external authorizer of a CUSTOM policy did not answer.
    pub fn is_denied_without_authorizer(&self) -> bool {
        self.get("response_code_details").is_some_and(|details| details == "ext_authz_error")
    }

    /// Whether the line is about this call, at the called workload's proxy. A request is known by its id, or by the
    /// nonce in its query. A connection is
    /// known by the caller's address, or behind a gateway by the server name and the caller's identity.
    fn is_decision_of(&self, Decided { exchange, peer }: Decided<'_>) -> bool {
        if self.is_outbound() {
            return false;
        }
        if self.carries(&exchange.dial.nonce) {
            return true;
        }
        let name = exchange.dial.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        match (name, peer) {
            // Behind a gateway, the caller's address is the gateway's.
            (Some(name), Some(peer)) => {
                self.get("requested_server_name") == Some(name)
                    && self.get("downstream_peer_uri_san") == Some(&peer.to_string())
            }
            _ => {
                let address = self.get("downstream_remote_address");
                address.is_some() && address == exchange.report.local_address.as_deref()
            }
        }
    }
}

/// Finds the log line of the proxy of `destination` about each call. The result is `None` for a call that the proxy did
/// not log in time. The call's claim judges the gap.
///
/// # Errors
/// The log cannot be read.
pub async fn decisions(calls: &[Decided<'_>], destination: &Workload) -> Result<Vec<Option<AccessEntry>>> {
    let missing = |log: &Vec<AccessEntry>| {
        let log = indexed(log);
        let missing = calls.iter().filter(|call| !log.with(&call.known_by()).any(|entry| entry.is_decision_of(**call)));
        missing.map(|call| call.exchange.dial.id.clone()).collect()
    };
    let oldest = calls.iter().map(|call| call.exchange.started);
    let oldest = oldest.min();
    let read = async || logged(destination, oldest.map(|oldest| oldest.elapsed()).unwrap_or_default()).await;
    let log = read_until("the proxy to log every decision", FLUSH_BOUND, read, missing).await?;
    let log = indexed(&log);
    let of = |call: &Decided<'_>| log.with(&call.known_by()).find(|entry| entry.is_decision_of(*call)).cloned();
    Ok(calls.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(field: &str, details: &str) -> AccessEntry {
        let line = serde_json::json!({ "downstream_peer_cert": null, field: details });
        AccessEntry::parse(&line.to_string()).unwrap()
    }

    #[test]
    fn who_decided_is_told() {
        assert!(entry("response_code_details", "via_upstream").is_from_workload());
        let denied = entry("response_code_details", "ext_authz_denied");
        assert!(denied.is_denied_by_authorizer() && !denied.is_denied_without_authorizer());
        assert!(entry("response_code_details", "ext_authz_error").is_denied_without_authorizer());
    }
}
