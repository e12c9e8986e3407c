//! Dials, each with a nonce of its own. An id names a dial within its claim, for example `http1/cluster1-to-cluster2`.

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

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

/// The SNI by which an east-west gateway knows a service's port.
pub fn sni_of(port: u16, service_host: &str) -> String {
    format!("outbound_.{port}_._.{service_host}")
}

/// Twelve hexadecimal digits that no other dial has.
pub fn nonce() -> String {
    // Keyed anew for each, from the operating system's randomness.
    format!("{:012x}", RandomState::new().hash_one(Instant::now()) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_short_enough_that_no_proxy_rewrites_it() {
        let (one, other) = (nonce(), nonce());
        assert_eq!(one.len(), 12);
        assert_ne!(one, other);
    }

    #[test]
    fn a_gateways_sni_names_port_and_service() {
        let host = "probe-cluster2.pinnacle.svc.cluster.local";
        assert_eq!(sni_of(8080, host), "outbound_.8080_._.probe-cluster2.pinnacle.svc.cluster.local");
    }
}
