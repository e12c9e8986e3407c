//! Tests of refused and repeated attempts.

use super::*;
use crate::judge::attempt::{Attempts, Cause, MAX_ATTEMPTS};

/// A saturated run with an outlying latency.
fn late(order: u32) -> Run {
    Run { saturated: Some("late".into()), ..run(order, 9_000.0) }
}

/// Judges `runs`. Before each run, `refused` gives the number of refused attempts by the run's number.
fn with_refused(trial: &Trial, runs: &[Run], refused: impl Fn(u32) -> u32) -> Vec<Comparison> {
    let mut judge = Judge::new(trial);
    for run in runs {
        for _ in 0..refused(run.order) {
            judge.push(judge.attempted(late(run.order))).unwrap();
            if let Decision::Done(comparisons) = judge.decide() {
                return comparisons;
            }
        }
        judge.push(judge.attempted(run.clone())).unwrap();
        if let Decision::Done(comparisons) = judge.decide() {
            return comparisons;
        }
    }
    judge.conclude("no more runs")
}

const CLEAR: [f64; 20] =
    [0.01, 0.0, 0.02, 0.01, 0.0, 0.0, 0.01, 0.02, 0.01, 0.0, 0.02, 0.01, 0.0, 0.0, 0.01, 0.02, 0.01, 0.0, 0.02, 0.01];

#[test]
fn a_refused_attempt_is_counted_and_not_judged() {
    let seen = with_refused(&trial(), &runs(&CLEAR, 0.8), |order| u32::from(order == 3));
    let without = with_refused(&trial(), &runs(&CLEAR, 0.8), |_| 0);
    assert_eq!((seen[0].ratio, seen[0].verdict), (without[0].ratio, Verdict::Pass));
    let control = Attempts { made: 5, refused: 1, causes: [(Cause::GeneratorSaturated, 1)].into() };
    let treatment = Attempts { made: 4, ..Attempts::default() };
    assert_eq!(seen[0].selection, Selection { control, treatment });
    assert!(seen[0].to_string().contains("control: 1 of 5 refused (generator saturated: 1)"), "{}", seen[0]);
}

#[test]
fn more_refused_attempts_than_a_fifth_of_an_arm_leave_a_clear_answer_inconclusive() {
    // Each treatment run is refused once: half of the arm's attempts.
    let seen = with_refused(&trial(), &runs(&CLEAR, 0.8), |order| u32::from(arm(order) == Arm::Treatment));
    assert_eq!((seen[0].pairs, seen[0].verdict, seen[0].holds), (10, Verdict::Inconclusive, false));
    assert_eq!(seen[0].goal, Some(Attainment::Unclear));
    let Some(Undecided::Selection { arm: Arm::Treatment, attempts }) = &seen[0].undecided else {
        panic!("{:?}", seen[0].undecided)
    };
    assert_eq!((attempts.made, attempts.refused), (20, 10));
    assert!(seen[0].remedy().contains("10 of 20 refused"), "{}", seen[0].remedy());
    // The second metric has no bound, and is reported.
    assert_eq!((seen[1].verdict, seen[1].holds), (Verdict::Reported, true));
    // A regression is equally inconclusive.
    let seen = with_refused(&trial(), &runs(&CLEAR, 1.3), |order| u32::from(arm(order) == Arm::Treatment));
    assert_eq!(seen[0].verdict, Verdict::Inconclusive);
}

#[test]
fn a_comparison_that_was_refused_too_much_goes_on_until_it_is_not_or_its_budget_is_spent() {
    // Two control runs are refused once: 2 of 6 attempts after four pairs, 2 of 10 after eight.
    let seen = with_refused(&trial(), &runs(&CLEAR, 0.8), |order| u32::from(matches!(order, 0 | 3)));
    assert_eq!((seen[0].pairs, seen[0].verdict), (8, Verdict::Pass));
}

#[test]
fn a_metric_without_a_gate_does_not_hold_either_where_too_much_was_refused() {
    let mut trial = trial();
    (trial.metrics[0].gate, trial.metrics[0].expect) = (None, Verdict::Reported);
    let seen = with_refused(&trial, &runs(&CLEAR, 0.8), |order| u32::from(arm(order) == Arm::Control));
    assert_eq!((seen[0].verdict, seen[0].holds), (Verdict::Inconclusive, false));
}

#[test]
fn a_comparison_ends_inconclusive_where_every_attempt_at_a_run_is_refused() {
    let seen = with_refused(&trial(), &runs(&CLEAR, 0.8), |order| if order == 5 { 99 } else { 0 });
    assert_eq!((seen[0].pairs, seen[0].verdict, seen[0].holds), (2, Verdict::Inconclusive, false));
    assert!(matches!(seen[0].undecided, Some(Undecided::Abandoned { order: 5, .. })), "{:?}", seen[0].undecided);
    assert_eq!(seen[0].selection.control.refused, MAX_ATTEMPTS);
    assert!(seen[0].remedy().contains("the load generator was the bottleneck: late"), "{}", seen[0].remedy());
}

#[test]
fn nothing_is_compared_where_every_attempt_at_the_first_run_is_refused() {
    let mut judge = Judge::new(&trial());
    for _ in 0..MAX_ATTEMPTS {
        judge.push(judge.attempted(late(0))).unwrap();
    }
    let Decision::Done(comparisons) = judge.decide() else { panic!("there is no other attempt") };
    let error = judge.compared(comparisons).unwrap_err().to_string();
    assert!(error.contains("one: nothing was compared") && error.contains("run 000-control was refused 5"), "{error}");
}

#[test]
fn a_recording_without_the_attempts_that_were_refused_is_refused() {
    let mut judge = Judge::new(&trial());
    let error = judge.push(Run { attempt: 2, ..run(0, 1_000.0) }).unwrap_err().to_string();
    assert!(error.contains("it is attempt 2, and attempt 1 is due"), "{error}");
}

#[test]
fn recorded_attempts_lead_to_the_selection_and_the_verdict_that_they_had_live() {
    let directory = tempfile::tempdir().unwrap();
    let (mut judge, bounds) = (Judge::new(&trial()), directory.path().join("bounds.toml"));
    std::fs::write(&bounds, BOUNDS).unwrap();
    let mut live = None;
    'runs: for planned in runs(&CLEAR, 0.8) {
        for attempt in [late(planned.order), planned] {
            judge.push(judge.attempted(attempt).record(&directory.path().join("runs")).unwrap()).unwrap();
            if let Decision::Done(comparisons) = judge.decide() {
                live = Some(comparisons);
                break 'runs;
            }
        }
    }
    let live = live.unwrap();
    assert_eq!(live[0].selection.treatment.refused, 10);
    let again = recorded::judge_all(directory.path(), &recorded::read(directory.path()).unwrap(), &bounds).unwrap();
    assert_eq!(again, live);
}

/// The gateway used this share of its core in each arm. Both arms must use 0.9.
#[rstest]
#[case::both(0.95, 0.93, None)]
#[case::some_runs_below_and_the_mean_above(0.92, 0.92, None)]
#[case::not_the_control(0.8, 0.95, Some(Arm::Control))]
#[case::not_the_treatment(0.95, 0.5, Some(Arm::Treatment))]
fn a_precondition_is_judged_over_both_arms_and_selects_no_run(
    #[case] control: f64,
    #[case] treatment: f64,
    #[case] unmet: Option<Arm>,
) {
    let mut trial = trial();
    let required = Counter { at_least: Some(0.9), at_most: None };
    trial.preconditions.insert("gateway_busy".into(), required);
    let mut runs = runs(&CLEAR, 0.8);
    for run in &mut runs {
        let busy = if run.arm == Arm::Control { control } else { treatment };
        let scatter = if run.order % 4 < 2 { 0.03 } else { -0.03 };
        run.receipts.insert("gateway_busy".into(), busy + scatter);
    }
    let seen = with_refused(&trial, &runs, |_| 0);
    assert_eq!(seen[0].selection.control.refused + seen[0].selection.treatment.refused, 0);
    match unmet {
        None => assert_eq!((seen[0].verdict, &seen[0].undecided), (Verdict::Pass, &None)),
        Some(owed) => {
            assert_eq!((seen[0].verdict, seen[0].holds), (Verdict::Inconclusive, false));
            let Some(Undecided::Precondition { arm, .. }) = &seen[0].undecided else { panic!("{:?}", seen[0]) };
            assert_eq!(*arm, owed);
            assert!(seen[0].remedy().contains("at least 0.9 is required of both arms"), "{}", seen[0].remedy());
        }
    }
}

#[test]
fn a_run_without_the_receipt_of_a_precondition_is_refused() {
    let mut trial = trial();
    trial.preconditions.insert("gateway_busy".into(), Counter { at_least: Some(0.9), at_most: None });
    let error = Judge::new(&trial).push(run(0, 1_000.0)).unwrap_err().to_string();
    assert!(error.contains("no receipt `gateway_busy`, which is a precondition"), "{error}");
}
