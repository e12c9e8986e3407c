//! Authorization over clusters: every action and field of an authorization policy, and tokens, decide about calls as
//! Istio's reference says, from callers in the same and in the other clusters.
//!
//! Needs a live testbed (`cargo xtask testbed up`), and changes nothing outside of namespaces of its own
//! (`Scope::run`). What is expected is computed by the model in `meshproof::policy::authorization`. Every denial has a
//! control: the same caller gets an answer from the same place. Verdicts are in
//! `target/meshproof/authorization/report.json`. What each test covers: docs/reference/authorization.md.

mod advisories;
mod arena;
mod auto;
mod custom;
mod custom_tcp;
mod fields;
mod former;
mod gateway;
mod issuer;
mod judge;
mod paths;
mod peers;
mod routes;
mod rows;
mod tcp;
mod tokens;

/// Tests that run at the same time, if the command line does not say. They keep two cores busy.
pub(crate) const AT_ONCE: usize = 2;

/// Name of the suite.
const SUITE: &str = "authorization";

crate::trials! {
    mod advisories,
    mod auto,
    mod custom,
    mod custom_tcp,
    mod fields,
    mod former,
    mod gateway,
    mod paths,
    mod tcp,
    mod tokens,
}
