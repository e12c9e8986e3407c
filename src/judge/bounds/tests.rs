//! Tests of the bounds file and its checks.

use rstest::rstest;

use super::*;
use crate::judge::limit::Verdict;
use crate::judge::trial::RunPlan;

const PATH: &str = "fixtures/perf/bounds.toml";

/// A small valid file: a comparison with a row.
const GOOD: &str = concat!(
    include_str!("../../../fixtures/perf/two-arms.toml"),
    r#"[[comparison.rows]]
name = "16"
seed = { p99_us = { control = 2, treatment = 1 } }
"#
);

fn parse(text: &str) -> Result<Bounds, String> {
    Bounds::parse(text, PATH.as_ref(), Mode::Quick).map_err(|error| error.to_string())
}

#[test]
fn the_file_that_ships_is_in_order_in_every_mode() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PATH);
    let (quick, full) = (Bounds::load(&path, Mode::Quick).unwrap(), Bounds::load(&path, Mode::Full).unwrap());
    let rows: Vec<u32> = ["16", "32", "64", "128"]
        .map(|row| quick.trial(&format!("bypass_p99/{row}")).unwrap().plan.connections)
        .to_vec();
    assert_eq!(rows, [16, 32, 64, 128]);
    let row = full.trial("bypass_p99/16").unwrap();
    assert_eq!((row.plan.run_s, row.plan.mode), (240.0, Mode::Full));
    let seed = row.metrics[0].reference.unwrap();
    assert_eq!((seed.control, seed.treatment), (2556.0, 2428.0));
    let baseline = Bounds::load(&path, Mode::Baseline).unwrap();
    let of = |bounds: &Bounds, id: &str| bounds.trial(id).unwrap().clone();
    let (recorded, judged) = (of(&baseline, "sidecar_overhead/both"), of(&quick, "sidecar_overhead/both"));
    assert!(recorded.budget.min_pairs > 2 * judged.budget.max_pairs, "{:?}", recorded.budget);
    assert_eq!(
        RunPlan { mode: Mode::Quick, ..recorded.plan },
        judged.plan,
        "a baseline is of runs like those that it is for"
    );
    assert_eq!(of(&baseline, "aa").budget, of(&quick, "aa").budget, "nothing is relative to it");
    assert_eq!(quick.trial("delay_2ms").unwrap().metrics[0].expect, Verdict::Regressed);
    // Longest duration of all comparisons in quick mode. The rows of a comparison share one budget.
    let mut comparisons = std::collections::BTreeSet::new();
    let trials = quick.trials().iter().filter(|trial| comparisons.insert(trial.id.split('/').next()));
    let seconds: f64 = trials.map(|trial| trial.budget.seconds).sum();
    // The suite has 20 minutes. Starting pods and changing the mesh under load need some minutes in addition. A run
    // rarely spends all budgets.
    assert!(seconds <= 18.0 * 60.0, "the trials' budgets together are {seconds} s, more than 18 minutes");
}

#[test]
fn the_bounds_of_placements_are_in_order_in_every_mode_and_each_test_takes_a_few_minutes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/perf/placements.toml");
    let quick = Bounds::load(&path, Mode::Quick).unwrap();
    Bounds::load(&path, Mode::Full).unwrap();
    let ids: Vec<&str> = quick.trials().iter().map(|trial| trial.id.as_str()).collect();
    let placements = ["bypass_one_node", "bypass_between_pods_one_node", "bypass_across_nodes", "cryptomb_three_nodes"];
    assert_eq!(ids, placements);
    // Each has a test of its own, of at most six minutes with the start of its pods.
    assert!(quick.trials().iter().all(|trial| trial.budget.seconds <= 240.0));
    let across = quick.trial("bypass_across_nodes").unwrap();
    assert!(across.receipts.contains_key("redirected_messages") && across.receipts.contains_key("bypass_nodes"));
}

#[test]
fn the_driver_may_be_late_where_nothing_judged_is() {
    let bounds = Bounds::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(PATH), Mode::Quick).unwrap();
    let judged_at = |quantile: f64| {
        let trials = bounds.trials().iter().filter(move |trial| trial.judged_quantile() == quantile);
        trials.map(|trial| trial.id.split('/').next().unwrap()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(Vec::from_iter(judged_at(0.99)), ["aa", "bypass_p99", "cryptomb_saturated", "sidecar_overhead"]);
    assert!(judged_at(0.5).contains("cryptomb_low_rate"), "its p99 is reported only");
    let goal = GOOD.replace("gate = { at_most = 1.0 }\n", "report_only = \"no\"\n");
    assert_eq!(parse(&goal).unwrap().trial("one/16").unwrap().judged_quantile(), 0.99, "a goal is judged, too");
}

#[test]
fn a_mode_is_one_of_three_names() {
    for (name, mode) in [("quick", Mode::Quick), ("full", Mode::Full), ("baseline", Mode::Baseline)] {
        assert_eq!(Mode::named(name).unwrap(), mode);
        assert_eq!(serde_json::to_value(mode).unwrap(), name, "in records as in the environment");
    }
    let error = Mode::named("Full").unwrap_err().to_string();
    assert_eq!(error, "MESHPROOF_PERF: there is no mode `Full`; use one of quick, full, baseline");
}

#[test]
fn a_row_has_its_own_plan_and_the_seed_beside_it() {
    let bounds = parse(GOOD).unwrap();
    let trial = bounds.trial("one/16").unwrap();
    assert_eq!(trial.metrics[0].reference.unwrap().ratio(), 0.5);
    assert_eq!(trial.plan.run_s, 4.0);
    assert!(bounds.trial("one").is_none());
}

#[rstest]
#[case::unknown_key("goal = { at_most = 0.88 }", "goals = { at_most = 0.9 }", 18, "unknown field `goals`")]
#[case::not_toml("[full]", "[full", 8, "")]
#[case::unknown_limit("gate = { at_most = 1.0 }", "gate = { up_to = 1.0 }", 17, "unknown variant `up_to`")]
#[case::no_source("source = \"here\"\n", "", 15, "has no `source`")]
#[case::empty_source("\"here\"", "\" \"", 19, "an empty source is none")]
#[case::no_gate("gate = { at_most = 1.0 }\n", "", 15, "say in `report_only` why")]
#[case::both("goal =", "report_only = \"no\"\ngoal =", 17, "not both")]
#[case::gate_stricter_than_goal("gate = { at_most = 1.0 }", "gate = { at_most = 0.8 }", 17, "stricter than the goal")]
#[case::baseline_and_gate("goal = { at_most = 0.88 }", "gate_of_baseline = { at_most = 2.0 }", 18, "stands alone")]
#[case::baseline_within(
    "gate = { at_most = 1.0 }\ngoal = { at_most = 0.88 }",
    "gate_of_baseline = { within = 1.5 }",
    17,
    "is `at_most` or `at_least`"
)]
#[case::tried_nothing("source =", "tried = \" \"\nsource =", 19, "leave it out")]
#[case::tried_for_nothing("goal = { at_most = 0.88 }", "tried = \"all\"", 18, "no goal that it was tried for")]
#[case::sides("goal = { at_most = 0.88 }", "goal = { at_least = 0.88 }", 18, "bounds another side")]
#[case::no_ratio("gate = { at_most = 1.0 }", "gate = { at_most = -1.0 }", 17, "-1: a ratio must be greater than 0")]
#[case::nothing_within("gate = { at_most = 1.0 }", "gate = { within = 0.9 }", 17, "the factor is above 1")]
#[case::anything_within("gate = { at_most = 1.0 }", "gate = { within = 9.0 }", 17, "the factor is at most 2")]
#[case::too_few_pairs("min_pairs = 4", "min_pairs = 2", 7, "too few to look at")]
#[case::odd_pairs("max_pairs = 10", "max_pairs = 9", 7, "min_pairs and max_pairs are even")]
#[case::fewer_at_most("max_pairs = 10", "max_pairs = 2", 7, "max_pairs 2 is below min_pairs 4")]
#[case::unsure("confidence = 0.95", "confidence = 0.5", 4, "0.5 is not from 0.8 to 0.999")]
#[case::hides_errors("0.001", "0.5", 5, "would hide what is missing")]
#[case::no_connections(", connections = 16", "", 10, "no `plan.connections` here, nor in `defaults`")]
#[case::expects_nothing("source =", "expect = \"inconclusive\"\nsource =", 19, "nothing is proved by expecting")]
#[case::empty_receipt("{ at_most = 0 }, treatment = { at_least = 1 }", "{}, treatment = {}", 14, "asks for nothing")]
#[case::seed_of_nothing("seed = { p99_us", "seed = { p98_us", 22, "there is no metric `p98_us`")]
#[case::twice("[[comparison.rows]]", "[[comparison.rows]]\nname = \"16\"\n[[comparison.rows]]", 23, "there twice")]
#[case::no_id("id = \"one\"", "id = \"../one\"", 21, "is no id")]
#[case::schema("bounds/v1", "bounds/v2", 2, "is not `meshproof.bounds/v1`")]
fn a_bad_file_is_refused_with_the_line_and_the_reason(
    #[case] good: &str,
    #[case] bad: &str,
    #[case] line: usize,
    #[case] reason: &str,
) {
    assert!(GOOD.contains(good));
    let error = parse(&GOOD.replacen(good, bad, 1)).unwrap_err();
    assert!(error.starts_with(&format!("{PATH}:{line}: ")), "{error}");
    assert!(error.contains(reason), "{error}");
}
