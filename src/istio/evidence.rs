//! The proxies' evidence of an exchange: one access log line at each end, matched by exact addresses.
//!
//! The client's proxy logs the caller's end of a connection as `downstream_remote_address`. The server's proxy logs the
//! probe's peer address as `upstream_local_address`, and the probe's own address as `upstream_host`. Proxies pool HTTP
//! connections, so HTTP lines are matched by the request's nonce: at the source by the nonce alone, at the destination
//! by nonce and addresses.

mod index;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::cluster::Result;
use crate::cluster::Workload;
use crate::cluster::{Seen, eventually};
use crate::identity::{Certificate, SpiffeId, Trust, Usage, Verified};
use crate::probe::{Exchange, Protocol, Vantage};
use index::Index;

/// Longest wait for log lines. Proxies flush their logs every second, and log TCP at the end of the connection.
const FLUSH_BOUND: Duration = Duration::from_secs(10);

/// Time limit for one read of a log, so that a hanging read leaves time for further attempts.
const READ_BOUND: Duration = Duration::from_secs(5);

/// One line of a proxy's access log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessEntry(BTreeMap<String, String>);

impl AccessEntry {
    /// Parses a line. `None` if the line is not from the evidence log. Absent values (`-`, `null`) are left out.
    pub fn parse(line: &str) -> Option<Self> {
        let Value::Object(fields) = serde_json::from_str(line).ok()? else { return None };
        // The proxy's own log may be JSON too, and so may be an access log of the mesh's.
        if !fields.contains_key("downstream_peer_cert") {
            return None;
        }
        let text = |value| match value {
            Value::String(text) if text != "-" && !text.is_empty() => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        Some(Self(fields.into_iter().filter_map(|(key, value)| Some((key, text(value)?))).collect()))
    }

    /// The value of a field.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str)
    }

    /// The workload that the proxy called, by the certificate that it showed: verified for its role as a server. `None` if
    /// there was no mutual TLS.
    pub fn called(&self, trust: &Trust) -> Option<Result<Verified, String>> {
        let side = self.side("upstream");
        side.peer?;
        let verified = side.certificate().and_then(|leaf| {
            trust.verify(&leaf, Usage::Server, SystemTime::now()).map_err(|distrust| distrust.to_string())
        });
        Some(verified)
    }

    /// The certificate that the peer showed, at the `upstream` or the `downstream` end of the proxy.
    ///
    /// # Errors
    /// The reason, as text: none was logged, or it cannot be parsed.
    pub fn peer_certificate(&self, direction: &str) -> Result<Certificate, String> {
        self.side(direction).certificate()
    }

    /// Whether the line describes a call by the workload, not a call to the workload.
    pub fn is_outbound(&self) -> bool {
        self.get("upstream_cluster").is_some_and(|cluster| cluster.starts_with("outbound|"))
    }

    /// Whether the line describes the request that was sent with this `x-request-id`.
    pub fn is_of_request(&self, id: &str) -> bool {
        self.get("request_id").is_some_and(|logged| without_trace_reason(logged) == without_trace_reason(id))
    }

    fn is(&self, field: &str, value: Option<&str>) -> bool {
        value.is_some() && self.get(field) == value
    }

    /// Whether the line describes the request with this nonce, in its query or as its `x-request-id`.
    pub fn carries(&self, nonce: &str) -> bool {
        let in_path = self
            .get("path")
            .is_some_and(|path| path.strip_suffix(nonce).is_some_and(|before| before.ends_with("nonce=")));
        in_path || self.is_of_request(nonce)
    }

    /// Whether the line is about the request of `exchange`. A gateway replaces the request ids of strangers: then the
    /// answer says which it was.
    fn is_about(&self, exchange: &Exchange) -> bool {
        let told = exchange.report.who.as_ref().and_then(|who| who.request_id.as_deref());
        self.carries(&exchange.dial.nonce) || told.is_some_and(|id| self.is_of_request(id))
    }

    /// Whether this is a gateway's line about a gRPC call of this machine that was not answered: neither path nor
    /// request id tell it. So such a call needs an authority of its own.
    fn is_routed_for(&self, exchange: &Exchange) -> bool {
        let is_grpc = matches!(exchange.dial.protocol, Protocol::Grpc | Protocol::GrpcStream);
        is_grpc
            && matches!(exchange.vantage, Vantage::Host)
            && exchange.report.who.is_none()
            && self.is("authority", exchange.dial.authority.as_deref())
    }

    /// Whether this is the caller's proxy's line about `exchange`.
    fn is_source_of(&self, exchange: &Exchange) -> bool {
        if exchange.dial.protocol.is_http() {
            // The destination's line has the same nonce, but its upstream cluster is inbound.
            let inbound = self.get("upstream_cluster").is_some_and(|cluster| cluster.starts_with("inbound|"));
            return !inbound && (self.is_about(exchange) || self.is_routed_for(exchange));
        }
        // Ports are translated between this machine and a gateway.
        let from_pod = !matches!(exchange.vantage, Vantage::Host);
        from_pod && self.is("downstream_remote_address", exchange.report.local_address.as_deref())
    }

    /// Whether this is the answering probe's proxy's line about `exchange`.
    fn is_destination_of(&self, exchange: &Exchange) -> bool {
        let who = exchange.report.who.as_ref();
        // Compare both addresses: the kernel reuses a local port for connections to different destinations.
        self.is("upstream_local_address", who.map(|who| who.peer_address.as_str()))
            && self.is("upstream_host", who.map(|who| who.local_address.as_str()))
            && (!exchange.dial.protocol.is_http() || self.is_about(exchange))
            && !self.has_failed_handshake()
    }

    /// Whether the caller came with TLS and without a certificate, and was refused. Envoy connects to the application
    /// before the handshake ends, so the line has the address of that connection, which a later one may have as well.
    fn has_failed_handshake(&self) -> bool {
        let has = |field: &str| self.get(field).is_some();
        // A connection in plaintext that is reset has a reason too.
        has("downstream_tls_version") && has("downstream_transport_failure_reason") && !has("downstream_peer_uri_san")
    }

    /// Whether the line is about the very connection that the caller of `exchange` made, with nothing in between.
    fn is_direct(&self, exchange: &Exchange) -> bool {
        self.is_destination_of(exchange)
            && self.is("downstream_remote_address", exchange.report.local_address.as_deref())
    }

    /// Whether the connection of `exchange` matched no filter chain or route of the proxy: Envoy's response flag `NR`.
    fn turns_away(&self, exchange: &Exchange) -> bool {
        self.is("downstream_remote_address", exchange.report.local_address.as_deref())
            && self.get("response_flags").is_some_and(|flags| flags.split(',').any(|flag| flag == "NR"))
    }

    /// The TLS identities of the connection that this proxy made (`upstream`) or accepted (`downstream`).
    pub(crate) fn side(&self, direction: &str) -> Side<'_> {
        let field = |name: &str| self.get(&format!("{direction}_{name}"));
        Side {
            own: field("local_uri_san"),
            peer: field("peer_uri_san"),
            certificate: field("peer_cert"),
            tls: field("tls_version"),
        }
    }
}

/// One end's view of a mutually authenticated connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side<'a> {
    /// SPIFFE ID of this end.
    pub(crate) own: Option<&'a str>,
    /// SPIFFE ID of the authenticated peer.
    pub(crate) peer: Option<&'a str>,
    /// The peer's certificate, as encoded in the log.
    certificate: Option<&'a str>,
    /// TLS version.
    pub(crate) tls: Option<&'a str>,
}

impl Side<'_> {
    /// The peer's certificate.
    pub(crate) fn certificate(&self) -> Result<Certificate, String> {
        let encoded = self.certificate.ok_or("no certificate was logged")?;
        Certificate::from_pem("the certificate in the log", &percent_decoded(encoded))
            .map_err(|error| error.to_string())
    }

    /// Whether this end was `own` and authenticated `peer`.
    pub(crate) fn is_between(&self, own: &SpiffeId, peer: &SpiffeId) -> bool {
        self.own == Some(&own.to_string()) && self.peer == Some(&peer.to_string())
    }
}

/// A request id without the trace reason. Envoy writes a trace reason into the fifteenth character of a UUID: 4 for no
/// trace, 9, a or b for the reason of the trace (`pack_trace_reason` of `UuidRequestIdConfig`, on by default). By
/// default, Istio traces 1 % of requests. An id that is not a UUID is returned unchanged.
fn without_trace_reason(id: &str) -> (&str, &str) {
    const REASON: usize = 14;
    let is_uuid = id.len() == 36 && id.is_ascii();
    if is_uuid { (&id[..REASON], &id[REASON + 1..]) } else { (id, "") }
}

/// Decodes percent-encoding. Keeps a `%` without two hexadecimal digits after it.
fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The log lines of both proxies about one exchange.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The caller's proxy, or the gateway that the caller used.
    pub source: AccessEntry,
    /// The proxy of the probe that answered.
    pub destination: AccessEntry,
}

/// Finds the log lines of the proxies of `source` and `destination` about each exchange. The result is `None` for an
/// exchange that was not answered, or that an end did not log in time. The exchange's claim judges the gap.
///
/// # Errors
/// The logs cannot be read.
pub async fn both_ends(exchanges: &[Exchange], source: &Workload, destination: &Workload) -> Result<Vec<Option<Ends>>> {
    let answered: Vec<_> = exchanges.iter().filter(|exchange| exchange.outcome().is_answered()).collect();
    let of = |exchange: &Exchange, at_source: &Index<'_, AccessEntry>, at_destination: &Index<'_, AccessEntry>| {
        let source = source_line(exchange, at_source)?.clone();
        let destination = destination_line(exchange, exchanges, at_destination)?.clone();
        Some(Ends { source, destination })
    };
    let read = async || futures::try_join!(entries(source, exchanges), entries(destination, exchanges));
    let missing = |(source, destination): &(Vec<AccessEntry>, Vec<AccessEntry>)| {
        let (source, destination) = (indexed(source), indexed(destination));
        let missing = answered.iter().filter(|exchange| of(exchange, &source, &destination).is_none());
        missing.map(|exchange| exchange.dial.id.clone()).collect()
    };
    let logs = read_until("both proxies to log every exchange", FLUSH_BOUND, read, missing).await?;
    let (source, destination) = (indexed(&logs.0), indexed(&logs.1));
    Ok(exchanges.iter().map(|exchange| of(exchange, &source, &destination)).collect())
}

/// Finds the log lines of the caller's own proxy about each exchange, answered or not. The result is `None` for an
/// exchange that the proxy did not log in time.
///
/// # Errors
/// The log cannot be read.
pub async fn outbound(exchanges: &[Exchange], source: &Workload) -> Result<Vec<Option<AccessEntry>>> {
    let missing = |log: &Vec<AccessEntry>| {
        let log = indexed(log);
        let missing = exchanges.iter().filter(|exchange| source_line(exchange, &log).is_none());
        missing.map(|exchange| exchange.dial.id.clone()).collect()
    };
    let read = async || entries(source, exchanges).await;
    let log = read_until("the caller's proxy to log every call", FLUSH_BOUND, read, missing).await?;
    let log = indexed(&log);
    Ok(exchanges.iter().map(|exchange| source_line(exchange, &log).cloned()).collect())
}

/// Finds the log lines of the proxy of `destination` about each exchange that a probe behind it answered. The result is
/// `None` for an exchange that was not answered, or that the proxy did not log in time.
///
/// # Errors
/// The log cannot be read.
pub async fn inbound(exchanges: &[Exchange], destination: &Workload) -> Result<Vec<Option<AccessEntry>>> {
    let of = |exchange: &Exchange, log: &Index<'_, AccessEntry>| {
        let answered = exchange.outcome().is_answered();
        answered.then(|| destination_line(exchange, exchanges, log).cloned()).flatten()
    };
    let missing = |log: &Vec<AccessEntry>| {
        let log = indexed(log);
        let answered = exchanges.iter().filter(|exchange| exchange.outcome().is_answered());
        let missing = answered.filter(|exchange| of(exchange, &log).is_none());
        missing.map(|exchange| exchange.dial.id.clone()).collect()
    };
    let read = async || entries(destination, exchanges).await;
    let log = read_until("the answering proxy to log every exchange", FLUSH_BOUND, read, missing).await?;
    let log = indexed(&log);
    Ok(exchanges.iter().map(|exchange| of(exchange, &log)).collect())
}

/// Fields whose whole value may tell a call.
const TELLING: [&str; 4] =
    ["downstream_remote_address", "upstream_local_address", "requested_server_name", "authority"];

/// A log by all that calls may be known by.
pub(super) fn indexed(log: &[AccessEntry]) -> Index<'_, AccessEntry> {
    Index::new(log, |entry| {
        let whole = TELLING.iter().filter_map(|field| entry.get(field));
        let request = entry.get("request_id").map(stem);
        let nonce = entry.get("path").and_then(|path| Some(path.rsplit_once("nonce=")?.1));
        whole.chain(request).chain(nonce).collect()
    })
}

/// The part of a request's id that a proxy never changes.
fn stem(id: &str) -> &str {
    without_trace_reason(id).0
}

/// The line of the caller's own proxy about `exchange`.
fn source_line<'a>(exchange: &Exchange, log: &Index<'a, AccessEntry>) -> Option<&'a AccessEntry> {
    let Exchange { dial, report, vantage, .. } = exchange;
    let told = report.who.as_ref().and_then(|who| who.request_id.as_deref());
    let is_grpc = matches!(dial.protocol, Protocol::Grpc | Protocol::GrpcStream);
    let authority = dial.authority.as_deref().filter(|_| is_grpc && matches!(vantage, Vantage::Host));
    let known_by = [Some(stem(&dial.nonce)), told.map(stem), report.local_address.as_deref(), authority];
    log.with(&known_by).find(|entry| entry.is_source_of(exchange))
}

/// The line of the answering probe's proxy about `exchange`, which is one of `exchanges`. One after the other, two
/// connections can have the same addresses between proxy and probe: then the caller's address tells them apart.
fn destination_line<'a>(
    exchange: &Exchange,
    exchanges: &[Exchange],
    log: &Index<'a, AccessEntry>,
) -> Option<&'a AccessEntry> {
    let others = || exchanges.iter().filter(|other| other.dial.nonce != exchange.dial.nonce);
    let of_another = |entry: &&AccessEntry| others().any(|other| entry.is_direct(other));
    let address = exchange.report.who.as_ref().map(|who| who.peer_address.as_str());
    let candidates = || log.with(&[address]).filter(|entry| entry.is_destination_of(exchange));
    candidates().find(|entry| entry.is_direct(exchange)).or_else(|| candidates().find(|entry| !of_another(entry)))
}

/// Finds the log lines of the proxy of `destination` about direct connections that the proxy turned away for their
/// protocol. The result is `None` for an exchange that the proxy did not log in time. The exchange's claim judges the
/// gap.
///
/// # Errors
/// The log cannot be read.
pub async fn turned_away(exchanges: &[Exchange], destination: &Workload) -> Result<Vec<Option<AccessEntry>>> {
    let of = |exchange: &Exchange, log: &[AccessEntry]| log.iter().find(|entry| entry.turns_away(exchange)).cloned();
    let missing = |log: &Vec<AccessEntry>| {
        let refused = exchanges.iter().filter(|exchange| !exchange.outcome().is_answered());
        let missing = refused.filter(|exchange| of(exchange, log).is_none());
        missing.map(|exchange| exchange.dial.id.clone()).collect()
    };
    let read = async || entries(destination, exchanges).await;
    let log = read_until("the proxy to log every refusal", FLUSH_BOUND, read, missing).await?;
    Ok(exchanges.iter().map(|exchange| of(exchange, &log)).collect())
}

/// Reads logs until nothing is `missing`, for at most `within`, and returns the last logs read. Evidence that is still
/// missing fails only the claim that it belongs to.
///
/// # Errors
/// No read succeeded. A proxy is not there.
pub async fn read_until<L: Default>(
    want: &str,
    within: Duration,
    mut read: impl AsyncFnMut() -> Result<L>,
    missing: impl Fn(&L) -> Vec<String>,
) -> Result<L> {
    let mut last = None;
    let complete = eventually(want, within, async || {
        let Ok(logs) = tokio::time::timeout(READ_BOUND, read()).await else {
            return Ok(Seen::NotYet(format!("a log was not handed out within {READ_BOUND:?}")));
        };
        let logs = match logs {
            // No wait brings evidence of a proxy that is not there.
            Err(error) if error.is_final() => return Ok(Seen::Yes(Err(error))),
            logs => logs?,
        };
        let missing = missing(last.insert(logs));
        Ok::<_, crate::cluster::Error>(match missing.as_slice() {
            [] => Seen::Yes(Ok(())),
            missing => Seen::NotYet(missing.join(", ")),
        })
    });
    match complete.await {
        Err(error) if last.is_none() => return Err(error),
        Err(incomplete) => tracing::warn!(%incomplete, "evidence is missing in the proxies' logs"),
        Ok(complete) => complete?,
    }
    Ok(last.unwrap_or_default())
}

/// Access log of a workload's proxy since the start of the first exchange.
async fn entries(workload: &Workload, exchanges: &[Exchange]) -> Result<Vec<AccessEntry>> {
    let oldest = exchanges.iter().map(|exchange| exchange.started.elapsed()).max().unwrap_or_default();
    logged(workload, oldest).await
}

/// Access log of a workload's proxy in the last `within`.
///
/// # Errors
/// The log cannot be read.
pub async fn logged(workload: &Workload, within: Duration) -> Result<Vec<AccessEntry>> {
    let log = workload.proxy_log(within + Duration::from_secs(1)).await?;
    Ok(log.lines().filter_map(AccessEntry::parse).collect())
}

#[cfg(test)]
mod tests;
