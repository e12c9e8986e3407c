//! Counters of multi-buffer TLS, for both implementations.

/// Counters since the gateway's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Batches {
    /// Batches of two or more signatures.
    pub(crate) all: u64,
    /// Batches of eight signatures.
    pub(crate) full: u64,
    /// Signatures made alone, because too few waited for a batch.
    pub(crate) alone: u64,
    /// Handshakes by multi-buffer TLS: completed by the module, or signed for by the provider.
    pub(crate) handshakes: u64,
    /// Failed handshakes, failed signatures, and signatures by a module that cannot make batches.
    pub(crate) failures: u64,
}

impl Batches {
    /// The difference to `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            full: self.full.saturating_sub(before.full),
            alone: self.alone.saturating_sub(before.alone),
            handshakes: self.handshakes.saturating_sub(before.handshakes),
            failures: self.failures.saturating_sub(before.failures),
        }
    }
}
