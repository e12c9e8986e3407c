//! Drawing of a comparison: the ratio of each pair in the order of execution, the interval, and the bound.

use maud::{Markup, html};

use super::parts::at;
use crate::judge::Comparison;
use crate::judge::Limit;

const WIDTH: f64 = 480.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const ROW: f64 = 15.0;
const BOTTOM: f64 = 42.0;

pub(super) fn drawing(comparison: &Comparison) -> Markup {
    let pairs = comparison.ratios.len();
    let limits = [comparison.bound.gate, comparison.bound.goal];
    let ends = limits.into_iter().flatten().flat_map(ends);
    let shown: Vec<f64> = comparison
        .ratios
        .iter()
        .copied()
        .chain(comparison.interval.into_iter().flatten())
        .chain(ends)
        .chain([1.0])
        .collect();
    // The interval of few pairs can be huge: the drawing cuts it, with an arrow, at a factor of 4 from the pairs.
    let (least, most) =
        comparison.ratios.iter().fold((1.0_f64, 1.0_f64), |(least, most), ratio| (least.min(*ratio), most.max(*ratio)));
    let low = shown.iter().copied().fold(1.0, f64::min).max(least / 4.0) / 1.03;
    let high = shown.iter().copied().fold(1.0, f64::max).min(most * 4.0) * 1.03;
    let x = |ratio: f64| LEFT + (ratio / low).ln() / (high / low).ln() * (WIDTH - LEFT - RIGHT);
    let bottom = TOP + ROW * (pairs as f64 + 2.0);
    let height = bottom + BOTTOM;
    let from = comparison.interval[0].map_or(LEFT, |end| x(end.clamp(low, high)));
    let to = comparison.interval[1].map_or(WIDTH - RIGHT, |end| x(end.clamp(low, high)));
    let interval_at = bottom - ROW * 0.8;
    let summary = format!("Ratios of {pairs} pairs of {}, with their interval", comparison.metric);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(summary) {
            @if let Some(gate) = comparison.bound.gate {
                @for (start, end) in beyond(gate, low, high) {
                    rect.beyond x=(at(x(start))) y=(at(TOP - 4.0)) width=(at(x(end) - x(start))) height=(at(bottom - TOP + 4.0)) {}
                }
            }
            @for ratio in ticks(low, high) {
                line.axis x1=(at(x(ratio))) x2=(at(x(ratio))) y1=(at(TOP - 4.0)) y2=(at(bottom + 4.0)) {}
                text x=(at(x(ratio))) y=(at(bottom + 18.0)) text-anchor="middle" { (label(ratio)) }
            }
            line.one x1=(at(x(1.0))) x2=(at(x(1.0))) y1=(at(TOP - 4.0)) y2=(at(bottom)) {}
            (mark(comparison.bound.gate, "gate", 12.0, x, bottom))
            (mark(comparison.bound.goal, "goal", 26.0, x, bottom))
            @for (index, ratio) in comparison.ratios.iter().enumerate() {
                @let y = TOP + ROW * (index as f64 + 0.5);
                text x=(at(LEFT - 8.0)) y=(at(y + 4.0)) text-anchor="end" { (index + 1) }
                circle.dot cx=(at(x(ratio.clamp(low, high)))) cy=(at(y)) r="4" {}
            }
            line.interval x1=(at(from)) x2=(at(to)) y1=(at(interval_at)) y2=(at(interval_at)) {}
            @if comparison.interval[0].is_none_or(|end| end < low) { text.strong x=(at(from - 4.0)) y=(at(interval_at + 4.5)) { "◂" } }
            @if comparison.interval[1].is_none_or(|end| end > high) { text.strong x=(at(to - 4.0)) y=(at(interval_at + 4.5)) { "▸" } }
            circle.estimate cx=(at(x(comparison.ratio.clamp(low, high)))) cy=(at(interval_at)) r="5.5" {}
            text.strong x=(at(LEFT - 8.0)) y=(at(interval_at + 4.0)) text-anchor="end" { (format!("{:.0} %", comparison.confidence * 100.0)) }
            text x="4" y="14" { "pair" }
            text x=(at(f64::midpoint(LEFT, WIDTH - RIGHT))) y=(at(height - 6.0)) text-anchor="middle" { "treatment / control (log)" }
        }
    }
}

/// The ratios at which a limit's verdict changes.
fn ends(limit: Limit) -> Vec<f64> {
    match limit {
        Limit::AtMost(ratio) | Limit::AtLeast(ratio) => vec![ratio],
        Limit::Within(factor) | Limit::SameWithin(factor) => vec![1.0 / factor, factor],
    }
}

fn mark(limit: Option<Limit>, name: &str, y: f64, x: impl Fn(f64) -> f64, bottom: f64) -> Markup {
    let ends = limit.map(ends).unwrap_or_default();
    html! {
        @if let (Some(limit), Some(first)) = (limit, ends.last()) {
            @for end in &ends { line.(name) x1=(at(x(*end))) x2=(at(x(*end))) y1=(at(y + 3.0)) y2=(at(bottom)) {} }
            @let right = x(*first) > WIDTH * 0.6;
            text.(name) x=(at(x(*first) + if right { -5.0 } else { 5.0 })) y=(at(y)) text-anchor=(if right { "end" } else { "start" }) {
                (name) " " (limit)
            }
        }
    }
}

/// The ranges beyond a gate.
fn beyond(gate: Limit, low: f64, high: f64) -> Vec<(f64, f64)> {
    let ranges = match gate {
        Limit::AtMost(most) => vec![(most, high)],
        Limit::AtLeast(least) => vec![(low, least)],
        Limit::Within(factor) | Limit::SameWithin(factor) => vec![(low, 1.0 / factor), (factor, high)],
    };
    let inside = |(from, to): (f64, f64)| (from.clamp(low, high), to.clamp(low, high));
    ranges.into_iter().map(inside).filter(|(from, to)| from < to).collect()
}

/// Round ratios: evenly spaced in a narrow range, otherwise 1, 2 and 5 of each decade, or only 1.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    if high / low < 3.0 {
        let step = [0.01, 0.02, 0.05, 0.1, 0.2].into_iter().find(|step| (high - low) / step <= 8.0).unwrap_or(0.5);
        let first = (low / step).ceil() as u32;
        return (first..).map(|index| f64::from(index) * step).take_while(|ratio| *ratio <= high).collect();
    }
    let digits: &[f64] = if high / low < 1e3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = decades.flat_map(|decade| digits.iter().map(move |digit| digit * 10_f64.powi(decade)));
    all.filter(|ratio| (low..=high).contains(ratio)).collect()
}

/// The label of a tick.
fn label(ratio: f64) -> String {
    if ratio >= 10.0 {
        format!("{ratio:.0}")
    } else if ratio < 0.01 {
        format!("{ratio:.0e}")
    } else {
        format!("{ratio:.2}")
    }
}
