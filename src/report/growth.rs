//! How figures grow: the table, with the same cells on a terminal, in Markdown and in HTML.

use super::Table;
use crate::judge::Growth;
use crate::judge::growth::{Point, Slope, line};

/// One row for each growth. `None` for no growths.
pub(super) fn table(growths: &[Growth]) -> Option<Table> {
    let header = ["figure", "measured at", "at none", "for each one more", "95 % interval", "exponent", "at most"];
    let mut table = Table::new("How figures grow", &header);
    table.rows = growths.iter().map(row).collect();
    (!growths.is_empty()).then_some(table)
}

fn row(growth: &Growth) -> Vec<String> {
    let amount = |value: f64| amount(value, &growth.unit);
    let mut sizes: Vec<u32> = growth.points.iter().map(|point| point.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let sizes = sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let mut cells = vec![title(growth), format!("{sizes} {}", growth.per)];
    match line(&growth.points) {
        None => cells.extend(["no line", "–", "–", "–"].map(str::to_owned)),
        Some(line) => cells.extend([
            amount(line.base),
            amount(line.slope),
            line.interval.map(amount).join(" to "),
            line.exponent.map_or_else(|| "–".into(), |exponent| format!("{exponent:.2}")),
        ]),
    }
    cells.push(amount(growth.at_most));
    cells
}

/// What grows, and where: `memory of a sidecar (services/memory/cluster1)`.
pub(super) fn title(growth: &Growth) -> String {
    format!("{} ({})", growth.figure, growth.id)
}

/// The verdict in words.
pub fn judged(growth: &Growth) -> String {
    let bound = format!("at most {} for each one more", amount(growth.at_most, &growth.unit));
    let between = |line: crate::judge::growth::Line| line.interval.map(|end| amount(end, &growth.unit)).join(" to ");
    match growth.judged() {
        Slope::Within(line) => format!("{}: within {bound}", between(line)),
        Slope::Beyond(line) => format!("{}: beyond {bound}", between(line)),
        Slope::Undecided(line) => format!("{}: {bound} is between", between(line)),
        Slope::NoLine => "too few points for a line".into(),
    }
}

/// A number with its unit: bytes in the unit that leaves few digits, microseconds as milliseconds.
pub(super) fn amount(value: f64, unit: &str) -> String {
    match unit {
        "bytes" if value.abs() < 1024.0 => format!("{value:.0} B"),
        "bytes" if value.abs() < 1_048_576.0 => format!("{:.1} KiB", value / 1024.0),
        "bytes" => format!("{:.1} MiB", value / 1_048_576.0),
        "us" => format!("{:.3} ms", value / 1e3),
        _ => format!("{value:.3} {unit}"),
    }
}

/// The largest size and the largest value of the points.
pub(super) fn most(points: &[Point]) -> Point {
    points.iter().fold(Point { size: 1, value: f64::MIN_POSITIVE }, |most, point| Point {
        size: most.size.max(point.size),
        value: most.value.max(point.value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growth_is_told_with_its_slope_its_interval_and_its_bound() {
        let points = [(10, 41.0), (100, 45.0), (1000, 85.0)];
        let growth = |at_most: f64| Growth {
            id: "services/memory/east".into(),
            figure: "memory of a sidecar".into(),
            unit: "bytes".into(),
            per: "services".into(),
            points: points.map(|(size, mib)| Point { size, value: mib * 1_048_576.0 }).to_vec(),
            at_most,
            source: "a test".into(),
        };
        let cells = table(&[growth(131_072.0)]).unwrap().rows.remove(0).join(" | ");
        let told = "memory of a sidecar (services/memory/east) | 10, 100, 1000 services | 40.6 MiB | 45.5 KiB";
        assert!(cells.starts_with(told) && cells.ends_with("128.0 KiB"), "{cells}");
        assert!(judged(&growth(131_072.0)).ends_with("within at most 128.0 KiB for each one more"));
        assert!(judged(&growth(1024.0)).contains("beyond at most 1.0 KiB"));
        let none = Growth { points: Vec::new(), ..growth(1.0) };
        assert_eq!(judged(&none), "too few points for a line");
        assert_eq!(table(&[]), None);
    }
}
