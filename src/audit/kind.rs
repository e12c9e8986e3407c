//! What a port is, by what came back on the wire and by nothing else.

use std::fmt;
use std::time::SystemTime;

use meshproof_probe::{DialReport, Outcome, Phase};

use super::dials::Reports;
use crate::identity::{Certificate, Trust, Usage, Verified};
use crate::probe::alert;

/// What a port takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Mutual TLS only: plaintext was refused, where the same bytes were taken from a client that the mesh certified.
    Strict,
    /// Mutual TLS, and plaintext.
    Permissive,
    /// Plaintext. Nothing of the mesh answers.
    PlaintextOnly,
    /// TLS of the application's own, without the mesh.
    OwnTls,
    /// Nothing listens.
    Unreachable {
        /// How that was seen.
        how: String,
    },
    /// It could not be told. Never a pass.
    Inconclusive {
        /// Why.
        why: String,
    },
    /// It was not asked.
    NotJudged {
        /// Why.
        why: String,
    },
}

impl Kind {
    /// A short name, for a column.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Strict => "STRICT",
            Self::Permissive => "PERMISSIVE",
            Self::PlaintextOnly => "plaintext only",
            Self::OwnTls => "own TLS",
            Self::Unreachable { .. } => "unreachable",
            Self::Inconclusive { .. } => "inconclusive",
            Self::NotJudged { .. } => "not judged",
        }
    }

    /// What there is to say beyond the name.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Unreachable { how: detail }
            | Self::Inconclusive { why: detail }
            | Self::NotJudged { why: detail } => Some(detail),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail() {
            Some(detail) => write!(f, "{}: {detail}", self.name()),
            None => f.write_str(self.name()),
        }
    }
}

/// What was seen of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    /// What the port takes.
    pub kind: Kind,
    /// The identity that the mesh's side of the port proved, if there is one.
    pub served: Option<Verified>,
    /// The TLS version that was negotiated with it.
    pub negotiated: Option<&'static str>,
    /// Whether the server speaks first.
    pub server_first: bool,
    /// What speaks against the port, whatever its kind.
    pub faults: Vec<String>,
    /// What could not be told. A port with a doubt is not judged.
    pub doubts: Vec<String>,
    /// What came back, one line for each connection.
    pub seen: Vec<String>,
}

impl Wire {
    /// What there is of a port that was not asked, or not answered for.
    pub(super) fn not_judged(kind: Kind) -> Self {
        let (faults, doubts, seen) = (Vec::new(), Vec::new(), Vec::new());
        Self { kind, served: None, negotiated: None, server_first: false, faults, doubts, seen }
    }
}

/// The version of a handshake that was made.
fn negotiated(report: &DialReport) -> Option<&'static str> {
    match report.tls.as_ref()?.version.as_deref()? {
        "TLS 1.3" => Some("TLS 1.3"),
        "TLS 1.2" => Some("TLS 1.2"),
        _ => None,
    }
}

/// How a connection of bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Bytes came.
    Answered,
    /// It stayed open, and nothing came.
    Silent,
    /// The peer ended it after the bytes were sent.
    Ended,
    /// The peer ended it before anything was sent.
    EndedFirst,
    /// The kernel of the peer refused it: nothing listens.
    Refused,
    /// There was no connection.
    Unconnected,
    /// TLS was refused by an alert.
    Alert(u8),
    /// There was no TLS handshake.
    NoHandshake,
}

fn end(report: &DialReport) -> End {
    match &report.outcome {
        Outcome::Answered { .. } => End::Answered,
        Outcome::TlsAlert { code, .. } => End::Alert(*code),
        Outcome::Timeout { phase: Phase::Response } => End::Silent,
        Outcome::Reset { phase: Phase::Response } | Outcome::Closed { phase: Phase::Response } => End::Ended,
        Outcome::Reset { phase: Phase::Request } | Outcome::Closed { phase: Phase::Request } => End::EndedFirst,
        Outcome::Refused => End::Refused,
        Outcome::TlsFailed { .. }
        | Outcome::Timeout { phase: Phase::Handshake }
        | Outcome::Reset { phase: Phase::Handshake }
        | Outcome::Closed { phase: Phase::Handshake } => End::NoHandshake,
        _ => End::Unconnected,
    }
}

/// Who a TLS server was.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Server {
    /// It proved an identity of the mesh.
    OfMesh(Box<Verified>),
    /// It showed a certificate, and not the mesh's.
    Other(String),
    /// It showed none.
    None,
}

fn server(report: &DialReport, trust: &Trust, now: SystemTime) -> Server {
    let Some(chain) = report.tls.as_ref().map(|seen| &seen.peer_chain_pem).filter(|chain| !chain.is_empty()) else {
        return Server::None;
    };
    let chain = match Certificate::all_from_pem("the server's chain", chain) {
        Ok(chain) => chain,
        Err(error) => return Server::Other(error.to_string()),
    };
    match trust.verify_sent(&chain, Usage::Server, now) {
        Ok(verified) => Server::OfMesh(Box::new(verified)),
        // An expired certificate of the mesh is the mesh's all the same.
        Err(distrust) => Server::Other(distrust.to_string()),
    }
}

/// Whether the first bytes are a TLS alert: the application speaks TLS, and did not understand.
fn is_tls_alert(report: &DialReport) -> bool {
    report.received.as_ref().is_some_and(|received| matches!(received.start.as_slice(), [21, 3, ..]))
}

/// Tells what a port is.
pub(super) fn tell(reports: &Reports, trust: &Trust, now: SystemTime) -> Wire {
    let all = [&reports.plaintext, &reports.anybody, &reports.foreign, &reports.of_mesh];
    let names = ["plaintext", "TLS without a certificate", "TLS with a foreign certificate", "TLS with the mesh's"];
    let mut seen: Vec<String> =
        names.iter().zip(all).map(|(name, report)| format!("{name}: {}", report.outcome)).collect();
    let control = server(&reports.of_mesh, trust, now);
    let asked = server(&reports.anybody, trust, now);
    if let Server::Other(distrust) = if control == Server::None { &asked } else { &control } {
        seen.push(format!("its certificate is not the mesh's: {distrust}"));
    }
    let served = match (&control, end(&reports.of_mesh)) {
        (Server::OfMesh(verified), end) if !matches!(end, End::Alert(_)) => Some((**verified).clone()),
        _ => None,
    };
    let unasked = |report: &DialReport| report.received.as_ref().is_some_and(|received| received.unasked);
    let mut wire = Wire {
        kind: kind(reports, &control, &asked),
        server_first: unasked(&reports.plaintext) || unasked(&reports.of_mesh),
        negotiated: negotiated(&reports.of_mesh),
        served,
        faults: Vec::new(),
        doubts: Vec::new(),
        seen,
    };
    if wire.served.is_some() {
        certificates(reports, &asked, &mut wire);
    }
    wire
}

fn kind(reports: &Reports, control: &Server, asked: &Server) -> Kind {
    let ends = [&reports.plaintext, &reports.anybody, &reports.foreign, &reports.of_mesh].map(end);
    if ends.iter().all(|end| *end == End::Refused) {
        return Kind::Unreachable { how: "connection refused: nothing listens".into() };
    }
    if ends.iter().all(|end| matches!(end, End::Refused | End::Unconnected)) {
        let why = format!("no connection, also not with the mesh's certificate ({})", reports.of_mesh.outcome);
        return Kind::Inconclusive { why };
    }
    let [plaintext, anybody, _, of_mesh] = ends;
    let proxied = matches!(control, Server::OfMesh(_));
    match (plaintext, of_mesh) {
        (_, End::Alert(code)) if proxied => {
            Kind::Inconclusive { why: format!("it refused the mesh's own certificate by alert {code}") }
        }
        (End::Answered, _) if proxied => Kind::Permissive,
        // TLS of anybody reached the application behind the proxy.
        _ if proxied && shakes_hands(anybody, asked) => Kind::Permissive,
        (End::Answered, _) if is_tls_alert(&reports.plaintext) => own_tls(control, asked),
        (End::Answered, _) => Kind::PlaintextOnly,
        (End::Ended | End::EndedFirst, _) if proxied => refused(of_mesh, anybody, asked),
        (End::Ended | End::EndedFirst | End::Silent, _) if !proxied && shakes_hands(anybody, asked) => Kind::OwnTls,
        (End::Ended | End::EndedFirst | End::Silent, _) if matches!(control, Server::Other(_)) => {
            own_tls(control, asked)
        }
        (End::Silent, _) => Kind::Inconclusive {
            why: "it took the bytes and said nothing, so whether it takes plaintext is unknown".into(),
        },
        (End::Ended | End::EndedFirst, _) => {
            Kind::Inconclusive { why: "it ended the connection, and the control as well".into() }
        }
        _ => Kind::Inconclusive { why: format!("plaintext: {}", reports.plaintext.outcome) },
    }
}

/// A port behind a proxy that ended a plaintext connection: what the control says.
fn refused(of_mesh: End, anybody: End, asked: &Server) -> Kind {
    // In PERMISSIVE mode, TLS without Istio's own protocol names goes to the application. So a proxy that answers it, and
    // asks for a certificate, leaves nothing to the application.
    let holds_all = matches!(asked, Server::OfMesh(_))
        && matches!(anybody, End::Alert(code) if alert::NO_CERTIFICATE.contains(&code));
    match of_mesh {
        End::Answered | End::Silent => Kind::Strict,
        _ if holds_all => Kind::Strict,
        End::EndedFirst => {
            Kind::Unreachable { how: "the proxy takes mutual TLS, and nothing listens behind it".into() }
        }
        _ => Kind::Inconclusive { why: "it ended the connection, and the control over mutual TLS as well".into() },
    }
}

fn shakes_hands(anybody: End, asked: &Server) -> bool {
    matches!(asked, Server::Other(_)) && !matches!(anybody, End::NoHandshake)
}

fn own_tls(control: &Server, asked: &Server) -> Kind {
    match (control, asked) {
        (Server::Other(_), _) | (_, Server::Other(_)) => Kind::OwnTls,
        _ => Kind::Inconclusive { why: "it answers plaintext with a TLS alert, and does not shake hands".into() },
    }
}

/// Judges what became of the certificates that the mesh must refuse.
fn certificates(reports: &Reports, asked: &Server, wire: &mut Wire) {
    if matches!(asked, Server::OfMesh(_)) {
        let outcome = &reports.anybody.outcome;
        match end(&reports.anybody) {
            End::Alert(code) if alert::NO_CERTIFICATE.contains(&code) => {}
            End::Answered | End::Silent => {
                wire.faults.push(format!("it takes TLS without a client certificate ({outcome})"));
            }
            _ => wire.doubts.push(format!("how TLS without a certificate is refused is not clear: {outcome}")),
        }
    }
    let outcome = &reports.foreign.outcome;
    match end(&reports.foreign) {
        End::Alert(code) if alert::FORGED.contains(&code) => {}
        End::Answered | End::Silent => {
            wire.faults.push(format!("it takes a certificate of a foreign authority ({outcome})"));
        }
        _ => wire.doubts.push(format!("how a foreign certificate is refused is not clear: {outcome}")),
    }
}

#[cfg(test)]
mod tests;
