//! What a dial shows: by its own outcome, by who answered, and by the logs of the proxies at both ends.

use meshproof::Workload;
use meshproof::istio::AccessEntry;
use meshproof::policy::{Ending, Flag};
use meshproof::probe::{Exchange, Outcome, Phase, alert, grpc};

/// What the evidence of one dial consists of.
pub(crate) struct Evidence<'a> {
    pub(crate) exchange: &'a Exchange,
    /// Who must answer.
    pub(crate) server: &'a Workload,
    /// Whether the server's proxy takes the connection, so that its log must show it.
    pub(crate) captured: bool,
    /// The server's proxy's line about the answer.
    pub(crate) at_server: Option<&'a AccessEntry>,
    /// Whether the caller has a proxy, so that its log must show a refusal.
    pub(crate) proxied: bool,
    /// The caller's proxy's line.
    pub(crate) at_caller: Option<&'a AccessEntry>,
}

/// What was seen.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    /// `None` if it is nothing that the model knows of, or not clear.
    pub(crate) ending: Option<Ending>,
    pub(crate) words: String,
    /// What is missing to tell it.
    pub(crate) missing: Option<String>,
    pub(crate) lines: Vec<String>,
}

impl Evidence<'_> {
    /// Tells what was seen. `must` decides only between endings that look alike from outside: what an application makes
    /// of TLS that it cannot read, and what a proxy makes of it.
    pub(crate) fn observed(&self, must: Ending) -> Observed {
        let mut lines =
            vec![format!("{} → {}: {}", self.exchange.vantage, self.exchange.destination(), self.exchange.outcome())];
        lines.extend(self.at_server.map(|entry| format!("the server's proxy: {}", fields(entry, &SERVER))));
        lines.extend(self.at_caller.map(|entry| format!("the caller's proxy: {}", fields(entry, &CALLER))));
        let outcome = self.exchange.outcome();
        let ending = if outcome.is_answered() { self.answered(&mut lines) } else { self.refused(must) };
        match ending {
            Ok(Some(ending)) => Observed { ending: Some(ending), words: ending.to_string(), missing: None, lines },
            Ok(None) => Observed { ending: None, words: outcome.to_string(), missing: None, lines },
            Err(missing) => Observed { ending: None, words: outcome.to_string(), missing: Some(missing), lines },
        }
    }

    /// How an answer came: by the server's proxy's account of its peer. Without a proxy, by the peer's address.
    fn answered(&self, lines: &mut Vec<String>) -> Result<Option<Ending>, String> {
        let Some(who) = &self.exchange.report.who else { return Err("the answer does not say whose it is".into()) };
        lines.push(format!(
            "answered by {}/{} in {}, which saw {}",
            who.namespace, who.pod, who.cluster, who.peer_address
        ));
        let right = (self.server.cluster.name(), self.server.pod.as_str());
        if (who.cluster.as_str(), who.pod.as_str()) != right {
            return Ok(None);
        }
        match (self.captured, self.at_server) {
            (true, None) => Err("the server's proxy logged no such answer".into()),
            (true, Some(entry)) if entry.get("downstream_peer_uri_san").is_some() => Ok(Some(Ending::MutualTls)),
            // A line about TLS without a peer would be neither of the two.
            (true, Some(entry)) if entry.get("downstream_tls_version").is_some() => Ok(None),
            (true, Some(_)) => Ok(Some(Ending::Plaintext)),
            // A sidecar connects from an address of its own, and nobody else does.
            (false, _) if who.peer_address.starts_with("127.0.0.6:") => Ok(None),
            (false, _) => Ok(Some(Ending::Plaintext)),
        }
    }

    fn refused(&self, must: Ending) -> Result<Option<Ending>, String> {
        let outcome = self.exchange.outcome();
        let ended = matches!(
            outcome,
            Outcome::Reset { phase: Phase::Handshake | Phase::Request | Phase::Response }
                | Outcome::Closed { phase: Phase::Handshake | Phase::Request | Phase::Response }
        );
        let unavailable =
            matches!(outcome, Outcome::Http { status: 503, .. } | Outcome::Grpc { code: grpc::UNAVAILABLE, .. });
        Ok(match outcome {
            Outcome::TlsAlert { code, .. } if alert::NO_CERTIFICATE.contains(code) => Some(Ending::Alert),
            Outcome::Timeout { phase: Phase::Response } => Some(Ending::Silence),
            // However the application ends it.
            Outcome::TlsFailed { .. } | Outcome::TlsAlert { .. } | Outcome::Malformed { .. }
                if must == Ending::Unreadable =>
            {
                Some(Ending::Unreadable)
            }
            _ if ended && must == Ending::Unreadable => Some(Ending::Unreadable),
            Outcome::Reset { phase: Phase::Request | Phase::Response } if !self.proxied => Some(Ending::Reset),
            _ if (ended || unavailable) && self.proxied => return self.given_up(),
            _ => None,
        })
    }

    /// Why the caller's own proxy gave up: by its log.
    fn given_up(&self) -> Result<Option<Ending>, String> {
        let Some(entry) = self.at_caller else { return Err("the caller's proxy logged no such call".into()) };
        let flags: Vec<&str> = entry.get("response_flags").unwrap_or_default().split(',').collect();
        let all = [Flag::NoEndpoint, Flag::ConnectionFailed, Flag::ConnectionEnded];
        if let Some(flag) = all.into_iter().find(|flag| flag.names().iter().any(|name| flags.contains(name))) {
            return Ok(Some(Ending::Unavailable(flag)));
        }
        // For an endpoint that closes a TCP connection in an orderly way, Envoy has no flag.
        let no_flag = flags.iter().all(|flag| flag.is_empty());
        let ended = no_flag
            && entry.get("response_code").is_none_or(|code| code == "0")
            && entry.get("upstream_host").is_some();
        Ok(ended.then_some(Ending::Unavailable(Flag::ConnectionEnded)))
    }
}

/// Fields of the log that tell how a server took a connection.
const SERVER: [&str; 4] =
    ["downstream_peer_uri_san", "downstream_tls_version", "downstream_local_uri_san", "requested_server_name"];

/// Fields of the log that tell how a caller's proxy fared.
const CALLER: [&str; 6] = [
    "response_flags",
    "response_code_details",
    "upstream_transport_failure_reason",
    "upstream_peer_uri_san",
    "upstream_host",
    "upstream_cluster",
];

fn fields(entry: &AccessEntry, names: &[&str]) -> String {
    let said: Vec<String> = names.iter().filter_map(|name| Some(format!("{name}={}", entry.get(name)?))).collect();
    if said.is_empty() { "none of TLS".into() } else { said.join(" ") }
}
