//! A call to a workload, as far as authorization policies see it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::identity::SpiffeId;

/// A call to a workload.
#[derive(Debug, Clone)]
pub struct Call {
    /// The identity that the caller proved by mutual TLS. `None` in plaintext.
    pub peer: Option<SpiffeId>,
    /// The address that the connection came from: the caller's, or that of the last gateway.
    pub source_ip: Option<IpAddr>,
    /// The address of the original client, as the proxy derives it from `X-Forwarded-For`. Without a gateway the same as
    /// `source_ip`.
    pub remote_ip: Option<IpAddr>,
    /// The workload's own address.
    pub destination_ip: Option<IpAddr>,
    /// The workload's port.
    pub port: u16,
    /// The server name of the TLS handshake.
    pub server_name: Option<String>,
    /// The request. `None` where the workload's proxy handles the connection as TCP.
    pub http: Option<HttpRequest>,
    /// What the external authorizer says of the call, if it is asked.
    pub authorizer: Answer,
}

/// What an external authorizer says of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answer {
    /// It lets the call through.
    #[default]
    Allows,
    /// It denies the call.
    Denies,
    /// Nothing: it cannot be asked. The call is denied, unless the provider says `failOpen`.
    Nothing,
}

/// An HTTP request.
#[derive(Debug, Clone, Default)]
pub struct HttpRequest {
    /// Method.
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// `Host` or `:authority`.
    pub host: String,
    /// The headers, each with its values in order. Names are in lower case.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The claims of the validated token, if there is one.
    pub token: Option<Token>,
}

impl HttpRequest {
    /// A GET of `path`.
    pub fn get(host: &str, path: &str) -> Self {
        Self { method: "GET".into(), path: path.into(), host: host.into(), ..Self::default() }
    }
}

/// The claims of a token that `RequestAuthentication` has validated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Token {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`.
    pub audiences: Vec<String>,
    /// `azp`.
    pub presenter: Option<String>,
    /// All claims.
    pub claims: BTreeMap<String, Value>,
}

impl Token {
    /// `request.auth.principal`.
    pub(super) fn principal(&self) -> String {
        format!("{}/{}", self.issuer, self.subject)
    }

    /// The values of a claim, named by the keys that lead to it.
    pub(super) fn values(&self, keys: &[&str]) -> Vec<String> {
        let Some((first, rest)) = keys.split_first() else { return Vec::new() };
        let claim = rest.iter().try_fold(self.claims.get(*first), |at, key| Some(at?.get(*key))).flatten();
        match claim {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(list)) => list.iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect(),
            _ => Vec::new(),
        }
    }
}
