//! Dials, each with its own nonce. An id names a dial within its claim, for example `http1/cluster1-to-cluster2`.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use meshproof_probe::{Dial, Inside, Protocol, Request, TlsOptions, TlsVersion};

use crate::identity::ClientCertificate;
use crate::record::HostPort;

/// Time limit for one dial, in milliseconds.
const TIMEOUT_MS: u64 = 8_000;

/// A dial of `protocol`.
pub fn dial(id: impl Into<String>, protocol: Protocol, host: impl Into<String>, port: u16) -> Dial {
    Dial {
        id: id.into(),
        protocol,
        host: host.into(),
        port,
        authority: None,
        path: None,
        request: None,
        source_port: Some(source_port()),
        not_before_ms: None,
        timeout_ms: TIMEOUT_MS,
        nonce: nonce(),
        tls: None,
    }
}

/// A raw handshake with a sidecar's TLS parameters, with `certificate` or without any. After the handshake, the dial
/// behaves like a client of the port for `protocol`.
pub fn handshake(
    id: impl Into<String>,
    to: &HostPort,
    server_name: Option<&str>,
    certificate: Option<&ClientCertificate>,
    protocol: Protocol,
) -> Dial {
    let inside = match protocol {
        Protocol::Grpc | Protocol::GrpcStream => Inside::Grpc,
        Protocol::Tcp => Inside::Tcp,
        Protocol::ServerFirst => Inside::ServerFirst,
        _ => Inside::Http,
    };
    let tls = TlsOptions {
        client_chain_pem: certificate.map(|certificate| certificate.chain_pem.clone()),
        client_key_pem: certificate.map(|certificate| certificate.key_pem.clone()),
        inside,
        ..mesh_options(server_name)
    };
    Dial { tls: Some(tls), ..dial(id, Protocol::TlsRaw, &to.host, to.port) }
}

/// A bare `ClientHello` with the highest TLS version `version`.
pub fn client_hello(id: impl Into<String>, to: &HostPort, server_name: Option<&str>, version: TlsVersion) -> Dial {
    let tls = TlsOptions { versions: vec![version], ..mesh_options(server_name) };
    Dial { tls: Some(tls), ..dial(id, Protocol::ClientHello, &to.host, to.port) }
}

fn mesh_options(server_name: Option<&str>) -> TlsOptions {
    TlsOptions { server_name: server_name.map(Into::into), alpn: vec!["istio".into()], ..TlsOptions::default() }
}

/// Makes another dial of the same kind, for another attempt: each source port and each nonce is used once. The first
/// attempt may have been made, and logged, although nothing was reported of it.
pub(super) fn renew(dial: &mut Dial) {
    if let Some(port) = &mut dial.source_port {
        *port = source_port();
    }
    let old = std::mem::replace(&mut dial.nonce, nonce());
    let (old, new) = (old.as_bytes(), dial.nonce.as_bytes());
    if let Some(Request::Bytes { bytes, .. }) = &mut dial.request {
        let mut at = 0;
        while !old.is_empty() && at + old.len() <= bytes.len() {
            if bytes[at..].starts_with(old) {
                bytes.splice(at..at + old.len(), new.iter().copied());
                at += new.len();
            } else {
                at += 1;
            }
        }
    }
}

/// A unique nonce of twelve hexadecimal digits.
pub fn nonce() -> String {
    // Each `RandomState` has new random keys from the operating system.
    format!("{:012x}", RandomState::new().hash_one(Instant::now()) >> 16)
}

/// A source port unused by any dial for more than two minutes, the time that the kernel remembers a connection. The
/// range lies below the ephemeral ports, so the kernel does not choose these ports, and above the proxies' ports.
fn source_port() -> u16 {
    static START: OnceLock<u64> = OnceLock::new();
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    // No suite dials more than a hundred times per second, so a later process starts beyond the ports of an earlier
    // one.
    let since_epoch = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = START.get_or_init(|| since_epoch().as_secs() * 100 + u64::from(since_epoch().subsec_millis()) / 10);
    port_at(start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)))
}

/// Cycles through the ports 16,000 to 31,999.
fn port_at(index: u64) -> u16 {
    16_000 + u16::try_from(index % 16_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_ports_differ_and_stay_between_the_proxies_and_the_kernels() {
        let ports: std::collections::BTreeSet<_> = (7..16_007).map(port_at).collect();
        assert_eq!(ports.len(), 16_000);
        assert_eq!((ports.first(), ports.last()), (Some(&16_000), Some(&31_999)));
    }

    #[test]
    fn another_attempt_has_a_port_and_a_nonce_of_its_own_also_in_its_bytes() {
        let mut renewed = dial("a", Protocol::Bytes, "h", 80);
        let text = |nonce: &str| format!("GET /?nonce={nonce} HTTP/1.1\r\nx-request-id: {nonce}\r\n\r\n");
        let bytes = text(&renewed.nonce).into_bytes();
        renewed.request = Some(Request::Bytes { bytes, quiet_ms: 0, listen_ms: 1 });
        let first = renewed.clone();
        renew(&mut renewed);
        assert_ne!((&renewed.nonce, renewed.source_port), (&first.nonce, first.source_port));
        assert_ne!(renewed.source_port, first.source_port);
        let Some(Request::Bytes { bytes, .. }) = &renewed.request else { panic!("{renewed:?}") };
        assert_eq!(String::from_utf8_lossy(bytes), text(&renewed.nonce));
    }

    #[test]
    fn a_nonce_is_short_enough_that_no_proxy_rewrites_it() {
        let (one, other) = (nonce(), nonce());
        assert_eq!(one.len(), 12);
        assert_ne!(one, other);
    }
}
