//! An address to connect to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A host and a port, written `host:port`. An IPv6 address is in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    /// A DNS name, or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// A host and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || format!("`{text}` is not HOST:PORT; an IPv6 address stands in brackets");
        let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        let bare = host.strip_prefix('[').map(|inner| inner.strip_suffix(']').ok_or_else(malformed)).transpose()?;
        let is_bare = bare.is_none();
        let host = bare.unwrap_or(host);
        if host.is_empty() || (is_bare && host.contains(':')) || host.contains(['[', ']', '/', ' ']) {
            return Err(malformed());
        }
        Ok(Self::new(host, port))
    }
}

impl TryFrom<String> for HostPort {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_both_families_are_read_and_written_back() {
        for (text, host, port) in [
            ("a.example:80", "a.example", 80),
            ("10.0.0.1:15443", "10.0.0.1", 15443),
            ("[fd00::1]:443", "fd00::1", 443),
        ] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!(address, HostPort::new(host, port));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_text() {
        for text in [
            "",
            "host",
            "host:",
            ":80",
            "host:99999",
            "fd00::1:443",
            "[fd00::1:443",
            "[fd00::1]",
            "a b:1",
            "http://a:1",
        ] {
            let error = text.parse::<HostPort>().unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
