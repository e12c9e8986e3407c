//! Whether p99 moved: the TCP bypass, multi-buffer TLS, sidecars, mutual TLS, and the controls that show that this suite can tell.
//!
//! Needs a live testbed (`cargo xtask testbed up`). Runs of two arms alternate, and bounds are in
//! `fixtures/perf/bounds.toml`; docs/judging.md says how far a verdict can be believed. Every run is in
//! `target/meshproof/perf/runs`, verdicts in `target/meshproof/perf/report.json`; `cargo xtask report target/meshproof/perf`
//! draws them. `MESHPROOF_PERF=full` takes the seed's durations.

mod arms;
mod cryptomb;

use meshproof::judge::Arm;
use meshproof::load::{Bench, Side};
use meshproof::treatment::TcpBypass;
use meshproof::{Scope, Verdict};
use serial_test::file_serial;

use arms::{Applied, Row, interleave};

const SUITE: &str = "perf";

/// The cluster where everything is timed; the others are paused.
const CLUSTER: &str = "cluster1";

#[tokio::test]
#[file_serial(perf)]
async fn bypass_p99() -> Verdict {
    Scope::run(SUITE, "bypass_p99", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        let bypass = TcpBypass::of(scope, cluster)?;
        let mut bench = Bench::start(scope, cluster, Side::Meshed, Side::Meshed).await?;
        let rows = ["16", "32", "64", "128"].map(|row| Row::of(&format!("bypass_p99/{row}")));
        let prepare = async |arm: Arm| {
            bypass.switch(scope, arm == Arm::Treatment).await?;
            // Connections made before do not count as treated: in both arms every one is new.
            bench.restart().await?;
            Ok(bench.clone())
        };
        interleave(scope, rows, Applied::Bypass(&bypass), prepare).await
    })
    .await
}

#[tokio::test]
#[file_serial(perf)]
async fn aa_two_equal_arms_do_not_differ() -> Verdict {
    Scope::run(SUITE, "aa", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        let bypass = TcpBypass::of(scope, cluster)?;
        let mut bench = Bench::start(scope, cluster, Side::Meshed, Side::Meshed).await?;
        let prepare = async |_: Arm| {
            bench.restart().await?;
            Ok(bench.clone())
        };
        interleave(scope, [Row::of("aa")], Applied::Bypass(&bypass), prepare).await
    })
    .await
}

#[tokio::test]
#[file_serial(perf)]
async fn bypass_naked_has_no_effect_where_there_is_no_proxy() -> Verdict {
    Scope::run(SUITE, "bypass_naked", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        let bypass = TcpBypass::of(scope, cluster)?;
        let mut bench = Bench::start(scope, cluster, Side::Naked, Side::Naked).await?;
        let prepare = async |arm: Arm| {
            bypass.switch(scope, arm == Arm::Treatment).await?;
            bench.restart().await?;
            Ok(bench.clone())
        };
        interleave(scope, [Row::of("bypass_naked")], Applied::Bypass(&bypass), prepare).await
    })
    .await
}

#[tokio::test]
#[file_serial(perf)]
async fn delay_2ms_is_seen() -> Verdict {
    Scope::run(SUITE, "delay_2ms", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        let bench = Bench::start(scope, cluster, Side::Meshed, Side::Meshed).await?;
        // The echo server waits before it answers, if it is asked to.
        let delay = |arm| if arm == Arm::Treatment { "&delay=2ms" } else { "" };
        let row = Row::of("delay_2ms").asking(|arm| vec![format!("--path=/echo?size=1024{}", delay(arm))]);
        interleave(scope, [row], Applied::Nothing, async |_: Arm| Ok(bench.clone())).await
    })
    .await
}

#[tokio::test]
#[file_serial(perf)]
async fn sidecar_overhead() -> Verdict {
    Scope::run(SUITE, "sidecar_overhead", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        // A client without a proxy is let in for this.
        arms::mtls(scope, cluster, "PERMISSIVE").await?;
        let naked = Bench::start(scope, cluster, Side::Naked, Side::Naked).await?;
        for (row, client, server) in [
            ("client", Side::Meshed, Side::Naked),
            ("server", Side::Naked, Side::Meshed),
            ("both", Side::Meshed, Side::Meshed),
        ] {
            let treated = Bench::start(scope, cluster, client, server).await?;
            let prepare = async |arm: Arm| Ok(if arm == Arm::Treatment { treated.clone() } else { naked.clone() });
            interleave(scope, [Row::of(&format!("sidecar_overhead/{row}"))], Applied::Nothing, prepare).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
#[file_serial(perf)]
async fn mtls_overhead() -> Verdict {
    Scope::run(SUITE, "mtls_overhead", async |scope| {
        let cluster = scope.testbed.cluster(CLUSTER)?;
        let mut bench = Bench::start(scope, cluster, Side::Meshed, Side::Meshed).await?;
        let prepare = async |arm: Arm| {
            arms::mtls(scope, cluster, if arm == Arm::Treatment { "STRICT" } else { "DISABLE" }).await?;
            // New proxies begin with the new policy, and without a connection of the old.
            bench.restart().await?;
            Ok(bench.clone())
        };
        interleave(scope, [Row::of("mtls_overhead")], Applied::Nothing, prepare).await
    })
    .await
}
