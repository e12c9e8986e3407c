//! One run of a comparison: load, costs, receipts. Also the profile of an unjudged run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::try_join;
use serde_json::json;

use super::bench::ECHO;
use super::{Bench, Case, Counted, CountedRun, Isolation, K6Spec, Load, Profiler, RunSpec, Treatment};
use crate::cluster;
use crate::host::{Host, Steal};
use crate::judge::{Arm, Refusal, Run, Trial};
use crate::scope::{Error, Result};

/// Receipt: the share of its single core that the gateway used.
pub const GATEWAY_BUSY: &str = "gateway_busy";

/// Receipt: TLS handshakes completed by the proxy of the gateway, or of the server if there is no gateway. Read only if
/// the bounds ask for it. A treatment whose own handshakes are counted subtracts them.
pub const TLS_HANDSHAKES: &str = "tls_handshakes";

/// A run is refused if the load driver's own wait for a processor exceeds this share of the latency at the judged
/// quantile. Client, server and both proxies share two cores, and the proxies use all CPU time they get. So the driver
/// waits in both arms alike. At a share of 0.25, a change of 10 % still shows as a change of 7.5 %.
const TOLERANCE: f64 = 0.25;

/// Longest profile, in seconds. Two seconds give four thousand samples of two processors.
const PROFILED: f64 = 2.0;

/// The subject of a measurement.
pub(super) struct Measured {
    pub(super) case: Case,
    pub(super) trial: Trial,
}

/// Makes runs.
pub(super) struct Runner<'a, T> {
    treatment: &'a T,
    host: Host,
    /// Directory of the suite's report.
    directory: &'a Path,
    runs: PathBuf,
    /// Freezes everything else during a run.
    pub(super) isolation: Option<&'a Isolation>,
}

impl<'a, T: Treatment> Runner<'a, T> {
    pub(super) fn new(treatment: &'a T, host: Host, directory: &'a Path) -> Self {
        Self { treatment, host, directory, runs: directory.join("runs"), isolation: None }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Directory of recorded runs.
    pub(super) fn runs(&self) -> &Path {
        &self.runs
    }

    /// Makes one attempt at run number `order`. An attempt interrupted by a failed command is recorded as such. If an
    /// earlier attempt at the same run `was_interrupted`, the failure is an error.
    pub(super) async fn attempt(&self, measured: &Measured, order: u32, was_interrupted: bool) -> Result<Run> {
        match self.run(measured, order, crate::judge::arm(order)).await {
            // A command in a container occasionally ends without its output.
            Err(error @ Error::Cluster(cluster::Error::Exec { .. })) if !was_interrupted => {
                let mut run = Run::new(&measured.trial.id, order, self.host.clone(), json!(measured.trial.plan));
                run.refused = vec![Refusal::interrupted(error.to_string())];
                Ok(run)
            }
            run => run,
        }
    }

    /// Makes one run: load, costs, receipts.
    async fn run(&self, measured: &Measured, order: u32, arm: Arm) -> Result<Run> {
        let Measured { case, trial } = measured;
        let (bench, load) = (case.arms.bench(arm), case.load(arm));
        let handshakes = async || match trial.receipts.contains_key(TLS_HANDSHAKES) {
            true => Ok::<_, Error>(bench.tls_handshakes().await?),
            false => Ok(None),
        };
        let counts = async || try_join!(handshakes(), self.treatment.count(bench));
        let steal = Steal::begin();
        let CountedRun { mut run, counted: Counted { before, after } } = match load {
            Load::Driver(arguments) => self.driven(bench, trial, order, arguments, counts).await?,
            Load::K6 { server_name } => {
                let spec = k6_spec(trial, server_name);
                bench.run_k6(&trial.id, order, &self.host, &spec, self.isolation, counts).await?
            }
        };
        // Arms may differ in their load. The plan is what the arms share.
        run.plan = json!(trial.plan);
        if let Load::Driver(_) = load {
            // The tolerance within which the driver does not call itself the bottleneck. k6 has none.
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

    /// Makes load with the driver.
    async fn driven<C>(
        &self,
        bench: &Bench,
        trial: &Trial,
        order: u32,
        arguments: &[String],
        counts: impl AsyncFn() -> Result<C>,
    ) -> Result<CountedRun<C>> {
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

    /// Path of an arm's flame graph.
    pub(super) fn flame_graph(&self, comparison: &str, arm: Arm) -> PathBuf {
        self.directory.join("profiles").join(format!("{}-{arm}.svg", comparison.replace('/', "-")))
    }

    /// Describes where processor time goes in each arm, for a missed goal. The verdict does not depend on it, so an
    /// error is reported as text.
    pub(super) async fn profiles(&self, measured: &Measured) -> Vec<String> {
        let mut notes = Vec::new();
        for arm in [Arm::Control, Arm::Treatment] {
            let told = self.profile(measured, arm).await.unwrap_or_else(|error| error.to_string());
            notes.push(format!("processor time, {arm}: {told}"));
        }
        notes
    }

    /// Makes one more run, unjudged, and returns its profile as text. Also draws the flame graph.
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

/// Length of each run of a comparison, warm-up included.
pub(super) fn length(trial: &Trial) -> Duration {
    Duration::from_secs_f64(trial.plan.run_s + trial.plan.warmup_s)
}

/// Time for requests in flight at the end of a run. Each connection has one such request. With many connections these
/// are over 1 % of all requests, so the freeze must include their answers. At saturation the median wait was at most
/// 0.9 ms per connection.
pub(super) fn drain(trial: &Trial) -> Duration {
    Duration::from_millis(50) + Duration::from_millis(1) * trial.plan.connections
}
