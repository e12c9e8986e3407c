//! HTTP/1.1 requests sent byte for byte: with any method, headers, and path. A library would correct the path.

use meshproof_probe::{Dial, Inside, Outcome, Protocol, Request, TlsOptions};

use super::Exchange;
use super::dials::{dial, handshake};
use crate::identity::ClientCertificate;
use crate::record::HostPort;

/// Longest wait for an answer to a request whose answer is judged, and not how soon it comes, in milliseconds. On a machine
/// that starts pods meanwhile, a proxy can stand still for ten seconds.
pub const ANSWER_MS: u64 = 25_000;

/// Time to connect before that.
const CONNECT_MS: u64 = 5_000;

/// A request in the bytes that are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRequest {
    method: String,
    path: String,
    host: String,
    headers: Vec<Header>,
    has_nonce_in_query: bool,
}

/// A header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

impl RawRequest {
    /// A request of `path`, with this `Host` header.
    pub fn new(method: &str, host: &str, path: &str) -> Self {
        Self {
            method: method.into(),
            path: path.into(),
            host: host.into(),
            headers: Vec::new(),
            has_nonce_in_query: false,
        }
    }

    /// Adds a header. A header may be repeated.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Adds the nonce to the query: gateways replace request ids. The path must have no query.
    #[must_use]
    pub fn with_nonce_in_query(self) -> Self {
        Self { has_nonce_in_query: true, ..self }
    }

    /// A dial that sends the request in plaintext, for a sidecar to secure. [`Exchange::with_status`] reads its answer.
    pub fn dial(&self, id: impl Into<String>, to: &HostPort) -> Dial {
        let mut dial = dial(id, Protocol::Bytes, &to.host, to.port);
        dial.request = Some(self.bytes(&dial.nonce));
        dial.timeout_ms = CONNECT_MS + ANSWER_MS;
        dial
    }

    /// A dial that sends the request inside a [`handshake`].
    pub fn dial_as(
        &self,
        id: impl Into<String>,
        to: &HostPort,
        server_name: Option<&str>,
        certificate: Option<&ClientCertificate>,
    ) -> Dial {
        let mut dial = handshake(id, to, server_name, certificate, Protocol::Http1);
        dial.tls = dial.tls.map(|tls| TlsOptions { inside: Inside::Bytes, ..tls });
        dial.request = Some(self.bytes(&dial.nonce));
        dial.timeout_ms = CONNECT_MS + ANSWER_MS;
        dial
    }

    /// The request, with the nonce as the request id: proxies log it.
    fn bytes(&self, nonce: &str) -> Request {
        let Self { method, path, host, headers, has_nonce_in_query } = self;
        let query = if *has_nonce_in_query { format!("?nonce={nonce}") } else { String::new() };
        let mut text = format!("{method} {path}{query} HTTP/1.1\r\nhost: {host}\r\nx-request-id: {nonce}\r\n");
        for Header { name, value } in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if method != "GET" && method != "HEAD" {
            text.push_str("content-length: 0\r\n");
        }
        text.push_str("\r\n");
        Request::Bytes { bytes: text.into_bytes(), quiet_ms: 0, listen_ms: ANSWER_MS }
    }
}

impl Exchange {
    /// The exchange of a [`RawRequest`], with the HTTP status as its outcome. Bytes that are no HTTP answer are malformed.
    #[must_use]
    pub fn with_status(mut self) -> Self {
        if !self.report.outcome.is_answered() {
            return self;
        }
        let start = self.report.received.as_ref().map(|received| received.start.as_slice()).unwrap_or_default();
        let start = String::from_utf8_lossy(start);
        let (line, rest) = start.split_once("\r\n").unwrap_or((&start, ""));
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        self.report.outcome = match status {
            Some(status) if (200..300).contains(&status) => Outcome::http(status),
            Some(status) => Outcome::Http { status, body: rest.to_owned(), server: None },
            None => Outcome::Malformed { reason: format!("{start:?} is no HTTP answer") },
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use meshproof_probe::{DialReport, Received};

    use super::*;
    use crate::probe::Vantage;

    #[test]
    fn a_request_is_sent_as_it_was_written() {
        let request = RawRequest::new("POST", "shop", "//a/%2e%2e/b#c").with_header("x", "1").with_header("x", "2");
        let dial = request.dial("id", &HostPort::new("shop", 80));
        let Some(Request::Bytes { bytes, .. }) = &dial.request else { panic!("{dial:?}") };
        let text = String::from_utf8(bytes.clone()).unwrap();
        let owed = format!(
            "POST //a/%2e%2e/b#c HTTP/1.1\r\nhost: shop\r\nx-request-id: {}\r\nx: 1\r\nx: 2\r\ncontent-length: 0\r\n\r\n",
            dial.nonce
        );
        assert_eq!(text, owed);
        let dial = request.with_nonce_in_query().dial("id", &HostPort::new("shop", 80));
        let Some(Request::Bytes { bytes, .. }) = &dial.request else { panic!("{dial:?}") };
        assert!(String::from_utf8_lossy(bytes).contains(&format!("#c?nonce={} HTTP/1.1", dial.nonce)));
    }

    #[test]
    fn an_answer_has_the_status_of_its_first_line() {
        let outcome = |start: &str| {
            let received = Some(Received { start: start.as_bytes().to_vec(), unasked: false });
            let report = DialReport {
                id: "id".into(),
                outcome: Outcome::Answered { status: None },
                local_address: None,
                remote_address: None,
                who: None,
                served_by: None,
                tls: None,
                received,
                elapsed_us: 1,
            };
            let dial = RawRequest::new("GET", "h", "/").dial("id", &HostPort::new("h", 80));
            Exchange { vantage: Vantage::Host, dial, report, started: Instant::now() }.with_status().report.outcome
        };
        assert_eq!(outcome("HTTP/1.1 200 OK\r\nserver: envoy\r\n"), Outcome::http(200));
        assert!(matches!(outcome("HTTP/1.1 403 Forbidden\r\nx: y"), Outcome::Http { status: 403, .. }));
        for other in ["", "HTTP/2 403", "SSH-2.0", "HTTP/1.1 4"] {
            assert!(matches!(outcome(other), Outcome::Malformed { .. }), "{other}");
        }
    }
}
