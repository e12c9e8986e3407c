//! One run of a comparison: load, costs, receipts; and the profile of a run that is not judged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::try_join;
use serde_json::json;

use super::bench::ECHO;
use super::{Bench, Case, Counted, Isolation, K6Spec, Load, Profiler, RunSpec, Treatment};
use crate::cluster;
use crate::host::{Host, Steal};
use crate::judge::{Arm, Refusal, Run, Trial};
use crate::scope::{Error, Result};

/// Receipt: the share of its one core that the gateway used.
pub const GATEWAY_BUSY: &str = "gateway_busy";

/// Receipt: handshakes that the TLS of the gateway's, or else the server's, proxy completed. Read only where the bounds
/// ask for it. A treatment that is counted among them subtracts its own.
pub const TLS_HANDSHAKES: &str = "tls_handshakes";

/// Share of the latency, at the quantile that is judged, that may be the load driver's own waiting for a processor
/// before a run is refused. Client, server and both proxies share two cores, and the proxies take all that they are
/// given: the driver waits its turn, in both arms alike. At a quarter, a change of 10 % still shows as one of 7.5 %.
const TOLERANCE: f64 = 0.25;

/// Seconds that a profile is of, at most: in two, four thousand samples of two processors are taken.
const PROFILED: f64 = 2.0;

/// What is measured.
pub(super) struct Measured {
    pub(super) case: Case,
    pub(super) trial: Trial,
}

/// Makes runs.
pub(super) struct Runner<'a, T> {
    treatment: &'a T,
    host: Host,
    /// Of the suite's report.
    directory: &'a Path,
    runs: PathBuf,
    /// What freezes all else during a run.
    pub(super) isolation: Option<&'a Isolation>,
}

impl<'a, T: Treatment> Runner<'a, T> {
    pub(super) fn new(treatment: &'a T, host: Host, directory: &'a Path) -> Self {
        Self { treatment, host, directory, runs: directory.join("runs"), isolation: None }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Where runs are recorded.
    pub(super) fn runs(&self) -> &Path {
        &self.runs
    }

    /// One attempt at the run in place `order`. An attempt that a failing command interrupts has measured nothing, and
    /// is recorded as well; where an earlier attempt at the same run `was_interrupted`, the failure is no accident, and
    /// an error.
    pub(super) async fn attempt(&self, measured: &Measured, order: u32, was_interrupted: bool) -> Result<Run> {
        match self.run(measured, order, crate::judge::arm(order)).await {
            // Of some hundreds of commands that are run in containers over an API server, one ends without what it has
            // printed.
            Err(error @ Error::Cluster(cluster::Error::Exec { .. })) if !was_interrupted => {
                let mut run = Run::new(&measured.trial.id, order, self.host.clone(), json!(measured.trial.plan));
                run.refused = vec![Refusal::interrupted(error.to_string())];
                Ok(run)
            }
            run => run,
        }
    }

    /// One run: load, costs, receipts.
    async fn run(&self, measured: &Measured, order: u32, arm: Arm) -> Result<Run> {
        let Measured { case, trial } = measured;
        let (bench, load) = (case.arms.bench(arm), case.load(arm));
        let handshakes = async || match trial.receipts.contains_key(TLS_HANDSHAKES) {
            true => Ok::<_, Error>(bench.tls_handshakes().await?),
            false => Ok(None),
        };
        let counts = async || try_join!(handshakes(), self.treatment.count(bench));
        let steal = Steal::begin();
        let (mut run, [before, after]) = match load {
            Load::Driver(arguments) => self.driven(bench, trial, order, arguments, counts).await?,
            Load::K6 { server_name } => {
                let spec = k6_spec(trial, server_name);
                bench.run_k6(&trial.id, order, &self.host, &spec, self.isolation, counts).await?
            }
        };
        // Arms may differ in their load; the plan is what they have in common.
        run.plan = json!(trial.plan);
        if let Load::Driver(_) = load {
            // When the driver calls itself the bottleneck; k6 does not.
            run.plan["tolerance"] = TOLERANCE.into();
            run.plan["judged_quantile"] = trial.judged_quantile().into();
        }
        if let (Some(cost), Some(rate)) =
            (run.metrics.get("cpu_us_per_request/gateway"), run.metrics.get("requests_per_second"))
        {
            run.receipts.insert(GATEWAY_BUSY.into(), cost.value * rate.value / 1e6);
        }
        if let (Some(before), Some(after)) = (before.0, after.0) {
            run.receipts.insert(TLS_HANDSHAKES.into(), after.saturating_sub(before) as f64);
        }
        self.treatment.receipts(&Counted { before: before.1, after: after.1 }, &mut run);
        run.host.steal = steal.share();
        Ok(run)
    }

    /// Load by the driver.
    async fn driven<C>(
        &self,
        bench: &Bench,
        trial: &Trial,
        order: u32,
        arguments: &[String],
        counts: impl AsyncFn() -> Result<C>,
    ) -> Result<(Run, [C; 2])> {
        let plan = &trial.plan;
        let mut arguments = arguments.to_vec();
        arguments.extend(["--connections".into(), plan.connections.to_string()]);
        arguments.extend(["--warmup".into(), format!("{}s", plan.warmup_s)]);
        arguments.extend(["--tolerance".into(), TOLERANCE.to_string()]);
        arguments.extend(["--judged-quantile".into(), trial.judged_quantile().to_string()]);
        if let Some(rate) = plan.rate {
            arguments.extend(["--rate".into(), rate.to_string()]);
        }
        let spec = RunSpec {
            comparison: &trial.id,
            order,
            host: &self.host,
            length: length(trial),
            drain: drain(trial),
            arguments: &arguments,
            isolation: self.isolation,
        };
        Ok(bench.run_between(&spec, counts).await?)
    }

    /// Where the flame graph of an arm is drawn.
    pub(super) fn flame_graph(&self, comparison: &str, arm: Arm) -> PathBuf {
        self.directory.join("profiles").join(format!("{}-{arm}.svg", comparison.replace('/', "-")))
    }

    /// Where processor time goes in each arm, in words, for a goal that was not reached. A verdict stands without it,
    /// so what went wrong is told in its place.
    pub(super) async fn profiles(&self, measured: &Measured) -> Vec<String> {
        let mut notes = Vec::new();
        for arm in [Arm::Control, Arm::Treatment] {
            let told = self.profile(measured, arm).await.unwrap_or_else(|error| error.to_string());
            notes.push(format!("processor time, {arm}: {told}"));
        }
        notes
    }

    /// One more run, which is not judged, as a flame graph and in words.
    async fn profile(&self, measured: &Measured, arm: Arm) -> Result<String> {
        let mut trial = measured.trial.clone();
        trial.plan.run_s = trial.plan.run_s.min(PROFILED);
        let profiler = Profiler::begin(length(&trial))?;
        let path = self.flame_graph(&trial.id, arm);
        self.run(&Measured { case: measured.case.clone(), trial }, 0, arm).await?;
        let profile = profiler.finish()?;
        profile.draw(&format!("{}, {arm}", measured.trial.id), &path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(format!("{} (profiles/{name})", profile.summary()))
    }
}

fn k6_spec(trial: &Trial, server_name: &str) -> K6Spec {
    let plan = &trial.plan;
    K6Spec {
        users: plan.connections,
        // k6 counts whole seconds and whole requests.
        seconds: length(trial).as_secs_f64().ceil() as u32,
        rate: plan.rate.map(|rate| rate as u32),
        name: server_name.to_owned(),
        path: ECHO.to_owned(),
        drain: drain(trial),
    }
}

/// How long each run of a comparison takes, warm-up included.
pub(super) fn length(trial: &Trial) -> Duration {
    Duration::from_secs_f64(trial.plan.run_s + trial.plan.warmup_s)
}

/// How long requests under way at the end of a run may take. Each connection has one then, and with many connections
/// those are more than a hundredth of all, so they must not be answered after the freeze. At saturation none waited for
/// more than 0.9 ms for each connection, at the median.
pub(super) fn drain(trial: &Trial) -> Duration {
    Duration::from_millis(50) + Duration::from_millis(1) * trial.plan.connections
}
