//! Counters around a run.

use crate::judge::Run;

/// Counters just before a run and just after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted<C> {
    /// Before.
    pub before: C,
    /// After.
    pub after: C,
}

/// A run, with counters from before and after its load.
#[derive(Debug)]
pub struct CountedRun<C> {
    /// The run.
    pub run: Run,
    /// The counters.
    pub counted: Counted<C>,
}
