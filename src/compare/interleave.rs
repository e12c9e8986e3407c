//! Interleaved comparisons, until each is decided.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use super::isolation::{Extent, Isolation, LONGEST_FREEZE};
use super::runner::{Measured, Runner, drain, length};
use super::{Case, Treatment};
use crate::host::{Awake, Host};
use crate::judge::{Arm, Baselines, Bounds, Comparison, Decision, Judge, Mode, Run, Trial, recorded, turns};
use crate::record::fault;
use crate::report::table;
use crate::scope::{Error, Result, Scope};

/// The judge decides after a block. In a block, each arm comes first as often as second.
const RUNS_OF_A_BLOCK: usize = 4;

/// Settings of the judge.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The file of bounds. Baselines are in the same directory.
    pub bounds: &'a Path,
    /// How long to measure.
    pub mode: Mode,
}

/// An undecided comparison.
struct Open {
    measured: Measured,
    judge: Judge,
    /// Whether it was told that the planned pairs will probably not decide.
    is_told: bool,
}

impl Open {
    fn begin(case: Case, bounds: &Bounds, baselines: &Baselines, runner: &Runner<'_, impl Treatment>) -> Result<Self> {
        let trial = bounds.trial(&case.id).ok_or_else(|| {
            let known: Vec<&str> = bounds.trials().iter().map(|trial| trial.id.as_str()).collect();
            Error::suite(format!("the bounds have no comparison `{}`; they have {}", case.id, known.join(", ")))
        })?;
        let trial = baselines.apply(trial, runner.host());
        recorded::clear(runner.runs(), &trial.id)?;
        for arm in [Arm::Control, Arm::Treatment] {
            // Remove an older flame graph: it does not belong to this comparison.
            let _ = std::fs::remove_file(runner.flame_graph(&trial.id, arm));
        }
        Ok(Self { judge: Judge::new(&trial), measured: Measured { case, trial }, is_told: false })
    }

    /// Says once that the machine is too noisy for the planned pairs.
    fn tell(&mut self, needed: usize) {
        let Trial { id, budget, .. } = &self.measured.trial;
        let exceeded = budget.exceeded(self.judge.runs().count() / 2, needed).filter(|_| !self.is_told);
        if let Some(too_noisy) = exceeded {
            self.is_told = true;
            eprintln!("note: {id}: {too_noisy}, of at most {}", budget.max_pairs);
        }
    }

    /// Records an attempt, and passes it to the judge.
    fn take(&mut self, run: Run, runs: &Path) -> Result<()> {
        let attempt = self.judge.attempted(run).record(runs)?;
        for refusal in &attempt.refused {
            eprintln!(
                "note: attempt {} at run {} of {} is refused: {refusal}",
                attempt.attempt, attempt.order, attempt.comparison
            );
        }
        Ok(self.judge.push(attempt)?)
    }
}

/// Measures the cases of each group in turn, each in blocks of both arms (ABBA, BAAB, …), until all comparisons are
/// decided or their budgets are spent. Then prints the tables, and gives the comparisons to `scope`. `scope` fails the
/// test if a comparison does not hold.
///
/// The cases of one group differ only in the treatment arm. All cases of a group share the control runs.
///
/// # Errors
/// Others share the mesh ([`Error::Shares`]), a case has no bounds, a run cannot be made, or a run proves nothing ([`crate::judge::Error::Refused`]).
pub async fn interleave<T: Treatment>(
    scope: &Scope,
    setting: &Setting<'_>,
    groups: Vec<Vec<Case>>,
    treatment: &T,
) -> Result<()> {
    scope.lock().permits("a measurement")?;
    let (bounds, baselines) = (Bounds::load(setting.bounds, setting.mode)?, Baselines::beside(setting.bounds)?);
    // Clusters that can be paused have their nodes on this machine.
    let is_local = scope.testbed.record.capabilities.fault(fault::PAUSE_CLUSTER).is_some();
    let _awake = is_local.then(Awake::keep).and_then(|kept| {
        kept.inspect_err(|error| eprintln!("note: idle processors may sleep, and wake late: {error}")).ok()
    });
    let mut runner = Runner::new(treatment, Host::this(), scope.directory());
    let begin = |case| Open::begin(case, &bounds, &baselines, &runner);
    let groups = groups.into_iter().map(|group| group.into_iter().map(begin).collect());
    let groups: VecDeque<Vec<Open>> = groups.collect::<Result<_>>()?;
    for open in groups.iter().flatten() {
        open.measured.case.answers().await?;
    }
    let isolation = isolate(scope, &groups, treatment)?;
    // If runs are too long to freeze, `isolate` has stopped components for the whole comparison instead.
    runner.isolation = isolation.as_ref().filter(|_| can_freeze(&groups));
    let comparisons = decide(&runner, groups).await?;
    // It waits until the nodes of the paused clusters are ready again.
    scope.end_meanwhile(|| drop(isolation));
    for table in table::beside_others(&comparisons) {
        println!("{table}");
    }
    println!("{}", table::comparisons(&comparisons));
    table::attempts(&comparisons).iter().for_each(|table| println!("{table}"));
    scope.compare(comparisons);
    Ok(())
}

/// Whether each run is short enough to freeze the rest of the cluster.
fn can_freeze(groups: &VecDeque<Vec<Open>>) -> bool {
    let within = |open: &Open| length(&open.measured.trial) + drain(&open.measured.trial) <= LONGEST_FREEZE;
    groups.iter().flatten().all(within)
}

/// Pauses the other clusters, if the record allows it. In the cluster under load, everything else is frozen for each
/// run. If runs are too long to freeze, dispensable components are stopped for the whole comparison.
fn isolate(scope: &Scope, groups: &VecDeque<Vec<Open>>, treatment: &impl Treatment) -> Result<Option<Isolation>> {
    let clusters: BTreeSet<&str> = groups.iter().flatten().flat_map(|open| open.measured.case.clusters()).collect();
    let except = match Vec::from_iter(clusters).as_slice() {
        [] => return Ok(None),
        [one] => (*one).to_owned(),
        several => {
            let reason = format!("the benches are in {}; put all of them into one cluster", several.join(" and "));
            return Err(Error::suite(reason));
        }
    };
    let extent = if can_freeze(groups) {
        let measured = groups.iter().flatten().flat_map(|open| open.measured.case.namespaces());
        let namespaces: BTreeSet<String> = measured.chain(treatment.namespaces()).collect();
        Extent::AllButNamespaces { except, namespaces: namespaces.into_iter().collect() }
    } else {
        Extent::OtherClusters { except }
    };
    let isolation = Isolation::begin(&scope.testbed.record, extent, scope.lock())?;
    if isolation.is_none() {
        eprintln!("note: this testbed cannot pause clusters, so others run beside what is timed");
    }
    Ok(isolation)
}

/// Measures block by block until all comparisons are decided. Returns the comparisons in the order of the cases.
async fn decide(runner: &Runner<'_, impl Treatment>, mut groups: VecDeque<Vec<Open>>) -> Result<Vec<Comparison>> {
    let order: Vec<String> = groups.iter().flatten().map(|open| open.measured.trial.id.clone()).collect();
    let (mut all, mut unexplained): (Vec<Comparison>, Vec<Open>) = (Vec::new(), Vec::new());
    while let Some(mut group) = groups.pop_front() {
        block(runner, &mut group).await?;
        let mut undecided = Vec::new();
        for mut open in group {
            let comparisons = match open.judge.decide() {
                Decision::Done(comparisons) => comparisons,
                Decision::Continue { pairs_needed } => {
                    pairs_needed.into_iter().for_each(|needed| open.tell(needed));
                    undecided.push(open);
                    continue;
                }
            };
            let comparisons = open.judge.compared(comparisons)?;
            let trial = &open.measured.trial;
            if let Some(table) = table::iterations(&trial.id, trial.plan.connections, open.judge.runs()) {
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
    // Profile after all decisions: no comparison's budget is charged.
    for Open { measured, .. } in unexplained {
        let notes = runner.profiles(&measured).await;
        for each in all.iter_mut().filter(|each| each.id == measured.trial.id && each.misses()) {
            each.notes.extend_from_slice(&notes);
        }
    }
    all.sort_by_key(|comparison| order.iter().position(|id| *id == comparison.id));
    Ok(all)
}

/// Runs one block of each comparison in a group: C T₁ T₂ … T₂ T₁ C, then the reverse. Drops a comparison once every
/// attempt at one of its runs was refused.
async fn block(runner: &Runner<'_, impl Treatment>, group: &mut [Open]) -> Result<()> {
    for _ in 0..RUNS_OF_A_BLOCK {
        let Some(next) = group.iter().find(|open| !open.judge.is_abandoned()) else { break };
        let (arm, order) = (next.judge.arm(), next.judge.order());
        if arm == Arm::Control {
            attempts(runner, group, &Vec::from_iter(0..group.len())).await?;
            continue;
        }
        for index in turns(order, group.len()) {
            attempts(runner, group, &[index]).await?;
        }
    }
    Ok(())
}

/// Repeats the next run of those in a group that share it, until a run is accepted or no attempt is left.
async fn attempts(runner: &Runner<'_, impl Treatment>, group: &mut [Open], sharing: &[usize]) -> Result<()> {
    let live = |group: &[Open]| -> Vec<usize> {
        sharing.iter().copied().filter(|&index| !group[index].judge.is_abandoned()).collect()
    };
    let Some(order) = live(group).first().map(|&first| group[first].judge.order()) else { return Ok(()) };
    let mut was_interrupted = false;
    loop {
        let waiting: Vec<usize> =
            live(group).into_iter().filter(|&index| group[index].judge.order() == order).collect();
        let Some(&first) = waiting.first() else { return Ok(()) };
        let attempt = runner.attempt(&group[first].measured, order, was_interrupted).await?;
        was_interrupted |= attempt.is_refused();
        for index in waiting {
            let open = &mut group[index];
            open.take(Run { comparison: open.measured.trial.id.clone(), ..attempt.clone() }, runner.runs())?;
        }
    }
}
