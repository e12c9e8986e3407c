//! Measures both arms in turn, until the judge has decided.
//!
//! The pods of both arms are renewed after every pair of runs, at the same time. What is luck of a pod (the processor that
//! its workers got, the connections that a worker got) is drawn anew for each pair, so it widens the interval and is in no
//! arm. Exchanging the configuration of two lasting pods would be cheaper by the start of a pod, and would not be honest: a
//! proxy keeps its connections on the old filter chains while they drain, and its heap does not shrink. Two pairs of one
//! generation of pods would not be independent, and the judge counts pairs.

use std::path::Path;

use super::conformance::{self, Lost};
use super::difference::Receipt;
use super::error::{Error, Result};
use super::plan::{Compare, Minutes};
use super::pushes::Pushed;
use super::receipt;
use super::stage::Twins;
use crate::compare::isolation::Extent;
use crate::compare::runner::{Measured, Runner};
use crate::compare::{Arms, Case, Isolation, Load, Untreated};
use crate::host::{Awake, Host};
use crate::judge::{Arm, Bounds, Budget, Comparison, Decision, Judge, Mode, Run, Trial, recorded};
use crate::record::fault;
use crate::report::{Claim, Table};
use crate::scope::Scope;

/// Id of the comparison in the bounds.
pub const ID: &str = "compare";

/// The default bounds.
const BOUNDS: &str = include_str!("bounds.toml");

/// Time of a pair beside its two runs, in seconds: new pods, their receipt, and the commands that start a run.
const BETWEEN: f64 = 15.0;

/// What was measured.
#[derive(Debug)]
pub(super) struct Measurement {
    pub(super) comparisons: Vec<Comparison>,
    pub(super) errors: Claim,
    /// Mean time of a pair, with what comes between pairs, in seconds.
    pub(super) seconds_per_pair: f64,
    /// What istiod pushed for each arm, if it was counted.
    pub(super) pushes: Option<Table>,
}

/// The plan and the bounds: those of the file, or the default ones, for so many minutes.
///
/// # Errors
/// The file cannot be used.
pub(super) fn trial(bounds: Option<&Path>, minutes: Minutes) -> Result<Trial> {
    let bounds = match bounds {
        Some(path) => Bounds::load(path, Mode::Quick),
        None => Bounds::parse(BOUNDS, Path::new("the default bounds of compare"), Mode::Quick),
    };
    let bounds = bounds.map_err(crate::scope::Error::from)?;
    let trial = bounds.trial(ID).ok_or_else(|| Error::Source {
        source_text: "--bounds".into(),
        reason: format!("the file has no comparison with the id `{ID}`"),
    })?;
    let mut trial = trial.clone();
    trial.budget.seconds = minutes.seconds();
    let pairs = trial.budget.seconds / seconds_of_pair(&trial);
    // An ABBA block is two pairs.
    trial.budget.max_pairs = (pairs as usize / 2 * 2).max(trial.budget.min_pairs);
    Ok(trial)
}

fn seconds_of_pair(trial: &Trial) -> f64 {
    2.0 * (trial.plan.run_s + trial.plan.warmup_s) + BETWEEN
}

/// Measures until the judge has decided or the time is spent.
///
/// # Errors
/// Others share the mesh. A run cannot be made. The arms no longer differ as the receipt says.
pub(super) async fn measured(
    scope: &Scope,
    mut twins: Twins,
    trial: &Trial,
    compare: &Compare,
    receipt: &Receipt,
) -> Result<Measurement> {
    scope.lock().permits("a measurement")?;
    let is_local = scope.testbed.record.capabilities.fault(fault::PAUSE_CLUSTER).is_some();
    let _awake = is_local.then(Awake::keep).and_then(|kept| {
        kept.inspect_err(|error| eprintln!("note: idle processors may sleep, and wake late: {error}")).ok()
    });
    recorded::clear(&scope.directory().join("runs"), &trial.id).map_err(crate::scope::Error::from)?;
    // What fails is a claim about an arm, and refuses no run.
    let judged = Trial { max_failed_share: 1.0, ..trial.clone() };
    let (mut judge, mut pushed) = (Judge::new(&judged), Pushed::default());
    let began = std::time::Instant::now();
    let comparisons = loop {
        pair(scope, &twins, &compare.running, &judged, &mut judge).await?;
        let decision = judge.decide();
        let pairs = judge.runs().count() / 2;
        let needed = match decision {
            Decision::Continue { pairs_needed } => pairs_needed,
            Decision::Done(_) => None,
        };
        let progress = Progress { pairs, needed, seconds: began.elapsed().as_secs_f64() };
        eprintln!("{}", progress.told(&trial.budget));
        if let Decision::Done(comparisons) = decision {
            break judge.compared(comparisons).map_err(crate::scope::Error::from)?;
        }
        twins = pushed.renewed(twins).await?;
        receipt::confirmed(&twins, compare.sides.declared(), receipt).await?;
    };
    let lost = |arm: Arm| {
        let of_arm = judge.runs().filter(|run| run.arm == arm);
        of_arm.fold(Lost::default(), |sum, run| Lost {
            requests: sum.requests + run.requests,
            lost: sum.lost + run.errors + run.dropped,
        })
    };
    let errors = conformance::errors(trial.max_failed_share, lost(Arm::Control), lost(Arm::Treatment));
    let pairs = (judge.runs().count() / 2).max(1);
    let seconds_per_pair = began.elapsed().as_secs_f64() / pairs as f64;
    Ok(Measurement { comparisons, errors, seconds_per_pair, pushes: pushed.table() })
}

/// Measures a pair of runs.
async fn pair(scope: &Scope, twins: &Twins, running: &[String], trial: &Trial, judge: &mut Judge) -> Result<()> {
    let case = case(twins);
    case.answers().await?;
    // Anew for each pair: the pods to spare are known by their UIDs, and new pods have others.
    let isolation = isolated(scope, twins, running)?;
    let mut runner = Runner::new(&Untreated, Host::this(), scope.directory());
    runner.isolation = isolation.as_ref();
    let measured = Measured { case, trial: trial.clone() };
    for _ in 0..2 {
        attempts(&runner, &measured, judge).await?;
    }
    Ok(())
}

/// Freezes everything but the arms and `running` for each run, where the testbed can.
fn isolated(scope: &Scope, twins: &Twins, running: &[String]) -> Result<Option<Isolation>> {
    let except = twins.control.cluster.name().to_owned();
    let namespaces = twins.both().map(|twin| &twin.namespace).into_iter().chain(running).cloned().collect();
    let isolation =
        Isolation::begin(&scope.testbed.record, Extent::AllButNamespaces { except, namespaces }, scope.lock())?;
    if isolation.is_none() {
        eprintln!("note: this mesh cannot be paused, so others run beside what is timed");
    }
    Ok(isolation)
}

fn case(twins: &Twins) -> Case {
    let arms = Arms { control: twins.control.bench(), treatment: twins.treatment.bench() };
    let path = |arm| match arm {
        Arm::Control => &twins.control.path,
        Arm::Treatment => &twins.treatment.path,
    };
    Case::new(ID, &arms).with_load(|arm| Load::Driver(vec![format!("--path={}", path(arm))]))
}

/// Repeats the next run until an attempt is accepted, or none is left.
async fn attempts(runner: &Runner<'_, Untreated>, measured: &Measured, judge: &mut Judge) -> Result<()> {
    let order = judge.order();
    let mut was_interrupted = false;
    while judge.order() == order && !judge.is_abandoned() {
        let run: Run = runner.attempt(measured, order, was_interrupted).await?;
        was_interrupted |= run.is_refused();
        let attempt = judge.attempted(run).record(runner.runs()).map_err(crate::scope::Error::from)?;
        for refusal in &attempt.refused {
            eprintln!("note: attempt {} at run {order} is refused: {refusal}", attempt.attempt);
        }
        judge.push(attempt).map_err(crate::scope::Error::from)?;
    }
    Ok(())
}

/// How far a measurement is.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// Pairs that are measured.
    pairs: usize,
    /// Further pairs that would probably decide, as far as the judge can tell.
    needed: Option<usize>,
    /// Time since the first pair began.
    seconds: f64,
}

impl Progress {
    /// In a line. A machine that is too noisy for the planned pairs is told as soon as that shows.
    fn told(self, budget: &Budget) -> String {
        let Self { pairs, needed, seconds } = self;
        let measured = format!("{pairs} of at most {} pairs are measured", budget.max_pairs);
        let Some(too_noisy) = needed.and_then(|needed| budget.exceeded(pairs, needed)) else { return measured };
        let minutes = too_noisy.pairs as f64 * seconds / pairs.max(1) as f64 / 60.0;
        format!("{measured}; {too_noisy}, which takes {} minutes", minutes.ceil())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Limit;

    #[test]
    fn by_default_nothing_may_become_worse_by_more_than_5_percent() {
        let trial = trial(None, Minutes::default()).unwrap();
        assert_eq!((trial.budget.seconds, trial.budget.max_pairs % 2), (180.0, 0));
        assert!(trial.budget.max_pairs >= trial.budget.min_pairs);
        for metric in &trial.metrics {
            let owed = if metric.name == "requests_per_second" { Limit::AtLeast(0.95) } else { Limit::AtMost(1.05) };
            assert_eq!(metric.gate, Some(owed), "{}", metric.name);
        }
        assert_eq!(trial.metrics.len(), 7);
        let shortest = self::trial(None, 0.5.try_into().unwrap()).unwrap();
        assert_eq!(shortest.budget.max_pairs, 4, "never fewer than the judge needs");
    }

    #[test]
    fn a_machine_that_is_too_noisy_is_told_with_what_it_would_take() {
        let budget = Budget { min_pairs: 4, max_pairs: 10, seconds: 180.0 };
        let told = |needed| Progress { pairs: 4, needed, seconds: 80.0 }.told(&budget);
        assert_eq!(told(None), "4 of at most 10 pairs are measured");
        assert_eq!(told(Some(6)), "4 of at most 10 pairs are measured");
        let owed = "4 of at most 10 pairs are measured; as noisy as this machine is now, about 44 pairs would decide, which takes 15 minutes";
        assert_eq!(told(Some(40)), owed);
    }

    #[test]
    fn bounds_without_the_comparison_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), BOUNDS.replace("id = \"compare\"", "id = \"other\"")).unwrap();
        let error = trial(Some(file.path()), Minutes::default()).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("`compare`"), "{error}");
    }
}
