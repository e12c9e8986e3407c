//! Identity over time: certificates are renewed and authorities replaced, and no call is lost; what ends soon is told
//! before it ends.
//!
//! Needs a live testbed (`cargo xtask testbed up`). The certificates that a test makes itself stay in namespaces of the
//! test's own, except in `plugged_in`, which has the mesh alone. Verdicts are in `target/meshproof/identity/report.json`.

mod alias;
mod expiry;
mod leaf;
mod plugged_in;
mod remote;
mod roots;

/// Name of the report's directory.
const SUITE: &str = "identity";

crate::trials! {
    mod expiry,
    mod leaf,
    mod roots,
    mod alias,
    mod plugged_in,
    mod remote,
}
