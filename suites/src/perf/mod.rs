//! Changes of p99 latency: the TCP bypass, multi-buffer TLS, sidecars, mutual TLS, and controls that show that this
//! suite detects a change.
//!
//! Needs a live testbed (`cargo xtask testbed up`). Runs of two arms alternate. Bounds are in
//! `fixtures/perf/bounds.toml`. docs/explanation/how-it-judges.md explains how far to trust a verdict. Runs are in
//! `target/meshproof/perf/runs`, verdicts in `target/meshproof/perf/report.json`. `cargo xtask report
//! target/meshproof/perf` draws them. `MESHPROOF_PERF=full` selects the seed's durations.

mod bounds;
mod cryptomb;
mod placement;
mod treatment;

use std::sync::Arc;

use futures::try_join;
use meshproof::compare::{self, Arms, Bench, Case, Load, Places, Setting, Side, Treatment, Untreated};
use meshproof::judge::{Arm, Mode};
use meshproof::record::Requirement;
use meshproof::{Cluster, Error, Scope, Verdict};
use serde_json::json;

use treatment::{TcpBypass, Treated};

const SUITE: &str = "perf";

/// The p99 of meshed calls with the bypass to that without, at 16 to 128 connections.
///
/// Red if: the arms are exchanged (a receipt refuses the control: its messages were redirected).
async fn bypass_p99() -> Verdict {
    timed("bypass_p99", async |scope| {
        let cluster = Bench::first_cluster(&scope.testbed)?;
        let bypass = TcpBypass::find(scope, cluster)?;
        let arms = under(scope, cluster, &bypass, Side::MeshedTwin, Side::Meshed).await?;
        let groups = ["16", "32", "64", "128"].map(|row| vec![Case::new(format!("bypass_p99/{row}"), &arms)]);
        interleave(scope, groups.into(), &bypass).await
    })
    .await
}

/// The p99 of two equal arms is the same, within a factor of 1.25.
///
/// Red if: the treatment answers 20 ms later. Not red at 2 ms, which move p50 by a third and p99 (20 ms) not at all.
async fn aa_two_equal_arms_do_not_differ() -> Verdict {
    timed("aa", async |scope| {
        let cluster = Bench::first_cluster(&scope.testbed)?;
        let bypass = TcpBypass::find(scope, cluster)?;
        let arms = both(scope, cluster, &Places::one_node(cluster).await?, Side::MeshedTwin, Side::Meshed).await?;
        interleave(scope, vec![vec![Case::new("aa", &arms)]], &bypass).await
    })
    .await
}

/// Calls between pods without proxies, on a node with the bypass and without.
///
/// Red if: the treatment answers 2 ms later (p50 25 times as long).
async fn bypass_naked_has_no_effect_where_there_is_no_proxy() -> Verdict {
    timed("bypass_naked", async |scope| {
        let cluster = Bench::first_cluster(&scope.testbed)?;
        let bypass = TcpBypass::find(scope, cluster)?;
        let arms = under(scope, cluster, &bypass, Side::NakedTwin, Side::Naked).await?;
        interleave(scope, vec![vec![Case::new("bypass_naked", &arms)]], &bypass).await
    })
    .await
}

/// A delay of 2 ms in one arm is found.
///
/// Red if: neither arm has the delay.
async fn delay_2ms_is_seen() -> Verdict {
    timed("delay_2ms", async |scope| {
        let cluster = Bench::first_cluster(&scope.testbed)?;
        let places = Places::one_node(cluster).await?;
        let bench = Bench::start(scope, cluster, &places, Side::Meshed, Side::Meshed).await?;
        // The echo server delays its answer on request.
        let delay = |arm| if arm == Arm::Treatment { "&delay=2ms" } else { "" };
        let load = |arm| Load::Driver(vec![format!("--path=/echo?size=1024{}", delay(arm))]);
        let case = Case::new("delay_2ms", &Arms::same(bench)).with_load(load);
        interleave(scope, vec![vec![case]], &Untreated).await
    })
    .await
}

async fn sidecar_overhead() -> Verdict {
    timed("sidecar_overhead", async |scope| {
        let cluster = Bench::first_cluster(&scope.testbed)?;
        // PERMISSIVE admits a client without a proxy.
        mtls(scope, cluster, Side::Meshed, "PERMISSIVE").await?;
        let places = Places::one_node(cluster).await?;
        let control = Bench::start(scope, cluster, &places, Side::Naked, Side::Naked).await?;
        let mut cases = Vec::new();
        for (row, client, server) in [
            ("client", Side::Meshed, Side::Naked),
            ("server", Side::Naked, Side::Meshed),
            ("both", Side::Meshed, Side::Meshed),
        ] {
            let treatment = Bench::start(scope, cluster, &places, client, server).await?;
            let arms = Arms { control: control.clone(), treatment };
            cases.push(Case::new(format!("sidecar_overhead/{row}"), &arms));
        }
        interleave(scope, vec![cases], &Untreated).await
    })
    .await
}

/// What mutual TLS costs between two sidecars.
///
/// Red if: the control has mutual TLS too (a receipt refuses it: it made handshakes).
async fn mtls_overhead() -> Verdict {
    timed("mtls_overhead", async |scope| {
        let cluster = Bench::first_cluster(&scope.testbed)?;
        // Set the mode before there are pods, so that their proxies have no connection with another mode.
        mtls(scope, cluster, Side::MeshedTwin, "DISABLE").await?;
        let arms = both(scope, cluster, &Places::one_node(cluster).await?, Side::MeshedTwin, Side::Meshed).await?;
        interleave(scope, vec![vec![Case::new("mtls_overhead", &arms)]], &Untreated).await
    })
    .await
}

/// Like [`Scope::alone`], but refuses an unknown mode before anything starts.
async fn timed(test: &str, body: impl AsyncFnOnce(&Scope) -> Result<(), Error>) -> Verdict {
    timed_as(SUITE, test, body).await
}

/// Like [`timed`], with the report of another suite.
async fn timed_as(suite: &'static str, test: &str, body: impl AsyncFnOnce(&Scope) -> Result<(), Error>) -> Verdict {
    Scope::alone(suite, test, async |scope| {
        Mode::selected()?;
        scope.requires([Requirement::Bench])?;
        // Boxed: the compiler's limit on nested futures.
        Box::pin(body(scope)).await
    })
    .await
}

/// Like [`both`], on one node, after the bypass is switched on: the bypass does not affect earlier connections.
async fn under(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    bypass: &TcpBypass,
    control: Side,
    treatment: Side,
) -> Result<Arms, Error> {
    bypass.switch_on(scope, Treated::All).await?;
    both(scope, cluster, &Places::one_node(cluster).await?, control, treatment).await
}

/// A client and a server for each arm.
async fn both(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    places: &Places,
    control: Side,
    treatment: Side,
) -> Result<Arms, Error> {
    let start = async |side| Bench::start(scope, cluster, places, side, side).await;
    let (control, treatment) = try_join!(start(control), start(treatment))?;
    Ok(Arms { control, treatment })
}

/// Like [`compare::interleave`], with this suite's bounds.
async fn interleave(scope: &Scope, groups: Vec<Vec<Case>>, treatment: &impl Treatment) -> Result<(), Error> {
    interleave_by(scope, &bounds::SUITE, groups, treatment).await
}

/// Like [`interleave`], with other bounds.
async fn interleave_by(
    scope: &Scope,
    bounds: &bounds::File,
    groups: Vec<Vec<Case>>,
    treatment: &impl Treatment,
) -> Result<(), Error> {
    let bounds = bounds.write(scope.directory())?;
    let setting = Setting { bounds: &bounds, mode: Mode::selected()? };
    compare::interleave(scope, &setting, groups, treatment).await
}

/// Sets the mutual TLS mode of the server of `side` until the test ends. The clients learn the mode from the control
/// plane.
async fn mtls(scope: &Scope, cluster: &Arc<Cluster>, side: Side, mode: &str) -> Result<(), Error> {
    let server = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "server", "namespace": side.namespace(cluster)? },
        "spec": { "selector": { "matchLabels": { "app": "server" } }, "mtls": { "mode": mode } },
    });
    scope.place(cluster, server).await
}

crate::trials! {
    bypass_p99,
    aa_two_equal_arms_do_not_differ,
    bypass_naked_has_no_effect_where_there_is_no_proxy,
    delay_2ms_is_seen,
    sidecar_overhead,
    mtls_overhead,
    mod cryptomb,
    mod placement,
}
