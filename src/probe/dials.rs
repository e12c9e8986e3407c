//! Dials, each with a nonce of its own. An id names a dial within its claim, for example `http1/cluster1-to-cluster2`.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use meshproof_probe::{Dial, Inside, Protocol, TlsOptions, TlsVersion};

use crate::identity::ClientCertificate;

/// Bound on one dial. What hangs is no outcome worth waiting for.
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
        timeout_ms: TIMEOUT_MS,
        nonce: nonce(),
        tls: None,
    }
}

/// A raw handshake that offers what a sidecar offers, with `certificate` or without any, and then speaks as clients
/// of the port do that is meant for `protocol`.
pub fn handshake(
    id: impl Into<String>,
    (host, port): (&str, u16),
    server_name: Option<&str>,
    certificate: Option<&ClientCertificate>,
    protocol: Protocol,
) -> Dial {
    let inside = match protocol {
        Protocol::Grpc => Inside::Grpc,
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
    Dial { tls: Some(tls), ..dial(id, Protocol::TlsRaw, host, port) }
}

/// A bare `ClientHello` whose highest version is `version`.
pub fn client_hello(
    id: impl Into<String>,
    (host, port): (&str, u16),
    server_name: Option<&str>,
    version: TlsVersion,
) -> Dial {
    let tls = TlsOptions { versions: vec![version], ..mesh_options(server_name) };
    Dial { tls: Some(tls), ..dial(id, Protocol::ClientHello, host, port) }
}

fn mesh_options(server_name: Option<&str>) -> TlsOptions {
    TlsOptions { server_name: server_name.map(Into::into), alpn: vec!["istio".into()], ..TlsOptions::default() }
}

/// Gives a dial that may have been begun already another source port: each is used once.
pub(super) fn renew_source_port(dial: &mut Dial) {
    if let Some(port) = &mut dial.source_port {
        *port = source_port();
    }
}

/// Twelve hexadecimal digits that no other dial has.
pub fn nonce() -> String {
    // Keyed anew for each, from the operating system's randomness.
    format!("{:012x}", RandomState::new().hash_one(Instant::now()) >> 16)
}

/// A port to dial from that no dial has been given for more than two minutes, which is how long the kernel remembers a
/// connection. Below the ephemeral ports, so that the kernel does not choose it for another; above the proxies'.
fn source_port() -> u16 {
    static START: OnceLock<u64> = OnceLock::new();
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    // A hundred a second is more than any suite dials; so a later process starts beyond what an earlier one has used.
    let since_epoch = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = START.get_or_init(|| since_epoch().as_secs() * 100 + u64::from(since_epoch().subsec_millis()) / 10);
    port_at(start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)))
}

/// The ports of 16,000 to 31,999, over and over.
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
    fn a_nonce_is_short_enough_that_no_proxy_rewrites_it() {
        let (one, other) = (nonce(), nonce());
        assert_eq!(one.len(), 12);
        assert_ne!(one, other);
    }
}
