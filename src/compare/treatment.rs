//! What one arm of a comparison has and the other has not.

use crate::judge::Run;
use crate::scope;

use super::Bench;

/// What one arm of a comparison has and the other has not, and the counters that prove it.
///
/// Counters are read just before and just after every run of both arms, because the zero of the control arm has to be
/// seen as well. What [`receipts`](Self::receipts) makes of them is held against `[comparison.receipts]` of the bounds.
///
/// ```
/// use meshproof::compare::{Bench, Counted, Treatment};
/// use meshproof::judge::Run;
/// use meshproof::{Result, Scope};
///
/// /// HTTP requests that a proxy retried.
/// struct Retries;
///
/// impl Treatment for Retries {
///     type Counters = u64;
///
///     async fn count(&self, bench: &Bench) -> Result<u64> {
///         let counts = bench.server().proxy_counts("upstream_rq_retry").await?;
///         Ok(counts.iter().map(|(_, count)| count).sum())
///     }
///
///     fn receipts(&self, counted: &Counted<u64>, run: &mut Run) {
///         run.receipts.insert("retries".into(), counted.after.saturating_sub(counted.before) as f64);
///     }
/// }
/// ```
pub trait Treatment {
    /// What it counts, since it began.
    type Counters;

    /// What it has counted so far of the pods of `bench`.
    fn count(&self, bench: &Bench) -> impl Future<Output = scope::Result<Self::Counters>>;

    /// Adds to `run` what was counted during it.
    fn receipts(&self, counted: &Counted<Self::Counters>, run: &mut Run);

    /// Namespaces whose pods must not be frozen during a run, beside those of the benches: those of an agent, for
    /// example.
    fn namespaces(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Counters just before a run and just after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted<C> {
    /// Before.
    pub before: C,
    /// After.
    pub after: C,
}

/// For arms that differ in their benches or in what they are asked for, and have no counters of their own.
#[derive(Debug, Clone, Copy)]
pub struct Untreated;

impl Treatment for Untreated {
    type Counters = ();

    async fn count(&self, _: &Bench) -> scope::Result<()> {
        Ok(())
    }

    fn receipts(&self, _: &Counted<()>, _: &mut Run) {}
}
