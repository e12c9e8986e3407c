use std::path::Path;

use crate::host::Host;
use crate::judge::simulate::NOISES;
use crate::judge::{Arm, Bounds, Mode};

use super::*;

const BOUNDS: &str = r#"
schema = "meshproof.bounds/v1"
[defaults]
confidence = 0.95
max_failed_share = 0.001
plan = { run_s = 4, warmup_s = 1, connections = 16 }
budget = { min_pairs = 4, max_pairs = 10, seconds = 1000 }
[full]
[[comparison]]
id = "aa"
control = "one"
treatment = "its twin"
[[comparison.metric]]
name = "p99_us"
gate = { at_most = 1.05 }
source = "here"
[[comparison.metric]]
name = "requests_per_second"
gate = { at_least = 0.95 }
source = "here"
"#;

fn trial() -> Trial {
    Bounds::parse(BOUNDS, Path::new("bounds.toml"), Mode::Quick).unwrap().trials()[0].clone()
}

/// Runs of two arms that differ by `ratio` and by noise of 3 %.
fn runs(pairs: u32, ratio: f64) -> Vec<Run> {
    let mut random = fastrand::Rng::with_seed(3);
    let noise = NOISES[0].runs(2 * pairs as usize, &mut random);
    let run = |(order, noise): (u32, f64)| {
        let mut run = Run::new("aa", order, Host::default(), serde_json::json!({ "mode": "quick" }));
        (run.started, run.duration, run.requests) = (10.0 * f64::from(order), 5.0, 1_000);
        let worse = if run.arm == Arm::Treatment { ratio } else { 1.0 };
        run.measure("p99_us", 1_000.0 * noise.exp() * worse, "us");
        run.measure("requests_per_second", 1_000.0 / noise.exp() / worse, "1/s");
        run
    };
    (0..2 * pairs).zip(noise).map(run).collect()
}

fn drawn(runs: &[Run], effect: f64) -> Resampled {
    resample(&trial(), runs, &Made { effect, comparisons: 200, seed: 1 }).unwrap()
}

#[test]
fn equal_arms_are_seldom_called_different_and_a_worse_one_is_found() {
    let recorded = runs(16, 1.0);
    let equal = drawn(&recorded, 1.0);
    assert!(equal.whole.regressed <= 2 && equal.whole.comparisons == 200, "{equal:?}");
    let worse = drawn(&recorded, 1.2);
    assert!(worse.whole.regressed >= 198, "{worse:?}");
    // A throughput that is lower is worse.
    assert!(worse.metrics["requests_per_second"].regressed >= 198, "{worse:?}");
    assert!((worse.metrics["p99_us"].bias(1.2) - 1.0).abs() < 0.01, "{worse:?}");
}

/// The arms are exchanged: a difference in the recording is noise, and no effect.
#[test]
fn a_recording_of_arms_that_differ_is_not_taken_for_an_effect() {
    let seen = drawn(&runs(16, 1.3), 1.0);
    let bias = seen.metrics["p99_us"].bias(1.0);
    assert!((0.95..1.05).contains(&bias) && seen.whole.inconclusive > 150, "{bias} {seen:?}");
}

#[test]
fn refused_attempts_are_left_out_and_too_few_pairs_are_an_error() {
    let mut recorded = runs(8, 1.0);
    let refused = Run { refused: vec![crate::judge::Refusal::interrupted("lost")], ..recorded[3].clone() };
    recorded.insert(3, refused);
    assert_eq!(pairs(&recorded).len(), 8);
    let made = Made { effect: 1.0, comparisons: 1, seed: 1 };
    let error = resample(&trial(), &recorded[..9], &made).unwrap_err().to_string();
    assert!(error.contains("it has 4 pairs of runs, and 8 are the fewest"), "{error}");
}
