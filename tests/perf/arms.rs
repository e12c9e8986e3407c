//! Two arms in turn, until each comparison is decided.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::try_join;
use meshproof::compare::{Asked, Bench, Profiler, QUIET_SHARE, Quiet, Side, Users};
use meshproof::host::{Awake, Host, Steal};
use meshproof::judge::Comparison;
use meshproof::judge::bounds::Receipt;
use meshproof::judge::{Arm, Baselines, Bounds, Decision, Judge, Mode, Run, Trial, recorded, turns};
use meshproof::record::fault;
use meshproof::report::{self, table};
use meshproof::treatment::TcpBypass;
use meshproof::{Cluster, Error, Scope, cluster};
use serde_json::json;

use super::receipts::{Applied, Counted, GATEWAY_BUSY, TLS_HANDSHAKES};
use super::{CLUSTER, SUITE};

/// What the seed's benchmark asks fortio's echo server for: an answer of 1 KiB.
const ECHO: &str = "/echo?size=1024";

/// Share of the latency, at the quantile that is judged, that may be the load driver's own waiting for a processor before a run
/// is refused. Client, server and both proxies share two cores, and the proxies take all that they are given: the driver waits
/// its turn, in both arms alike. At a quarter, a change of 10 % still shows as one of 7.5 %.
const TOLERANCE: f64 = 0.25;

/// How often a run is made again that did not load what it was to load: the generator was the bottleneck, or the gateway was
/// not. Such a run says nothing of the mesh, and is refused; where the machine's other guests take a processor for some seconds, one
/// of the next is sound. (Three in a row were not, within ten seconds, and two equal arms were left unjudged.)
const REPEATS: usize = 4;

/// Seconds that a profile is of, at most: ten, and what is made of them, were 107 s of one whole suite's time when they were as long
/// as the runs. In two, four thousand samples of two processors are taken.
const PROFILED: f64 = 2.0;

/// The judge decides after a block, in which both arms were first and second as often.
const RUNS_OF_A_BLOCK: usize = 4;

/// A comparison of `bounds.toml`, where each arm is measured, and what is asked for there.
pub(crate) struct Row {
    id: String,
    benches: Benches,
    control: Asking,
    treatment: Asking,
}

/// What a run asks for beside its plan, and of whom.
pub(crate) enum Asking {
    /// The driver, by arguments of its command line.
    Driver(Vec<String>),
    /// k6, for the gateway by that name.
    K6(&'static str),
}

impl Row {
    /// The comparison of that id, with the seed's request in both arms.
    pub(crate) fn of(id: &str, benches: &Benches) -> Self {
        let asking = || Asking::Driver(vec![format!("--path={ECHO}")]);
        Self { id: id.to_owned(), benches: benches.clone(), control: asking(), treatment: asking() }
    }

    /// With this asked for in each arm instead.
    pub(crate) fn asking(self, asking: impl Fn(Arm) -> Asking) -> Self {
        Self { control: asking(Arm::Control), treatment: asking(Arm::Treatment), ..self }
    }

    fn asked(&self, arm: Arm) -> &Asking {
        match arm {
            Arm::Control => &self.control,
            Arm::Treatment => &self.treatment,
        }
    }
}

impl Asking {
    /// The driver's arguments for the same.
    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Driver(arguments) => arguments.clone(),
            Self::K6(name) => by_name(name),
        }
    }
}

/// What the driver asks the gateway by that name for.
pub(crate) fn by_name(name: &str) -> Vec<String> {
    // The certificate signs itself; whether it is the same in both arms is not the driver's to say.
    let mut arguments = vec!["--tls".into(), "--insecure".into(), format!("--path={ECHO}")];
    arguments.extend([format!("--server-name={name}"), format!("--host={name}")]);
    arguments
}

/// Where each arm is measured. Both are there for as long as the comparison takes.
#[derive(Clone)]
pub(crate) struct Benches {
    pub(crate) control: Bench,
    pub(crate) treatment: Bench,
}

impl Benches {
    /// For arms that differ by what is asked for only.
    pub(crate) fn same(bench: Bench) -> Self {
        Self { control: bench.clone(), treatment: bench }
    }

    /// The namespaces of all of its pods.
    fn namespaces(&self) -> Vec<&'static str> {
        [&self.control, &self.treatment].into_iter().flat_map(Bench::namespaces).collect()
    }

    fn of(&self, arm: Arm) -> &Bench {
        match arm {
            Arm::Control => &self.control,
            Arm::Treatment => &self.treatment,
        }
    }
}

/// A row whose comparison is not decided yet.
struct Open {
    row: Row,
    trial: Trial,
    judge: Judge,
}

impl Open {
    fn begin(row: Row, bounds: &Bounds, baselines: &Baselines, runs: &Path, host: &Host) -> Result<Self, Error> {
        let trial = bounds.trial(&row.id).expect("every row of this suite is in bounds.toml");
        let trial = baselines.apply(trial, host);
        recorded::clear(runs, &trial.id)?;
        for arm in [Arm::Control, Arm::Treatment] {
            // An older one would be taken for this comparison's.
            let _ = std::fs::remove_file(flame_graph(&trial.id, arm));
        }
        Ok(Self { judge: Judge::new(&trial), row, trial })
    }

    /// Records a run among `runs`, and takes it as its next.
    fn take(&mut self, run: Run, runs: &Path) -> Result<(), Error> {
        Ok(self.judge.push(run.record(runs)?)?)
    }
}

/// Runs the groups in turn, each a block of both arms, ABBA, BAAB, …, until all comparisons are decided or their budgets are
/// spent. The rows of one group differ in the treatment only: each run of the control is one of all of them. Prints the tables.
pub(crate) async fn interleave(scope: &Scope, groups: Vec<Vec<Row>>, applied: Applied<'_>) -> Result<(), Error> {
    let bounds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/perf/bounds.toml");
    let baselines = Baselines::beside(&bounds)?;
    let bounds = Bounds::load(&bounds, Mode::selected()?)?;
    let runs = report::directory(SUITE).join("runs");
    // Where clusters can be paused, their nodes are this machine.
    let local = scope.testbed.record.capabilities.fault(fault::PAUSE_CLUSTER).is_some();
    let _awake = local.then(Awake::keep).and_then(|kept| {
        kept.inspect_err(|error| eprintln!("note: idle processors may sleep, and wake late: {error}")).ok()
    });
    let host = Host::this();
    let begin = |row| Open::begin(row, &bounds, &baselines, &runs, &host);
    let groups = groups.into_iter().map(|group| group.into_iter().map(begin).collect());
    let mut groups: VecDeque<Vec<Open>> = groups.collect::<Result<_, Error>>()?;
    let order: Vec<String> = groups.iter().flatten().map(|open| open.row.id.clone()).collect();
    // What is held still from here on no longer learns of new pods.
    for row in groups.iter().flatten().map(|open| &open.row) {
        for arm in [Arm::Control, Arm::Treatment] {
            row.benches.of(arm).answers(&row.asked(arm).arguments()).await?;
        }
    }
    // All else in the cluster for each run, or, where runs are too long for that, what can be spared for as long as it takes.
    let holds = groups.iter().flatten().all(|open| length(&open.trial) + drain(&open.trial) <= Quiet::LONGEST);
    let quiet = if holds {
        let measured = groups.iter().flatten().flat_map(|open| open.row.benches.namespaces());
        let spared: BTreeSet<&str> = measured.chain([TcpBypass::NAMESPACE]).collect();
        Quiet::sparing(scope, CLUSTER, &Vec::from_iter(spared))?
    } else {
        Quiet::but(scope, CLUSTER)?
    };
    if quiet.is_none() {
        eprintln!("note: this testbed cannot pause clusters, so others run beside what is timed");
    }
    let stage = Stage { applied, host, runs, quiet: quiet.as_ref().filter(|_| holds) };
    let (mut all, mut unexplained): (Vec<Comparison>, _) = (Vec::new(), Vec::new());
    while let Some(mut group) = groups.pop_front() {
        stage.block(&mut group).await?;
        let mut undecided = Vec::new();
        for open in group {
            let Decision::Done(comparisons) = open.judge.decide() else {
                undecided.push(open);
                continue;
            };
            if let Some(table) = table::iterations(&open.trial.id, open.trial.plan.connections, open.judge.runs()) {
                println!("{table}");
            }
            if comparisons.iter().any(Comparison::misses) {
                unexplained.push(open);
            }
            all.extend(comparisons);
        }
        if !undecided.is_empty() {
            groups.push_back(undecided);
        }
    }
    // When all are decided: the time that this takes is in no comparison's budget.
    for open in unexplained {
        let notes = stage.profiles(&open).await;
        for each in all.iter_mut().filter(|each| each.id == open.trial.id && each.misses()) {
            each.notes.extend_from_slice(&notes);
        }
    }
    drop(quiet);
    // They were decided in another order.
    all.sort_by_key(|comparison| order.iter().position(|id| *id == comparison.id));
    for table in table::beside_others(&all) {
        println!("{table}");
    }
    println!("{}", table::comparisons(&all));
    scope.compare(all);
    Ok(())
}

/// Why a run did not load what it was to load, if so; whatever it measured.
fn unloaded(trial: &Trial, run: &Run) -> Option<String> {
    let saturated = run.saturated.as_ref().map(|why| format!("the generator was the bottleneck: {why}"));
    // k6 does not say so itself.
    let unsent = run.dropped as f64 > trial.max_failed_share * run.requests as f64;
    let unsent =
        unsent.then(|| format!("{} of {} requests were not sent when they were due", run.dropped, run.requests));
    let quiet = run.receipts.get(QUIET_SHARE).filter(|share| **share < QUIET);
    let loud = quiet.map(|share| format!("the rest of the cluster was held still for {share:.2} of it only"));
    saturated.or(unsent).or(loud).or_else(|| {
        let busy = *run.receipts.get(GATEWAY_BUSY)?;
        let Receipt { control, treatment } = trial.receipts.get(GATEWAY_BUSY)?;
        let owed = if run.arm == Arm::Control { control.at_least } else { treatment.at_least }?;
        (busy < owed).then(|| format!("the gateway was not the bottleneck, busy for {busy:.3} of its core"))
    })
}

/// Share of a run in which the rest of the cluster has to be held still. It is begun anew where the hold came too late for that;
/// where that is so again and again, it counts, for it is a run like any other on a cluster that is not held.
const QUIET: f64 = 0.95;

fn flame_graph(comparison: &str, arm: Arm) -> PathBuf {
    report::directory(SUITE).join("profiles").join(format!("{}-{arm}.svg", comparison.replace('/', "-")))
}

/// What is the same for as long as comparisons take turns.
struct Stage<'a> {
    applied: Applied<'a>,
    host: Host,
    /// Where runs are recorded.
    runs: PathBuf,
    /// What holds all else still during a run.
    quiet: Option<&'a Quiet>,
}

impl Stage<'_> {
    /// One block of each of a group, all of which are at the same place: C T₁ T₂ … T₂ T₁ C, and then the other way round.
    async fn block(&self, group: &mut [Open]) -> Result<(), Error> {
        for _ in 0..RUNS_OF_A_BLOCK {
            let (arm, order) = (group[0].judge.arm(), group[0].judge.order());
            if arm == Arm::Control {
                let run = self.loaded(&group[0]).await?;
                for open in &mut *group {
                    open.take(Run { comparison: open.trial.id.clone(), ..run.clone() }, &self.runs)?;
                }
                continue;
            }
            for row in turns(order, group.len()) {
                let open = &mut group[row];
                open.take(self.loaded(open).await?, &self.runs)?;
            }
        }
        Ok(())
    }

    /// The next run of a comparison, made again where it did not load what it was to load, or, once, where a command of it failed.
    async fn loaded(&self, open: &Open) -> Result<Run, Error> {
        let (arm, order) = (open.judge.arm(), open.judge.order());
        let again = |why: &str| eprintln!("note: run {order} of {} is made again: {why}", open.trial.id);
        // Of some hundreds of commands that are run in containers over an API server, one ends without what it has printed.
        let made = async || match self.run(&open.row, &open.trial, order, arm).await {
            Err(error @ Error::Cluster(cluster::Error::Exec { .. })) => {
                again(&error.to_string());
                self.run(&open.row, &open.trial, order, arm).await
            }
            made => made,
        };
        let mut run = made().await?;
        for _ in 0..REPEATS {
            let Some(why) = unloaded(&open.trial, &run) else { break };
            again(&why);
            run = made().await?;
        }
        Ok(run)
    }

    /// One run of a comparison: load, costs, receipts.
    async fn run(&self, row: &Row, trial: &Trial, order: u32, arm: Arm) -> Result<Run, Error> {
        let (bench, asked, plan) = (row.benches.of(arm), row.asked(arm), &trial.plan);
        // Nobody asks a proxy for what no receipt is owed of.
        let handshakes = async || match trial.receipts.contains_key(TLS_HANDSHAKES) {
            true => Ok::<_, Error>(bench.tls_handshakes().await?),
            false => Ok(None),
        };
        let counts = async || try_join!(handshakes(), Counted::by(self.applied, bench));
        let steal = Steal::begin();
        let (mut run, [(handshakes, before), (handshakes_after, after)]) = match asked {
            Asking::Driver(arguments) => self.driven(bench, trial, order, arguments, counts).await?,
            Asking::K6(name) => {
                let (name, path) = ((*name).to_owned(), ECHO.to_owned());
                // k6 counts whole seconds and whole requests.
                let (seconds, rate) = (length(trial).as_secs_f64().ceil() as u32, plan.rate.map(|rate| rate as u32));
                let users = Users { users: plan.connections, seconds, rate, name, path, drain: drain(trial) };
                bench.run_k6(&trial.id, order, &self.host, &users, self.quiet, counts).await?
            }
        };
        // Arms may differ by what they ask for; the plan is what they have in common.
        run.plan = json!(plan);
        if let Asking::Driver(_) = asked {
            // When the driver calls itself the bottleneck; k6 does not.
            run.plan["tolerance"] = TOLERANCE.into();
            run.plan["judged_quantile"] = trial.judged_quantile().into();
        }
        after.receipts(&before, &mut run);
        if let (Some(cost), Some(rate)) =
            (run.metrics.get("cpu_us_per_request/gateway"), run.metrics.get("requests_per_second"))
        {
            // Whether it was what everything waited for.
            run.receipts.insert(GATEWAY_BUSY.into(), cost.value * rate.value / 1e6);
        }
        if let (Some(before), Some(after)) = (handshakes, handshakes_after) {
            let untreated = after.saturating_sub(before) as f64 - self.applied.treated_handshakes(&run);
            run.receipts.insert(TLS_HANDSHAKES.into(), untreated.max(0.0));
        }
        run.host.steal = steal.share();
        Ok(run)
    }

    /// Load by the driver.
    async fn driven<T>(
        &self,
        bench: &Bench,
        trial: &Trial,
        order: u32,
        arguments: &[String],
        counts: impl AsyncFn() -> Result<T, Error>,
    ) -> Result<(Run, [T; 2]), Error> {
        let plan = &trial.plan;
        let mut arguments = arguments.to_vec();
        arguments.extend(["--connections".into(), plan.connections.to_string()]);
        arguments.extend(["--warmup".into(), format!("{}s", plan.warmup_s)]);
        arguments.extend(["--tolerance".into(), TOLERANCE.to_string()]);
        arguments.extend(["--judged-quantile".into(), trial.judged_quantile().to_string()]);
        if let Some(rate) = plan.rate {
            arguments.extend(["--rate".into(), rate.to_string()]);
        }
        let (host, arguments) = (&self.host, arguments.as_slice());
        let (length, drain) = (length(trial), drain(trial));
        let asked = Asked { comparison: &trial.id, order, host, length, drain, arguments, quiet: self.quiet };
        Ok(bench.run_between(&asked, counts).await?)
    }

    /// Where processor time goes in each arm, in words, for a goal that was not reached. A verdict stands without it, so what
    /// went wrong is told in its place.
    async fn profiles(&self, open: &Open) -> Vec<String> {
        let mut notes = Vec::new();
        for arm in [Arm::Control, Arm::Treatment] {
            let told = self.profile(open, arm).await.unwrap_or_else(|error| error.to_string());
            notes.push(format!("processor time, {arm}: {told}"));
        }
        notes
    }

    /// One more run, which is not judged, as a flame graph and in words.
    async fn profile(&self, open: &Open, arm: Arm) -> Result<String, Error> {
        let mut trial = open.trial.clone();
        trial.plan.run_s = trial.plan.run_s.min(PROFILED);
        let profiler = Profiler::begin(length(&trial))?;
        self.run(&open.row, &trial, 0, arm).await?;
        let profile = profiler.finish()?;
        let path = flame_graph(&trial.id, arm);
        profile.draw(&format!("{}, {arm}", trial.id), &path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(format!("{} (profiles/{name})", profile.summary()))
    }
}

/// How long each run of a comparison takes, warm-up included.
fn length(trial: &Trial) -> Duration {
    Duration::from_secs_f64(trial.plan.run_s + trial.plan.warmup_s)
}

/// How long what is under way at the end of a run may take. Each connection has one request then, and of 256 connections those are
/// more than a hundredth of all that a run makes: where all else went on before they were answered, they were its p99. At saturation
/// nothing here waited for more than 0.9 ms for each connection, at the median.
fn drain(trial: &Trial) -> Duration {
    Duration::from_millis(50) + Duration::from_millis(1) * trial.plan.connections
}

/// Sets the mode of mutual TLS at the server of `side` until the test ends. Its clients learn of it from the control plane.
pub(crate) async fn mtls(scope: &Scope, cluster: &Arc<Cluster>, side: Side, mode: &str) -> Result<(), Error> {
    let server = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "server", "namespace": side.namespace() },
        "spec": { "selector": { "matchLabels": { "app": "server" } }, "mtls": { "mode": mode } },
    });
    scope.place(cluster, server).await
}
