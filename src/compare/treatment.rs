//! The difference between the arms of a comparison.

use crate::judge::Run;
use crate::scope;

use super::{Bench, Counted};

/// The difference between the arms of a comparison, and the counters that prove it.
///
/// Counters are read just before and just after every run of both arms: the control arm's zero must be observed too.
/// The bounds' `[comparison.receipts]` apply to the result of [`receipts`](Self::receipts).
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
///         Ok(counts.iter().map(|count| count.value).sum())
///     }
///
///     fn receipts(&self, counted: &Counted<u64>, run: &mut Run) {
///         run.receipts.insert("retries".into(), counted.after.saturating_sub(counted.before) as f64);
///     }
/// }
/// ```
pub trait Treatment {
    /// Counters, cumulative since the treatment's start.
    type Counters;

    /// Reads the counters for the pods of `bench`.
    fn count(&self, bench: &Bench) -> impl Future<Output = scope::Result<Self::Counters>>;

    /// Adds to `run` what the counters counted during the run.
    fn receipts(&self, counted: &Counted<Self::Counters>, run: &mut Run);

    /// Namespaces whose pods must not be frozen during a run, in addition to the benches' namespaces. For example, the
    /// namespace of an agent.
    fn namespaces(&self) -> Vec<String> {
        Vec::new()
    }
}

/// No treatment: for arms that differ in their benches or in their load, and have no counters of their own.
#[derive(Debug, Clone, Copy)]
pub struct Untreated;

impl Treatment for Untreated {
    type Counters = ();

    async fn count(&self, _: &Bench) -> scope::Result<()> {
        Ok(())
    }

    fn receipts(&self, _: &Counted<()>, _: &mut Run) {}
}
