//! The connections to one port: in plaintext, over TLS as anybody, with a certificate of a foreign authority, and with one
//! of the mesh's. None of them asks an application for anything.

use meshproof_probe::{Dial, DialReport, Inside, Protocol, Request, TlsOptions, TlsVersion};

use crate::identity::{ClientCertificate, Minter, SpiffeId, Validity};
use crate::probe;

/// Sent where nothing says what the port speaks. Envoy tells TLS from anything else by the first five bytes, so a single
/// byte would wait at a STRICT port as at any other. One byte and two line ends are no request in HTTP, where the parser
/// itself answers 400, and an empty or unknown command elsewhere.
const NO_REQUEST: &[u8] = b"?\r\n\r\n";

/// Sent to ports that speak HTTP/2: the preface and empty settings. The server answers with its own settings.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// How long to wait for a server that speaks first.
const QUIET_MS: u64 = 100;

/// How long to wait for the alert that refuses a certificate, before anything is sent over TLS. A request that is sent
/// too early makes the peer's kernel answer with a reset that overtakes the alert.
const ALERT_MS: u64 = 700;

/// How long to wait for an answer to the bytes.
const LISTEN_MS: u64 = 1_500;

/// Time limit for one connection.
const TIMEOUT_MS: u64 = 3_000;

/// Number of connections to each port.
pub(super) const PER_PORT: usize = 4;

/// What a vantage presents.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    /// Issued by the mesh.
    pub(super) of_mesh: ClientCertificate,
    /// The same identity, by an authority that the mesh does not know.
    pub(super) foreign: ClientCertificate,
}

impl Credentials {
    /// The mesh's certificate of `id`, and a foreign one.
    ///
    /// # Errors
    /// The foreign certificate cannot be made.
    pub(super) fn new(of_mesh: ClientCertificate, id: &SpiffeId) -> super::Result<Self> {
        let foreign = Minter::authority("foreign root")?.intermediate("foreign")?.mint(id, Validity::Now)?;
        Ok(Self { of_mesh, foreign })
    }
}

/// A port at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// IP address.
    pub(super) address: String,
    /// Port.
    pub(super) port: u16,
    /// Whether the port speaks HTTP/2, by its names.
    pub(super) http2: bool,
}

/// What became of the connections to one port.
#[derive(Debug, Clone)]
pub(super) struct Reports {
    pub(super) plaintext: DialReport,
    /// TLS as any client speaks it: no certificate, and no protocol of Istio's.
    pub(super) anybody: DialReport,
    pub(super) foreign: DialReport,
    pub(super) of_mesh: DialReport,
}

impl Reports {
    /// The reports in the order of [`dials`]. `None` if some are missing.
    pub(super) fn of(reports: Vec<DialReport>) -> Option<Self> {
        let [plaintext, anybody, foreign, of_mesh] = reports.try_into().ok()?;
        Some(Self { plaintext, anybody, foreign, of_mesh })
    }
}

/// The connections to one port. `id` begins their ids.
pub(super) fn dials(id: &str, place: &Place, credentials: &Credentials) -> [Dial; PER_PORT] {
    let tls = |certificate: Option<&ClientCertificate>, alpn: &[&str]| TlsOptions {
        alpn: alpn.iter().map(|&name| name.to_owned()).collect(),
        client_chain_pem: certificate.map(|certificate| certificate.chain_pem.clone()),
        client_key_pem: certificate.map(|certificate| certificate.key_pem.clone()),
        inside: Inside::Bytes,
        ..TlsOptions::default()
    };
    let istio = &["istio"];
    [
        bytes(format!("{id}/plaintext"), place, None, QUIET_MS),
        bytes(format!("{id}/anybody"), place, Some(tls(None, &[])), ALERT_MS),
        bytes(format!("{id}/foreign"), place, Some(tls(Some(&credentials.foreign), istio)), ALERT_MS),
        bytes(format!("{id}/mesh"), place, Some(tls(Some(&credentials.of_mesh), istio)), QUIET_MS),
    ]
}

/// A hello of each TLS version up to 1.2, to learn which the proxy takes.
pub(super) fn hellos(id: &str, place: &Place) -> [Dial; 3] {
    let address = crate::record::HostPort::new(&place.address, place.port);
    [TlsVersion::V1_0, TlsVersion::V1_1, TlsVersion::V1_2].map(|version| Dial {
        source_port: None,
        timeout_ms: TIMEOUT_MS,
        ..probe::client_hello(format!("{id}/{version}"), &address, None, version)
    })
}

fn bytes(id: String, place: &Place, tls: Option<TlsOptions>, quiet_ms: u64) -> Dial {
    let protocol = if tls.is_some() { Protocol::TlsRaw } else { Protocol::Bytes };
    let bytes = if place.http2 { HTTP2_PREFACE } else { NO_REQUEST }.to_vec();
    Dial {
        request: Some(Request::Bytes { bytes, quiet_ms, listen_ms: LISTEN_MS }),
        source_port: None,
        timeout_ms: TIMEOUT_MS,
        tls,
        ..probe::dial(id, protocol, &place.address, place.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_enough_for_a_proxy_to_see_that_they_are_not_tls_and_differ_by_protocol() {
        let id = SpiffeId::workload("cluster.local", "naked", "probe");
        let certificate = Minter::authority("mesh").unwrap().mint(&id, Validity::Now).unwrap();
        let credentials = Credentials::new(certificate, &id).unwrap();
        for (http2, start) in [(false, b"?".as_slice()), (true, b"PRI * HTTP/2.0")] {
            let place = Place { address: "10.0.0.1".into(), port: 80, http2 };
            for dial in dials("a", &place, &credentials) {
                let Some(Request::Bytes { bytes, .. }) = &dial.request else { panic!("no bytes in {}", dial.id) };
                assert!(bytes.len() >= 5 && bytes.starts_with(start), "{}", dial.id);
                assert!(dial.source_port.is_none(), "a port of the kernel's choice");
            }
        }
        let names: Vec<String> = dials("a", &Place { address: "::1".into(), port: 1, http2: false }, &credentials)
            .map(|dial| dial.id)
            .into();
        assert_eq!(names, ["a/plaintext", "a/anybody", "a/foreign", "a/mesh"]);
    }
}
