//! The seed's placements, on a cluster of several nodes: all pods on one node, and each on a node of its own.
//!
//! The bypass connects sockets of one node. The comparison across nodes is its control: nothing may be redirected, and
//! nothing may change. A sidecar and its application are always on one node, so the bypass leaves their connections
//! with TCP in that comparison (`Treated::BetweenPods`). With the same agents on one node, the messages between the
//! pods must count.
//!
//! On a testbed of `fixtures/clusters/seed.toml`: `cargo test --test perf placement -- --ignored`.

use meshproof::compare::{Arms, Bench, Case, Load, Places, Side};
use meshproof::judge::Arm;
use meshproof::{Cluster, Error, Scope, Verdict};

use super::cryptomb::{NEW_CONNECTIONS, arguments, gateway_at};
use super::treatment::{TcpBypass, Treated};
use super::{both, bounds, interleave_by, timed_as};

/// Name of the report's directory. `cargo xtask judge` takes the runs of one file of bounds.
const SUITE: &str = "placement";

async fn bypass_on_one_node() -> Verdict {
    timed_as(SUITE, "bypass_one_node", async |scope| {
        bypass(scope, "bypass_one_node", Treated::All, Places::one_node).await
    })
    .await
}

async fn bypass_between_pods_of_one_node() -> Verdict {
    timed_as(SUITE, "bypass_between_pods_one_node", async |scope| {
        bypass(scope, "bypass_between_pods_one_node", Treated::BetweenPods, Places::one_node).await
    })
    .await
}

async fn bypass_across_nodes_has_no_effect() -> Verdict {
    timed_as(SUITE, "bypass_across_nodes", async |scope| {
        bypass(scope, "bypass_across_nodes", Treated::BetweenPods, Places::two_nodes).await
    })
    .await
}

/// The seed's Table 2, placed as the seed's: generator, gateway and server on three nodes.
async fn cryptomb_on_three_nodes() -> Verdict {
    timed_as(SUITE, "cryptomb_three_nodes", async |scope| {
        let cluster = Bench::first_cluster(&scope.testbed)?;
        let places = Places::three_nodes(cluster).await?;
        let (bench, module) = gateway_at(scope, cluster, &places).await?;
        let load = |arm: Arm| Load::Driver(arguments(arm, &NEW_CONNECTIONS));
        let case = Case::new("cryptomb_three_nodes", &Arms::same(bench)).with_load(load);
        interleave_by(scope, &bounds::PLACEMENTS, vec![vec![case]], &module).await
    })
    .await
}

/// Compares two meshed pods at `places` that opt out of the bypass with their twins that do not.
async fn bypass(
    scope: &Scope,
    id: &str,
    treated: Treated,
    places: impl AsyncFnOnce(&Cluster) -> meshproof::compare::Result<Places>,
) -> Result<(), Error> {
    let cluster = Bench::first_cluster(&scope.testbed)?;
    let places = places(cluster).await?;
    let bypass = TcpBypass::find(scope, cluster)?;
    bypass.switch_on(scope, treated).await?;
    let arms = both(scope, cluster, &places, Side::MeshedTwin, Side::Meshed).await?;
    Box::pin(interleave_by(scope, &bounds::PLACEMENTS, vec![vec![Case::new(id, &arms)]], &bypass)).await
}

crate::trials! {
    #[ignore = "needs a cluster of several nodes"]
    bypass_on_one_node,
    #[ignore = "needs a cluster of several nodes"]
    bypass_between_pods_of_one_node,
    #[ignore = "needs a cluster of several nodes"]
    bypass_across_nodes_has_no_effect,
    #[ignore = "needs a cluster of several nodes"]
    cryptomb_on_three_nodes,
}
