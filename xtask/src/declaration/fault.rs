//! What is wrong with a declaration, and where.

use std::ops::Range;

/// A fault in a declaration, and its line.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// A fault at a range of bytes.
#[derive(Debug)]
pub(super) struct Unsound {
    at: Range<usize>,
    reason: String,
}

impl Unsound {
    pub(super) fn new(at: Range<usize>, reason: impl Into<String>) -> Self {
        Self { at, reason: reason.into() }
    }

    /// The fault with its line in `text`.
    pub(super) fn in_text(self, text: &str) -> Fault {
        let before = text.get(..self.at.start).unwrap_or(text);
        Fault { line: before.matches('\n').count() + 1, reason: self.reason }
    }
}
