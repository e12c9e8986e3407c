//! The part of the mesh configuration that authorization depends on.

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
