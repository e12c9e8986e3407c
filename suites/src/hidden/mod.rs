//! What hides a fault is judged apart: each address and each pod of each gateway, each endpoint of a service, each istiod,
//! the first attempt of a call, and state that outlives its cause. A path that is half dead is red every time, and not by
//! chance.
//!
//! Needs a live testbed (`cargo xtask testbed up`). Verdicts are in `target/meshproof/hidden/report.json`.

mod addresses;
mod broken;
mod endpoints;
mod first;
mod gateways;
mod istiods;
mod stale;

/// Name of the report's directory.
const SUITE: &str = "hidden";

crate::trials! {
    mod gateways,
    mod addresses,
    mod endpoints,
    mod istiods,
    mod first,
    mod stale,
    mod broken,
}
