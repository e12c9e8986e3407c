use rstest::rstest;
use statrs::distribution::{Binomial, DiscreteCDF};

use super::super::attempt::MAX_REFUSED_SHARE;
use super::super::interval::interval;
use super::*;

/// Schedule of a pull request's comparison.
fn schedule() -> Schedule {
    Schedule::new(4, 10, 0.95)
}

/// Comparisons per noise, 2,500 in all. `cargo xtask judge --power` simulates many more.
const COMPARISONS: u32 = 500;

/// The 99.9 % quantile of the number of events, if the true rate is `rate`.
fn allowed(rate: f64, comparisons: u32) -> u32 {
    let count = Binomial::new(rate, comparisons.into()).unwrap().inverse_cdf(0.999);
    u32::try_from(count).unwrap()
}

#[rstest]
#[case::quiet(0)]
#[case::spikes(1)]
#[case::drift(2)]
#[case::weather(3)]
#[case::both(4)]
fn two_equal_arms_raise_no_more_false_alarms_than_declared(#[case] noise: usize) {
    let noise = NOISES[noise];
    // At a gate of 1.00 two equal arms are exactly on the bound: any certain verdict is wrong.
    let seen = outcomes(schedule(), Limit::AtMost(1.0), &noise, 1.0, COMPARISONS, 41);
    let (side, both) = (allowed(0.025, COMPARISONS), allowed(0.05, COMPARISONS));
    assert!(seen.regressed <= side, "false alarms on {}: {seen:?}, at most {side}", noise.name);
    assert!(seen.pass <= side, "false passes on {}: {seen:?}, at most {side}", noise.name);
    assert!(seen.pass + seen.regressed <= both, "{}: {seen:?}, at most {both}", noise.name);
    // An absent improvement is not reported: the truth is far beyond this bound.
    let seen = outcomes(schedule(), Limit::AtMost(0.88), &noise, 1.0, 200, 42);
    assert!(seen.pass <= allowed(0.005, 200), "improvements seen on {}: {seen:?}", noise.name);
}

#[test]
fn a_real_change_is_seen_and_a_larger_one_sooner() {
    let of = |effect| outcomes(schedule(), Limit::AtMost(1.0), &NOISES[0], effect, 200, 43);
    let (small, middle, large) = (of(1.05), of(1.10), of(1.20));
    assert!(small.regressed >= 110, "{small:?}");
    assert!(middle.regressed >= 195, "{middle:?}");
    assert!(large.regressed == 200 && large.mean_pairs() < middle.mean_pairs(), "{large:?}");
}

/// Shows why the textbook interval is not used.
#[test]
fn the_plain_percentile_bootstrap_does_not_hold_its_level() {
    let schedule = Schedule { method: Method::Percentile, ..schedule() };
    let seen = outcomes(schedule, Limit::AtMost(1.0), &NOISES[0], 1.0, 400, 44);
    assert!(seen.pass + seen.regressed > 2 * allowed(0.05, 400), "{seen:?}");
}

/// Shows why looks need a correction.
#[test]
fn stopping_at_the_first_clear_look_without_correction_does_not_hold_its_level() {
    let mut random = fastrand::Rng::with_seed(45);
    let mut clear = 0;
    for _ in 0..400 {
        let logs = NOISES[0].pairs(20, 1.0, &mut random);
        let stops = |pairs: usize| {
            let seen = interval(&logs[..pairs], schedule().tail, schedule().method);
            seen.low > 0.0 || seen.high < 0.0
        };
        clear += u32::from((4..=20).step_by(2).any(stops));
    }
    assert!(clear > allowed(0.05, 400) + 10, "{clear}");
}

#[test]
fn shares_have_exact_upper_ends() {
    let seen = Outcomes { comparisons: 100, ..Outcomes::default() };
    // 1 − 0.05^(1/100), for none in a hundred.
    let Share { share, upper } = seen.share(0);
    assert!(share == 0.0 && (upper - 0.029_513).abs() < 1e-4, "{upper}");
    assert!((seen.share(100).upper - 1.0).abs() < 1e-6);
}

/// Shares of refused attempts of an arm: a usual share, and the largest tolerated share.
const REFUSED: [f64; 2] = [0.05, MAX_REFUSED_SHARE];

/// Refusals that hit both arms alike keep the declared rate of wrong verdicts, even if exactly the slowest attempts are
/// refused.
#[rstest]
fn refusing_the_slowest_attempts_of_both_arms_raises_no_false_alarms_and_moves_no_estimate(
    #[values(0, 1, 2, 3, 4)] noise: usize,
) {
    const FEWER: u32 = 300;
    let noise = NOISES[noise];
    let without = outcomes(schedule(), Limit::AtMost(1.0), &noise, 1.0, FEWER, 46);
    let made = Made { effect: 1.0, comparisons: FEWER, seed: 46 };
    let with = REFUSED.map(|share| {
        let refusing = Refusing::equally(share, 1.0);
        selected_outcomes(schedule(), Limit::AtMost(1.0), &noise, &refusing, &made)
    });
    for seen in [without, with[0], with[1]] {
        let side = allowed(0.025, FEWER);
        assert!(seen.regressed <= side && seen.pass <= side, "{}: {seen:?}, at most {side}", noise.name);
        let bias = seen.bias(1.0);
        assert!((bias - 1.0).abs() < 0.02, "{}: {bias}, {seen:?}", noise.name);
    }
}

/// Shows why no attempt is refused by a variable that the treatment affects. If only the slowest fifth of the treatment
/// arm were refused, a treatment that costs 3 % would seem to cost 2 %.
#[test]
fn refusing_one_arm_alone_moves_the_estimate_by_less_than_the_limit_promises() {
    let one_sided = Refusing { control: 0.0, treatment: MAX_REFUSED_SHARE, dependence: 1.0 };
    let made = Made { effect: 1.03, comparisons: 400, seed: 47 };
    let quiet = NOISES[0];
    let seen = selected_outcomes(schedule(), Limit::AtMost(1.0), &quiet, &one_sided, &made);
    let shift = -seen.bias(1.03).ln() / quiet.normal;
    assert!((0.30..0.40).contains(&shift), "{shift} standard deviations of a run");
    let without = outcomes(schedule(), Limit::AtMost(1.0), &quiet, 1.03, 400, 47);
    assert!(seen.regressed + 20 < without.regressed, "it hides regressions: {seen:?}, without {without:?}");
}
