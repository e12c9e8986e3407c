//! Whether p99 moved: the TCP bypass, multi-buffer TLS, sidecars, mutual TLS, and the controls that show that this suite can tell.
//!
//! Needs a live testbed (`cargo xtask testbed up`). Runs of two arms alternate, and bounds are in
//! `fixtures/perf/bounds.toml`; docs/explanation/how-it-judges.md says how far a verdict can be believed. Every run is in
//! `target/meshproof/perf/runs`, verdicts in `target/meshproof/perf/report.json`; `cargo xtask report target/meshproof/perf`
//! draws them. `MESHPROOF_PERF=full` takes the seed's durations.

mod arms;
mod cryptomb;
mod receipts;

use std::sync::Arc;

use futures::try_join;
use meshproof::compare::{Bench, Side};
use meshproof::judge::{Arm, Mode};
use meshproof::treatment::TcpBypass;
use meshproof::{Cluster, Error, Scope, Verdict};
use serial_test::file_serial;

use arms::{Asking, Benches, Row, interleave};
use receipts::Applied;

const SUITE: &str = "perf";

/// The cluster where everything is timed; the others are paused.
const CLUSTER: &str = "cluster1";

#[tokio::test]
#[file_serial(mesh)]
async fn bypass_p99() -> Verdict {
    timed("bypass_p99", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        let bypass = TcpBypass::of(scope, cluster)?;
        let benches = under(scope, cluster, &bypass, Side::MeshedTwin, Side::Meshed).await?;
        let rows = ["16", "32", "64", "128"].map(|row| vec![Row::of(&format!("bypass_p99/{row}"), &benches)]);
        interleave(scope, rows.into(), Applied::Bypass(&bypass)).await
    })
    .await
}

#[tokio::test]
#[file_serial(mesh)]
async fn aa_two_equal_arms_do_not_differ() -> Verdict {
    timed("aa", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        let bypass = TcpBypass::of(scope, cluster)?;
        let benches = both(scope, cluster, Side::MeshedTwin, Side::Meshed).await?;
        interleave(scope, vec![vec![Row::of("aa", &benches)]], Applied::Bypass(&bypass)).await
    })
    .await
}

#[tokio::test]
#[file_serial(mesh)]
async fn bypass_naked_has_no_effect_where_there_is_no_proxy() -> Verdict {
    timed("bypass_naked", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        let bypass = TcpBypass::of(scope, cluster)?;
        let benches = under(scope, cluster, &bypass, Side::NakedTwin, Side::Naked).await?;
        interleave(scope, vec![vec![Row::of("bypass_naked", &benches)]], Applied::Bypass(&bypass)).await
    })
    .await
}

#[tokio::test]
#[file_serial(mesh)]
async fn delay_2ms_is_seen() -> Verdict {
    timed("delay_2ms", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        let bench = Bench::start(scope, cluster, Side::Meshed, Side::Meshed).await?;
        // The echo server waits before it answers, if it is asked to.
        let delay = |arm| if arm == Arm::Treatment { "&delay=2ms" } else { "" };
        let asking = |arm| Asking::Driver(vec![format!("--path=/echo?size=1024{}", delay(arm))]);
        let row = Row::of("delay_2ms", &Benches::same(bench)).asking(asking);
        interleave(scope, vec![vec![row]], Applied::Nothing).await
    })
    .await
}

#[tokio::test]
#[file_serial(mesh)]
async fn sidecar_overhead() -> Verdict {
    timed("sidecar_overhead", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        // A client without a proxy is let in for this.
        arms::mtls(scope, cluster, Side::Meshed, "PERMISSIVE").await?;
        let control = Bench::start(scope, cluster, Side::Naked, Side::Naked).await?;
        let mut rows = Vec::new();
        for (row, client, server) in [
            ("client", Side::Meshed, Side::Naked),
            ("server", Side::Naked, Side::Meshed),
            ("both", Side::Meshed, Side::Meshed),
        ] {
            let treatment = Bench::start(scope, cluster, client, server).await?;
            let benches = Benches { control: control.clone(), treatment };
            rows.push(Row::of(&format!("sidecar_overhead/{row}"), &benches));
        }
        interleave(scope, vec![rows], Applied::Nothing).await
    })
    .await
}

#[tokio::test]
#[file_serial(mesh)]
async fn mtls_overhead() -> Verdict {
    timed("mtls_overhead", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        // Before there are pods: their proxies begin with it, and without a connection of another mode.
        arms::mtls(scope, cluster, Side::MeshedTwin, "DISABLE").await?;
        let benches = both(scope, cluster, Side::MeshedTwin, Side::Meshed).await?;
        interleave(scope, vec![vec![Row::of("mtls_overhead", &benches)]], Applied::Nothing).await
    })
    .await
}

/// As [`Scope::run`], once it is clear how long to measure: a mode that there is not is refused before anything starts.
async fn timed(test: &str, body: impl AsyncFnOnce(&Scope) -> Result<(), Error>) -> Verdict {
    Scope::run(SUITE, test, async |scope| {
        Mode::selected()?;
        body(scope).await
    })
    .await
}

/// As [`both`], after the bypass was switched on: connections made before do not count as treated.
async fn under(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    bypass: &TcpBypass,
    control: Side,
    treatment: Side,
) -> Result<Benches, Error> {
    bypass.switch(scope, true).await?;
    both(scope, cluster, control, treatment).await
}

/// A client and a server for each arm.
async fn both(scope: &Scope, cluster: &Arc<Cluster>, control: Side, treatment: Side) -> Result<Benches, Error> {
    let start = async |side| Bench::start(scope, cluster, side, side).await;
    let (control, treatment) = try_join!(start(control), start(treatment))?;
    Ok(Benches { control, treatment })
}
