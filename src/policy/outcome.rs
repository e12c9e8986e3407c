//! How a call ends.

use std::fmt;

/// What an application speaks, as far as it matters to how a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speech {
    /// HTTP/1.1, HTTP/2, gRPC or WebSocket: proxies read the requests.
    Http,
    /// TCP whose client speaks first.
    Tcp,
    /// TCP whose server speaks first.
    ServerFirst,
    /// TLS of the application's own.
    Tls,
}

impl fmt::Display for Speech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Tcp => "TCP",
            Self::ServerFirst => "server-first",
            Self::Tls => "own TLS",
        })
    }
}

/// Envoy's response flag in the log of the caller's proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// No healthy endpoint.
    NoEndpoint,
    /// The connection to the endpoint failed, in TCP or in the TLS handshake.
    ConnectionFailed,
    /// The endpoint ended the connection.
    ConnectionEnded,
}

impl Flag {
    /// Envoy's name, for HTTP.
    pub const fn name(self) -> &'static str {
        self.names()[0]
    }

    /// Envoy's names. A reset by the endpoint has another name for TCP than for HTTP.
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::NoEndpoint => &["UH"],
            Self::ConnectionFailed => &["UF"],
            Self::ConnectionEnded => &["UC", "UR"],
        }
    }
}

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Answered. The server's proxy has authenticated the client's.
    MutualTls,
    /// Answered. No proxy has authenticated anybody.
    Plaintext,
    /// The server's proxy ends the connection after the first bytes: they match none of its filter chains.
    Reset,
    /// The server's proxy ends TLS with an alert, for want of a client certificate.
    Alert,
    /// The caller's own proxy gives up: HTTP status 503, gRPC status 14, or an end of the connection. Its log has the
    /// flag.
    Unavailable(Flag),
    /// The application gets bytes of TLS in place of its protocol. No answer comes; how the connection ends is up to the
    /// application.
    Unreadable,
    /// Nothing comes: the server's proxy waits for the first bytes of a client that waits for the server's. Proves no
    /// refusal.
    Silence,
}

impl Ending {
    /// Whether the service answers.
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::MutualTls | Self::Plaintext)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MutualTls => f.write_str("mutual TLS"),
            Self::Plaintext => f.write_str("plaintext"),
            Self::Reset => f.write_str("reset"),
            Self::Alert => f.write_str("TLS alert"),
            Self::Unavailable(flag) => write!(f, "unavailable ({})", flag.name()),
            Self::Unreadable => f.write_str("unreadable"),
            Self::Silence => f.write_str("silence"),
        }
    }
}
