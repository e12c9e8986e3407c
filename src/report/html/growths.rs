//! How figures grow: the table, and for each growth its points, its line, and the bound.

use maud::{Markup, html};

use super::parts::{at, table};
use crate::judge::Growth;
use crate::judge::growth::line;
use crate::report::growth;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 42.0;

/// Empty if nothing was measured.
pub(super) fn section(growths: &[Growth]) -> Markup {
    let Some(all) = growth::table(growths) else { return html! {} };
    html! {
        section {
            h2 { "Growth" }
            (table(&all))
            div.grid { @for growth in growths { (figure(growth)) } }
        }
    }
}

/// Both axes are linear and begin at 0, so that a straight line is one and a steep one looks steep.
fn figure(of: &Growth) -> Markup {
    let most = growth::most(&of.points);
    let (size, top) = (f64::from(most.size), most.value * 1.08);
    let x = |count: f64| LEFT + count / size * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value / top).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM);
    let line = line(&of.points);
    let summary = format!("{} against {}: {}", of.figure, of.per, growth::judged(of));
    html! {
        figure {
            h4 { span { (growth::title(of)) } }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(summary) {
                @for quarter in 0..=4_u32 {
                    @let (value, count) = (most.value * f64::from(quarter) / 4.0, size * f64::from(quarter) / 4.0);
                    line.axis x1=(at(LEFT)) x2=(at(WIDTH - RIGHT)) y1=(at(y(value))) y2=(at(y(value))) {}
                    text x=(at(LEFT - 6.0)) y=(at(y(value) + 4.0)) text-anchor="end" { (growth::amount(value, &of.unit)) }
                    text x=(at(x(count))) y=(at(HEIGHT - BOTTOM + 18.0)) text-anchor="middle" { (format!("{count:.0}")) }
                }
                text x=(at(f64::midpoint(LEFT, WIDTH - RIGHT))) y=(at(HEIGHT - 6.0)) text-anchor="middle" { (of.per) }
                @if let Some(line) = line {
                    @let (from, bound) = (line.base.max(0.0), line.base.max(0.0) + of.at_most * size);
                    // The bound leaves the picture where it is steep.
                    @let cut = if bound > top { (top - from) / of.at_most } else { size };
                    line.gate x1=(at(x(0.0))) y1=(at(y(from))) x2=(at(x(cut))) y2=(at(y(from + of.at_most * cut))) {}
                    text.gate x=(at(LEFT + 4.0)) y="14" { "― at most " (growth::amount(of.at_most, &of.unit)) " each" }
                    polyline.all.treatment points=(format!("{},{} {},{}", at(x(0.0)), at(y(line.base)), at(x(size)), at(y(line.base + line.slope * size)))) {}
                }
                @for point in &of.points { circle.dot cx=(at(x(f64::from(point.size)))) cy=(at(y(point.value))) r="4" {} }
            }
            figcaption { (growth::judged(of)) ". Bound: " (of.source) "." }
        }
    }
}
