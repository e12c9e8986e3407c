//! TLS with a server of the mesh's control plane, over a connection that is already there.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::identity::Certificate;

/// TLS on `stream` with a server that one of `trusted` has certified for `server_name`.
///
/// # Errors
/// The reason, as text.
pub(crate) async fn secured<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    trusted: &[Certificate],
    server_name: &str,
    alpn: &[u8],
) -> Result<TlsStream<S>, String> {
    let mut roots = RootCertStore::empty();
    for root in trusted {
        roots.add(CertificateDer::from(root.der().to_vec())).map_err(|error| format!("a root of the mesh: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from(server_name.to_owned()).map_err(|error| error.to_string())?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| format!("TLS: {error}"))
}
