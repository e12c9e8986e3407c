//! Measures how often the judge is wrong, and how small a change it detects.

use meshproof::judge::attempt::MAX_REFUSED_SHARE;
use meshproof::judge::interval::Method;
use meshproof::judge::simulate::{
    Made, NOISES, OfMethod, Outcomes, Refusing, Share, misses, outcomes, selected_outcomes,
};
use meshproof::judge::{Limit, Schedule};
use meshproof::report::Table;

/// True effects of the comparisons whose power is measured.
const EFFECTS: [f64; 3] = [1.05, 1.10, 1.20];

/// A fixed seed, so every run prints the same tables.
const SEED: u64 = 4_127;

pub(super) fn print(comparisons: u32) {
    println!("{comparisons} simulated comparisons for each number, seed {SEED}\n");
    println!("{}", methods(comparisons));
    for (min, max) in [(4, 10), (6, 20)] {
        println!("{}", table(Schedule::new(min, max, 0.95), comparisons));
    }
    println!("{}", refused(comparisons));
}

/// The effect of refused attempts on two equal arms, if the slowest attempts are refused.
fn refused(comparisons: u32) -> Table {
    let title = "Two equal arms of which the slowest attempts are refused, 4 to 10 pairs: wrong verdicts (5 % is declared), and the ratio \
                 that is estimated for one of 1";
    let header = ["noise", "none", "5 % of each", "20 % of each", "ratio", "20 % of one", "ratio"];
    let mut table = Table::new(title, &header);
    let schedule = Schedule::new(4, 10, 0.95);
    let made = Made { effect: 1.0, comparisons, seed: SEED };
    for noise in &NOISES {
        let seen = |control: f64, treatment: f64| {
            let refusing = Refusing { control, treatment, dependence: 1.0 };
            selected_outcomes(schedule, Limit::AtMost(1.0), noise, &refusing, &made)
        };
        let wrong = |seen: Outcomes| percent(seen.share(seen.pass + seen.regressed).share);
        let ratio = |seen: Outcomes| format!("{:.3}", seen.bias(1.0));
        let (each, one) = (seen(MAX_REFUSED_SHARE, MAX_REFUSED_SHARE), seen(0.0, MAX_REFUSED_SHARE));
        let mut row = vec![noise.name.to_owned(), wrong(seen(0.0, 0.0)), wrong(seen(0.05, 0.05))];
        row.extend([wrong(each), ratio(each), wrong(one), ratio(one)]);
        table.rows.push(row);
    }
    table
}

fn methods(comparisons: u32) -> Table {
    let title = "Intervals that miss the truth, where 5.0 % is declared (one look)";
    let mut table = Table::new(title, &["noise", "pairs", "percentile", "BCa", "studentized", "symmetric"]);
    for noise in &NOISES {
        for pairs in [4, 6, 8, 12] {
            let seen = misses(noise, pairs, 0.025, comparisons, SEED);
            debug_assert_eq!(seen.last().map(|last| last.method), Some(Method::Symmetric));
            let shares = seen
                .iter()
                .map(|OfMethod { outcomes, .. }| percent(outcomes.share(outcomes.pass + outcomes.regressed).share));
            table.rows.push([noise.name.to_owned(), pairs.to_string()].into_iter().chain(shares).collect());
        }
    }
    table
}

fn table(schedule: Schedule, comparisons: u32) -> Table {
    let title = format!(
        "Judged after every block from {} to {} pairs, 95 %: A/A (2.5 % a side is declared; in brackets, what it is at most \
         with 95 %), and how often a slower treatment is `regressed`, after how many pairs",
        schedule.min, schedule.max
    );
    let header = ["noise", "A/A regressed", "A/A pass", "A/A either", "+5 %", "+10 %", "+20 %"];
    let mut table = Table::new(title, &header);
    for noise in &NOISES {
        let equal = outcomes(schedule, Limit::AtMost(1.0), noise, 1.0, comparisons, SEED);
        let share = |count| {
            let Share { share, upper } = equal.share(count);
            format!("{} ({})", percent(share), percent(upper))
        };
        let mut row = vec![noise.name.to_owned()];
        row.extend([equal.regressed, equal.pass, equal.pass + equal.regressed].map(share));
        row.extend(EFFECTS.map(|effect| {
            let seen = outcomes(schedule, Limit::AtMost(1.0), noise, effect, comparisons, SEED);
            format!("{} ({:.1} pairs)", percent(seen.share(seen.regressed).share), seen.mean_pairs())
        }));
        table.rows.push(row);
    }
    table
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
