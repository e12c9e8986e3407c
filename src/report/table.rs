//! Comparisons as tables, with the same cells on a terminal, in Markdown and in HTML.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use crate::judge::attempt::{Attempts, Cause};
use crate::judge::{Arm, Attainment, Comparison, Limit, Run, Verdict, change, ends};

/// A table of text. All columns but the first are right-aligned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Title.
    pub title: String,
    /// Column names.
    pub header: Vec<String>,
    /// Rows. Each row is as long as the header.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(title: impl Into<String>, header: &[&str]) -> Self {
        Self { title: title.into(), header: header.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// The table in GitHub's Markdown.
    pub fn markdown(&self) -> String {
        // Escape characters that end a cell or start markup.
        let escape = |cell: &String| {
            let cell = cell.replace('&', "&amp;").replace('<', "&lt;").replace('|', "\\|");
            cell.replace('*', "\\*").replace('`', "\\`").replace('_', "\\_").replace(['\r', '\n'], " ")
        };
        let line = |cells: &[String]| format!("| {} |\n", cells.iter().map(escape).collect::<Vec<_>>().join(" | "));
        let mut text = line(&self.header);
        let _ = writeln!(text, "|---{}|", "|---:".repeat(self.header.len().saturating_sub(1)));
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        text
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.header.len()).map(|column| width(column).unwrap_or(0)).collect();
        writeln!(f, "{}", self.title)?;
        for row in all() {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = if index == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A number with its unit: microseconds as milliseconds, bytes as MiB.
pub fn quantity(value: f64, unit: &str) -> String {
    match unit {
        "us" => format!("{:.3} ms", value / 1e3),
        "bytes" => format!("{:.1} MiB", value / 1_048_576.0),
        "1/s" => format!("{value:.0}/s"),
        _ => format!("{value:.3} {unit}"),
    }
}

/// The improvement by the treatment, as a fraction. Smaller is better, unless the bound asks for at least a value.
pub fn improvement(comparison: &Comparison, ratio: f64) -> f64 {
    if more_is_better(comparison) { ratio - 1.0 } else { 1.0 - ratio }
}

fn more_is_better(comparison: &Comparison) -> bool {
    let limits = [comparison.bound.gate, comparison.bound.goal];
    limits.into_iter().flatten().any(|limit| matches!(limit, Limit::AtLeast(_)))
}

/// The result of a comparison as text that is clear without colour.
pub fn outcome(comparison: &Comparison) -> String {
    match (comparison.verdict, comparison.holds) {
        (Verdict::Regressed, true) => "regressed, as it must".into(),
        (Verdict::Pass, false) => "PASS, and must not".into(),
        (verdict, true) => verdict.to_string(),
        (verdict, false) => verdict.to_string().to_uppercase(),
    }
}

/// The interval of the verdict, with its confidence if it differs from the column's.
fn judged(comparison: &Comparison) -> String {
    let interval = ends(comparison.interval);
    let percent = comparison.confidence * 100.0;
    if (percent - 95.0).abs() < 1e-9 { interval } else { format!("{interval} ({percent} %)") }
}

/// All comparisons, one row each.
pub fn comparisons(all: &[Comparison]) -> Table {
    let header = [
        "comparison",
        "metric",
        "verdict",
        "ratio",
        "95 % interval",
        "gate",
        "goal",
        "control",
        "treatment",
        "pairs",
        "detectable",
    ];
    let mut table = Table::new("Comparisons (ratio: treatment to control)", &header);
    for comparison in all {
        let limit = |limit: Option<Limit>| limit.map_or_else(|| "–".into(), |limit| limit.to_string());
        let goal = match (comparison.bound.goal, comparison.goal) {
            (Some(goal), Some(seen)) => format!("{goal}: {seen}"),
            _ => "–".into(),
        };
        table.rows.push(vec![
            comparison.id.clone(),
            comparison.metric.clone(),
            outcome(comparison),
            format!("{:.3}", comparison.ratio),
            judged(comparison),
            limit(comparison.bound.gate),
            goal,
            quantity(comparison.control, &comparison.unit),
            quantity(comparison.treatment, &comparison.unit),
            comparison.pairs.to_string(),
            comparison.minimum_detectable.map_or_else(|| "?".into(), change),
        ]);
    }
    table
}

/// Selection of the judged runs, one row per comparison. `None` if no comparison records it, as in older reports.
pub fn attempts(all: &[Comparison]) -> Option<Table> {
    let header = ["comparison", "runs made", "control: refused", "treatment: refused", "why"];
    let title = "Attempts (a refused run is recorded and made again; what was measured of the mesh refuses none)";
    let mut table = Table::new(title, &header);
    // All metrics of a comparison share its runs.
    for family in all.chunk_by(|one, other| one.id == other.id) {
        let Some(selection) = family.first().map(|first| &first.selection).filter(|known| !known.is_unknown()) else {
            continue;
        };
        let mut causes: BTreeMap<Cause, u32> = BTreeMap::new();
        for (cause, count) in
            [&selection.control, &selection.treatment].into_iter().flat_map(|attempts| &attempts.causes)
        {
            *causes.entry(*cause).or_default() += count;
        }
        let why: Vec<String> = causes.iter().map(|(cause, count)| format!("{}: {count}", cause.words())).collect();
        let refused = |attempts: &Attempts| format!("{} of {}", attempts.refused, attempts.made);
        table.rows.push(vec![
            family[0].id.clone(),
            (selection.control.made + selection.treatment.made).to_string(),
            refused(&selection.control),
            refused(&selection.treatment),
            if why.is_empty() { "–".into() } else { why.join(", ") },
        ]);
    }
    (!table.rows.is_empty()).then_some(table)
}

/// Waiting time of an HTTPS user, in the fields of the seed's k6 summary: means over the runs of each arm. `None`
/// without TLS. A request of k6 ends with the last byte, a request of the driver with the first byte.
pub fn iterations<'a>(id: &str, users: u32, runs: impl Iterator<Item = &'a Run> + Clone) -> Option<Table> {
    let arms = [Arm::Control, Arm::Treatment];
    let mean = |arm: Arm, metric: &str| {
        let values: Vec<f64> =
            runs.clone().filter(|run| run.arm == arm).filter_map(|run| Some(run.metrics.get(metric)?.value)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    mean(Arm::Control, "handshake_mean_us")?;
    let mut table = Table::new(
        format!("{id}: what {users} users waited for"),
        &["", "control: average", "control: p99", "treatment: average", "treatment: p99"],
    );
    let mut row = |name: &str, parts: &[&str]| {
        let mut cells = vec![name.to_owned()];
        for arm in arms {
            for statistic in ["mean_us", "p99_us"] {
                let sum: Option<f64> = parts.iter().map(|part| mean(arm, &format!("{part}_{statistic}"))).sum();
                cells.push(sum.map_or_else(|| "?".into(), |sum| quantity(sum, "us")));
            }
        }
        table.rows.push(cells);
    };
    row("iteration duration", &["total"]);
    let request = if mean(Arm::Control, "request_mean_us").is_some() { "request" } else { "first_byte" };
    row("request duration", &[request]);
    row("TLS handshake", &["handshake"]);
    // As in the seed. The sum of two 99th percentiles is not the 99th percentile of the sum.
    row("request + TLS", &[request, "handshake"]);
    let mut row = |name: &str, of: &dyn Fn(Arm) -> String| {
        table.rows.push(vec![name.into(), of(Arm::Control), "–".into(), of(Arm::Treatment), "–".into()]);
    };
    row("requests a second", &|arm| quantity(mean(arm, "requests_per_second").unwrap_or_default(), "1/s"));
    row("checks passed", &|arm| {
        let of = |count: fn(&Run) -> u64| runs.clone().filter(|run| run.arm == arm).map(count).sum::<u64>();
        let due = of(|run| run.requests);
        format!("{} of {due}", due - of(|run| run.errors + run.dropped).min(due))
    });
    Some(table)
}

/// Comparisons with measurements by others, side by side: one table per family of comparisons (`bypass_p99` of
/// `bypass_p99/16`).
pub fn beside_others(all: &[Comparison]) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for (comparison, reference) in all.iter().filter_map(|one| Some((one, one.reference?))) {
        let (family, row) = comparison.id.split_once('/').unwrap_or((&comparison.id, ""));
        let title = format!("{family} beside the seed (another machine: compare improvements, not absolute values)");
        if tables.last().is_none_or(|table| table.title != title) {
            let header = [
                family,
                "with",
                "without",
                "improvement",
                "95 % interval",
                "seed: with",
                "seed: without",
                "seed: improvement",
                "goal",
            ];
            tables.push(Table::new(title, &header));
        }
        let percent = |ratio: f64| format!("{:+.1} %", improvement(comparison, ratio) * 100.0);
        let mut between = comparison.ci95.map(|end| end.map_or_else(|| "?".into(), percent));
        if !more_is_better(comparison) {
            between.reverse();
        }
        let cells = vec![
            if row.is_empty() { comparison.metric.clone() } else { format!("{row} ({})", comparison.metric) },
            quantity(comparison.treatment, &comparison.unit),
            quantity(comparison.control, &comparison.unit),
            percent(comparison.ratio),
            between.join(" to "),
            quantity(reference.treatment, &comparison.unit),
            quantity(reference.control, &comparison.unit),
            percent(reference.ratio()),
            comparison.goal.map_or_else(|| "–".into(), |goal: Attainment| goal.to_string()),
        ];
        if let Some(table) = tables.last_mut() {
            table.rows.push(cells);
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::{run, trial};
    use crate::judge::{Judge, Selection};

    #[test]
    fn attempts_are_told_once_for_a_comparison_with_what_refused_them_and_older_reports_tell_none() {
        let mut judge = Judge::new(&trial());
        for order in 0..4 {
            if order == 2 {
                let late = Run { saturated: Some("late".into()), ..run(order, 1_000.0) };
                judge.push(judge.attempted(late)).unwrap();
            }
            judge.push(judge.attempted(run(order, 1_000.0))).unwrap();
        }
        let mut comparisons = judge.conclude("enough");
        assert_eq!(comparisons.len(), 2, "two metrics of one comparison");
        let table = attempts(&comparisons).expect("attempts were made");
        assert_eq!(
            table.rows,
            [["one", "5", "0 of 2", "1 of 3", "generator saturated: 1"].map(str::to_owned).to_vec()]
        );
        comparisons.iter_mut().for_each(|comparison| comparison.selection = Selection::default());
        assert_eq!(attempts(&comparisons), None);
    }

    #[test]
    fn what_users_waited_for_is_told_of_both_arms_and_only_where_tls_was_spoken() {
        let mut runs: Vec<Run> = (0..4).map(|order| run(order, 1_000.0)).collect();
        assert_eq!(iterations("one", 64, runs.iter()), None);
        for run in &mut runs {
            let slow = if run.arm == Arm::Control { 2.0 } else { 1.0 };
            for (name, value) in [("total", 10_000.0), ("first_byte", 3_000.0), ("handshake", 5_000.0)] {
                run.measure(format!("{name}_mean_us"), value * slow, "us");
                run.measure(format!("{name}_p99_us"), value * slow * 4.0, "us");
            }
        }
        runs[0].errors = 7;
        let table = iterations("one", 64, runs.iter()).expect("TLS was spoken");
        let row = |name: &str| table.rows.iter().find(|row| row[0] == name).map(|row| row[1..].join(" "));
        assert_eq!(row("iteration duration").as_deref(), Some("20.000 ms 80.000 ms 10.000 ms 40.000 ms"));
        assert_eq!(row("request + TLS").as_deref(), Some("16.000 ms 64.000 ms 8.000 ms 32.000 ms"));
        assert_eq!(row("checks passed").as_deref(), Some("19993 of 20000 – 20000 of 20000 –"));
    }
}
