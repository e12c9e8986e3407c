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

use meshproof::Result;
use meshproof::probe::{Dial, Exchange, Vantage};
use tokio::sync::Semaphore;

/// Tests that run at the same time, if the command line does not say. They keep two cores busy.
pub(crate) const AT_ONCE: usize = 2;

/// Name of the suite.
const SUITE: &str = "authorization";

/// Callers that dial at the same time, in all tests. Each has up to 32 connections under way. With all callers at once,
/// authorizers on two busy cores needed longer than the 5 s that proxies wait for them.
static DIALLING: Semaphore = Semaphore::const_new(3);

/// Dials, when it is this caller's turn.
async fn dial_in_turn(vantage: &Vantage, dials: Vec<Dial>) -> Result<Vec<Exchange>> {
    // The semaphore is never closed.
    let _turn = DIALLING.acquire().await;
    Ok(vantage.dial(dials).await?)
}

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
