//! Traffic over clusters: routing does what its configuration says, in both directions between the clusters, with counts on
//! the wire and in the proxies' logs, and a control without each rule.
//!
//! Needs a live testbed (`cargo xtask testbed up`), and changes nothing outside of namespaces of its own
//! (`Scope::run`). Shares have exact binomial intervals. Verdicts are in `target/meshproof/traffic/report.json`. What
//! each test covers: docs/reference/traffic.md.

mod arena;
mod edge;
mod ejection;
mod gateway_api;
mod gateways;
mod locality;
mod resilience;
mod routing;
mod scoping;
mod sent;
mod span;
mod town;

/// Tests that run at the same time, if the command line does not say. They keep two cores busy.
pub(crate) const AT_ONCE: usize = 2;

crate::trials! {
    mod routing,
    mod resilience,
    mod locality,
    mod ejection,
    mod scoping,
    mod gateways,
    mod gateway_api,
}
