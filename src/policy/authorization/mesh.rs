//! The part of the mesh configuration that authorization depends on.

use std::collections::BTreeMap;

use super::normalization::Normalization;

/// What policies depend on in the mesh configuration.
#[derive(Debug, Clone)]
pub struct Mesh {
    /// The trust domain.
    pub trust_domain: String,
    /// Equivalent names of the trust domain.
    pub aliases: Vec<String>,
    /// How proxies normalise paths.
    pub normalization: Normalization,
    /// The external authorizers of CUSTOM policies, by the names of their extension providers.
    pub authorizers: BTreeMap<String, AuthorizerKind>,
}

/// How an external authorizer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorizerKind {
    /// By which protocol.
    pub over: Over,
    /// Whether a call comes through that the authorizer cannot be asked about (`failOpen`).
    pub fails_open: bool,
}

/// The protocol by which an external authorizer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// `envoyExtAuthzHttp`. istiod leaves a CUSTOM policy of such a provider out where the workload's proxy handles the
    /// connection as TCP: nobody is asked, and the connection comes through.
    Http,
    /// `envoyExtAuthzGrpc`.
    Grpc,
}

impl Mesh {
    /// The trust domain and its aliases.
    pub(super) fn domains(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.trust_domain.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    pub(super) fn is_own(&self, domain: &str) -> bool {
        self.domains().any(|own| own == domain)
    }
}
