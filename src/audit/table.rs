//! The result as a table for a terminal.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::cell::{Cell, Standing};
use super::dials::PER_PORT;
use super::kind::Kind;
use super::outcome::{Audit, LeftOut};
use super::services::{Got, ServiceCell};
use super::targets::PROXYS_OWN;

/// How a table is printed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Whether to colour verdicts.
    pub color: bool,
    /// Width of the terminal. Longer lines are cut in their names. `None`: nothing is cut.
    pub width: Option<usize>,
}

/// One line: ports of the same number of the pods of one workload, if all are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    standing: Standing,
    cells: [String; 6],
    pods: usize,
    notes: Vec<String>,
}

const HEADER: [&str; 6] = ["CLUSTER", "NAMESPACE", "WORKLOAD", "PORT", "RESULT", "IDENTITY"];

const SERVICES: [&str; 6] = ["CALLED FROM", "NAMESPACE", "SERVICE", "PORT", "GOT", "ANSWERED IN"];

/// Columns that may be cut, the most tolerable first, and their least width.
const CUT: [(usize, usize); 4] = [(5, 16), (2, 14), (1, 12), (0, 8)];

/// Width between columns.
const GAP: usize = 2;

/// The table of an audit, and its summary.
pub fn table(audit: &Audit, style: Style) -> String {
    let lines = lines(audit);
    let widths = widths(&lines, style.width, &HEADER);
    let mut text = String::new();
    row(&mut text, &HEADER.map(str::to_owned), &widths, None);
    for line in &lines {
        row(&mut text, &line.cells, &widths, style.color.then(|| color(line.standing)).flatten());
        for note in &line.notes {
            let _ = writeln!(text, "    {note}");
        }
    }
    services(&mut text, audit, style);
    text.push_str(&summary(audit));
    text
}

/// The services of other clusters, each with what a client of a cluster gets.
fn services(text: &mut String, audit: &Audit, style: Style) {
    let lines: Vec<Line> = audit.services.iter().map(service).collect();
    if lines.is_empty() {
        return;
    }
    let widths = widths(&lines, style.width, &SERVICES);
    text.push('\n');
    row(text, &SERVICES.map(str::to_owned), &widths, None);
    for line in &lines {
        row(text, &line.cells, &widths, style.color.then(|| color(line.standing)).flatten());
        for note in &line.notes {
            let _ = writeln!(text, "    {note}");
        }
    }
}

fn service(cell: &ServiceCell) -> Line {
    let (standing, result, by) = match &cell.got {
        Got::Answered { by, how } => (Standing::Holds, format!("✓ {how}"), by.issued_by.join(", ")),
        Got::Wrong { .. } => (Standing::Red, "✗ wrong".to_owned(), String::new()),
        Got::Nobody { .. } => (Standing::Red, "✗ nobody".to_owned(), String::new()),
        Got::Unclear { .. } => (Standing::Unclear, "? unclear".to_owned(), String::new()),
        Got::NotJudged { why } => (Standing::NotJudged, format!("  not judged: {why}"), String::new()),
    };
    let told = matches!(cell.got, Got::Answered { .. } | Got::NotJudged { .. });
    let notes = if told { Vec::new() } else { vec![cell.got.to_string()] };
    let cells =
        [cell.from.to_string(), cell.namespace.clone(), cell.service.clone(), cell.port.to_string(), result, by];
    Line { standing, cells, pods: 1, notes: notes.into_iter().chain(cell.why.iter().cloned()).collect() }
}

fn lines(audit: &Audit) -> Vec<Line> {
    let now = SystemTime::now();
    let mut lines: Vec<Line> = Vec::new();
    for cell in audit.cells.iter().filter(|cell| !is_proxys(cell)) {
        let line = line(cell, now);
        let alike = |other: &&mut Line| {
            (&other.cells, other.standing, &other.notes) == (&line.cells, line.standing, &line.notes)
        };
        match lines.iter_mut().rev().take(64).find(alike) {
            Some(known) => known.pods += 1,
            None => lines.push(line),
        }
    }
    for line in lines.iter_mut().filter(|line| line.pods > 1) {
        let _ = write!(line.cells[2], " ({} pods)", line.pods);
    }
    lines
}

/// Whether this is a port of a proxy itself. Every pod with a sidecar has some: they are counted, not listed.
fn is_proxys(cell: &Cell) -> bool {
    matches!(&cell.wire.kind, Kind::NotJudged { why } if why == PROXYS_OWN)
}

fn line(cell: &Cell, now: SystemTime) -> Line {
    let standing = cell.standing();
    let from = if cell.vantage == cell.cluster { String::new() } else { format!(" from {}", cell.vantage) };
    let address = cell.address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
    let identity = cell.wire.served.as_ref().map(|served| {
        let account = served.id.to_string();
        let account = account.split_once("/ns/").map_or(account.clone(), |(_, rest)| rest.replace("/sa/", "/"));
        format!("{account}, {}", span(cell.trusted_for(now).unwrap_or_default()))
    });
    let mark = match standing {
        Standing::Red => "✗ ",
        Standing::Unclear => "? ",
        Standing::Holds => "✓ ",
        Standing::Shown | Standing::NotJudged => "  ",
    };
    let first = if cell.wire.server_first { ", server first" } else { "" };
    let fault = if cell.wire.faults.is_empty() { "" } else { ", at fault" };
    let mut notes = Vec::new();
    if matches!(standing, Standing::Red | Standing::Unclear) {
        notes.push(format!("expected {}", cell.expected));
        notes.extend(cell.wire.kind.detail().map(str::to_owned));
        notes.extend(cell.wire.faults.iter().chain(&cell.wire.doubts).chain(&cell.why).cloned());
    }
    let detail = match &cell.wire.kind {
        Kind::NotJudged { why } => format!(": {why}"),
        Kind::Unreachable { how } => format!(": {how}"),
        _ => String::new(),
    };
    let cells = [
        cell.cluster.to_string(),
        cell.namespace.to_string(),
        cell.workload.to_string(),
        format!("{}{address}{from}", cell.port),
        format!("{mark}{}{fault}{first}{detail}", cell.wire.kind.name()),
        identity.unwrap_or_default(),
    ];
    Line { standing, cells, pods: 1, notes }
}

/// A duration in its largest unit.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let unit = units.iter().find(|(size, _)| seconds >= *size);
    unit.map_or_else(|| "expired".into(), |(size, name)| format!("{} {name}", seconds / size))
}

/// Widths of the columns, narrowed to fit the terminal as far as is tolerable.
fn widths(lines: &[Line], terminal: Option<usize>, header: &[&str; 6]) -> [usize; 6] {
    let mut widths = header.map(|name| name.chars().count());
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(&line.cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let Some(terminal) = terminal else { return widths };
    for (column, least) in CUT {
        let total: usize = widths.iter().sum::<usize>() + GAP * (widths.len() - 1);
        let over = total.saturating_sub(terminal);
        widths[column] = widths[column].saturating_sub(over).max(least.min(widths[column]));
    }
    widths
}

/// Cuts the middle out of a name: its two ends tell more.
fn cut(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let tail = kept / 2;
    let head: String = text.chars().take(kept - tail).collect();
    let tail: String = text.chars().skip(length - tail).collect();
    format!("{head}…{tail}")
}

fn row(text: &mut String, cells: &[String; 6], widths: &[usize; 6], color: Option<&str>) {
    let padded = cells.iter().zip(widths).map(|(cell, &width)| format!("{:<width$}", cut(cell, width)));
    let line = padded.collect::<Vec<_>>().join("  ");
    let line = line.trim_end();
    let _ = match color {
        Some(color) => writeln!(text, "{color}{line}\u{1b}[0m"),
        None => writeln!(text, "{line}"),
    };
}

fn color(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Red => Some("\u{1b}[31m"),
        Standing::Unclear => Some("\u{1b}[33m"),
        Standing::Holds => Some("\u{1b}[32m"),
        Standing::Shown => None,
        Standing::NotJudged => Some("\u{1b}[2m"),
    }
}

fn summary(audit: &Audit) -> String {
    let counts = audit.counts();
    let count = |standing| counts.get(&standing).copied().unwrap_or(0);
    let mut text = format!(
        "\n{} ports: {} as expected, {} not as expected, {} could not be told, {} outside the mesh, {} not judged\n",
        audit.cells.len(),
        count(Standing::Holds),
        count(Standing::Red),
        count(Standing::Unclear),
        count(Standing::Shown),
        count(Standing::NotJudged),
    );
    let mut ends: Vec<_> = audit.cells.iter().filter_map(|cell| Some(cell.wire.served.as_ref()?.expires)).collect();
    ends.sort();
    if let Some(first) = ends.first() {
        let left = first.duration_since(SystemTime::now()).unwrap_or_default();
        let _ = writeln!(text, "the first certificate on any chain ends in {}", span(left));
    }
    for allowed in &audit.expired {
        let _ = writeln!(text, "✗ the exception for {allowed} has ended: {}", allowed.reason);
    }
    for unused in &audit.unused {
        let _ = writeln!(text, "note: {unused}");
    }
    for LeftOut { cluster, namespace, pods } in &audit.left_out {
        let _ =
            writeln!(text, "left out: {pods} pods of {namespace} in {cluster}, part of Kubernetes or Istio (--system)");
    }
    let proxys = audit.cells.iter().filter(|cell| is_proxys(cell)).count();
    if proxys > 0 {
        let _ = writeln!(text, "not listed: {proxys} ports of the proxies themselves");
    }
    if audit.without_ports > 0 {
        let _ = writeln!(text, "{} pods have no port to judge", audit.without_ports);
    }
    let _ = writeln!(text, "{} connections to each port, {}; {:.1} s", PER_PORT, audit.rates, audit.took.as_secs_f64());
    text
}

#[cfg(test)]
mod tests;
