//! What a certificate is shown for.

use std::fmt;

/// The part that a certificate plays in a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// A server shows it to its clients.
    Server,
    /// A client shows it to its server.
    Client,
}

impl Usage {
    /// Name of the purpose in an extended key usage.
    pub(super) fn purpose(self) -> &'static str {
        match self {
            Self::Server => "serverAuth",
            Self::Client => "clientAuth",
        }
    }

    /// For webpki: where a certificate names purposes, this must be one of them. An authority may name none.
    pub(super) fn for_webpki(self) -> webpki::KeyUsage {
        match self {
            Self::Server => webpki::KeyUsage::server_auth(),
            Self::Client => webpki::KeyUsage::client_auth(),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}
