//! Tests of the judge.

mod attempts;

use rstest::rstest;

use super::simulate::{NOISES, Settled, verdict};
use super::*;
use crate::host::Host;
use crate::judge::Error;

pub(crate) const BOUNDS: &str = include_str!("../../fixtures/perf/two-arms.toml");

pub(crate) fn trial() -> Trial {
    Bounds::parse(BOUNDS, "bounds.toml".as_ref(), Mode::Quick).unwrap().trial("one").unwrap().clone()
}

/// A run of ten seconds.
pub(crate) fn run(order: u32, p99: f64) -> Run {
    let plan = serde_json::json!({ "connections": 16 });
    let mut run = Run::new("one", order, Host { name: "here".into(), ..Host::default() }, plan);
    run.started = 1_000.0 + 10.0 * f64::from(order);
    run.duration = 10.0;
    run.requests = 10_000;
    run.measure("p99_us", p99, "us");
    run.measure("requests_per_second", 1e6 / p99, "1/s");
    run.receipts.insert("redirected".into(), if run.arm == Arm::Treatment { 900.0 } else { 0.0 });
    run
}

/// Runs with the log results `logs`. Treatment runs are multiplied by `effect`.
pub(crate) fn runs(logs: &[f64], effect: f64) -> Vec<Run> {
    let result = |(order, log): (u32, &f64)| {
        run(order, 1_000.0 * log.exp() * if arm(order) == Arm::Treatment { effect } else { 1.0 })
    };
    (0..).zip(logs).map(result).collect()
}

/// Pushes runs until the judge decides.
fn live(trial: &Trial, runs: &[Run]) -> Option<Vec<Comparison>> {
    let mut judge = Judge::new(trial);
    for run in runs {
        assert_eq!((judge.order(), judge.arm()), (run.order, run.arm));
        judge.push(run.clone()).unwrap();
        if let Decision::Done(comparisons) = judge.decide() {
            return Some(comparisons);
        }
    }
    None
}

#[test]
fn arms_alternate_in_blocks_that_turn_round() {
    let arms: String = (0..12).map(|order| if arm(order) == Arm::Control { 'A' } else { 'B' }).collect();
    assert_eq!(arms, "ABBABAABABBA");
}

#[test]
fn a_drift_cancels_within_a_block_for_each_of_those_that_share_a_control() {
    for block in 0..4 {
        // Times of each row's two treatment runs and of the control runs, in runs since the start of the block.
        let (mut treated, mut control, mut time) = ([0; 3], 0, 0);
        for order in block * 4..block * 4 + 4 {
            if arm(order) == Arm::Control {
                (control, time) = (control + time, time + 1);
                continue;
            }
            for row in turns(order, treated.len()) {
                treated[row] += time;
                time += 1;
            }
        }
        assert_eq!((treated, time), ([control; 3], 8), "block {block}");
    }
}

#[test]
fn recorded_runs_have_the_verdict_that_they_had_live() {
    let mut random = fastrand::Rng::with_seed(50);
    let mut verdicts = std::collections::BTreeSet::new();
    for effect in [0.8, 0.95, 1.0, 1.05, 1.3] {
        for noise in &NOISES {
            let directory = tempfile::tempdir().unwrap();
            let mut judge = Judge::new(&trial());
            let mut planned = runs(&noise.runs(20, &mut random), effect).into_iter();
            let seen = loop {
                judge.push(planned.next().unwrap().record(&directory.path().join("runs")).unwrap()).unwrap();
                if let Decision::Done(comparisons) = judge.decide() {
                    break comparisons;
                }
            };
            let bounds = directory.path().join("bounds.toml");
            std::fs::write(&bounds, BOUNDS).unwrap();
            let again = recorded::judge_all(directory.path(), &recorded::read(directory.path()).unwrap(), &bounds);
            assert_eq!(again.unwrap(), seen);
            verdicts.insert(seen[0].verdict.to_string());
        }
    }
    assert_eq!(verdicts.into_iter().collect::<Vec<_>>(), ["inconclusive", "pass", "regressed"]);
}

#[test]
fn the_simulation_judges_as_the_judge_does() {
    let trial = trial();
    let schedule = Schedule::new(4, 10, 0.95);
    let mut random = fastrand::Rng::with_seed(51);
    for _ in 0..20 {
        let runs = runs(&NOISES[3].runs(20, &mut random), 1.1);
        let seen = live(&trial, &runs).unwrap();
        let mut judge = Judge::new(&trial);
        runs.into_iter().for_each(|run| judge.push(run).unwrap());
        let seen = Settled { verdict: seen[0].verdict, pairs: seen[0].pairs };
        assert_eq!(seen, verdict(schedule, Limit::AtMost(1.0), &judge.logs("p99_us")));
    }
}

#[test]
fn a_clear_answer_ends_early_and_metrics_without_bounds_are_reported_beside_it() {
    let seen = live(&trial(), &runs(&[0.01, 0.0, 0.02, 0.01, 0.0, 0.0, 0.01, 0.02], 0.8)).unwrap();
    assert_eq!((seen.len(), seen[0].pairs, seen[0].verdict, seen[0].holds), (2, 4, Verdict::Pass, true));
    assert_eq!(seen[0].goal, Some(Attainment::Reached));
    assert!((seen[0].ratio - 0.8).abs() < 0.01 && seen[0].ci95[1].unwrap() < 0.88, "{:?}", seen[0]);
    assert_eq!((seen[1].metric.as_str(), seen[1].verdict), ("requests_per_second", Verdict::Reported));
    assert_eq!(seen[0].receipts.treatment["redirected"], [900.0, 900.0]);
    assert_eq!(seen[0].notes, ["stopped after 4 pairs: the answer is clear"]);
}

/// A bound that is a multiple of a baseline is no gate on a machine without one.
#[test]
fn a_comparison_without_a_gate_ends_at_its_first_look() {
    let mut trial = trial();
    trial.metrics[0].gate = None;
    let logs: Vec<f64> = (0..20).map(|order| [0.0, 0.3, -0.2, 0.1, 0.25][order % 5]).collect();
    let seen = live(&trial, &runs(&logs, 1.0)).unwrap();
    assert_eq!((seen[0].pairs, seen[0].verdict, seen[0].holds), (4, Verdict::Reported, true));
    assert_eq!(seen[0].notes[0], "stopped after 4 pairs: no metric has a gate");
    // A measurement in full spends its whole budget.
    trial.plan.mode = Mode::Full;
    assert_eq!(live(&trial, &runs(&logs, 1.0)).unwrap()[0].pairs, 10);
}

/// Nothing that follows makes a comparison hold that has a metric beyond its gate.
#[test]
fn a_metric_beyond_its_gate_ends_a_comparison_whose_other_metrics_are_open() {
    let other =
        "[[comparison.metric]]\nname = \"requests_per_second\"\ngate = { at_least = 0.833 }\nsource = \"here\"\n";
    let at = BOUNDS.find("[[comparison.metric]]").unwrap();
    let bounds = format!("{}{other}{}", &BOUNDS[..at], &BOUNDS[at..]);
    let trial = Bounds::parse(&bounds, "bounds.toml".as_ref(), Mode::Quick).unwrap().trial("one").unwrap().clone();
    let logs = [0.01, 0.0, 0.02, 0.01, 0.0, 0.0, 0.01, 0.02];
    let seen = live(&trial, &runs(&logs, 1.2)).expect("an end after four pairs");
    let verdict = |metric: &str| seen.iter().find(|one| one.metric == metric).unwrap().verdict;
    assert_eq!((verdict("p99_us"), verdict("requests_per_second")), (Verdict::Regressed, Verdict::Inconclusive));
    assert_eq!(seen[0].notes[0], "stopped after 4 pairs: a metric is beyond its gate");
}

#[test]
fn what_was_tried_is_told_where_a_goal_is_not_reached_and_only_there() {
    let bounds = BOUNDS.replace("source = \"here\"", "source = \"here\"\ntried = \"everything\"");
    let trial = Bounds::parse(&bounds, "bounds.toml".as_ref(), Mode::Quick).unwrap().trial("one").unwrap().clone();
    let notes =
        |effect| live(&trial, &runs(&[0.01, 0.0, 0.02, 0.01, 0.0, 0.0, 0.01, 0.02], effect)).unwrap().remove(0).notes;
    assert_eq!(notes(0.92)[1..], ["tried for the goal of p99_us: everything"]);
    assert_eq!(notes(0.8).len(), 1);
}

/// An estimate above the goal of 0.88 needs an explanation by a profile, whatever the interval.
#[rstest]
#[case::its_interval_reaches_over_the_goal(0.86, Attainment::Unclear, false)]
#[case::its_estimate_is_not_there(1.0, Attainment::Unclear, true)]
#[case::all_of_its_interval_is_beyond(1.3, Attainment::NotReached, true)]
fn a_goal_is_missed_by_an_estimate(#[case] effect: f64, #[case] goal: Attainment, #[case] misses: bool) {
    let logs: Vec<f64> = (0..20).map(|order| [0.0, 0.15, -0.1, 0.05, 0.12][order % 5]).collect();
    let seen = live(&trial(), &runs(&logs, effect)).unwrap();
    assert_eq!((seen[0].goal, seen[0].misses()), (Some(goal), misses), "{:?}", seen[0]);
    assert!(!seen[1].misses(), "without a goal");
}

#[test]
fn receipts_of_what_neither_arm_had_are_left_out_but_where_they_are_asked_for() {
    let mut trial = trial();
    trial.receipts.get_mut("redirected").unwrap().treatment.at_least = None;
    let mut runs = runs(&[0.0; 8], 0.8);
    for run in &mut runs {
        let once = if run.order == 3 { 1.0 } else { 0.0 };
        run.receipts = [("redirected", 0.0), ("batches", 0.0), ("failures", once)].map(|(n, v)| (n.into(), v)).into();
    }
    let receipts = &live(&trial, &runs).unwrap()[0].receipts;
    for arm in [&receipts.control, &receipts.treatment] {
        assert_eq!(arm.keys().collect::<Vec<_>>(), ["failures", "redirected"]);
    }
}

#[test]
fn what_is_still_open_at_the_end_of_the_budget_is_inconclusive_and_says_what_it_needs() {
    let logs: Vec<f64> = (0..20).map(|order| [0.0, 0.3, -0.2, 0.1, 0.25][order % 5]).collect();
    let seen = live(&trial(), &runs(&logs, 0.97)).unwrap();
    assert_eq!((seen[0].pairs, seen[0].verdict, seen[0].holds), (10, Verdict::Inconclusive, false));
    assert!(seen[0].pairs_needed.unwrap() > 0 && seen[0].minimum_detectable.unwrap() > 0.1, "{:?}", seen[0]);
}

#[test]
fn the_budget_of_time_ends_it_before_a_block_that_would_not_fit() {
    let mut trial = trial();
    trial.budget.seconds = 130.0;
    let logs: Vec<f64> = (0..20).map(|order| [0.0, 0.3, -0.2, 0.1, 0.25][order % 5]).collect();
    let seen = live(&trial, &runs(&logs, 1.0)).unwrap();
    assert_eq!(seen[0].pairs, 6);
    assert!(seen[0].notes[0].contains("within the budget of 130 s"), "{:?}", seen[0].notes);
    // When time runs out, the last look gets the rest of the error.
    let ratios: Vec<f64> = seen[0].ratios.iter().map(|ratio| ratio.ln()).collect();
    let not_the_last = Schedule::new(4, 10, 0.95).analyze(&ratios, false).ends();
    assert!(seen[0].interval[1].unwrap() < not_the_last[1], "{:?}", seen[0].interval);
    // Too short for a first look: no verdict, even if the ratios are clear.
    trial.budget.seconds = 20.0;
    let seen = live(&trial, &runs(&[0.0; 20], 0.5)).unwrap();
    assert_eq!((seen[0].pairs, seen[0].verdict, seen[0].goal), (2, Verdict::Inconclusive, Some(Attainment::Unclear)));
}

#[test]
fn turns_that_others_have_between_two_blocks_are_of_the_same_budget() {
    let mut trial = trial();
    // Blocks of 40 s, each followed by 60 s of other comparisons. The blocks end at 40, 140, 240 and 340 s.
    trial.budget.seconds = 330.0;
    let logs: Vec<f64> = (0..20).map(|order| [0.0, 0.3, -0.2, 0.1, 0.25][order % 5]).collect();
    let mut runs = runs(&logs, 1.0);
    for run in &mut runs {
        run.started += 60.0 * f64::from(run.order / 4);
    }
    assert_eq!(live(&trial, &runs).unwrap()[0].pairs, 6);
    trial.budget.seconds = 350.0;
    assert_eq!(live(&trial, &runs).unwrap()[0].pairs, 8);
}

#[test]
fn a_comparison_that_must_fail_holds_where_it_does_and_only_there() {
    let mut trial = trial();
    trial.metrics[0].expect = Verdict::Regressed;
    let slower = live(&trial, &runs(&[0.01, 0.0, 0.02, 0.01, 0.0, 0.0, 0.01, 0.02], 1.5)).unwrap();
    assert_eq!((slower[0].verdict, slower[0].holds), (Verdict::Regressed, true));
    let faster = live(&trial, &runs(&[0.01, 0.0, 0.02, 0.01, 0.0, 0.0, 0.01, 0.02], 0.5)).unwrap();
    assert_eq!((faster[0].verdict, faster[0].holds), (Verdict::Pass, false));
}

#[rstest]
#[case::saturated(1, |run: &mut Run| run.saturated = Some("98 % of its core".into()), "bottleneck: 98 % of its core")]
#[case::late_for_others(
    1,
    |run: &mut Run| {
        run.saturated = Some("sent late".into());
        run.host.steal = Some(0.149);
    },
    "bottleneck: sent late; meanwhile other guests of the machine took 15 % of its processors"
)]
#[case::errors(1, |run: &mut Run| run.errors = 11, "11 errors and 0 requests not sent, of 10000: 0.110 %")]
#[case::dropped(1, |run: &mut Run| run.dropped = 11, "0 errors and 11 requests not sent")]
#[case::treatment_unused(1, |run: &mut Run| { run.receipts.insert("redirected".into(), 0.0); }, "a treatment run requires at least 1")]
#[case::control_treated(3, |run: &mut Run| { run.receipts.insert("redirected".into(), 2.0); }, "a control run requires at most 0")]
#[case::no_receipt(1, |run: &mut Run| run.receipts.clear(), "there is no receipt `redirected`")]
#[case::no_metric(1, |run: &mut Run| run.metrics.clear(), "there is no metric `p99_us`")]
#[case::other_host(1, |run: &mut Run| run.host.kernel = "6.1".into(), "another host than the runs before it: kernel (`` and `6.1`)")]
#[case::other_plan(1, |run: &mut Run| run.plan = 1.into(), "its plan 1 is not that of the runs before")]
#[case::other_tls(1, |run: &mut Run| run.tls.push("TLSv1_2".into()), "its TLS is not that of the runs before it: TLSv1_2, and was none")]
#[case::other_unit(1, |run: &mut Run| run.measure("p99_us", 1.0, "ms"), "`p99_us` is in ms, and was in us")]
#[case::other_comparison(1, |run: &mut Run| run.comparison = "two".into(), "it belongs to `two`")]
#[case::other_arm(1, |run: &mut Run| run.arm = Arm::Control, "run 001 of ABBA, BAAB … is a treatment run")]
#[case::at_once(1, |run: &mut Run| run.started -= 5.0, "it began before run 000 ended")]
#[case::missing(1, |run: &mut Run| run.order = 2, "run 001 is missing")]
fn a_run_that_proves_nothing_is_refused(#[case] at: u32, #[case] spoil: fn(&mut Run), #[case] reason: &str) {
    let mut judge = Judge::new(&trial());
    (0..at).for_each(|order| judge.push(run(order, 1_000.0)).unwrap());
    let mut spoiled = run(at, 1_000.0);
    spoil(&mut spoiled);
    let error = judge.push(spoiled).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains(reason), "{error}");
    assert_eq!(judge.order(), at, "a refused run leaves nothing behind");
}

#[test]
fn steal_is_reported_and_not_compared() {
    let mut trial = trial();
    trial.budget.max_pairs = 4;
    let mut runs = runs(&[0.0; 8], 0.9);
    runs[3].host.steal = Some(0.07);
    assert_eq!(live(&trial, &runs).unwrap()[0].steal, Some(0.07));
}

#[test]
fn a_recording_that_ends_early_is_judged_on_what_there_is() {
    let seen = recorded::judge(&runs(&[0.0, 0.3, -0.2, 0.1, 0.25, 0.0, 0.1], 1.0), &mut Judge::new(&trial())).unwrap();
    assert_eq!((seen[0].pairs, seen[0].verdict), (3, Verdict::Inconclusive));
    assert!(seen[0].notes[0].contains("the recording ends before the budget"), "{:?}", seen[0].notes);
}

/// Real runs, made by `examples/loopback.rs`.
#[test]
fn recorded_runs_of_a_real_echo_are_told_apart() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/perf/recorded");
    let recording = recorded::read(&directory).unwrap();
    let seen = recorded::judge_all(&directory, &recording, &directory.join("bounds.toml")).unwrap();
    let of = |id: &str, metric: &str| seen.iter().find(|one| one.id == id && one.metric == metric).unwrap();
    assert_eq!(of("loopback/aa", "p50_us").verdict, Verdict::Pass);
    for metric in ["p50_us", "p90_us", "p99_us", "p99_9_us", "requests_per_second"] {
        let [low, high] = of("loopback/aa", metric).ci95;
        assert!(low.unwrap() < 1.0 && high.unwrap() > 1.0, "{metric}: {seen:#?}");
    }
    assert_eq!(of("loopback/delay", "p50_us").verdict, Verdict::Regressed);
    assert!(seen.iter().all(|comparison| comparison.holds));
}

#[test]
fn older_runs_of_a_comparison_are_removed_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let runs = directory.path();
    recorded::clear(runs, "one").unwrap();
    run(0, 1_000.0).record(runs).unwrap();
    let mut other = run(0, 1_000.0);
    other.comparison = "one/more".into();
    other.record(runs).unwrap();
    recorded::clear(runs, "one").unwrap();
    assert_eq!(recorded::read(runs).unwrap().into_keys().collect::<Vec<_>>(), ["one/more"]);
}

#[test]
fn a_directory_without_runs_and_runs_without_bounds_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let error = recorded::read(directory.path()).unwrap_err().to_string();
    assert!(error.contains("there are no recorded runs here"), "{error}");
    assert!(recorded::read(&directory.path().join("nowhere")).is_err());
    run(0, 1_000.0).record(directory.path()).unwrap();
    let recording = recorded::read(directory.path()).unwrap();
    let bounds = directory.path().join("bounds.toml");
    std::fs::write(&bounds, BOUNDS.replace("\"one\"", "\"two\"")).unwrap();
    let error = recorded::judge_all(directory.path(), &recording, &bounds).unwrap_err().to_string();
    assert!(error.contains("runs of `one` are recorded, for which"), "{error}");
    std::fs::write(&bounds, BOUNDS).unwrap();
    let error = recorded::judge_all(directory.path(), &recording, &bounds).unwrap_err().to_string();
    assert!(error.contains("one: nothing was compared: there is no pair of runs"), "{error}");
}

/// Real noise, random labels: the treatment run of each recorded A/A pair and the order of pairs are random.
#[rstest]
#[case::p50("p50_us")]
#[case::p99("p99_us")]
#[case::throughput("requests_per_second")]
fn recorded_equal_arms_raise_no_more_false_alarms_than_declared(#[case] metric: &str) {
    const COMPARISONS: u32 = 300;
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/perf/recorded");
    let runs = &recorded::read(&directory).unwrap()["loopback/aa"];
    let log = |pair: &[Run]| (pair[1].metrics[metric].value / pair[0].metrics[metric].value).ln();
    let logs: Vec<f64> = runs.chunks_exact(2).map(log).collect();
    assert_eq!(logs.len(), 10);
    let mut random = fastrand::Rng::with_seed(52);
    let mut alarms = 0;
    for _ in 0..COMPARISONS {
        let mut logs: Vec<f64> = logs.iter().map(|log| if random.bool() { *log } else { -log }).collect();
        random.shuffle(&mut logs);
        let Settled { verdict, .. } = verdict(Schedule::new(4, 10, 0.95), Limit::AtMost(1.0), &logs);
        alarms += u32::from(verdict != Verdict::Inconclusive);
    }
    // The 99.9 % quantile of false alarms, for 300 comparisons at 5 %.
    assert!(alarms <= 27, "{alarms} false alarms or false passes");
}
