//! The TLS role that a certificate is used for.

use std::fmt;

/// The role of a certificate in a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Server certificate.
    Server,
    /// Client certificate.
    Client,
}

impl Usage {
    /// Name of the purpose in the extended key usage.
    pub(super) fn purpose(self) -> &'static str {
        match self {
            Self::Server => "serverAuth",
            Self::Client => "clientAuth",
        }
    }

    /// The usage for webpki: a certificate with an extended key usage must include this purpose. A CA needs none.
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
