//! What multi-buffer TLS has done, whichever of the two signs.

/// What it has done since its gateway began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Batches {
    /// Batches of signatures, of two or more.
    pub(crate) all: u64,
    /// Those of eight.
    pub(crate) full: u64,
    /// Signatures that were made alone, because too few waited for a batch.
    pub(crate) alone: u64,
    /// Handshakes that it was at work in: those that the module completed, or that the provider signed for.
    pub(crate) handshakes: u64,
    /// Handshakes that failed, signatures that could not be made, and those of a module that cannot make batches.
    pub(crate) failures: u64,
}

impl Batches {
    /// What came after `before`.
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
