//! Two arms in turn, until each comparison is decided.

use std::path::Path;
use std::sync::Arc;

use meshproof::judge::{Arm, Bounds, Decision, Judge, Mode, Run, Trial, recorded, table};
use meshproof::load::{Bench, Quiet, Side};
use meshproof::report::{self, Host, Steal};
use meshproof::treatment::{Counters, TcpBypass};
use meshproof::{Cluster, Error, Scope};
use serde_json::json;

use super::{CLUSTER, SUITE};

/// What the seed's benchmark asks fortio's echo server for: an answer of 1 KiB.
const ECHO: &str = "/echo?size=1024";

/// Share of p99 that may be the load driver's own waiting for a processor before a run is refused. Client, server and both
/// proxies share two cores, and the proxies take all that they are given: the driver waits its turn, in both arms alike.
/// At a quarter, a change of 10 % still shows as one of 7.5 %.
const TOLERANCE: &str = "0.25";

/// A comparison of `bounds.toml`, and what is asked for in each arm.
pub(crate) struct Row {
    id: String,
    control: &'static str,
    treatment: &'static str,
}

impl Row {
    /// The comparison of that id, with the seed's request in both arms.
    pub(crate) fn of(id: &str) -> Self {
        Self { id: id.to_owned(), control: ECHO, treatment: ECHO }
    }

    /// With another request in one arm.
    pub(crate) fn with_path(self, arm: Arm, path: &'static str) -> Self {
        match arm {
            Arm::Control => Self { control: path, ..self },
            Arm::Treatment => Self { treatment: path, ..self },
        }
    }

    fn path(&self, arm: Arm) -> &'static str {
        match arm {
            Arm::Control => self.control,
            Arm::Treatment => self.treatment,
        }
    }
}

/// Runs the rows in both arms, ABBA, BAAB, …, each arm prepared once for all rows that are still open, until every one is
/// decided or its budget is spent. Prints the tables.
pub(crate) async fn interleave<const N: usize>(
    scope: &Scope,
    rows: [Row; N],
    bypass: Option<&TcpBypass>,
    mut prepare: impl AsyncFnMut(Arm) -> Result<Bench, Error>,
) -> Result<(), Error> {
    let bounds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/perf/bounds.toml");
    let bounds = Bounds::load(&bounds, Mode::selected())?;
    let runs = report::directory(SUITE).join("runs");
    let host = Host::this();
    let mut open = Vec::new();
    for row in rows {
        let trial = bounds.trial(&row.id).expect("every row of this suite is in bounds.toml").clone();
        recorded::clear(&runs, &trial.id)?;
        open.push((Judge::new(&trial), row, trial));
    }
    let quiet = Quiet::but(scope, CLUSTER)?;
    if quiet.is_none() {
        eprintln!("note: this testbed cannot pause clusters, so others run beside what is timed");
    }
    let mut all = Vec::new();
    while let Some((judge, ..)) = open.first() {
        // All that are still open are at the same place.
        let (arm, order) = (judge.arm(), judge.order());
        let bench = prepare(arm).await?;
        let mut still = Vec::new();
        for (mut judge, row, trial) in open {
            let run = one(&bench, &trial, order, &host, row.path(arm), bypass).await?;
            judge.push(run.record(&runs)?)?;
            match judge.decide() {
                Decision::Continue { .. } => still.push((judge, row, trial)),
                Decision::Done(comparisons) => all.extend(comparisons),
            }
        }
        open = still;
    }
    drop(quiet);
    for table in table::beside_others(&all) {
        println!("{table}");
    }
    println!("{}", table::comparisons(&all));
    scope.compare(all);
    Ok(())
}

/// One run: load, costs, receipts.
async fn one(
    bench: &Bench,
    trial: &Trial,
    order: u32,
    host: &Host,
    path: &str,
    bypass: Option<&TcpBypass>,
) -> Result<Run, Error> {
    let plan = &trial.plan;
    let seconds = |seconds: f64| format!("{seconds}s");
    let mut arguments = vec!["--path".to_owned(), path.to_owned()];
    arguments.extend(["--connections".into(), plan.connections.to_string()]);
    arguments.extend(["--duration".into(), seconds(plan.run_s + plan.warmup_s)]);
    arguments.extend(["--warmup".into(), seconds(plan.warmup_s)]);
    arguments.extend(["--tolerance".into(), TOLERANCE.into()]);
    if let Some(rate) = plan.rate {
        arguments.extend(["--rate".into(), rate.to_string()]);
    }
    let steal = Steal::begin();
    let handshakes = bench.tls_handshakes().await?;
    let before = counters(bypass).await?;
    let mut run = bench.run(&trial.id, order, host, &arguments).await?;
    // Arms may differ by what they ask for; the plan is what they have in common.
    run.plan = json!(plan);
    run.plan["tolerance"] = TOLERANCE.into();
    let after = counters(bypass).await?;
    let redirected = after.redirected_messages().saturating_sub(before.redirected_messages()) as f64;
    run.receipts.insert("redirected_messages".into(), redirected);
    run.receipts.insert("redirected_messages_per_request".into(), redirected / run.requests.max(1) as f64);
    let failures = after.failures.total().saturating_sub(before.failures.total());
    run.receipts.insert("bypass_failures".into(), failures as f64);
    if let (Some(before), Some(after)) = (handshakes, bench.tls_handshakes().await?) {
        run.receipts.insert("tls_handshakes".into(), after.saturating_sub(before) as f64);
    }
    run.host.steal = steal.share();
    Ok(run)
}

async fn counters(bypass: Option<&TcpBypass>) -> Result<Counters, Error> {
    match bypass {
        Some(bypass) => bypass.counters().await,
        None => Ok(Counters::default()),
    }
}

/// Sets the mode of mutual TLS at the server, and at its clients what agrees with it, until the test ends.
pub(crate) async fn mtls(scope: &Scope, cluster: &Arc<Cluster>, mode: &str) -> Result<(), Error> {
    let namespace = Side::Meshed.namespace();
    let metadata = json!({ "name": "server", "namespace": namespace });
    let server = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": metadata,
        "spec": { "selector": { "matchLabels": { "app": "server" } }, "mtls": { "mode": mode } },
    });
    let tls = if mode == "DISABLE" { "DISABLE" } else { "ISTIO_MUTUAL" };
    let client = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": metadata,
        "spec": {
            "host": format!("server.{namespace}.svc.cluster.local"),
            "trafficPolicy": { "tls": { "mode": tls } },
        },
    });
    scope.lend(cluster, server).await?;
    scope.lend(cluster, client).await
}
