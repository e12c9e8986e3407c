//! Latency by percentile for both arms: a thin line per run, a thick line for all runs of an arm. The horizontal axis
//! is log(1/(1−q)), which gives each further nine the same width.

use hdrhistogram::Histogram;
use maud::{Markup, html};

use super::parts::at;
use crate::judge::{Arm, Run};

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 42.0;

/// Labelled quantiles.
const TICKS: [(f64, &str); 6] =
    [(0.0, "0"), (0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99")];

/// Points per decade of 1/(1−q).
const STEPS: u32 = 16;

/// A quantile with fewer samples beyond it is not drawn: it would depend on single requests.
const BEYOND: f64 = 5.0;

struct Line {
    arm: Arm,
    /// 1/(1−q) in decades, and latency in milliseconds.
    points: Vec<(f64, f64)>,
}

/// Empty if no run has a histogram.
pub(super) fn figure(runs: &[&Run]) -> Markup {
    let histograms: Vec<(Arm, Histogram<u64>)> =
        runs.iter().filter_map(|run| Some((run.arm, run.histogram("latency").ok()?))).collect();
    let merged = |arm: Arm| {
        let mut of_arm = histograms.iter().filter(|(of, _)| *of == arm).map(|(_, histogram)| histogram);
        let mut sum = of_arm.next()?.clone();
        of_arm.try_for_each(|histogram| sum.add(histogram)).ok()?;
        Some(line(arm, &sum))
    };
    let (Some(control), Some(treatment)) = (merged(Arm::Control), merged(Arm::Treatment)) else {
        return html! {};
    };
    let each: Vec<Line> = histograms.iter().map(|(arm, histogram)| line(*arm, histogram)).collect();
    let both = [control, treatment];
    let points = || each.iter().chain(&both).flat_map(|line| &line.points);
    let decades = points().map(|(decade, _)| *decade).fold(1.0, f64::max);
    let low = points().map(|(_, ms)| *ms).fold(f64::INFINITY, f64::min);
    let high = points().map(|(_, ms)| *ms).fold(low * 1.5, f64::max);
    let x = |decade: f64| LEFT + decade / decades * (WIDTH - LEFT - RIGHT);
    let y = |ms: f64| HEIGHT - BOTTOM - (ms / low).ln() / (high / low).ln() * (HEIGHT - TOP - BOTTOM);
    let path = |line: &Line| {
        let points: Vec<String> =
            line.points.iter().map(|(decade, ms)| format!("{},{}", at(x(*decade)), at(y(*ms)))).collect();
        points.join(" ")
    };
    let label = "Latency by percentile: control dashed, treatment solid, each run as a thin line";
    html! {
        figure {
            h4 { span { "Latency by percentile" } }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
                @for ms in scale(low, high) {
                    line.axis x1=(at(LEFT)) x2=(at(WIDTH - RIGHT)) y1=(at(y(ms))) y2=(at(y(ms))) {}
                    text x=(at(LEFT - 6.0)) y=(at(y(ms) + 4.0)) text-anchor="end" { (ms) }
                }
                @for (quantile, name) in TICKS.iter().filter(|(quantile, _)| -(1.0 - quantile).log10() <= decades + 1e-9) {
                    @let x = x(-(1.0 - quantile).log10());
                    line.axis x1=(at(x)) x2=(at(x)) y1=(at(TOP)) y2=(at(HEIGHT - BOTTOM + 4.0)) {}
                    text x=(at(x)) y=(at(HEIGHT - BOTTOM + 18.0)) text-anchor="middle" { (name) }
                }
                text x=(at(f64::midpoint(LEFT, WIDTH - RIGHT))) y=(at(HEIGHT - 6.0)) text-anchor="middle" { "percentile (log of 1/(1−q))" }
                text x="4" y="14" { "ms (log)" }
                @for line in &each { polyline.run.(line.arm) points=(path(line)) {} }
                @for line in &both { polyline.all.(line.arm) points=(path(line)) {} }
                text.control x=(at(LEFT + 66.0)) y="14" { "╌ control" }
                text.treatment x=(at(LEFT + 146.0)) y="14" { "━ treatment" }
            }
            figcaption { "Every run thin, the runs of an arm together thick. Ends where fewer than five requests lie beyond." }
        }
    }
}

fn line(arm: Arm, histogram: &Histogram<u64>) -> Line {
    let mut points = Vec::new();
    for step in 0.. {
        let decade = f64::from(step) / f64::from(STEPS);
        let beyond = 10_f64.powf(-decade);
        if step > 0 && beyond * (histogram.len() as f64) < BEYOND {
            break;
        }
        // The histogram is in microseconds. 0 has no logarithm.
        points.push((decade, histogram.value_at_quantile(1.0 - beyond).max(1) as f64 / 1e3));
    }
    Line { arm, points }
}

/// At most eight round numbers from `low` to `high`: 1, 2 and 5 of each decade, or only 1 for many decades.
fn scale(low: f64, high: f64) -> Vec<f64> {
    let steps = |digits: &'static [f64]| -> Vec<f64> {
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let all = decades.flat_map(|decade| digits.iter().map(move |digit| digit * 10_f64.powi(decade)));
        all.filter(|value| (low * 0.999..=high * 1.001).contains(value))
            .map(|value| (value * 1e6).round() / 1e6)
            .collect()
    };
    let fine = steps(&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]);
    if fine.len() <= 8 {
        return fine;
    }
    let usual = steps(&[1.0, 2.0, 5.0]);
    if usual.len() <= 8 { usual } else { steps(&[1.0]) }
}
